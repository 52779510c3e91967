//! HTTP/1 in front of the instances.

use crate::component::{Handler, State, log_error};
use bytes::Bytes;
use futures::channel::oneshot;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use wasmtime::component::Accessor;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p3::Request as GuestRequest;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

/// Answered by Spin itself, before the component.
const HEALTH_PATH: &str = "/.well-known/spin/health";

type Body = UnsyncBoxBody<Bytes, ErrorCode>;

/// Accepts connections for as long as it is polled.
pub async fn serve(listener: TcpListener, handler: Handler) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, handler.clone()));
            }
            Err(error) => {
                // Too many open files, mostly: wait for some to close instead of spinning.
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, handler: Handler) {
    let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else {
        return;
    };
    let service = service_fn(|request| {
        let handler = &handler;
        async move { Ok::<_, Infallible>(respond(request, local, handler).await) }
    });
    // Errors here are those of clients that left.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: Request<Incoming>, local: SocketAddr, handler: &Handler) -> Response<Body> {
    if request.uri().path() == HEALTH_PATH {
        return response(StatusCode::OK, "OK");
    }
    let Some(request) = absolute(request, local) else {
        return response(StatusCode::BAD_REQUEST, "");
    };
    let request = request.map(|body| body.map_err(|_| ErrorCode::HttpProtocolError));
    let (request, _) = GuestRequest::from_http(request);
    let (sender, receiver) = oneshot::channel();
    handler.spawn(None, Box::new(move |store, proxy| Box::pin(call(store, proxy, request, sender))));
    // The sender is gone without a word when the instance trapped or ran out of time.
    receiver.await.unwrap_or_else(|_| response(StatusCode::INTERNAL_SERVER_ERROR, ""))
}

/// Runs the guest's handler, then keeps its task alive until the body has been sent.
async fn call(store: &Accessor<State>, proxy: &Proxy, request: GuestRequest, sender: oneshot::Sender<Response<Body>>) {
    let Proxy::P3(service) = proxy;
    let answer = match service.handle(store, request).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(code)) => return eprintln!("the handler failed: {code:?}"),
        Err(error) => return log_error("the handler trapped", &error),
    };
    match store.with(|access| answer.into_http(access, async { Ok(()) })) {
        Ok(answer) => {
            let (held, sent) = oneshot::channel::<Infallible>();
            let answer = answer.map(|body| {
                body.map_err(move |code| {
                    let _held = &held;
                    eprintln!("the response body failed: {code:?}");
                    code
                })
                .boxed_unsync()
            });
            if sender.send(answer).is_ok() {
                let _ = sent.await;
            }
        }
        Err(error) => log_error("the response is not valid", &error),
    }
}

/// Gives the request the scheme and authority that the component sees under Spin.
fn absolute(mut request: Request<Incoming>, local: SocketAddr) -> Option<Request<Incoming>> {
    let authority = match request.headers().get(header::HOST) {
        Some(host) => Authority::try_from(host.as_bytes()).ok()?,
        None => {
            let authority = local.to_string();
            let value = HeaderValue::try_from(&authority).ok()?;
            request.headers_mut().insert(header::HOST, value);
            Authority::try_from(authority).ok()?
        }
    };
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
        .build()
        .ok()?;
    Some(request)
}

fn response(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::from(text).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
