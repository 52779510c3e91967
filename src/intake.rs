//! Orders through a queue: a command in a stream corresponds to a `POST /orders` over HTTP, and gets the same answer.
//!
//! A command takes four writes, in this order: the order in PostgreSQL, its result in the other stream, then its deletion
//! and its acknowledgement. A crash between two of them leaves the command pending. It is taken again later: if it is still
//! in the stream, the protocol finds the existing order; if it was deleted, it is forgotten.

use std::fmt;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, header};
use uuid::Uuid;

use crate::api::{self, Backends, IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, JSON, Received};
use crate::client::ClientName;
use crate::idempotency::IdempotencyKey;
use crate::order::Timestamp;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::stores::{AnswerCache, OrderStore, StoreError};
use crate::trace::Note;

pub use drain::drain;

mod drain;

/// The stream that producers write to. In the log it is the route of such a request.
pub const COMMANDS: &str = "orders:commands";
/// The stream from which producers read the results.
pub const RESULTS: &str = "orders:results";
/// About how many results are kept.
pub const KEPT_RESULTS: i64 = 100_000;

/// Overdue commands at the beginning of a round.
pub const PAGE: usize = 100;
/// The oldest Redis that can list overdue commands: `XPENDING` has `IDLE` since then.
pub const OLDEST_REDIS: &str = "6.2";

/// A command's position in its stream: milliseconds and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(u64, u64);

impl CommandId {
    /// Parses `milliseconds-number`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (ms, number) = str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self(ms.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its place in the stream.
    pub id: CommandId,
    /// Names and values, as they were sent.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How often it was delivered, this time included.
    pub deliveries: i64,
}

/// A command that a consumer took and did not acknowledge in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Its place in the stream.
    pub id: CommandId,
    /// How often it was delivered so far.
    pub deliveries: i64,
}

/// A command's entry in the stream of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// The command that it answers. Producers match on it: a key may be another client's too, or be used again.
    pub command: CommandId,
    /// The client that sent the command. Empty in an open service, and if the token was refused.
    pub client: ClientName,
    /// The field `key` as it was sent, if it is a valid key.
    pub key: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// Whether it is a replay of the first answer.
    pub is_replay: bool,
}

impl CommandResult {
    /// Names and values as the stream has them. All are text, since many producers decode everything they read.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("command", self.command.to_string()), ("client", self.client.as_str().to_owned())];
        fields.extend(self.key.clone().map(|key| ("key", key)));
        fields.extend([
            ("status", self.status.to_string()),
            ("body", String::from_utf8_lossy(&self.body).into_owned()),
            ("replayed", self.is_replay.to_string()),
        ]);
        fields
    }
}

/// The streams. Each method has a deadline for each of its calls. An `Err` of [`next`](Self::next) or
/// [`claim`](Self::claim) may be due to the one command that it was to read.
#[expect(async_fn_in_trait, reason = "the component is single-threaded; no caller needs the futures to be Send")]
pub trait Commands {
    /// The next command that was not delivered to any consumer.
    async fn next(&self) -> Result<Option<Command>, StoreError>;

    /// Commands that were delivered longer ago than [`overdue_after`] and not acknowledged: the first [`PAGE`] after `after`,
    /// or of all, by their position in the stream. Includes deleted ones.
    async fn overdue(&self, after: Option<CommandId>) -> Result<Vec<Overdue>, StoreError>;

    /// Takes an overdue command. `None` if another consumer took it, or if it was deleted: then it is no longer pending.
    async fn claim(&self, overdue: Overdue) -> Result<Option<Command>, StoreError>;

    /// Sends the result to the producer.
    async fn add_result(&self, result: &CommandResult) -> Result<(), StoreError>;

    /// Removes this command, and no other, from the stream and from the pending ones, in one step.
    async fn remove(&self, id: CommandId) -> Result<(), StoreError>;

    /// Logs a condition for the operator.
    fn report(&self, event: &str, cause: &str);
}

/// Longer than any attempt takes: three calls to Redis, two statements, and a second.
pub fn overdue_after(settings: &Settings) -> Duration {
    3 * settings.redis_deadline + 2 * settings.pg_deadline + Duration::from_secs(1)
}

/// Answers a command like the corresponding `POST`.
pub async fn answer<K: AnswerCache, O: OrderStore>(
    backends: &Backends<'_, K, O>,
    command: &Command,
    at: Timestamp,
    order_id: Uuid,
) -> Response<Bytes> {
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = PathAndQuery::from_static("/orders").into();
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    // A repeated field becomes a repeated header, and is refused as such.
    for key in command.values("key") {
        headers.append(IDEMPOTENCY_KEY, header_value(key.to_vec()));
    }
    for token in command.values("token") {
        headers.append(header::AUTHORIZATION, header_value([b"Bearer ", token].concat()));
    }
    // As a trait object, as over HTTP, so that the component contains the API once and not for each kind of body.
    let received: Pin<&mut dyn Future<Output = _>> =
        pin!(async { Ok(Received { body: command.order()?, at, order_id }) });
    api::respond(Ok(backends), &head, received).await
}

/// Replaces each byte that no header may contain with 255, which one may, and for which keys and tokens are refused.
fn header_value(mut value: Vec<u8>) -> HeaderValue {
    value.iter_mut().filter(|byte| byte.is_ascii_control() && **byte != b'\t').for_each(|byte| *byte = 255);
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

impl Command {
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    fn order(&self) -> Result<Bytes, Problem> {
        let mut orders = self.values("order");
        match (orders.next(), orders.next()) {
            (Some(order), None) => Ok(Bytes::copy_from_slice(order)),
            (None, _) => Err(Problem::MalformedJson("the field order is missing".into())),
            (Some(_), Some(_)) => Err(Problem::MalformedJson("the field order is given more than once".into())),
        }
    }

    /// The key as it was sent, if it is valid in a header.
    fn valid_key(&self) -> Option<String> {
        let mut keys = self.values("key");
        let (Some(key), None) = (keys.next(), keys.next()) else { return None };
        IdempotencyKey::parse(header_value(key.to_vec()).as_bytes()).ok()?;
        String::from_utf8(key.to_vec()).ok()
    }

    fn result(&self, mut answer: Response<Bytes>) -> CommandResult {
        CommandResult {
            command: self.id,
            client: Note::on(&mut answer).client.clone(),
            key: self.valid_key(),
            status: answer.status().as_u16(),
            is_replay: answer.headers().get(IDEMPOTENT_REPLAYED).is_some_and(|value| value == "true"),
            body: answer.into_body(),
        }
    }
}
