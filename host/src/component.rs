//! The engine, and what is linked into the component.

use crate::bindings::spin::postgres::postgres as pg;
use crate::bindings::spin::redis::redis;
use crate::bindings::spin::variables::variables;
use crate::compiled;
use crate::faults::Plan;
use crate::log::one_line;
use crate::manifest::{App, Trigger};
use crate::server;
use crate::state::{Instances, State};
use crate::subscriber::{self, Subscriber};
use anyhow::{Context, Result, anyhow, bail};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use wasmtime::component::{HasSelf, InstancePre, Linker};
use wasmtime::{Config, Engine, PoolingAllocationConfig};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, random};
use wasmtime_wasi::p3::bindings as p3;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_http::handler::ProxyHandler;
use wasmtime_wasi_http::p3::bindings::{ServicePre, http};
use wasmtime_wasi_http::p3::{WasiHttp, WasiHttpView};

/// Instances alive at once, if memory can be reserved for them.
const INSTANCES: u32 = 1000;

/// A component, compiled and linked, ready to be served.
pub struct Host {
    app: Arc<App>,
    component: InstancePre<State>,
}

impl Host {
    /// Compiles the component and links it.
    ///
    /// # Errors
    ///
    /// If its file is missing or holds no component, if it imports what this host does not serve, or if it does not export
    /// the function that its trigger calls.
    pub fn load(app: App) -> Result<Self> {
        if !app.source.is_file() {
            let how = app.build_command.as_deref().unwrap_or("spin build");
            bail!("there is no {}: build it with `{how}`", app.source.display());
        }
        let engine = engine()?;
        let name = app.source.display();
        let component = compiled::load(&engine, &app.source)?;
        let component = linker(&engine)
            .and_then(|linker| linker.instantiate_pre(&component))
            .and_then(|component| {
                match app.trigger {
                    Trigger::Http => drop(ServicePre::new(component.clone())?),
                    Trigger::Redis { .. } => subscriber::check(&component)?,
                }
                Ok(component)
            })
            .map_err(|error| anyhow!("{name} cannot be served: {}", one_line(&error)))?;
        Ok(Self { app: Arc::new(app), component })
    }

    /// Serves the connections that `listener` accepts, for as long as it is polled, with instances and pools of its own.
    ///
    /// # Errors
    ///
    /// If a connection cannot be accepted.
    pub async fn serve(&self, listener: TcpListener, faults: Arc<Plan>) -> Result<Infallible> {
        let handler = ProxyHandler::new(self.instances(faults));
        server::serve(listener, handler).await.context("cannot accept a connection")
    }

    /// The handler that calls the component for messages in Redis, with pools of its own.
    pub fn subscriber(&self, faults: Arc<Plan>) -> Subscriber {
        Subscriber::new(self.instances(faults))
    }

    /// The handler of the component's trigger.
    pub fn trigger(&self) -> &Trigger {
        &self.app.trigger
    }

    fn instances(&self, faults: Arc<Plan>) -> Instances {
        Instances { component: self.component.clone(), app: self.app.clone(), pools: Arc::default(), faults }
    }
}

fn engine() -> Result<Engine> {
    let mut pooling = PoolingAllocationConfig::new();
    // Spin's numbers. A component is made of several core modules, each with its tables.
    pooling
        .total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 4)
        .total_tables(INSTANCES * 2)
        .total_memories(INSTANCES)
        .total_stacks(INSTANCES);
    let mut config = Config::new();
    config
        .wasm_component_model_async(true)
        // The component is stripped: its frames would show nothing, in a line of 2 000 characters.
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(pooling);
    // Reserving the pool takes address space, which a restricted machine may refuse.
    Engine::new(&config)
        .or_else(|_| {
            config.allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        })
        .map_err(|error| anyhow!("cannot start wasmtime: {}", one_line(&error)))
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // The standard library of wasm32-wasip2 imports some of WASI 0.2, the SDK imports 0.3. Each interface that is linked is
    // compiled into this crate: files and sockets, which the component does not import, would double its build time.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(&mut linker)?;
    cli::environment::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(&mut linker, |state| state.ctx().ctx.random())?;
    p3::cli::stdin::add_to_linker::<_, WasiCli>(&mut linker, State::cli)?;
    p3::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(&mut linker, State::clocks)?;
    p3::clocks::types::add_to_linker::<_, WasiClocks>(&mut linker, State::clocks)?;
    p3::random::random::add_to_linker::<_, WasiRandom>(&mut linker, |state| state.ctx().ctx.random())?;
    http::types::add_to_linker::<_, WasiHttp>(&mut linker, State::http)?;
    redis::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    pg::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    variables::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
