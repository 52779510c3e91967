//! Answers in Redis.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use spin_sdk::redis::{RedisParameter, RedisResult};
use spin_sdk::wasip3::wit_bindgen;

use super::deadlines::RequestClock;
use super::redis_connection::{NoReply, execute, text};
use super::warn;
use crate::client::ClientName;
use crate::idempotency::{IdempotencyKey, KeyRecord};
use crate::settings::Settings;
use crate::stores::AnswerCache;

thread_local! {
    /// Until when this instance skips a Redis that did not answer.
    static BACKS_OFF_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long this instance skips a Redis that did not answer in time. Each attempt costs a request the whole deadline: 250 ms
/// in 5 s is a twentieth of the time, and a Redis that is back is used within 5 s.
const BACK_OFF: Duration = Duration::from_secs(5);

/// The `AnswerCache` of one request.
pub struct RedisAnswerCache<'a> {
    settings: &'a Rc<Settings>,
    clock: &'a RequestClock,
    /// Whether it found no Redis to connect to. It does not try again.
    unreachable: Cell<bool>,
}

impl<'a> RedisAnswerCache<'a> {
    pub fn new(settings: &'a Rc<Settings>, clock: &'a RequestClock) -> Self {
        Self { settings, clock, unreachable: Cell::new(false) }
    }

    /// Runs `command`, unless Redis is skipped. A failure is logged as `event`.
    async fn call(&self, event: &str, command: &str, arguments: Vec<RedisParameter>) -> Option<Vec<RedisResult>> {
        if self.unreachable.get() || is_backing_off() {
            return None;
        }
        match execute(self.settings, self.clock, command, arguments).await {
            Ok(reply) => return Some(reply),
            Err(NoReply::Late) => back_off(self.settings.redis_deadline),
            Err(NoReply::Unreachable(cause)) => {
                self.unreachable.set(true);
                warn(event, &cause);
            }
            Err(NoReply::Failed(cause)) => warn(event, &cause),
        }
        None
    }

    /// No client's name has a colon, so no two clients share a key.
    fn redis_key(&self, client: &ClientName, key: &IdempotencyKey) -> RedisParameter {
        let prefix = &self.settings.redis_key_prefix;
        text(&format!("{prefix}:{}:{}", client.as_str(), key.as_str()))
    }
}

/// Skips Redis for a while. Of several requests that waited concurrently, only the first logs it.
fn back_off(waited: Duration) {
    if !is_backing_off() {
        BACKS_OFF_UNTIL.set(Some(Instant::now() + BACK_OFF));
        let (waited, rest) = (waited.as_millis(), BACK_OFF.as_secs());
        warn("redis left alone", &format!("no answer within {waited} ms; this instance asks again in {rest} s"));
    }
}

fn is_backing_off() -> bool {
    // Reading the clock is a host call, so it is read only after a back-off.
    BACKS_OFF_UNTIL.get().is_some_and(|until| Instant::now() < until)
}

impl AnswerCache for RedisAnswerCache<'_> {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        let reply = self.call("redis get failed", "GET", vec![self.redis_key(client, key)]).await?;
        let Some(RedisResult::Binary(bytes)) = reply.into_iter().next() else { return None };
        let record = KeyRecord::decode(client, key, &bytes);
        if record.is_none() {
            warn("redis entry unreadable", "not a whole record of this version, client and key; it is overwritten");
        }
        record
    }

    /// Runs after the response and does not delay it. An instance that ends earlier loses the entry; PostgreSQL then answers the
    /// next repeat, which writes it.
    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        let arguments = vec![
            self.redis_key(client, key),
            RedisParameter::Binary(record.encode(client, key)),
            text("EX"),
            RedisParameter::Int64(self.settings.key_retention.as_secs() as i64),
        ];
        let (settings, clock) = (self.settings.clone(), RequestClock::from(self.clock.read_at.get()));
        let unreachable = self.unreachable.clone();
        wit_bindgen::spawn(async move {
            let answers = RedisAnswerCache { settings: &settings, clock: &clock, unreachable };
            answers.call("redis set failed", "SET", arguments).await;
        });
    }

    async fn is_up(&self) -> bool {
        self.call("redis ping failed", "PING", Vec::new()).await.is_some()
    }
}
