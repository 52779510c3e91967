//! HTTP in front of the instances: what Spin refuses or answers itself, and what it passes to the component.

use crate::log::{log_error, one_line};
use crate::manifest::App;
use crate::state::Handler;
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use tokio::net::{TcpListener, TcpStream};
use wasmtime_wasi_http::handler::{ErrorCode, TrapOrPanicError};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode as P3ErrorCode;

/// The host answers every path below this one.
const WELL_KNOWN: &str = "/.well-known/spin/";
/// Names by which the components of a Spin application call each other.
const INTERNAL_DOMAIN: &str = "spin.internal";

/// Its error is a line for the log; the client sees an answer that ends early.
type Body = UnsyncBoxBody<Bytes, String>;

/// Why a request gets no answer: its connection, or under HTTP/2 its stream, is closed.
type NoAnswer = &'static str;

/// Accepts connections for as long as it is polled, or until accepting fails.
pub async fn serve(listener: TcpListener, handler: Handler) -> io::Result<Infallible> {
    loop {
        // Usually too many open files. Spin ends there too.
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve_connection(stream, handler.clone()));
    }
}

/// HTTP/1, or HTTP/2 if the client begins with it. As in Spin, there is no timer, so that no slow client is cut off, and
/// Nagle's algorithm is on.
async fn serve_connection(stream: TcpStream, handler: Handler) {
    let service = service_fn(|request| {
        let handler = handler.clone();
        async move { respond(request, &handler).await.inspect_err(|why| eprintln!("a request gets no answer: {why}")) }
    });
    // Other errors are those of clients that disconnected.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(mut request: Request<Incoming>, handler: &Handler) -> Result<Response<Body>, NoAnswer> {
    strip_headers(request.headers_mut());
    if let Some(name) = request.uri().path().strip_prefix(WELL_KNOWN) {
        return Ok(well_known(name, &handler.state().app));
    }
    *request.uri_mut() = absolute(request.uri(), request.headers())?;
    if request.headers().values().any(|value| str::from_utf8(value.as_bytes()).is_err()) {
        return Ok(response(StatusCode::INTERNAL_SERVER_ERROR, ""));
    }
    let request = request.map(|body| body.map_err(|_| ErrorCode::P3(P3ErrorCode::HttpProtocolError)).boxed_unsync());
    Ok(match handler.handle((), request).await {
        Ok(answer) => answer.map(|body| body.map_err(|error| one_line(&error)).boxed_unsync()),
        // The handler returned an error code, or its instance ended: then the instance's state has logged why.
        Err(error) => {
            if !error.is::<TrapOrPanicError>() {
                log_error("the handler failed", &error);
            }
            response(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    })
}

/// The target with the scheme and authority that the component sees. The authority is the first `Host` or the one in an
/// absolute target; if both are present, they must agree.
fn absolute(uri: &Uri, headers: &HeaderMap) -> Result<Uri, NoAnswer> {
    let mut parts = uri.clone().into_parts();
    let host = headers.get(header::HOST).map(|host| {
        let host = host.to_str().map_err(|_| "Host is not ASCII")?;
        host.parse::<Authority>().map_err(|_| "Host is no authority")
    });
    let authority = match (host.transpose()?, parts.authority) {
        (Some(host), Some(target)) if host != target => return Err("Host is not that of the target"),
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return Err("there is no Host"),
    };
    (parts.authority, parts.scheme) = (Some(authority), Some(Scheme::HTTP));
    // Spin panics on CONNECT and on any other target without a path; the client sees the same.
    Uri::from_parts(parts).map_err(|_| "the target has no path")
}

/// The component does not see `Connection`, nor a `Host` that is reserved for an application's own components.
fn strip_headers(headers: &mut HeaderMap) {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    if host.and_then(|host| host.split_once('.')).is_some_and(|(_, domain)| domain == INTERNAL_DOMAIN) {
        headers.remove(header::HOST);
    }
    headers.remove(header::CONNECTION);
}

fn well_known(name: &str, app: &App) -> Response<Body> {
    match name {
        "health" => response(StatusCode::OK, "OK"),
        "info" => {
            let info = serde_json::json!({ "name": app.name, "version": app.version });
            let mut response = response(StatusCode::OK, format!("{info:#}"));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        _ => response(StatusCode::NOT_FOUND, ""),
    }
}

fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
