//! Moving an order to another status: of changes that meet one is made, and a lost answer may be retried blindly.

use crate::client::ClientName;
use crate::order::{Order, Status, Timestamp};
use crate::stores::{OrderStore, StoreError};
use uuid::Uuid;

/// What became of a request to change an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// This request changed the order; here it is.
    Made(Order),
    /// The order was already changed as asked, from the version that the request names.
    Repeated(Order),
    /// No such order.
    NotFound,
    /// The order is at this version, which the request does not name. Nothing was written.
    MovedOn(i64),
    /// No order goes from this status to the one asked for. Nothing was written.
    NotAllowed(Status),
}

/// Moves the client's order `id` to `status`, if its version is one of `versions`.
///
/// An error means "unknown": the order may be changed or not, and the same request settles it.
pub async fn change_order(
    orders: &impl OrderStore,
    client: &ClientName,
    id: Uuid,
    versions: &[i64],
    status: Status,
    now: Timestamp,
) -> Result<ChangeOutcome, StoreError> {
    // One statement decides. A concurrent change waits in it for the other one to commit, then finds another version.
    if let Some(order) = orders.change(client, id, versions, status, now).await? {
        return Ok(ChangeOutcome::Made(order));
    }

    // Nothing was written. From here on the answer is only explained.
    let Some(order) = orders.find(client, id).await? else {
        return Ok(ChangeOutcome::NotFound);
    };
    let is_repeat = order.status == status && versions.contains(&(order.version - 1));
    Ok(if is_repeat {
        ChangeOutcome::Repeated(order)
    } else if versions.contains(&order.version) && !status.sources().contains(&order.status) {
        ChangeOutcome::NotAllowed(order.status)
    } else {
        // Also where the order has come to a version named only after the first statement looked.
        ChangeOutcome::MovedOn(order.version)
    })
}
