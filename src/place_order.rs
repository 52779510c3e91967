//! The protocol: an order is placed exactly once per key, whatever crashes, repeats, races or is lost.

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
    /// An earlier request with this key and this order did; here is what it was answered, as Redis tells it.
    ReplayedFromRedis(Answer),
    /// The same, as PostgreSQL tells it.
    ReplayedFromPostgres(Answer),
    /// The key belongs to this other order. Nothing was written.
    KeyReused(Uuid),
}

/// Places `new_order` under the client's `key`, or finds what an earlier request with the key was answered.
///
/// `order_id` and `now` become the order's if this request is the first.
/// An error means "unknown": the order may be placed or not, and the same request settles it.
pub async fn place_order(
    keys: &impl AnswerCache,
    orders: &impl OrderStore,
    client: &ClientName,
    key: &IdempotencyKey,
    new_order: NewOrder,
    order_id: Uuid,
    now: Timestamp,
) -> Result<PlaceOutcome, StoreError> {
    let fingerprint = Fingerprint::of(&new_order);

    // Redis may answer only what is certain: this key was given to this order.
    // Another fingerprint goes on to PostgreSQL, since only it may say that a key was reused.
    if let Some(record) = keys.find(client, key).await
        && record.fingerprint == fingerprint
    {
        return Ok(PlaceOutcome::ReplayedFromRedis(record.answer));
    }

    // One statement decides. A concurrent duplicate waits in it on the unique index until the first one commits.
    let order = Order::new(order_id, now, new_order);
    let (record, placed_here) = match orders.place(client, key, fingerprint, &order).await? {
        Placement::Placed => (KeyRecord { fingerprint, answer: Answer::of(&order)? }, true),
        // A second statement: the snapshot of the first may be too old to see the row that stopped it.
        Placement::KeyTaken => (orders.find_by_key(client, key).await?, false),
    };

    // Also after a replay from PostgreSQL, so that a lost or garbled entry heals.
    keys.remember(client, key, &record).await;

    Ok(match (placed_here, record.fingerprint == fingerprint) {
        (true, _) => PlaceOutcome::Placed(record.answer),
        (false, true) => PlaceOutcome::ReplayedFromPostgres(record.answer),
        (false, false) => PlaceOutcome::KeyReused(record.answer.order_id),
    })
}
