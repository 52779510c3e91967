//! Routes and handlers: what a client sends, what it gets.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::idempotency::{Answer, IdempotencyKey, InvalidKey, KeyStore};
use crate::order::{Filter, NewOrder, Order, OrderStore, Timestamp};
use crate::place_order::{Outcome, place_order};
use crate::problem::{Cause, Problem};

mod list;

/// Largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The client's name for one intended order.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether an answer is the first one or a replay of it.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request needs from outside. Time and ids come in as values, so that the core stays pure.
pub struct Context<'a, K, O> {
    /// The fast memory of answers.
    pub keys: &'a K,
    /// Where orders are kept for good.
    pub orders: &'a O,
    /// The time of the request.
    pub now: Timestamp,
    /// The id of the order, should this request place one.
    pub order_id: Uuid,
}

/// Answers one request. A body longer than [`MAX_BODY_BYTES`] may come cut, as long as it is still longer.
pub async fn respond<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    request: Request<Bytes>,
) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    let mut response = route(context, request).await.unwrap_or_else(Problem::into_response);
    if is_head {
        *response.body_mut() = Bytes::new();
    }
    response
}

async fn route<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Problem> {
    const READ: &str = "GET, HEAD";
    let path = request.uri().path();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    match (method, segments.as_slice()) {
        (&Method::GET, ["orders"]) => list::list_orders(context.orders, request.uri().query()).await,
        (&Method::POST, ["orders"]) => create_order(context, &request).await,
        (_, ["orders"]) => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        (&Method::GET, ["orders", id]) => show_order(context.orders, id, request.headers()).await,
        (_, ["orders", _]) => Err(Problem::MethodNotAllowed { allow: READ }),
        (&Method::GET, ["healthz"]) => Ok(json_response(StatusCode::OK, Bytes::from_static(br#"{"status":"up"}"#))),
        (_, ["healthz"]) => Err(Problem::MethodNotAllowed { allow: READ }),
        (&Method::GET, ["readyz"]) => readiness(context).await,
        (_, ["readyz"]) => Err(Problem::MethodNotAllowed { allow: READ }),
        _ => Err(Problem::NotFound),
    }
}

async fn create_order<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    request: &Request<Bytes>,
) -> Result<Response<Bytes>, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::UnsupportedMediaType);
    }
    let key = idempotency_key(request.headers())?;
    if request.body().len() > MAX_BODY_BYTES {
        return Err(Problem::PayloadTooLarge);
    }
    let new_order = NewOrder::parse(request.body())?;
    match place_order(context.keys, context.orders, &key, new_order, context.order_id, context.now).await? {
        Outcome::Placed(answer) => created(answer, HeaderValue::from_static("false")),
        Outcome::Replayed(answer) => created(answer, HeaderValue::from_static("true")),
        Outcome::KeyReused => Err(Problem::IdempotencyKeyReused),
    }
}

fn created(answer: Answer, replayed: HeaderValue) -> Result<Response<Bytes>, Problem> {
    let mut response = json_response(StatusCode::CREATED, answer.body);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, header_value(format!("/orders/{}", answer.order_id))?);
    headers.insert(header::ETAG, etag(1)?);
    headers.insert(IDEMPOTENT_REPLAYED, replayed);
    Ok(response)
}

async fn show_order(orders: &impl OrderStore, id: &str, headers: &HeaderMap) -> Result<Response<Bytes>, Problem> {
    // One spelling per resource: the hyphenated one that `Location` gives.
    let id = match Uuid::parse_str(id) {
        Ok(uuid) if id.len() == 36 => uuid,
        _ => return Err(Problem::OrderNotFound),
    };
    let order = orders.find(id).await?.ok_or(Problem::OrderNotFound)?;
    let etag = etag(order.version)?;
    let mut response = if matches(headers, &etag) {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json_response(StatusCode::OK, order.json()?)
    };
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    postgres: &'static str,
    redis: &'static str,
}

async fn readiness<K: KeyStore, O: OrderStore>(context: &Context<'_, K, O>) -> Result<Response<Bytes>, Problem> {
    let redis_up = context.keys.is_up().await;
    let check = context.orders.check().await;
    let word = |up| if up { "up" } else { "down" };
    let (status_code, status) = match (check.is_ok(), redis_up) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let readiness = Readiness { status, postgres: word(check.is_ok()), redis: word(redis_up) };
    let mut response = json_response(status_code, to_json(&readiness)?);
    if let Err(error) = check {
        response.extensions_mut().insert(Cause(error.to_string()));
    }
    Ok(response)
}

fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(Problem::IdempotencyKeyMissing),
        (Some(line), None) => IdempotencyKey::parse(line.as_bytes()).map_err(Problem::IdempotencyKeyInvalid),
        (Some(_), Some(_)) => Err(Problem::IdempotencyKeyInvalid(InvalidKey::Repeated)),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Whether `If-None-Match` names `etag`, by the weak comparison that RFC 9110 asks for.
fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

fn etag(version: i64) -> Result<HeaderValue, Problem> {
    header_value(format!("\"{version}\""))
}

fn header_value(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|cause| Problem::Internal(cause.to_string()))
}

fn to_json(value: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|cause| Problem::Internal(cause.to_string()))
}

fn json_response(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
