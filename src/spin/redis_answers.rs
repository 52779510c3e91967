//! Answers in Redis, over one connection per instance.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};
use spin_sdk::wasip3::wit_bindgen;

use super::deadlines::RequestClock;
use super::redis_replies::keeps_connection;
use super::warn;
use crate::client::ClientName;
use crate::idempotency::{IdempotencyKey, KeyRecord};
use crate::settings::Settings;
use crate::stores::AnswerCache;

thread_local! {
    /// Multiplexed, so requests share it. A request that finds none opens one, and the later one is kept.
    static CONNECTION: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
    /// Until when this instance skips a Redis that did not answer.
    static BACKS_OFF_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long this instance skips a Redis that did not answer in time. Each attempt costs a request the whole deadline: 250 ms
/// in 5 s is a twentieth of the time, and a Redis that is back is used within 5 s.
const BACK_OFF: Duration = Duration::from_secs(5);

/// The `AnswerCache` of one request.
pub struct RedisAnswerCache<'a> {
    settings: &'a Rc<Settings>,
    deadlines: &'a RequestClock,
    /// How long this request has waited.
    spent: Cell<Duration>,
    /// Whether it found no Redis to connect to. It does not try again.
    unreachable: Cell<bool>,
}

impl<'a> RedisAnswerCache<'a> {
    pub fn new(settings: &'a Rc<Settings>, deadlines: &'a RequestClock) -> Self {
        Self { settings, deadlines, spent: Cell::new(Duration::ZERO), unreachable: Cell::new(false) }
    }

    /// How long this request has waited for Redis.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    /// Runs `command` within the deadline, its connection included. A connection that broke or leads to a replica is not used
    /// again.
    async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        event: &str,
        command: impl FnOnce(Rc<Connection>) -> F,
    ) -> Option<T> {
        let deadline = self.settings.redis_deadline;
        if self.unreachable.get() || is_backing_off() {
            return None;
        }
        let used = Cell::new(None);
        let (result, took) = self
            .deadlines
            .within(deadline, async {
                let connection = connection(self.settings).await?;
                used.set(Some(connection.clone()));
                command(connection).await
            })
            .await;
        self.spent.set(self.spent.get() + took);
        let used = used.take();
        let cause = match result {
            Some(Ok(value)) => return Some(value),
            Some(Err(Error::Other(text))) => text,
            Some(Err(error)) => error.to_string(),
            None => {
                if let Some(connection) = used {
                    forget(connection);
                }
                back_off(deadline);
                return None;
            }
        };
        match used {
            Some(_) if keeps_connection(&cause) => {}
            Some(connection) => forget(connection),
            None => self.unreachable.set(true),
        }
        warn(event, &cause);
        None
    }

    /// No client's name has a colon, so no two clients share a key.
    fn redis_key(&self, client: &ClientName, key: &IdempotencyKey) -> RedisParameter {
        let prefix = &self.settings.redis_key_prefix;
        RedisParameter::Binary(format!("{prefix}:{}:{}", client.as_str(), key.as_str()).into_bytes())
    }
}

/// The connection of this instance.
pub async fn connection(settings: &Settings) -> Result<Rc<Connection>, Error> {
    if let Some(connection) = CONNECTION.with_borrow(Clone::clone) {
        return Ok(connection);
    }
    let connection = Rc::new(Connection::open(&settings.redis_url).await?);
    CONNECTION.replace(Some(connection.clone()));
    Ok(connection)
}

/// Skips Redis for a while. Of several requests that waited concurrently, only the first logs it.
fn back_off(waited: Duration) {
    if !is_backing_off() {
        BACKS_OFF_UNTIL.set(Some(Instant::now() + BACK_OFF));
        let (waited, rest) = (waited.as_millis(), BACK_OFF.as_secs());
        warn("redis left alone", &format!("no answer within {waited} ms; this instance asks again in {rest} s"));
    }
}

/// Drops the connection unless another request has already replaced it.
pub fn forget(broken: Rc<Connection>) {
    CONNECTION.with_borrow_mut(|kept| {
        kept.take_if(|current| Rc::ptr_eq(current, &broken));
    });
}

fn is_backing_off() -> bool {
    // Reading the clock is a host call, so it is read only after a back-off.
    BACKS_OFF_UNTIL.get().is_some_and(|until| Instant::now() < until)
}

impl AnswerCache for RedisAnswerCache<'_> {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        // With `execute`, so that a reply of another type is a miss here.
        let arguments = [self.redis_key(client, key)];
        let reply = self.call("redis get failed", async |redis| redis.execute("GET", arguments).await).await?;
        let bytes = match reply.into_iter().next() {
            Some(RedisResult::Binary(bytes)) => bytes,
            _ => return None,
        };
        let record = KeyRecord::decode(client, key, &bytes);
        if record.is_none() {
            warn("redis entry unreadable", "not a whole record of this version, client and key; it is written anew");
        }
        record
    }

    /// Runs after the response and does not delay it. An instance that ends earlier loses the entry; PostgreSQL then answers the
    /// next repeat, which writes it.
    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        let arguments = [
            self.redis_key(client, key),
            RedisParameter::Binary(record.encode(client, key)),
            RedisParameter::Binary(b"EX".to_vec()),
            RedisParameter::Int64(self.settings.key_retention.as_secs() as i64),
        ];
        let (settings, deadlines) = (self.settings.clone(), RequestClock::from(self.deadlines.read_at()));
        let unreachable = self.unreachable.clone();
        wit_bindgen::spawn(async move {
            let keys = RedisAnswerCache { unreachable, ..RedisAnswerCache::new(&settings, &deadlines) };
            keys.call("redis set failed", async |redis| redis.execute("SET", arguments).await).await;
        });
    }

    async fn is_up(&self) -> bool {
        self.call("redis ping failed", async |redis| redis.execute("PING", []).await).await.is_some()
    }
}
