//! Routes and handlers: requests and their answers.

use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use uuid::Uuid;

use crate::client::{ClientName, Clients};
use crate::order::Timestamp;
use crate::pages;
use crate::problem::Problem;
use crate::settings::InvalidSetting;
use crate::stores::{AnswerCache, OrderStore};
use crate::trace::{Note, key_prefix};

use documents::{document, page};
use feed::list_events;
use head::idempotency_key;
use list::list_orders;
use orders::{create_order, order_id, patch_order, show_order};
use routes::{Action, Route, is_for_clients};

pub use head::MISSPELT_KEYS;
pub use routes::{headers_read, route_template};

mod documents;
mod feed;
mod head;
mod list;
mod orders;
mod preconditions;
mod query;
mod routes;

/// Largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The client's name for one intended order.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whether an answer is the first one or a replay.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The media type of a `POST`'s body, and of answers in JSON that are neither problems nor events.
pub(crate) const JSON: &str = "application/json";
/// RFC 9512.
const YAML: &str = "application/yaml";
/// For a list, a problem and the service's own state. A client that got a cached empty list would believe its order lost.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the settings provide: who may call, and the two stores.
pub struct Backends<'a, K, O> {
    /// Who may call.
    pub clients: &'a Clients,
    /// The fast memory of answers.
    pub answers: &'a K,
    /// The permanent store of orders.
    pub orders: &'a O,
}

/// A request's complete body. Time and ids are passed in as values, so that the core stays pure.
#[derive(Debug, Clone)]
pub struct Received {
    /// May be cut if it is longer than [`MAX_BODY_BYTES`], but to no less than one byte more.
    pub body: Bytes,
    /// When the request was complete.
    pub at: Timestamp,
    /// The id of the order, if this request places one.
    pub order_id: Uuid,
}

/// An answer, or the problem that it will be.
type ApiResult = Result<Response<Bytes>, Problem>;

/// Answers one request. If a setting does not parse there is no `backends`, and the pages still answer. The `body` is requested
/// only if the head is accepted, so a client that sends `Expect: 100-continue` does not send it in vain.
pub async fn respond<K: AnswerCache, O: OrderStore>(
    backends: Result<&Backends<'_, K, O>, &InvalidSetting>,
    head: &Request<()>,
    body: impl Future<Output = Result<Received, Problem>>,
) -> Response<Bytes> {
    // For the log, whatever the outcome.
    let key = idempotency_key(head.headers());
    let key_prefix = key.as_ref().ok().map(key_prefix);
    let is_for_clients = is_for_clients(head.uri().path());
    let route = Route::of(head.uri().path());
    // Only the paths for clients name an order.
    let path_id = route.filter(|_| is_for_clients).and_then(|(_, id)| order_id(id));
    let mut client = ClientName::default();
    let answered = async {
        // Before anything else is judged.
        if is_for_clients {
            client = backends?.clients.identify(head.headers()).map_err(Problem::Unauthorized)?;
        }
        let (route, segment) = route.ok_or(Problem::NotFound)?;
        let action = route.action(head.method()).ok_or_else(|| Problem::MethodNotAllowed(route.allow()))?;
        let (headers, path, query) = (head.headers(), head.uri().path(), head.uri().query().unwrap_or_default());
        match action {
            Action::ShowHome => page(headers, pages::home()),
            Action::ShowContract => document(headers, YAML, Bytes::from_static(include_bytes!("../docs/openapi.yaml"))),
            Action::ListProblems => page(headers, pages::problem_list(path)),
            Action::ShowProblem => page(headers, pages::problem(segment).ok_or(Problem::NotFound)?),
            Action::ListOrders => list_orders(backends?.orders, &client, query).await,
            Action::CreateOrder => create_order(backends?, &client, key, head, body).await,
            Action::ShowOrder => show_order(backends?.orders, &client, segment, head).await,
            Action::PatchOrder => patch_order(backends?, &client, segment, head, body).await,
            Action::ListEvents => list_events(backends?.orders, &client, query).await,
            Action::ShowHealth => Ok(json_response(StatusCode::OK, r#"{"status":"up"}"#.into(), NO_STORE)),
            Action::ShowReadiness => readiness(backends).await,
        }
    };
    let answered = answered.await;
    let mut response = answered.unwrap_or_else(Problem::into_response);
    let note = Note::on(&mut response);
    (note.client, note.key, note.order_id) = (client, key_prefix, note.order_id.or(path_id));
    // The length shows a client that an answer was cut off: if an instance dies after the head, the host ends a body of
    // unknown length as if it were complete. Only a 304 has an empty body.
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

async fn readiness<K: AnswerCache, O: OrderStore>(backends: Result<&Backends<'_, K, O>, &InvalidSetting>) -> ApiResult {
    let (redis_up, check) = match backends {
        Ok(backends) => {
            (backends.answers.is_up().await, backends.orders.check().await.map_err(|error| error.to_string()))
        }
        Err(invalid) => (false, Err(invalid.to_string())),
    };
    let word = |up| if up { "up" } else { "down" };
    let (status_code, status) = match (check.is_ok(), redis_up) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let (postgres, redis) = (word(check.is_ok()), word(redis_up));
    let body = format!(r#"{{"status":"{status}","postgres":"{postgres}","redis":"{redis}"}}"#);
    let mut response = json_response(status_code, body.into(), NO_STORE);
    Note::on(&mut response).cause = check.err();
    Ok(response)
}

fn not_modified(etag: HeaderValue, cache_control: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(header::ETAG, etag);
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
    response
}

/// A whole number in its only spelling, without a plus sign, a space or a leading zero: the tag `"01"` is not `"1"`.
fn whole_number<N: FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

fn header_value(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|cause| Problem::Internal(cause.to_string()))
}

fn json_response(status: StatusCode, body: Bytes, cache_control: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response.headers_mut().insert(header::CACHE_CONTROL, cache_control);
    response
}
