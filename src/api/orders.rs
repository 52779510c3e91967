//! One order: placing it, showing it, changing it.

use http::{HeaderValue, Request, StatusCode, header};
use uuid::Uuid;

use super::head::{bounded, require_media_type};
use super::preconditions::{etag, is_known, named_versions, require_match};
use super::{ApiResult, Backends, IDEMPOTENT_REPLAYED, JSON, Received, header_value, json_response, not_modified};
use crate::change_order::{ChangeOutcome, change_order};
use crate::client::ClientName;
use crate::idempotency::{Answer, IdempotencyKey};
use crate::order::{NewOrder, Order, Status, to_json};
use crate::place_order::{PlaceOutcome, place_order};
use crate::problem::{MERGE_PATCH, Problem};
use crate::stores::{AnswerCache, OrderStore};
use crate::trace::{Note, Outcome};

/// Only the client may keep an order, and it revalidates each time. A proxy that compressed it would weaken or change the
/// tag.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache, no-transform");

pub(super) async fn create_order<K: AnswerCache, O: OrderStore>(
    backends: &Backends<'_, K, O>,
    client: &ClientName,
    key: Result<IdempotencyKey, Problem>,
    head: &Request<()>,
    body: impl Future<Output = Result<Received, Problem>>,
) -> ApiResult {
    require_media_type(head.headers(), JSON)?;
    let key = key?;
    let Received { body, at, order_id } = bounded(head.headers(), body).await?;
    let new_order = NewOrder::parse(&body)?;
    match place_order(backends.answers, backends.orders, client, &key, new_order, order_id, at).await? {
        PlaceOutcome::Placed(answer) => created(answer, "false", Outcome::Placed),
        PlaceOutcome::ReplayedFromRedis(answer) => created(answer, "true", Outcome::ReplayedFromRedis),
        PlaceOutcome::ReplayedFromPostgres(answer) => created(answer, "true", Outcome::ReplayedFromPostgres),
        PlaceOutcome::KeyReused(order_id) => Err(Problem::IdempotencyKeyReused(order_id)),
    }
}

fn created(answer: Answer, replayed: &'static str, outcome: Outcome) -> ApiResult {
    let mut response = json_response(StatusCode::CREATED, answer.body, CACHE_CONTROL);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, header_value(format!("/orders/{}", answer.order_id))?);
    headers.insert(header::ETAG, etag(1)?);
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static(replayed));
    let note = Note::on(&mut response);
    (note.outcome, note.order_id) = (Some(outcome), Some(answer.order_id));
    Ok(response)
}

pub(super) async fn show_order(
    orders: &impl OrderStore,
    client: &ClientName,
    id: &str,
    head: &Request<()>,
) -> ApiResult {
    let id = order_id(id).ok_or(Problem::OrderNotFound)?;
    let order = orders.find(client, id).await?.ok_or(Problem::OrderNotFound)?;
    let etag = etag(order.version)?;
    require_match(head.headers(), &etag)?;
    if is_known(head.headers(), &etag) { Ok(not_modified(etag, CACHE_CONTROL)) } else { present_order(&order, None) }
}

pub(super) async fn patch_order<K, O: OrderStore>(
    backends: &Backends<'_, K, O>,
    client: &ClientName,
    id: &str,
    head: &Request<()>,
    body: impl Future<Output = Result<Received, Problem>>,
) -> ApiResult {
    let id = order_id(id).ok_or(Problem::OrderNotFound)?;
    require_media_type(head.headers(), MERGE_PATCH)?;
    let versions = named_versions(head.headers())?;
    let received = bounded(head.headers(), body).await?;
    let status = Status::parse_patch(&received.body)?;
    match change_order(backends.orders, client, id, &versions, status, received.at).await? {
        ChangeOutcome::Made(order) => present_order(&order, Some(Outcome::Changed)),
        ChangeOutcome::Repeated(order) => present_order(&order, Some(Outcome::ChangeRepeated)),
        ChangeOutcome::NotFound => Err(Problem::OrderNotFound),
        ChangeOutcome::MovedOn(version) => Err(Problem::PreconditionFailed(etag(version)?)),
        ChangeOutcome::NotAllowed(from) => Err(Problem::TransitionNotAllowed { from, to: status }),
    }
}

fn present_order(order: &Order, outcome: Option<Outcome>) -> ApiResult {
    let mut response = json_response(StatusCode::OK, to_json(order).into(), CACHE_CONTROL);
    response.headers_mut().insert(header::ETAG, etag(order.version)?);
    Note::on(&mut response).outcome = outcome;
    Ok(response)
}

/// Hyphenated, as `Location` gives it.
pub(super) fn order_id(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok().filter(|_| id.len() == 36)
}
