//! The glue to Spin's host: the entry point, the clock, randomness, variables, the log.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::DateTime;
use futures_util::future::join_all;
use http::{Request, Response, header};
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{self, ErrorCode};
use spin_sdk::wasip3::random::random::get_random_u64;
use uuid::Uuid;

use crate::api::{self, Context, Stores};
use crate::order::Timestamp;
use crate::problem::Problem;
use crate::settings::{InvalidSetting, Settings, VARIABLES};
use crate::trace::{self, Measured};
use deadlines::Deadlines;
use postgres_orders::PostgresOrderStore;
use redis_keys::RedisKeyStore;

mod deadlines;
mod messages;
mod postgres_orders;
mod redis_keys;

struct Service;
spin_sdk::wasip3::http::service::export!(Service);

impl Guest for Service {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        messages::send(handle(request).await)
    }
}

/// Answers every request: an error that left the component would lose status, body and headers.
async fn handle(request: types::Request) -> Response<Bytes> {
    let (started, now_ms) = (Instant::now(), now_ms());
    let head = messages::head(&request);
    let (method, route) = (head.method().clone(), api::route_template(head.uri().path()));
    let mut measured =
        Measured { at: timestamp(now_ms), duration: Duration::ZERO, redis: Duration::ZERO, postgres: Duration::ZERO };
    let mut response = match messages::body(request).await {
        None => Problem::MalformedJson("the body was cut off".into()).into_response(),
        Some(body) => answer(head.map(|()| body), now_ms, &mut measured).await,
    };
    measured.duration = started.elapsed();
    print(trace::request_line(&method, route, &response, &measured));
    // The length lets a client see that an answer was cut: without it the host ends the body of an instance that
    // died behind the head as if it were whole. An empty body is that of HEAD or 304.
    let length = response.body().len();
    if length > 0 {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

async fn answer(request: Request<Bytes>, now_ms: u64, measured: &mut Measured) -> Response<Bytes> {
    let (settings, deadlines) = (settings().await, Deadlines::default());
    let stores = settings
        .as_deref()
        .map(|settings| (RedisKeyStore::new(settings, &deadlines), PostgresOrderStore::new(settings, &deadlines)));
    let context = Context {
        stores: stores.as_ref().map(|(keys, orders)| Stores { keys, orders }).map_err(|invalid| (*invalid).clone()),
        now: measured.at,
        order_id: order_id(now_ms),
    };
    let response = api::respond(&context, request).await;
    if let Ok((keys, orders)) = &stores {
        (measured.redis, measured.postgres) = (keys.spent(), orders.spent());
    }
    response
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn timestamp(ms: u64) -> Timestamp {
    DateTime::from_timestamp_millis(ms as i64).unwrap_or_default()
}

/// A UUIDv7 of the given time.
fn order_id(now_ms: u64) -> Uuid {
    let mut random = [0; 10];
    let bytes = get_random_u64().to_ne_bytes().into_iter().chain(get_random_u64().to_ne_bytes());
    random.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
}

thread_local! {
    /// Read once per instance.
    static SETTINGS: RefCell<Option<Rc<Settings>>> = const { RefCell::new(None) };
}

/// Two first requests may both read the variables; waiting for one another would end the instance.
async fn settings() -> Result<Rc<Settings>, InvalidSetting> {
    if let Some(settings) = SETTINGS.with_borrow(Clone::clone) {
        return Ok(settings);
    }
    let values = join_all(VARIABLES.map(spin_sdk::variables::get)).await;
    let settings = Settings::parse(|asked| match VARIABLES.iter().zip(&values).find(|(name, _)| **name == asked) {
        Some((_, Ok(value))) => Ok(value.clone()),
        Some((_, Err(error))) => Err(error.to_string()),
        None => Err("is not read".into()),
    })?;
    let settings = Rc::new(settings);
    SETTINGS.replace(Some(settings.clone()));
    Ok(settings)
}

/// Logs a condition that the request gets over.
fn warn(event: &str, cause: &str) {
    print(trace::warning_line(timestamp(now_ms()), event, cause));
}

/// One JSON line on stderr, where Spin collects a component's log.
fn print(mut line: String) {
    // In one write, so that the lines of two instances do not mix. Nothing is left to do if it fails.
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}
