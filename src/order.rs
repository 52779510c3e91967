//! What an order is, and how one is read from JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

pub use json::{Fault, Rejected};
pub use rules::parse_id;

mod json;
mod rules;

/// Largest integer that every JSON reader holds exactly: 2^53 - 1.
pub const MAX_TOTAL: i64 = 9_007_199_254_740_991;

/// An instant in UTC with milliseconds.
pub type Timestamp = DateTime<Utc>;

/// With milliseconds and `Z`, as answers, events and the log have it.
pub fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Texts and numbers always serialise.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// An order as a client asked for it, with every rule of the contract met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOrder {
    /// 1 to 64 characters.
    pub customer_id: String,
    /// ISO 4217.
    pub currency: String,
    /// 1 to 100.
    pub items: Vec<Item>,
    /// At most 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Sum of quantity times unit amount, in the currency's minor unit.
    pub total_amount: i64,
}

/// One line of an order. Deserialised from the store only, where a later release may have written members that this one does
/// not know; `rules` parses what a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// 1 to 64 characters.
    pub sku: String,
    /// 1 to 10 000.
    pub quantity: i64,
    /// In the currency's minor unit.
    pub unit_amount: i64,
}

/// An order that exists. The member order of its JSON is part of the promise: answers are replayed byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// UUIDv7, so that ids sort by age.
    #[serde(rename = "orderId")]
    pub id: Uuid,
    /// Its current status.
    pub status: Status,
    /// Starts at 1 and rises by one with each change.
    pub version: i64,
    /// What the client ordered; never changes.
    #[serde(flatten)]
    pub placed: NewOrder,
    /// When it was placed.
    #[serde(serialize_with = "as_rfc3339")]
    pub created_at: Timestamp,
}

fn as_rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

/// The status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Placed, not yet decided on.
    Created,
    /// Accepted.
    Confirmed,
    /// Cancelled.
    Cancelled,
}

impl Status {
    /// Parses the spelling that JSON, queries and the database share.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Created, Self::Confirmed, Self::Cancelled].into_iter().find(|status| status.as_str() == text)
    }

    /// The statuses from which an order may move to this one.
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

impl Order {
    /// An order at the moment it is placed.
    pub fn new(id: Uuid, created_at: Timestamp, placed: NewOrder) -> Self {
        Self { id, created_at, placed, status: Status::Created, version: 1 }
    }
}
