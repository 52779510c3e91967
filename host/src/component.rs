//! The engine, what is linked into the component, and what each of its instances owns.

use crate::bindings::spin::postgres::postgres as pg;
use crate::bindings::spin::redis::redis;
use crate::bindings::spin::variables::variables;
use crate::faults::Plan;
use crate::manifest::App;
use crate::postgres::Pools;
use crate::server;
use anyhow::{Result, anyhow, bail};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Engine, PoolingAllocationConfig, Store};
use wasmtime_wasi::{TrappableError, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::handler::{HandlerState, ProxyHandler, ProxyPre, StoreBundle};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Requests that one instance serves in its life. Spin's value, as are the next two.
const REQUESTS_PER_INSTANCE: usize = 128;
/// Requests that one instance serves at once.
const CONCURRENT_REQUESTS: usize = 16;
/// How long an instance without requests is kept.
const IDLE: Duration = Duration::from_secs(1);
/// Instances alive at once, where memory is set aside for them.
const INSTANCES: u32 = 1000;

/// Hands requests to instances.
pub type Handler = ProxyHandler<Instances>;

/// What one instance owns.
pub struct State {
    /// What the manifest says.
    pub app: Arc<App>,
    /// PostgreSQL connections, shared by all instances.
    pub pools: Arc<Pools>,
    /// Which calls go wrong.
    pub faults: Arc<Plan>,
    /// The guest's handles.
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoOutboundHttp,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

struct NoOutboundHttp;

type Sent<T> = std::result::Result<T, TrappableError<ErrorCode>>;
type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, ErrorCode>;
type Io = Box<dyn Future<Output = std::result::Result<(), ErrorCode>> + Send>;

impl WasiHttpHooks for NoOutboundHttp {
    fn send_request(
        &mut self,
        _: http::Request<Body>,
        _: Option<wasmtime_wasi_http::p3::RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Sent<(http::Response<Body>, Io)>> + Send> {
        Box::new(async { Err(ErrorCode::HttpRequestDenied.into()) })
    }
}

/// Makes instances, within Spin's limits.
pub struct Instances {
    /// What the manifest says.
    pub app: Arc<App>,
    engine: Engine,
    pools: Arc<Pools>,
    faults: Arc<Plan>,
}

impl HandlerState for Instances {
    type StoreData = State;

    fn new_store(&self, _: Option<u64>) -> wasmtime::Result<StoreBundle<State>> {
        let state = State {
            app: self.app.clone(),
            pools: self.pools.clone(),
            faults: self.faults.clone(),
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().inherit_stdout().inherit_stderr().build(),
            http: WasiHttpCtx::new(),
            hooks: NoOutboundHttp,
        };
        Ok(StoreBundle { store: Store::new(&self.engine, state), write_profile: Box::new(|_| ()) })
    }

    fn request_timeout(&self) -> Duration {
        // None: a request takes as long as it takes.
        Duration::MAX
    }

    fn idle_instance_timeout(&self) -> Duration {
        IDLE
    }

    fn max_instance_reuse_count(&self) -> usize {
        REQUESTS_PER_INSTANCE
    }

    fn max_instance_concurrent_reuse_count(&self) -> usize {
        CONCURRENT_REQUESTS
    }

    fn handle_worker_error(&self, error: wasmtime::Error) {
        log_error("instance ended", &error);
    }
}

/// One line on stderr, however many the error has.
pub fn log_error(what: &str, error: &wasmtime::Error) {
    eprintln!("{what}: {}", one_line(error));
}

fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A component, compiled and linked, ready to be served.
pub struct Host {
    engine: Engine,
    app: Arc<App>,
    component: ServicePre<State>,
}

impl Host {
    /// Compiles the component and links it.
    ///
    /// # Errors
    ///
    /// When its file is missing or no component, or when it imports what this host does not serve.
    pub fn load(app: App) -> Result<Self> {
        if !app.source.is_file() {
            let how = app.build_command.as_deref().unwrap_or("spin build");
            bail!("there is no {}: build it with `{how}`", app.source.display());
        }
        let engine = engine()?;
        let name = app.source.display();
        let component =
            Component::from_file(&engine, &app.source).map_err(|error| anyhow!("{name}: {}", one_line(&error)))?;
        let component = linker(&engine)
            .and_then(|linker| linker.instantiate_pre(&component))
            .and_then(ServicePre::new)
            .map_err(|error| anyhow!("{name} cannot be served: {}", one_line(&error)))?;
        Ok(Self { engine, app: Arc::new(app), component })
    }

    /// Answers what `listener` accepts, for as long as it is polled, with instances and pools of its own.
    ///
    /// # Errors
    ///
    /// When a connection cannot be accepted.
    pub async fn serve(&self, listener: TcpListener, faults: Arc<Plan>) -> io::Result<Infallible> {
        let (engine, app) = (self.engine.clone(), self.app.clone());
        let instances = Instances { app, engine, pools: Arc::default(), faults };
        server::serve(listener, ProxyHandler::new(instances, ProxyPre::P3(self.component.clone()))).await
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
        // The component is stripped: its frames would tell nothing, in a line of 2 000 characters.
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(pooling);
    // Setting the pool aside takes address space that a restricted machine may refuse.
    Engine::new(&config)
        .or_else(|_| {
            config.allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        })
        .map_err(|error| anyhow!("cannot start wasmtime: {}", one_line(&error)))
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // The standard library of wasm32-wasip2 imports WASI 0.2, the SDK imports 0.3.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::cli::add_to_linker(&mut linker)?;
    wasmtime_wasi::p3::clocks::add_to_linker(&mut linker)?;
    wasmtime_wasi::p3::random::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    redis::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    pg::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    variables::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
