//! How an order gets into the store by one statement or by two: first with other orders, then alone if that did not settle it.

use crate::stores::{Placement, StoreError};

/// What came of the statement that the order shared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// It ran, and this is the order's own result.
    Settled(Result<Placement, StoreError>),
    /// It wrote nothing and never will, or the order was not in it.
    WroteNothing,
    /// It failed, and may still be committed.
    Unknown,
}

/// Inserts an order `alone` unless the `shared` statement settled it. `is_placed` tells whether the order is there under its
/// own id.
///
/// # Errors
///
/// `KeyInUse` only if no statement of this request can still write: what holds the key may be its own first statement.
pub async fn insert_order(
    shared: Shared,
    alone: impl Future<Output = Result<Placement, StoreError>>,
    is_placed: impl Future<Output = Result<bool, StoreError>>,
) -> Result<Placement, StoreError> {
    match shared {
        Shared::Settled(result) => result,
        Shared::WroteNothing => alone.await,
        Shared::Unknown => match alone.await {
            Err(StoreError::KeyInUse(cause)) => Err(StoreError::Unavailable(cause)),
            // Perhaps by the first statement.
            Ok(Placement::KeyTaken) if is_placed.await? => Ok(Placement::Placed),
            result => result,
        },
    }
}
