//! Answers in Redis, over one connection per instance.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use spin_sdk::redis::{Connection, Error, RedisParameter};

use super::deadlines::Deadlines;
use super::warn;
use crate::idempotency::{IdempotencyKey, KeyRecord, KeyStore};
use crate::settings::Settings;

thread_local! {
    /// Multiplexed, so requests share it. A request that finds none opens one, and the later one is kept.
    static CONNECTION: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
}

/// The `KeyStore` of one request.
pub struct RedisKeyStore<'a> {
    settings: &'a Settings,
    deadlines: &'a Deadlines,
    /// How long this request has waited. One deadline is for all its calls, so a stopped Redis costs it no more.
    spent: Cell<Duration>,
    /// Whether it found no Redis to connect to. It does not try again.
    unreachable: Cell<bool>,
}

impl<'a> RedisKeyStore<'a> {
    pub fn new(settings: &'a Settings, deadlines: &'a Deadlines) -> Self {
        Self { settings, deadlines, spent: Cell::new(Duration::ZERO), unreachable: Cell::new(false) }
    }

    /// How long this request has waited for Redis.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    /// Runs `command` within what is left of the deadline. A connection on which it failed is not used again.
    async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        event: &str,
        command: impl FnOnce(Rc<Connection>) -> F,
    ) -> Option<T> {
        let left = self.settings.redis_deadline.saturating_sub(self.spent.get());
        if left.is_zero() || self.unreachable.get() {
            return None;
        }
        let used = Cell::new(None);
        let (result, took) = self
            .deadlines
            .within(left, async {
                let connection = self.connection().await?;
                used.set(Some(connection.clone()));
                command(connection).await
            })
            .await;
        self.spent.set(self.spent.get() + took);
        let cause = match result {
            Some(Ok(value)) => return Some(value),
            Some(Err(Error::Other(text))) => text,
            Some(Err(error)) => error.to_string(),
            None => format!("no answer within {} ms", left.as_millis()),
        };
        match used.take() {
            Some(connection) => forget(connection),
            None => self.unreachable.set(true),
        }
        warn(event, &cause);
        None
    }

    async fn connection(&self) -> Result<Rc<Connection>, Error> {
        if let Some(connection) = CONNECTION.with_borrow(Clone::clone) {
            return Ok(connection);
        }
        let connection = Rc::new(Connection::open(&self.settings.redis_url).await?);
        CONNECTION.replace(Some(connection.clone()));
        Ok(connection)
    }
}

/// Unless another request has replaced it already.
fn forget(broken: Rc<Connection>) {
    CONNECTION.with_borrow_mut(|kept| {
        kept.take_if(|current| Rc::ptr_eq(current, &broken));
    });
}

fn redis_key(key: &IdempotencyKey) -> String {
    format!("order:idempotency:{}", key.as_str())
}

impl KeyStore for RedisKeyStore<'_> {
    async fn find(&self, key: &IdempotencyKey) -> Option<KeyRecord> {
        let name = redis_key(key);
        let bytes = self.call("redis get failed", async |redis| redis.get(name).await).await??;
        let record = KeyRecord::decode(key, &bytes);
        if record.is_none() {
            warn("redis entry unreadable", "not a whole record of this version and key; it is written anew");
        }
        record
    }

    async fn remember(&self, key: &IdempotencyKey, record: &KeyRecord) {
        let arguments = [
            RedisParameter::Binary(redis_key(key).into_bytes()),
            RedisParameter::Binary(record.encode(key)),
            RedisParameter::Binary(b"EX".to_vec()),
            RedisParameter::Int64(self.settings.key_retention.as_secs() as i64),
        ];
        self.call("redis set failed", async |redis| redis.execute("SET", arguments).await).await;
    }

    async fn is_up(&self) -> bool {
        self.call("redis ping failed", async |redis| redis.execute("PING", []).await).await.is_some()
    }
}
