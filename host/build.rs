//! Writes the `bindgen!` call over the interface definitions of the `spin-sdk` package, so that the host
//! and the component are built against the same text and the repository keeps no copy of it.

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;
use std::{env, fs, path::PathBuf};

fn main() -> Result<()> {
    let metadata = MetadataCommand::new().exec().context("cargo metadata")?;
    let sdk = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "spin-sdk")
        .context("the workspace does not depend on spin-sdk")?;
    let wit = sdk.manifest_path.with_file_name("wit");

    let out = PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs");
    fs::write(out, bindgen_call(wit.as_str()))?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    Ok(())
}

/// `bindgen!` takes its path as a literal, hence the generated file.
///
/// Functions that are `async` in WIT become concurrent ones: the guest may race and cancel them.
/// The four older blocking functions of PostgreSQL hold their instance while they run, as in Spin.
fn bindgen_call(wit: &str) -> String {
    format!(
        r#"wasmtime::component::bindgen!({{
    path: {wit:?},
    inline: "
        package order:host;
        world host {{
            import spin:postgres/postgres@4.2.0;
            import spin:redis/redis@3.0.0;
            import spin:variables/variables@3.0.0;
            export spin:redis/inbound-redis@3.0.0;
        }}
    ",
    world: "order:host/host",
    imports: {{
        "spin:postgres/postgres.[method]connection-builder.build": async | trappable,
        "spin:postgres/postgres.[static]connection.open": async | trappable,
        "spin:postgres/postgres.[method]connection.query": async | trappable,
        "spin:postgres/postgres.[method]connection.execute": async | trappable,
        default: trappable,
    }},
    with: {{
        "spin:postgres/postgres.connection": crate::pools::Connection,
        "spin:postgres/postgres.connection-builder": crate::postgres::ConnectionBuilder,
        "spin:redis/redis.connection": crate::redis::Connection,
    }},
}});
"#
    )
}
