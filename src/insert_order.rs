//! Inserts an order in one or two statements: first in a batch, then alone if the batch did not settle it.

use crate::stores::{Placement, StoreError};

/// The result, for one order, of the statement that it shared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// The statement ran; this is the order's own result.
    Settled(Result<Placement, StoreError>),
    /// It wrote nothing and never will, or the order was not in it.
    WroteNothing,
    /// It failed, and may still be committed.
    Unknown,
}

/// Inserts an order `alone` unless the `shared` statement settled it. `is_placed` looks the order up by its own id.
///
/// # Errors
///
/// `KeyInUse` only if no statement of this request can still write: otherwise its own first statement may hold the key.
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
            // Possibly by this order's first statement.
            Ok(Placement::KeyTaken) if is_placed.await? => Ok(Placement::Placed),
            result => result,
        },
    }
}
