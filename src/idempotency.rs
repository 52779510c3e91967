//! The idempotency key, the fingerprint of an order, and the record that Redis keeps.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use xxhash_rust::xxh64::xxh64;

use crate::client::ClientName;
use crate::order::{NewOrder, Order, Status, to_json};

pub use key::{IdempotencyKey, InvalidKey, MAX_KEY_CHARS};

mod key;

/// SHA-256 over the meaning of an order: white space, member order and escapes do not affect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Hashes every accepted field under its length, so that no two orders share an encoding.
    pub fn of(order: &NewOrder) -> Self {
        let mut hash = Sha256::new();
        // The version leaves room for a field that is added later: old rows keep their fingerprints.
        hash.update(b"order/1");
        let mut text = |value: &str| {
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        };
        text(&order.customer_id);
        text(&order.currency);
        // An absent comment differs from an empty one.
        text(if order.comment.is_some() { "+" } else { "-" });
        text(order.comment.as_deref().unwrap_or_default());
        for item in &order.items {
            text(&item.sku);
            text(&item.quantity.to_string());
            text(&item.unit_amount.to_string());
        }
        Self(hash.finalize().into())
    }
}

/// The answer to the first request with a key. `body` is the order as it was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The order's id; `Location` follows from it.
    pub order_id: Uuid,
    /// The JSON, byte for byte.
    pub body: Bytes,
}

impl Answer {
    /// The answer to the `POST` that placed `order`, now and at every replay: the order as it was placed.
    pub fn of(order: Order) -> Self {
        let placed = Order { status: Status::Created, version: 1, ..order };
        Self { order_id: placed.id, body: to_json(&placed).into() }
    }
}

/// An answer with the fingerprint of its order: the value that Redis keeps under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The fingerprint of the order that was placed.
    pub fingerprint: Fingerprint,
    /// What to replay.
    pub answer: Answer,
}

/// First byte of a record. A record with another version has another layout and is a miss.
const RECORD_VERSION: u8 = 2;

impl KeyRecord {
    /// Version, fingerprint, order id, body, checksum. Not JSON: a replay neither parses nor serialises an answer.
    pub fn encode(&self, client: &ClientName, key: &IdempotencyKey) -> Vec<u8> {
        let mut record = Vec::with_capacity(1 + 32 + 16 + self.answer.body.len() + 8);
        record.push(RECORD_VERSION);
        record.extend(self.fingerprint.0);
        record.extend(self.answer.order_id.as_bytes());
        record.extend(&self.answer.body);
        record.extend(checksum(client, key, &record));
        record
    }

    /// `None` unless the record is complete and was written for this client and key: Redis may hold any bytes.
    pub fn decode(client: &ClientName, key: &IdempotencyKey, record: &[u8]) -> Option<Self> {
        let (content, sum) = record.split_last_chunk::<8>()?;
        if *sum != checksum(client, key, content) {
            return None;
        }
        let (version, rest) = content.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
        let (order_id, body) = rest.split_first_chunk::<16>()?;
        (*version == RECORD_VERSION).then(|| Self {
            fingerprint: Fingerprint(*fingerprint),
            answer: Answer { order_id: Uuid::from_bytes(*order_id), body: Bytes::copy_from_slice(body) },
        })
    }
}

/// XXH64, against accidents only: without a secret no checksum stops someone who can write to Redis.
/// Its seed is client and key, so an entry that is copied to another key or client is not replayed there.
fn checksum(client: &ClientName, key: &IdempotencyKey, content: &[u8]) -> [u8; 8] {
    // The client of an open service has no name; its entries keep the seed that they had before there were clients.
    let client = if client.is_empty() { 0 } else { xxh64(client.as_str().as_bytes(), 0) };
    xxh64(content, xxh64(key.as_str().as_bytes(), client)).to_be_bytes()
}
