//! Routes and handlers: what a client sends, what it gets.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::change_order::{Change, change_order};
use crate::idempotency::{Answer, IdempotencyKey, InvalidKey, KeyStore};
use crate::order::{Filter, NewOrder, Order, OrderStore, Status, Timestamp};
use crate::pages;
use crate::place_order::{Outcome, place_order};
use crate::problem::{Cause, MERGE_PATCH, Problem};
use crate::settings::InvalidSetting;
use crate::trace::{self, KeyStart, OrderId};

use documents::{document, page};

mod documents;
mod list;

/// Largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The client's name for one intended order.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether an answer is the first one or a replay of it.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What `POST /orders` reads, and what every answer but a problem is.
const JSON: &str = "application/json";
/// RFC 9512.
const YAML: &str = "application/yaml";

/// The headers that a request of this method is read for: each one fetched from the host costs, and proxies add many.
pub fn headers_read(method: &Method) -> &'static [&'static str] {
    match *method {
        Method::GET | Method::HEAD => &["if-none-match"],
        Method::POST => &["content-type", "idempotency-key"],
        Method::PATCH => &["content-type", "if-match"],
        _ => &[],
    }
}

/// What a request needs from outside. Time and ids come in as values, so that the core stays pure.
pub struct Context<'a, K, O> {
    /// The stores, or which setting keeps the service from knowing them. Without them the pages still answer.
    pub stores: Result<Stores<'a, K, O>, InvalidSetting>,
    /// The time of the request.
    pub now: Timestamp,
    /// The id of the order, should this request place one.
    pub order_id: Uuid,
}

/// The two stores.
pub struct Stores<'a, K, O> {
    /// The fast memory of answers.
    pub keys: &'a K,
    /// Where orders are kept for good.
    pub orders: &'a O,
}

impl<'a, K, O> Context<'a, K, O> {
    fn stores(&self) -> Result<&Stores<'a, K, O>, Problem> {
        self.stores.as_ref().map_err(|invalid| Problem::Internal(invalid.to_string()))
    }
}

/// Answers one request. A body longer than [`MAX_BODY_BYTES`] may come cut, as long as it is still longer.
pub async fn respond<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    request: Request<Bytes>,
) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    // The log names both, whatever becomes of the request.
    let key = idempotency_key(request.headers());
    let key_start = key.as_ref().ok().map(KeyStart::of);
    let route = Route::of(request.uri().path());
    let path_id = match route {
        Some(Route::Order(id)) => order_id(id).ok(),
        _ => None,
    };
    let mut response = answer(context, route, key, &request).await.unwrap_or_else(Problem::into_response);
    if let Some(start) = key_start {
        response.extensions_mut().insert(start);
    }
    if let Some(id) = path_id {
        response.extensions_mut().insert(OrderId(id));
    }
    if is_head {
        *response.body_mut() = Bytes::new();
    }
    response
}

/// The template of a path, such as `/orders/{orderId}`, for the log; `*` for one that is not known.
pub fn route_template(path: &str) -> &'static str {
    Route::of(path).map_or("*", Route::template)
}

/// A known path.
#[derive(Clone, Copy)]
enum Route<'a> {
    Home,
    OpenApi,
    Problems,
    Problem(&'a str),
    Orders,
    Order(&'a str),
    Health,
    Readiness,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        Some(match *segments.as_slice() {
            [""] => Self::Home,
            ["openapi.yaml"] => Self::OpenApi,
            ["problems"] | ["problems", ""] => Self::Problems,
            ["problems", slug] => Self::Problem(slug),
            ["orders"] => Self::Orders,
            ["orders", id] => Self::Order(id),
            ["healthz"] => Self::Health,
            ["readyz"] => Self::Readiness,
            _ => return None,
        })
    }

    /// For the log.
    fn template(self) -> &'static str {
        match self {
            Self::Home => "/",
            Self::OpenApi => "/openapi.yaml",
            Self::Problems => "/problems/",
            Self::Problem(_) => "/problems/{slug}",
            Self::Orders => "/orders",
            Self::Order(_) => "/orders/{orderId}",
            Self::Health => "/healthz",
            Self::Readiness => "/readyz",
        }
    }

    /// The `Allow` header.
    fn methods(self) -> &'static str {
        match self {
            Self::Orders => "GET, HEAD, POST",
            Self::Order(_) => "GET, HEAD, PATCH",
            Self::Home | Self::OpenApi | Self::Problems | Self::Problem(_) | Self::Health | Self::Readiness => {
                "GET, HEAD"
            }
        }
    }
}

async fn answer<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    route: Option<Route<'_>>,
    key: Result<IdempotencyKey, Problem>,
    request: &Request<Bytes>,
) -> Result<Response<Bytes>, Problem> {
    let route = route.ok_or(Problem::NotFound)?;
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    let headers = request.headers();
    match (method, route) {
        (&Method::GET, Route::Home) => page(headers, pages::HOME),
        (&Method::GET, Route::OpenApi) => document(headers, YAML, include_str!("../docs/openapi.yaml")),
        (&Method::GET, Route::Problems) => page(headers, pages::problem_list()),
        (&Method::GET, Route::Problem(slug)) => page(headers, pages::problem(slug).ok_or(Problem::NotFound)?),
        (&Method::GET, Route::Orders) => list::list_orders(context.stores()?.orders, request.uri().query()).await,
        (&Method::POST, Route::Orders) => create_order(context, key, request).await,
        (&Method::GET, Route::Order(id)) => show_order(context.stores()?.orders, id, headers).await,
        (&Method::PATCH, Route::Order(id)) => patch_order(context, id, request).await,
        (&Method::GET, Route::Health) => Ok(json_response(StatusCode::OK, Bytes::from_static(br#"{"status":"up"}"#))),
        (&Method::GET, Route::Readiness) => readiness(context).await,
        (_, route) => Err(Problem::MethodNotAllowed { allow: route.methods() }),
    }
}

async fn create_order<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    key: Result<IdempotencyKey, Problem>,
    request: &Request<Bytes>,
) -> Result<Response<Bytes>, Problem> {
    let stores = context.stores()?;
    require_media_type(request.headers(), JSON)?;
    let key = key?;
    let new_order = NewOrder::parse(bounded_body(request)?)?;
    match place_order(stores.keys, stores.orders, &key, new_order, context.order_id, context.now).await? {
        Outcome::Placed(answer) => created(answer, "false", trace::Outcome::Placed),
        Outcome::ReplayedFromRedis(answer) => created(answer, "true", trace::Outcome::ReplayedFromRedis),
        Outcome::ReplayedFromPostgres(answer) => created(answer, "true", trace::Outcome::ReplayedFromPostgres),
        Outcome::KeyReused => Err(Problem::IdempotencyKeyReused),
    }
}

fn created(answer: Answer, replayed: &'static str, outcome: trace::Outcome) -> Result<Response<Bytes>, Problem> {
    let mut response = json_response(StatusCode::CREATED, answer.body);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, header_value(format!("/orders/{}", answer.order_id))?);
    headers.insert(header::ETAG, etag(1)?);
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static(replayed));
    response.extensions_mut().insert(outcome);
    response.extensions_mut().insert(OrderId(answer.order_id));
    Ok(response)
}

async fn show_order(orders: &impl OrderStore, id: &str, headers: &HeaderMap) -> Result<Response<Bytes>, Problem> {
    let order = orders.find(order_id(id)?).await?.ok_or(Problem::OrderNotFound)?;
    let etag = etag(order.version)?;
    if matches(headers, &etag) { Ok(not_modified(etag)) } else { present_order(&order) }
}

fn not_modified(etag: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(header::ETAG, etag);
    response
}

async fn patch_order<K: KeyStore, O: OrderStore>(
    context: &Context<'_, K, O>,
    id: &str,
    request: &Request<Bytes>,
) -> Result<Response<Bytes>, Problem> {
    let stores = context.stores()?;
    let id = order_id(id)?;
    require_media_type(request.headers(), MERGE_PATCH)?;
    let versions = named_versions(request.headers())?;
    let status = Status::parse_patch(bounded_body(request)?)?;
    match change_order(stores.orders, id, &versions, status, context.now).await? {
        Change::Made(order) => changed(&order, trace::Outcome::Changed),
        Change::Repeated(order) => changed(&order, trace::Outcome::ChangeRepeated),
        Change::NotFound => Err(Problem::OrderNotFound),
        Change::MovedOn(version) => Err(Problem::PreconditionFailed { etag: etag(version)? }),
        Change::NotAllowed(from) => Err(Problem::TransitionNotAllowed { from, to: status }),
    }
}

fn changed(order: &Order, outcome: trace::Outcome) -> Result<Response<Bytes>, Problem> {
    let mut response = present_order(order)?;
    response.extensions_mut().insert(outcome);
    Ok(response)
}

/// The order as it is now.
fn present_order(order: &Order) -> Result<Response<Bytes>, Problem> {
    let mut response = json_response(StatusCode::OK, order.json()?);
    response.headers_mut().insert(header::ETAG, etag(order.version)?);
    Ok(response)
}

/// One spelling per resource: the hyphenated one that `Location` gives.
fn order_id(id: &str) -> Result<Uuid, Problem> {
    match Uuid::parse_str(id) {
        Ok(uuid) if id.len() == 36 => Ok(uuid),
        _ => Err(Problem::OrderNotFound),
    }
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    postgres: &'static str,
    redis: &'static str,
}

async fn readiness<K: KeyStore, O: OrderStore>(context: &Context<'_, K, O>) -> Result<Response<Bytes>, Problem> {
    let (redis_up, check) = match &context.stores {
        Ok(stores) => (stores.keys.is_up().await, stores.orders.check().await.map_err(|error| error.to_string())),
        Err(invalid) => (false, Err(invalid.to_string())),
    };
    let word = |up| if up { "up" } else { "down" };
    let (status_code, status) = match (check.is_ok(), redis_up) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let readiness = Readiness { status, postgres: word(check.is_ok()), redis: word(redis_up) };
    let mut response = json_response(status_code, to_json(&readiness)?);
    if let Err(cause) = check {
        response.extensions_mut().insert(Cause(cause));
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

fn require_media_type(headers: &HeaderMap, accepted: &'static str) -> Result<(), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default();
    match essence.trim().eq_ignore_ascii_case(accepted) {
        true => Ok(()),
        false => Err(Problem::UnsupportedMediaType { accepted }),
    }
}

fn bounded_body(request: &Request<Bytes>) -> Result<&Bytes, Problem> {
    match request.body() {
        body if body.len() <= MAX_BODY_BYTES => Ok(body),
        _ => Err(Problem::PayloadTooLarge),
    }
}

/// The versions that `If-Match` names, by the strong comparison that RFC 9110 asks for: a weak tag, or one that is
/// no version, names none. `*` is refused like a missing header, since it would overwrite what its sender never saw.
fn named_versions(headers: &HeaderMap) -> Result<Vec<i64>, Problem> {
    let tags: Vec<_> = entity_tags(headers, header::IF_MATCH).collect();
    if tags.is_empty() || tags.contains(&&b"*"[..]) {
        return Err(Problem::PreconditionRequired);
    }
    let version = |tag: &[u8]| {
        let digits = std::str::from_utf8(tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()?;
        // One spelling per version: `"01"` is another tag than `"1"`.
        digits.parse().ok().filter(|version: &i64| *version >= 1 && version.to_string() == digits)
    };
    Ok(tags.into_iter().filter_map(version).collect())
}

fn entity_tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}

/// Whether `If-None-Match` names `etag`, by the weak comparison that RFC 9110 asks for.
fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    entity_tags(headers, header::IF_NONE_MATCH)
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
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
