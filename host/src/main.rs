//! A small host for the order component: it reads `spin.toml` and serves the `.wasm` named there over HTTP,
//! for machines without Spin and for the end-to-end tests.
//!
//! It behaves like Spin 4.0 where the component can tell: the same interfaces (`spin:redis`, `spin:postgres`,
//! `spin:variables`, WASI), the same reuse of instances, the same pool of PostgreSQL connections, the same
//! variables and allowed hosts.
//!
//! What it leaves out: more than one trigger or component, TLS, outbound HTTP, key-value and the other
//! interfaces, variable providers other than the environment, telemetry, mounted files, and the PostgreSQL
//! types that the component does not use. Rows of a query are read whole before the component sees the first.
//!
//! - `manifest`: `spin.toml` and the environment -> [`manifest::App`]
//! - `component`: the engine, what is linked, what each instance owns
//! - `server`: HTTP/1 in front of the instances
//! - `variables`, `redis`, `postgres`, `pg_values`: the interfaces

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod component;
mod manifest;
mod pg_values;
mod postgres;
mod redis;
mod server;
mod variables;

/// Interfaces generated from the definitions in the `spin-sdk` package.
#[allow(missing_docs, clippy::all, reason = "generated code")]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

use anyhow::{Context, Result};
use clap::Parser;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves the component of a spin.toml over HTTP, with Spin's interfaces and limits.
///
/// Variables are taken from the environment: SPIN_VARIABLE_<NAME>.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The application to serve.
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: causes joined by colons, and no backtrace whatever RUST_BACKTRACE says.
            let text = format!("{error:#}").replace('\n', " ");
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    let app = manifest::load(&args.manifest, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(run(app, args.listen));
    // As in Spin, a stop cuts the requests that still run.
    runtime.shutdown_background();
    result
}

async fn run(app: manifest::App, listen: SocketAddr) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let handler = component::load(app)?;
    println!("Serving http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    tokio::select! {
        () = server::serve(listener, handler) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
