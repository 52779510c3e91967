//! Moves an order to another status: of concurrent changes one is made, and a client may retry blindly after a lost answer.

use crate::client::ClientName;
use crate::order::{Order, Status, Timestamp};
use crate::stores::{OrderStore, StoreError};
use uuid::Uuid;

/// The outcome of a request to change an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// This request changed the order to this.
    Made(Order),
    /// The order was already changed as requested, from the version that the request names.
    Repeated(Order),
    /// No such order.
    NotFound,
    /// The order is at this version, which the request does not name. Nothing was written.
    MovedOn(i64),
    /// An order cannot move from this status to the requested one. Nothing was written.
    NotAllowed(Status),
}

/// Moves the client's order `id` to `status`, if its version is one of `versions`.
///
/// An error means "unknown": the order may have been changed; repeating the same request settles it.
pub async fn change_order(
    orders: &impl OrderStore,
    client: &ClientName,
    id: Uuid,
    versions: &[i64],
    status: Status,
    now: Timestamp,
) -> Result<ChangeOutcome, StoreError> {
    // This one statement decides. In it, a concurrent change waits until the other one commits, then finds another version.
    if let Some(order) = orders.change(client, id, versions, status, now).await? {
        return Ok(ChangeOutcome::Made(order));
    }

    // Nothing was written. The rest only explains why.
    let Some(order) = orders.find(client, id).await? else {
        return Ok(ChangeOutcome::NotFound);
    };
    let is_repeat = order.status == status && versions.contains(&(order.version - 1));
    Ok(if is_repeat {
        ChangeOutcome::Repeated(order)
    } else if versions.contains(&order.version) && !status.sources().contains(&order.status) {
        ChangeOutcome::NotAllowed(order.status)
    } else {
        // Also if the order reached a named version only after the first statement.
        ChangeOutcome::MovedOn(order.version)
    })
}
