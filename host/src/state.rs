//! What each instance of the component owns, and how instances are made.

use crate::faults::Plan;
use crate::log::log_error;
use crate::manifest::App;
use crate::pools::Pools;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};
use wasmtime::component::{GuestTaskId, InstancePre, ResourceTable};
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi::{TrappableError, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyHandler, ShouldAccept, ViewFn, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Requests that one instance serves in its life. This value and the next two are Spin's.
const REQUESTS_PER_INSTANCE: usize = 128;
/// Requests that one instance serves at once.
const CONCURRENT_REQUESTS: usize = 16;
/// How long an instance without requests is kept.
const IDLE: Duration = Duration::from_secs(1);
/// Hands requests to instances.
pub type Handler = ProxyHandler<Instances>;

/// What one instance owns.
pub struct State {
    /// The application, as the manifest describes it.
    pub app: Arc<App>,
    /// PostgreSQL connections, shared by all instances.
    pub pools: Arc<Pools>,
    /// Faults to inject.
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
    /// What the instances are made from.
    pub component: InstancePre<State>,
    /// The application, as the manifest describes it.
    pub app: Arc<App>,
    /// PostgreSQL connections, shared by all instances.
    pub pools: Arc<Pools>,
    /// Faults to inject.
    pub faults: Arc<Plan>,
}

impl Instances {
    /// A new instance, and the store that holds it.
    pub async fn instantiate(&self) -> wasmtime::Result<(Store<State>, wasmtime::component::Instance)> {
        let state = State {
            app: self.app.clone(),
            pools: self.pools.clone(),
            faults: self.faults.clone(),
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().inherit_stdout().inherit_stderr().build(),
            http: WasiHttpCtx::new(),
            hooks: NoOutboundHttp,
        };
        let mut store = Store::new(self.component.engine(), state);
        let instance = self.component.instantiate_async(&mut store).await?;
        Ok((store, instance))
    }
}

impl HandlerState for Instances {
    type StoreData = State;
    type WorkerExpiration = Idle;
    type WorkerState = Limits;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Idle, Limits>> {
        let (mut store, instance) = Instances::instantiate(self).await?;
        let proxy = Proxy::P3(Service::new(&mut store, &instance)?);
        let expiration = Idle(Box::pin(sleep(IDLE)));
        Ok(Instance { store, proxy, view: ViewFn::P3(State::http), expiration, state: Limits })
    }
}

/// Ends an instance that has been idle for long enough. An instance with requests is never ended: they have no time limit.
pub struct Idle(Pin<Box<Sleep>>);

impl WorkerExpiration for Idle {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, since: Instant) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let end = (since + IDLE).into();
        if self.0.deadline() != end {
            self.0.as_mut().reset(end);
        }
        self.0.as_mut().poll(context)
    }
}

/// How many requests an instance is given.
pub struct Limits;

impl WorkerState for Limits {
    type StoreData = State;
    type RequestId = ();

    fn should_accept_request(&self, at_once: usize, in_all: usize) -> ShouldAccept {
        if in_all >= REQUESTS_PER_INSTANCE {
            ShouldAccept::Never
        } else if at_once >= CONCURRENT_REQUESTS {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        // No time limit.
        Box::pin(future::pending())
    }

    fn drop(&self, _: Store<State>, ended: wasmtime::Result<()>) {
        // Instances that still run when the host stops are dropped, and wasmtime reports that as a panic.
        let is_stop = |error: &wasmtime::Error| error.to_string() == "worker panicked" && !thread::panicking();
        if let Some(error) = ended.err().filter(|error| !is_stop(error)) {
            log_error("instance ended", &error);
        }
    }
}
