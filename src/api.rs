//! Routes and handlers: what a client sends, what it gets.

use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

use crate::client::{ClientName, Clients};
use crate::idempotency::IdempotencyKey;
use crate::order::Timestamp;
use crate::pages;
use crate::problem::Problem;
use crate::settings::InvalidSetting;
use crate::stores::{KeyStore, OrderStore};
use crate::trace::{KeyPrefix, Note};

use documents::{document, page};
use feed::list_events;
use head::idempotency_key;
use list::list_orders;
use orders::{create_order, order_id, patch_order, show_order};

pub use head::{MISSPELT_KEYS, headers_read};

mod documents;
mod feed;
mod head;
mod list;
mod orders;
mod preconditions;
mod query;

/// Largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The client's name for one intended order.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether an answer is the first one or a replay of it.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What `POST /orders` reads, and what every answer but a problem is.
pub(crate) const JSON: &str = "application/json";
/// RFC 9512.
const YAML: &str = "application/yaml";
/// What is old a moment later: a list, a problem, the service's own state.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the settings give: who may call, and the two stores.
pub struct Backing<'a, K, O> {
    /// Who may call.
    pub clients: &'a Clients,
    /// The fast memory of answers.
    pub keys: &'a K,
    /// Where orders are kept for good.
    pub orders: &'a O,
}

/// That, or which setting keeps the service from knowing it. Without it the pages still answer.
pub type FoundBacking<'a, K, O> = Result<Backing<'a, K, O>, InvalidSetting>;

/// A request's body, once it is whole. Time and ids come in as values, so that the core stays pure.
#[derive(Debug, Clone)]
pub struct Received {
    /// One longer than [`MAX_BODY_BYTES`] may be cut, as long as it is still longer.
    pub body: Bytes,
    /// The time at which the request was whole.
    pub at: Timestamp,
    /// The id of the order, should this request place one.
    pub order_id: Uuid,
}

/// Answers one request. Its `body` is asked for only if the head is accepted, so that a client that waits with
/// `Expect: 100-continue` need not send one in vain.
pub async fn respond<K: KeyStore, O: OrderStore>(
    backing: &FoundBacking<'_, K, O>,
    head: &Request<()>,
    body: impl Future<Output = Result<Received, Problem>>,
) -> Response<Bytes> {
    // For the log, whatever becomes of the request.
    let key = idempotency_key(head.headers());
    let key_prefix = key.as_ref().ok().map(KeyPrefix::of);
    let route = Route::of(head.uri().path());
    let path_id = match route {
        Some(Route::Order(id)) => order_id(id).ok(),
        _ => None,
    };
    // Before anything else is judged.
    let (client, answered) = match caller(backing, head) {
        Ok(client) => {
            let answered = answer(backing, &client, route, key, head, body).await;
            (client, answered)
        }
        Err(problem) => (ClientName::default(), Err(problem)),
    };
    let mut response = answered.unwrap_or_else(Problem::into_response);
    let note = Note::on(&mut response);
    (note.client, note.key, note.order_id) = (client, key_prefix, note.order_id.or(path_id));
    // The length lets a client see that an answer was cut: without it the host ends the body of an instance that
    // died behind the head as if it were whole. An empty body is that of a 304.
    let length = response.body().len();
    if length > 0 {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if head.method() == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response
}

/// Whose request it is: below `/orders` and `/events` it has to be somebody's, elsewhere nobody is asked.
fn caller<K, O>(backing: &FoundBacking<'_, K, O>, head: &Request<()>) -> Result<ClientName, Problem> {
    if !is_for_clients(head.uri().path()) {
        return Ok(ClientName::default());
    }
    found(backing)?.clients.identify(head.headers()).map_err(Problem::Unauthorized)
}

/// Whether what is there belongs to a client.
fn is_for_clients(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("orders" | "events"))
}

fn found<'a, 'b, K, O>(backing: &'a FoundBacking<'b, K, O>) -> Result<&'a Backing<'b, K, O>, Problem> {
    backing.as_ref().map_err(|invalid| Problem::Internal(invalid.to_string()))
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
    Events,
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
            ["orders", id] if !id.is_empty() => Self::Order(id),
            ["events"] => Self::Events,
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
            Self::Events => "/events",
            Self::Health => "/healthz",
            Self::Readiness => "/readyz",
        }
    }

    /// The `Allow` header.
    fn methods(self) -> &'static str {
        match self {
            Self::Orders => "GET, HEAD, POST",
            Self::Order(_) => "GET, HEAD, PATCH",
            Self::Home
            | Self::OpenApi
            | Self::Problems
            | Self::Problem(_)
            | Self::Events
            | Self::Health
            | Self::Readiness => "GET, HEAD",
        }
    }
}

async fn answer<K: KeyStore, O: OrderStore>(
    backing: &FoundBacking<'_, K, O>,
    client: &ClientName,
    route: Option<Route<'_>>,
    key: Result<IdempotencyKey, Problem>,
    head: &Request<()>,
    body: impl Future<Output = Result<Received, Problem>>,
) -> Result<Response<Bytes>, Problem> {
    let route = route.ok_or(Problem::NotFound)?;
    let method = match head.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    let headers = head.headers();
    match (method, route) {
        (&Method::GET, Route::Home) => page(headers, pages::HOME),
        (&Method::GET, Route::OpenApi) => document(headers, YAML, include_str!("../docs/openapi.yaml")),
        (&Method::GET, Route::Problems) => page(headers, pages::problem_list(head.uri().path())),
        (&Method::GET, Route::Problem(slug)) => page(headers, pages::problem(slug).ok_or(Problem::NotFound)?),
        (&Method::GET, Route::Orders) => list_orders(found(backing)?.orders, client, head.uri().query()).await,
        (&Method::POST, Route::Orders) => create_order(found(backing)?, client, key, head, body).await,
        (&Method::GET, Route::Order(id)) => show_order(found(backing)?.orders, client, id, head).await,
        (&Method::PATCH, Route::Order(id)) => patch_order(found(backing)?, client, id, head, body).await,
        (&Method::GET, Route::Events) => list_events(found(backing)?.orders, client, head.uri().query()).await,
        (&Method::GET, Route::Health) => {
            Ok(json_response(StatusCode::OK, Bytes::from_static(br#"{"status":"up"}"#), NO_STORE))
        }
        (&Method::GET, Route::Readiness) => readiness(backing).await,
        (_, route) => Err(Problem::MethodNotAllowed { allow: route.methods() }),
    }
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    postgres: &'static str,
    redis: &'static str,
}

async fn readiness<K: KeyStore, O: OrderStore>(backing: &FoundBacking<'_, K, O>) -> Result<Response<Bytes>, Problem> {
    let (redis_up, check) = match backing {
        Ok(backing) => (backing.keys.is_up().await, backing.orders.check().await.map_err(|error| error.to_string())),
        Err(invalid) => (false, Err(invalid.to_string())),
    };
    let word = |up| if up { "up" } else { "down" };
    let (status_code, status) = match (check.is_ok(), redis_up) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let readiness = Readiness { status, postgres: word(check.is_ok()), redis: word(redis_up) };
    let mut response = json_response(status_code, to_json(&readiness)?, NO_STORE);
    if let Err(cause) = check {
        Note::on(&mut response).cause = Some(cause);
    }
    Ok(response)
}

/// What a client has already, under its conditions.
fn not_modified(etag: HeaderValue, cache_control: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(header::ETAG, etag);
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
    response
}

/// A whole number in its one spelling, without a plus sign, a space or a leading zero: `"01"` is another tag than `"1"`.
fn whole_number<N: FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

fn header_value(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|cause| Problem::Internal(cause.to_string()))
}

fn to_json(value: &impl Serialize) -> Result<Bytes, Problem> {
    Ok(serde_json::to_vec(value)?.into())
}

fn json_response(status: StatusCode, body: Bytes, cache_control: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
    response
}
