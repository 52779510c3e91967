//! What each instance of the component owns, and how instances are made.

use crate::faults::Plan;
use crate::log::log_error;
use crate::manifest::App;
use crate::pools::Pools;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{TrappableError, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::handler::{HandlerState, ProxyHandler, StoreBundle};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Requests that one instance serves in its life. Spin's value, as are the next two.
const REQUESTS_PER_INSTANCE: usize = 128;
/// Requests that one instance serves at once.
const CONCURRENT_REQUESTS: usize = 16;
/// How long an instance without requests is kept.
const IDLE: Duration = Duration::from_secs(1);
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
    /// What runs them.
    pub engine: Engine,
    /// PostgreSQL connections, shared by all instances.
    pub pools: Arc<Pools>,
    /// Which calls go wrong.
    pub faults: Arc<Plan>,
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
