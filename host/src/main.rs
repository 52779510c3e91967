//! The command: `order-host`. See the library for what it is and what it leaves out.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use order_host::Host;
use order_host::faults::{Plan, Random, Rule};
use order_host::manifest::{self, Trigger};
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves the component of a spin.toml over HTTP or for messages in Redis, with Spin's interfaces and limits.
///
/// Variables are taken from the environment: SPIN_VARIABLE_<NAME>.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The application to serve.
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
    /// Address to listen on, 127.0.0.1:3000 by default; port 0 chooses a free one. Not for a Redis trigger.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// For tests: a fault at the n-th host call of a kind, such as pg.execute:1:kill-after. May be repeated.
    ///
    /// Calls: redis.open, redis.get, redis.execute, pg.open, pg.execute, pg.query.
    /// Faults: fail, delay=<ms>, hang, hang-after, lose-reply, kill-before, kill-after.
    #[arg(long, value_name = "CALL:N:FAULT")]
    fault: Vec<Rule>,
    /// For tests: this many of 1 000 host calls fail at random, the same ones for the same seed.
    #[arg(long, value_name = "SEED:PER_MILLE")]
    random_faults: Option<Random>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with the causes joined by colons and without a backtrace, whatever RUST_BACKTRACE is.
            let text = format!("{error:#}").replace('\n', " ");
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    let app = manifest::load(&args.manifest, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(run(app, args));
    // As in Spin, a stop cuts the requests that still run.
    runtime.shutdown_background();
    result
}

async fn run(app: manifest::App, args: &Args) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let host = Host::load(app)?;
    let faults = Arc::new(Plan::new(args.fault.clone(), args.random_faults));
    tokio::select! {
        failed = serve(&host, args.listen, faults) => {
            failed?;
        }
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn serve(host: &Host, listen: Option<SocketAddr>, faults: Arc<Plan>) -> Result<Infallible> {
    if let Trigger::Redis { .. } = host.trigger() {
        ensure!(listen.is_none(), "--listen is for an HTTP trigger");
        return host.subscriber(faults).run().await;
    }
    let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3000)));
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("Serving http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    host.serve(listener, faults).await
}
