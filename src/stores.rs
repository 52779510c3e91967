//! The two ports: what the protocol asks of Redis and of PostgreSQL, and what they answer.
//!
//! Every key and every order is a client's: what belongs to another one is not there.
//!
//! The documentation of each method is its contract. `tests/laws/stores/` checks it, but for time and the log, on the real
//! stores and on those that the tests put in their place.

use uuid::Uuid;

use crate::client::ClientName;
use crate::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{Order, Status, Timestamp};

pub use snapshot::Snapshot;

mod snapshot;

/// Where a page of the list ends, in bytes of its items and comments: the order that reaches this is the last one.
///
/// A client may take a page as slowly as it likes, and the service keeps all of it until then.
pub const PAGE_BYTES: usize = 256 * 1024;

/// How many orders of a customer a page looks through for those of one status. There may be millions, and none that matches.
pub const PAGE_ROWS: usize = 1000;

/// The fast memory of answers. Losing it, wholly or in part, must change no answer.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait AnswerCache {
    /// The record under the client's `key`, or `None` where there is none that can be trusted.
    ///
    /// An error, a late answer and an unreadable record are all `None`: the implementation logs them.
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord>;

    /// Remembers `record` for the retention, soon: it may still be on its way when this returns. Best effort: the
    /// implementation logs a failure.
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
    /// Older than this one: the `next` of the page before.
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
    /// Newest first. It may be empty although the list goes on.
    pub orders: Vec<Order>,
    /// Where the list goes on, if it does.
    pub next: Option<Uuid>,
}

/// A place in a sweep of the feed: after this change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The transaction that made the change.
    pub xid: u64,
    /// The order that was changed. One transaction may change several.
    pub order_id: Uuid,
}

impl Position {
    /// Before all changes.
    pub const START: Self = Self { xid: 0, order_id: Uuid::nil() };
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
    /// As the change left it.
    pub order: Order,
    /// When.
    pub at: Timestamp,
    /// The transaction that made it.
    pub xid: u64,
}

impl Event {
    /// Where it is in a sweep.
    pub fn position(&self) -> Position {
        Position { xid: self.xid, order_id: self.order.id }
    }
}

/// A page of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The life of the database that transaction ids belong to.
    pub epoch: i64,
    /// What the page was read from.
    pub now: Snapshot,
    /// Ascending by their positions.
    pub events: Vec<Event>,
    /// Whether the sweep has more of them now.
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
    /// The cause lies outside the request, as when the store is late, cut off or without a table or right that the service
    /// needs: the same request may succeed later. Whether the statement took effect is unknown.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// This very request, or what it read, is the cause: the store refused its values, or gave what cannot be read.
    #[error("store broken: {0}")]
    Broken(String),
}

impl StoreError {
    /// From PostgreSQL's SQLSTATE, if it sent one. Only classes 22 (data exception) and 23 (integrity constraint violation)
    /// concern the values of the statement. All others would hit any statement, or pass by themselves.
    pub fn of_sqlstate(sqlstate: Option<&str>, cause: String) -> Self {
        match sqlstate.and_then(|code| code.get(..2)) {
            Some("22" | "23") => Self::Broken(cause),
            // Except for a pooler's, whose session has a statement of that name already.
            Some("42") if sqlstate != Some("42P05") => {
                Self::Unavailable(format!("the schema or a right that the service needs is missing: {cause}"))
            }
            _ => Self::Unavailable(cause),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Where orders are kept for good. Each call has one deadline, and each write is one statement.
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

    /// At most `limit` orders, and no more of them than it takes to fill [`PAGE_BYTES`]. It reads a bounded number of rows: if
    /// both a customer and a status are given, no more than [`PAGE_ROWS`] of the customer's orders are looked through.
    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError>;

    /// The next events of `sweep`: at most `limit`, and no more than it takes to fill [`PAGE_BYTES`].
    ///
    /// Its events are the changes that `sweep.done` does not show and that the snapshot of its first page shows. A sweep from
    /// the beginning also has changes whose transaction ids the server has not reached: they were loaded into it.
    async fn events(&self, client: &ClientName, sweep: &Sweep, limit: u32) -> Result<Events, StoreError>;

    /// Fails unless the store answers and its schema is the one this build expects.
    async fn check(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_values_of_a_statement_are_its_own_fault() {
        let of = |code: &str| StoreError::of_sqlstate(Some(code).filter(|code| !code.is_empty()), "why".into());
        for code in ["22P02", "22021", "23502", "23505", "23514"] {
            assert_eq!(of(code), StoreError::Broken("why".into()), "{code}");
        }
        for code in
            ["", "0", "08006", "25006", "26000", "40001", "42P05", "53300", "55P03", "57014", "57P01", "XX000", "é00"]
        {
            assert_eq!(of(code), StoreError::Unavailable("why".into()), "{code}");
        }
        for code in ["42P01", "42703", "42P10", "42704", "42501", "42883", "42601"] {
            let StoreError::Unavailable(cause) = of(code) else { panic!("{code}") };
            assert!(cause.contains("missing") && cause.ends_with("why"), "{code}: {cause}");
        }
    }
}
