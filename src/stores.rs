//! The two ports: what the protocol asks of Redis and of PostgreSQL, and what they answer.
//!
//! Every key and every order is a client's: what belongs to another one is not there.
//!
//! The documentation of each method is its contract, which `tests/laws` checks on whatever implements it.

use uuid::Uuid;

use crate::client::ClientName;
use crate::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{Order, Status, Timestamp};

/// Where a page of the list ends, in bytes of its items and comments: the order that reaches this is the last one.
///
/// A client may take a page as slowly as it likes, and the service keeps all of it until then.
pub const PAGE_BYTES: usize = 256 * 1024;

/// The fast memory of answers. Losing it, wholly or in part, must change no answer.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait KeyStore {
    /// The record under the client's `key`, or `None` where there is none that can be trusted.
    ///
    /// An error, a late answer and an unreadable record are all `None`: the implementation logs them.
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord>;

    /// Remembers `record` for the retention. Best effort: the implementation logs a failure.
    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord);

    /// Whether the store answers now.
    async fn is_up(&self) -> bool;
}

/// Which orders a list holds; every filter that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Placed by this customer.
    pub customer_id: Option<String>,
    /// Standing here now.
    pub status: Option<Status>,
    /// Placed under this key: one order or none.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Older than this one: where the page before ended.
    pub before: Option<Uuid>,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub orders: Vec<Order>,
    /// Whether the list goes on behind them.
    pub has_more: bool,
}

/// What an insert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The row is committed.
    Placed,
    /// The key has a row already. Nothing was written.
    KeyTaken,
}

/// Why the store gave no answer. The text is for the log: it may quote the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another statement with the key did not finish within the lock timeout. This one wrote nothing.
    #[error("key in use: {0}")]
    KeyInUse(String),
    /// Late, unreachable or cut off: whether the statement took effect is unknown.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The store answered what the code does not expect: a defect, or another schema.
    #[error("store broken: {0}")]
    Broken(String),
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Where orders are kept for good. Each call has one deadline, and each write is one statement.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait OrderStore {
    /// Inserts `order` unless `key` has a row; waits for a concurrent insert of the key to commit or fail.
    ///
    /// # Errors
    ///
    /// `KeyInUse` if that wait was too long, `Unavailable` if the outcome is unknown.
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError>;

    /// What the key's first request was answered, with its fingerprint.
    ///
    /// # Errors
    ///
    /// `Unavailable` also where the key has no row: it had one a moment ago, so a retry settles it.
    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError>;

    /// The order as it is now.
    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError>;

    /// Moves the order to `status` if its version is one of `versions` and it stands at one of the status's sources.
    /// Waits for a concurrent change to commit or fail. `None`: nothing was written.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the outcome is unknown.
    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError>;

    /// At most `limit` orders, and no more of them than it takes to fill [`PAGE_BYTES`].
    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError>;

    /// Fails unless the store answers and its schema is the one this build expects.
    async fn check(&self) -> Result<(), StoreError>;
}
