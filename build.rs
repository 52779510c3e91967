//! Links the component with a small stack.
//!
//! Spin keeps the memory of an instance resident, its untouched stack included, and a burst starts hundreds of instances.
//! Rust's default is 1 MiB; `scripts/stack.sh` shows how little is used. rustc puts the stack first in memory, so one that
//! overflows traps and never writes into data.

/// In bytes.
const STACK_SIZE: u32 = 128 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ORDER_STACK_SIZE");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        let size = std::env::var("ORDER_STACK_SIZE").unwrap_or(STACK_SIZE.to_string());
        println!("cargo::rustc-link-arg-cdylib=-zstack-size={size}");
    }
}
