//! The adapters to Spin's host: the entry points, the clock, randomness, variables, the log.

use std::cell::OnceCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::DateTime;
use futures_util::future::join_all;
use http::Response;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{self, ErrorCode};
use spin_sdk::wasip3::random::random::get_random_u64;
use spin_sdk::wasip3::wit_bindgen;
use uuid::Uuid;
use wasip2::cli::stderr::get_stderr;
use wasip2::io::streams::OutputStream;

use crate::api::{self, Backends, MAX_BODY_BYTES, Received};
use crate::order::Timestamp;
use crate::problem::Problem;
use crate::settings::{DEFAULT_BODY_DEADLINE, InvalidSetting, Settings, VARIABLES};
use crate::trace::{self, Note};
use deadlines::RequestClock;
use messages::Body;
use postgres_orders::PostgresOrderStore;
use redis_answers::RedisAnswerCache;

mod deadlines;
#[expect(unsafe_code, reason = "the SDK's macro exports the handler with it")]
mod doorbell;
mod messages;
mod postgres_inserts;
mod postgres_orders;
mod postgres_sessions;
mod redis_answers;
mod redis_commands;
mod redis_connection;
mod redis_replies;

/// Most bytes of a refused request's body that are read and discarded.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
/// How long the body of a request without a valid token is read and discarded: an order of [`MAX_BODY_BYTES`] over a slow line.
const STRANGERS_BODY_DEADLINE: Duration = Duration::from_secs(1);

struct Service;
spin_sdk::wasip3::http::service::export!(Service);

impl Guest for Service {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        messages::send(handle(request).await).await
    }
}

/// Answers every request: an error that left the component would lose status, body and headers.
async fn handle(request: types::Request) -> Response<Bytes> {
    let (started, began) = (Instant::now(), now());
    let settings = settings().await;
    let body_deadline = settings.as_deref().map_or(DEFAULT_BODY_DEADLINE, |settings| settings.body_deadline);
    let clock = RequestClock::from(started);
    let is_open = settings.as_ref().is_ok_and(|settings| settings.clients.is_open());
    let (head, mut body) = messages::receive(request, !is_open);
    let stores = settings.as_ref().map(|settings| {
        (&settings.clients, RedisAnswerCache::new(settings, &clock), PostgresOrderStore { settings, clock: &clock })
    });
    let backends = stores.as_ref().map(|(clients, answers, orders)| Backends { clients, answers, orders });

    let body_due = started + body_deadline;
    // Reading the other clock too would be another host call.
    let wall_clock = || began + (clock.read_at.get() - started);
    let mut response = {
        // The same type as from the intake, so that the component contains the API once.
        let received: Pin<&mut dyn Future<Output = _>> = pin!(received(&mut body, &clock, body_due, wall_clock));
        api::respond(backends.as_ref().map_err(|invalid| -> &InvalidSetting { invalid }), &head, received).await
    };
    // A client that writes its whole body before it reads still finds the answer. Without a valid token, little is read.
    let (most, due) = match is_open || !Note::on(&mut response).client.is_empty() {
        true => (MAX_DISCARDED_BYTES, body_due),
        false => (MAX_BODY_BYTES, body_due.min(started + STRANGERS_BODY_DEADLINE)),
    };
    if body.is_still_sent(most) && Instant::now() < due {
        clock.until(due, body.read(most, false)).await;
    }

    let route = api::route_template(head.uri().path());
    print(trace::request_line(head.method(), route, &response, &clock.measured(began)));
    // The host passes the head to its connection's task a moment before it reads the body. If Redis answers at once, tokio has
    // used up its three direct hand-overs by then, so another thread may take that task and send the head alone. A yield
    // resets the count: of 1 000 replays of one client on a busy Spin 4.1, 1 instead of 59 took 40 ms (2026-11-29).
    if !clock.redis.get().is_zero() && clock.postgres.get().is_zero() {
        wit_bindgen::yield_async().await;
    }
    response
}

/// The complete body, within its deadline, with the time at which it was complete and an id of that time: a body may take
/// seconds to arrive.
async fn received(
    body: &mut Body,
    clock: &RequestClock,
    due: Instant,
    wall_clock: impl FnOnce() -> Duration,
) -> Result<Received, Problem> {
    let read = clock.until(due, body.read(MAX_BODY_BYTES, true)).await;
    let body = read.ok_or(Problem::RequestTimeout)?;
    let body = body.ok_or_else(|| Problem::MalformedJson("the body was cut off".into()))?;
    let now = wall_clock();
    Ok(Received { body: body.into(), at: timestamp(now), order_id: order_id(now) })
}

/// Since the beginning of 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn timestamp(time: Duration) -> Timestamp {
    DateTime::from_timestamp_millis(time.as_millis() as i64).unwrap_or_default()
}

/// A UUIDv7 of the given time. The 12 bits after the milliseconds are a finer fraction of the time (RFC 9562, 6.2, method 3),
/// so one call for 64 random bits is enough: each is a host call.
fn order_id(time: Duration) -> Uuid {
    let fraction = u64::from(time.subsec_nanos()) % 1_000_000 * 4096 / 1_000_000;
    let bits = u128::from(fraction) << 64 | u128::from(get_random_u64());
    let [_, _, _, _, _, _, bits @ ..] = bits.to_be_bytes();
    uuid::Builder::from_unix_timestamp_millis(time.as_millis() as u64, &bits).into_uuid()
}

thread_local! {
    /// Read once per instance.
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

/// Two first requests may both read the variables. That is rare, and takes less code than making one wait.
async fn settings() -> Result<Rc<Settings>, InvalidSetting> {
    if let Some(settings) = SETTINGS.with(|kept| kept.get().cloned()) {
        return Ok(settings);
    }
    let values = join_all(VARIABLES.map(spin_sdk::variables::get)).await;
    let settings = Settings::parse(|asked| match VARIABLES.iter().zip(&values).find(|(name, _)| **name == asked) {
        Some((_, Ok(value))) => Ok(value.clone()),
        Some((_, Err(error))) => Err(error.to_string()),
        None => Err("is not read".into()),
    })?;
    Ok(SETTINGS.with(|kept| kept.get_or_init(|| Rc::new(settings)).clone()))
}

/// Logs a condition that the request recovers from.
fn warn(event: &str, cause: &str) {
    print(trace::condition_line(timestamp(now()), "warn", event, cause));
}

/// Logs a condition that an operator has to look at, such as a queue that cannot be read.
fn report(event: &str, cause: &str) {
    print(trace::condition_line(timestamp(now()), "error", event, cause));
}

/// Most bytes that the host takes in one write.
const MAX_WRITE_BYTES: usize = 4096;

/// One JSON line on stderr, where Spin collects a component's log.
fn print(mut line: String) {
    thread_local! {
        static STDERR: OutputStream = get_stderr();
    }
    // In one write if it fits, so that the lines of two instances do not mix, and with the host's own function, since the
    // standard library makes three calls. If it fails, there is nothing left to do.
    line.push('\n');
    for part in line.as_bytes().chunks(MAX_WRITE_BYTES) {
        let _ = STDERR.with(|stderr| stderr.blocking_write_and_flush(part));
    }
}
