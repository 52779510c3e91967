//! The log line of a request. Pure: the entry point measures and prints.

use http::{Method, Response, StatusCode};
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

use crate::client::ClientName;
use crate::idempotency::IdempotencyKey;
use crate::order::{Timestamp, rfc3339};

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// This request placed an order.
    Placed,
    /// A repeat, answered without PostgreSQL.
    #[serde(rename = "replayed from redis")]
    ReplayedFromRedis,
    /// A repeat, answered by PostgreSQL.
    #[serde(rename = "replayed from postgres")]
    ReplayedFromPostgres,
    /// The key belongs to another order.
    #[serde(rename = "key reused")]
    KeyReused,
    /// This request changed an order.
    Changed,
    /// A repeat of the last change.
    #[serde(rename = "change repeated")]
    ChangeRepeated,
    /// A read.
    Answered,
    /// Any other 4xx.
    Refused,
    /// A 5xx: the outcome may be unknown.
    Failed,
}

/// What the log needs beyond the answer. It is in the answer's extensions, which no client sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Who called.
    pub client: ClientName,
    /// `None`: it follows from the status.
    pub outcome: Option<Outcome>,
    /// The slug of the problem, if the answer is one.
    pub problem: Option<&'static str>,
    /// The order that the request was about.
    pub order_id: Option<Uuid>,
    /// How the request's key begins, if it has one.
    pub key: Option<String>,
    /// What went wrong inside.
    pub cause: Option<String>,
}

impl Note {
    /// The note of `response`.
    pub fn on<B>(response: &mut Response<B>) -> &mut Self {
        response.extensions_mut().get_or_insert_default()
    }
}

/// Most characters of a key that are logged: enough to find a request, too few to repeat it with the key.
const KEY_PREFIX_CHARS: usize = 8;

/// The beginning of a key: eight characters, or half of a key that is no longer.
pub fn key_prefix(key: &IdempotencyKey) -> String {
    let key = key.as_str();
    let shown = if key.len() > KEY_PREFIX_CHARS { KEY_PREFIX_CHARS } else { key.len() / 2 };
    key.chars().take(shown).collect()
}

/// What only the entry point knows of a request.
#[derive(Debug, Clone)]
pub struct Measured {
    /// When it arrived.
    pub at: Timestamp,
    /// From its arrival to its answer.
    pub duration: Duration,
    /// Spent on Redis.
    pub redis: Duration,
    /// Spent on PostgreSQL, connections included.
    pub postgres: Duration,
}

#[derive(Serialize)]
struct RequestLine<'a> {
    time: String,
    level: &'static str,
    event: &'static str,
    method: &'a str,
    route: &'static str,
    status: u16,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

/// The log line of a request, without the line break.
pub fn request_line<B>(method: &Method, route: &'static str, response: &Response<B>, measured: &Measured) -> String {
    let (status, none) = (response.status(), Note::default());
    let note = response.extensions().get().unwrap_or(&none);
    let outcome = note.outcome.unwrap_or(match (status, note.problem) {
        _ if status.is_server_error() => Outcome::Failed,
        (_, Some("idempotency-key-reused")) => Outcome::KeyReused,
        _ if status.is_client_error() => Outcome::Refused,
        _ => Outcome::Answered,
    });
    let line = RequestLine {
        time: rfc3339(measured.at),
        level: if status >= StatusCode::INTERNAL_SERVER_ERROR { "error" } else { "info" },
        event: "request",
        // A client may invent a method, so any other one is a fixed word.
        method: if is_standard(method) { method.as_str() } else { "other" },
        route,
        status: status.as_u16(),
        outcome,
        problem: note.problem,
        client: Some(note.client.as_str()).filter(|name| !name.is_empty()),
        order_id: note.order_id,
        key: note.key.as_deref(),
        duration_ms: milliseconds(measured.duration),
        redis_ms: Some(milliseconds(measured.redis)).filter(|ms| *ms > 0.0),
        pg_ms: Some(milliseconds(measured.postgres)).filter(|ms| *ms > 0.0),
        cause: note.cause.as_deref(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// The log line of a condition that is not a request's outcome.
pub fn condition_line(at: Timestamp, level: &str, event: &str, cause: &str) -> String {
    #[derive(Serialize)]
    struct ConditionLine<'a> {
        time: String,
        level: &'a str,
        event: &'a str,
        cause: &'a str,
    }
    serde_json::to_string(&ConditionLine { time: rfc3339(at), level, event, cause }).unwrap_or_default()
}

fn is_standard(method: &Method) -> bool {
    [&Method::GET, &Method::HEAD, &Method::POST, &Method::PATCH, &Method::PUT, &Method::DELETE, &Method::OPTIONS]
        .contains(&method)
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
