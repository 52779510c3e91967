//! `AnswerCache` over the real Redis, with the component's commands.

use order::client::ClientName;
use order::idempotency::{IdempotencyKey, KeyRecord};
use order::settings::Settings;
use order::stores::AnswerCache;
use redis::{Client, Cmd, FromRedisValue, RedisResult, cmd};

pub struct RedisKeys {
    client: Client,
    prefix: String,
    retention_seconds: u64,
}

impl RedisKeys {
    pub fn new(settings: &Settings) -> Self {
        Self {
            client: Client::open(settings.redis_url.as_str()).unwrap(),
            prefix: settings.redis_key_prefix.clone(),
            retention_seconds: settings.key_retention.as_secs(),
        }
    }

    /// Over its own connection.
    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.client.get_multiplexed_async_connection().await?).await
    }

    fn redis_key(&self, client: &ClientName, key: &IdempotencyKey) -> String {
        format!("{}:{}:{}", self.prefix, client.as_str(), key.as_str())
    }

    pub async fn get(&self, client: &ClientName, key: &IdempotencyKey) -> RedisResult<Option<Vec<u8>>> {
        self.call(cmd("GET").arg(self.redis_key(client, key))).await
    }

    pub async fn set(&self, client: &ClientName, key: &IdempotencyKey, entry: &[u8]) -> RedisResult<()> {
        let mut command = cmd("SET");
        command.arg(self.redis_key(client, key)).arg(entry).arg("EX").arg(self.retention_seconds);
        self.call(&command).await
    }

    pub async fn delete(&self, client: &ClientName, key: &IdempotencyKey) -> RedisResult<()> {
        self.call(cmd("DEL").arg(self.redis_key(client, key))).await
    }
}

impl AnswerCache for RedisKeys {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        KeyRecord::decode(client, key, &self.get(client, key).await.ok()??)
    }

    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        let _ = self.set(client, key, &record.encode(client, key)).await;
    }

    async fn is_up(&self) -> bool {
        self.call::<()>(&cmd("PING")).await.is_ok()
    }
}
