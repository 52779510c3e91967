//! The two ports: what the protocol needs of Redis and of PostgreSQL, and what they return.
//!
//! Every key and every order is scoped to a client: other clients' data is invisible.
//!
//! The documentation of each method is its contract. `tests/laws/stores/` checks it, except for time and the log, on the real
//! stores and on those in memory.

use uuid::Uuid;

use crate::client::ClientName;
use crate::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{Order, Status, Timestamp};

pub use snapshot::Snapshot;

mod snapshot;

/// The size of a page, in bytes of its items and comments: the order that reaches it is the last one.
///
/// A client may read a page as slowly as it likes, and the service holds all of it until then.
pub const PAGE_BYTES: usize = 256 * 1024;

/// How many orders of a customer a page examines for one status. There may be millions, of which none matches.
pub const PAGE_ROWS: usize = 1000;

/// The fast memory of answers. Losing it, wholly or in part, must change no answer.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait AnswerCache {
    /// The record under the client's `key`, or `None` if there is none that can be trusted.
    ///
    /// An error, a late answer and an unreadable record are all `None`: the implementation logs them.
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord>;

    /// Stores `record` for the retention. Best effort, and possibly only after this returns: the implementation logs a failure.
    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord);

    /// Whether the store answers.
    async fn is_up(&self) -> bool;
}

/// Which orders a list holds; every filter that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Placed by this customer.
    pub customer_id: Option<String>,
    /// With this status now.
    pub status: Option<Status>,
    /// Placed under this key: one order or none.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Older than this one: the `next` of the previous page.
    pub before: Option<Uuid>,
}

impl Filter {
    /// The newest id that the page may show.
    pub fn newest(&self) -> Uuid {
        self.before.map_or(Uuid::max(), |before| Uuid::from_u128(before.as_u128().saturating_sub(1)))
    }
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first. May be empty although the list continues.
    pub orders: Vec<Order>,
    /// Where the list continues, if it does.
    pub next: Option<Uuid>,
}

/// A place in a sweep of the feed: after this change. By default before all changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The transaction that made the change.
    pub xid: u64,
    /// The order that was changed. One transaction may change several.
    pub order_id: Uuid,
}

/// A walk over the changes that became visible since an earlier moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// What this shows was read by earlier sweeps.
    pub done: Snapshot,
    /// Once it has begun: the snapshot of its first page, which bounds it, and the last change that was read.
    pub begun: Option<(Snapshot, Position)>,
}

/// The newest change of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The order after the change.
    pub order: Order,
    /// When it was changed.
    pub at: Timestamp,
    /// The transaction that made it.
    pub xid: u64,
}

impl Event {
    /// Its position in a sweep.
    pub fn position(&self) -> Position {
        Position { xid: self.xid, order_id: self.order.id }
    }
}

/// A page of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The life of the database that transaction ids belong to.
    pub epoch: i64,
    /// The snapshot that the page was read from.
    pub now: Snapshot,
    /// Ascending by position.
    pub events: Vec<Event>,
    /// Whether the sweep has more events now.
    pub has_more: bool,
}

/// What an insert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The row is committed.
    Placed,
    /// The key already has a row. Nothing was written.
    KeyTaken,
}

/// Why the store returned no result. The text is for the log: it may quote the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another statement with the key did not finish within the lock timeout. This one wrote nothing.
    #[error("key in use: {0}")]
    KeyInUse(String),
    /// The cause lies outside the request, as when the store is late, cut off or without a table or right that the service
    /// needs: the same request may succeed later. Whether the statement took effect is unknown.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The cause is this request or what it read: the store refused its values, or returned unreadable ones.
    #[error("store broken: {0}")]
    Broken(String),
}

impl StoreError {
    /// From PostgreSQL's SQLSTATE, if it sent one. Only classes 22 (data exception) and 23 (integrity constraint violation)
    /// concern the values of the statement. All others would affect any statement, or are temporary.
    pub fn of_sqlstate(sqlstate: Option<&str>, cause: String) -> Self {
        match sqlstate.and_then(|code| code.get(..2)) {
            Some("22" | "23") => Self::Broken(cause),
            // Except from a pooler whose session already has a statement of that name.
            Some("42") if sqlstate != Some("42P05") => {
                Self::Unavailable(format!("the schema or a right that the service needs is missing: {cause}"))
            }
            _ => Self::Unavailable(cause),
        }
    }
}

/// The permanent store of orders. Each call has one deadline, and each write is one statement.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait OrderStore {
    /// Inserts `order` unless `key` has a row; waits for a concurrent insert of the key, or a concurrent change of its order,
    /// to commit or fail.
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

    /// The answer to the key's first request, with its fingerprint.
    ///
    /// # Errors
    ///
    /// `Unavailable` also if the key has no row: it had one a moment ago, so a retry settles it.
    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError>;

    /// The order as it is now.
    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError>;

    /// Moves the order to `status` if its version is one of `versions` and its status is one of the sources of `status`.
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

    /// At most `limit` orders, and no more than it takes to fill [`PAGE_BYTES`]. It reads a bounded number of rows: if both a
    /// customer and a status are given, it examines at most [`PAGE_ROWS`] of the customer's orders.
    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError>;

    /// The next events of `sweep`: at most `limit`, and no more than it takes to fill [`PAGE_BYTES`].
    ///
    /// Its events are the changes that `sweep.done` does not show and that the snapshot of its first page shows. A sweep from
    /// the beginning also has changes whose transaction ids the server has not reached: they were loaded into it.
    async fn events(&self, client: &ClientName, sweep: &Sweep, limit: u32) -> Result<Events, StoreError>;

    /// Fails unless the store answers and its schema is the one this build expects.
    async fn check(&self) -> Result<(), StoreError>;
}
