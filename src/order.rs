//! What an order is, how one is read from JSON, and where orders are kept.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};

pub use parse::{Fault, Rejected, is_id};

mod parse;

/// Largest integer that every JSON reader holds exactly: 2^53 - 1.
pub const MAX_TOTAL: i64 = 9_007_199_254_740_991;

/// Where a page of the list ends, in bytes of its items and comments: the order that reaches this is the last one.
///
/// A client may take a page as slowly as it likes, and the service keeps all of it until then.
pub const PAGE_BYTES: usize = 256 * 1024;

/// An instant in UTC with milliseconds.
pub type Timestamp = DateTime<Utc>;

/// An order as a client asked for it, with every rule of the contract met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// 1 to 64 characters.
    pub customer_id: String,
    /// ISO 4217.
    pub currency: String,
    /// 1 to 100.
    pub items: Vec<Item>,
    /// At most 500 characters.
    pub comment: Option<String>,
    /// Sum of quantity times unit amount, in the currency's minor unit.
    pub total_amount: i64,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Item {
    /// 1 to 64 characters.
    pub sku: String,
    /// 1 to 10 000.
    pub quantity: i64,
    /// In the currency's minor unit.
    pub unit_amount: i64,
}

/// An order that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// UUIDv7, so that ids sort by age.
    pub id: Uuid,
    /// When it was placed.
    pub created_at: Timestamp,
    /// What was asked for; never changes.
    pub placed: NewOrder,
    /// Where it stands.
    pub status: Status,
    /// Rises by one with each change, from 1.
    pub version: i64,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Placed and not yet decided on.
    Created,
    /// Accepted.
    Confirmed,
    /// Called off.
    Cancelled,
}

impl Status {
    /// Reads the spelling that JSON, queries and the database share.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Created, Self::Confirmed, Self::Cancelled].into_iter().find(|status| status.as_str() == text)
    }

    /// Where an order may stand to be moved here.
    pub fn sources(self) -> &'static [Self] {
        match self {
            Self::Created => &[],
            Self::Confirmed => &[Self::Created],
            Self::Cancelled => &[Self::Created, Self::Confirmed],
        }
    }

    /// The spelling that JSON, queries and the database share.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The JSON of an order. The member order is part of the promise: answers are replayed byte for byte.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderJson<'a> {
    order_id: Uuid,
    status: Status,
    version: i64,
    customer_id: &'a str,
    currency: &'a str,
    items: &'a [Item],
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    total_amount: i64,
    created_at: String,
}

impl Order {
    /// An order at the moment it is placed.
    pub fn new(id: Uuid, created_at: Timestamp, placed: NewOrder) -> Self {
        Self { id, created_at, placed, status: Status::Created, version: 1 }
    }

    /// What its `POST` is answered, now and at every replay: the order as it was placed.
    pub fn answer(&self) -> Result<Answer, StoreError> {
        let body = self.json_as(Status::Created, 1)?;
        Ok(Answer { order_id: self.id, body })
    }

    /// The order as it is now.
    pub fn json(&self) -> Result<Bytes, StoreError> {
        self.json_as(self.status, self.version)
    }

    fn json_as(&self, status: Status, version: i64) -> Result<Bytes, StoreError> {
        let json = OrderJson {
            order_id: self.id,
            status,
            version,
            customer_id: &self.placed.customer_id,
            currency: &self.placed.currency,
            items: &self.placed.items,
            comment: self.placed.comment.as_deref(),
            total_amount: self.placed.total_amount,
            created_at: self.created_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        let body = serde_json::to_vec(&json).map_err(|cause| StoreError::Broken(cause.to_string()))?;
        Ok(body.into())
    }
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
    /// Another request with the key did not finish within the lock timeout. Nothing was written.
    #[error("key in use: {0}")]
    KeyInUse(String),
    /// Late, unreachable or cut off: whether the statement took effect is unknown.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The store answered what the code does not expect: a defect, or another schema.
    #[error("store broken: {0}")]
    Broken(String),
}

/// Where orders are kept for good. Each method is one statement under one deadline.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait OrderStore {
    /// Inserts `order` unless `key` has a row; waits for a concurrent insert of the key to commit or fail.
    ///
    /// # Errors
    ///
    /// `KeyInUse` if that wait was too long, `Unavailable` if the outcome is unknown.
    async fn place(
        &self,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError>;

    /// What the key's first request was answered, with its fingerprint.
    ///
    /// # Errors
    ///
    /// `Unavailable` also where the key has no row: it had one a moment ago, so a retry settles it.
    async fn find_by_key(&self, key: &IdempotencyKey) -> Result<KeyRecord, StoreError>;

    /// The order as it is now.
    async fn find(&self, id: Uuid) -> Result<Option<Order>, StoreError>;

    /// Moves the order to `status` if its version is one of `versions` and it stands at one of the status's sources.
    /// Waits for a concurrent change to commit or fail. `None`: nothing was written.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the outcome is unknown.
    async fn change(
        &self,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError>;

    /// At most `limit` orders, and no more of them than it takes to fill [`PAGE_BYTES`].
    async fn list(&self, filter: &Filter, limit: u32) -> Result<Page, StoreError>;

    /// Fails unless the store answers and its schema is the one this build expects.
    async fn check(&self) -> Result<(), StoreError>;
}
