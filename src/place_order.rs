//! The protocol: exactly one order per key, despite crashes, retries, races and lost answers.

use crate::client::ClientName;
use crate::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{NewOrder, Order, Timestamp};
use crate::stores::{AnswerCache, OrderStore, Placement, StoreError};
use uuid::Uuid;

/// How a request to place an order was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// This request placed the order.
    Placed(Answer),
    /// An earlier request with this key placed this order; its answer comes from Redis.
    ReplayedFromRedis(Answer),
    /// The same; its answer comes from PostgreSQL.
    ReplayedFromPostgres(Answer),
    /// The key belongs to this other order. Nothing was written.
    KeyReused(Uuid),
}

/// Places `new_order` under the client's `key`, or finds the answer to an earlier request with that key.
///
/// If this request is the first, its order gets `order_id` and `now`.
/// An error means "unknown": the order may have been placed; repeating the same request settles it.
pub async fn place_order(
    answers: &impl AnswerCache,
    orders: &impl OrderStore,
    client: &ClientName,
    key: &IdempotencyKey,
    new_order: NewOrder,
    order_id: Uuid,
    now: Timestamp,
) -> Result<PlaceOutcome, StoreError> {
    let fingerprint = Fingerprint::of(&new_order);

    // Redis may confirm only that this key belongs to this order.
    // Only PostgreSQL may decide that a key was reused, so another fingerprint is a miss.
    if let Some(record) = answers.find(client, key).await
        && record.fingerprint == fingerprint
    {
        return Ok(PlaceOutcome::ReplayedFromRedis(record.answer));
    }

    // This one statement decides. In it, a concurrent duplicate waits on the unique index until the first one commits.
    let order = Order::new(order_id, now, new_order);
    let (record, placed_here) = match orders.place(client, key, fingerprint, &order).await? {
        Placement::Placed => (KeyRecord { fingerprint, answer: Answer::of(order) }, true),
        // A second statement, because the first one's snapshot may predate the row that it conflicted with.
        Placement::KeyTaken => (orders.find_by_key(client, key).await?, false),
    };

    // Also after a replay from PostgreSQL, so that a lost or garbled entry heals.
    answers.remember(client, key, &record).await;

    Ok(match (placed_here, record.fingerprint == fingerprint) {
        (true, _) => PlaceOutcome::Placed(record.answer),
        (false, true) => PlaceOutcome::ReplayedFromPostgres(record.answer),
        (false, false) => PlaceOutcome::KeyReused(record.answer.order_id),
    })
}
