//! Inserts an order in one or two statements: first in a batch, then alone if the batch did not settle it.

use crate::group_commit::Written;
use crate::stores::{Placement, StoreError};

/// The result of an order in its batch. `None`: the batch wrote nothing and never will.
pub type BatchResult = Option<Result<Placement, StoreError>>;

/// Inserts an order `alone` unless its batch settled it. `is_placed` looks the order up by its own id.
///
/// # Errors
///
/// `KeyInUse` only if no statement of this request can still write: otherwise its own first statement may hold the key.
pub async fn insert_order(
    in_batch: Written<BatchResult>,
    alone: impl Future<Output = Result<Placement, StoreError>>,
    is_placed: impl Future<Output = Result<bool, StoreError>>,
) -> Result<Placement, StoreError> {
    match in_batch {
        Written::Done(Some(result)) => result,
        Written::Done(None) | Written::NotTried => alone.await,
        // The batch may still be committed.
        Written::Unknown => match alone.await {
            Err(StoreError::KeyInUse(cause)) => Err(StoreError::Unavailable(cause)),
            // Possibly by this order's first statement.
            Ok(Placement::KeyTaken) if is_placed.await? => Ok(Placement::Placed),
            result => result,
        },
    }
}
