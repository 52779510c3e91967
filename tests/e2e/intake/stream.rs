//! The second application under test, and its streams.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::*;

pub const MANIFEST: &str = "intake/spin.toml";

/// Longer than anything here takes: a pending command is claimed after less than 8 s.
pub const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// A field of a command: its name and its value.
pub type Field<'a> = (&'a str, &'a [u8]);

/// The intake with its own Redis, since the streams have fixed names, and PostgreSQL behind a proxy.
pub struct Intake {
    pub service: Child,
    pub server: PrivateRedis,
    pub redis: MultiplexedConnection,
    pub postgres: Proxy,
    pub variables: Vec<(&'static str, String)>,
}

impl Drop for Intake {
    fn drop(&mut self) {
        end(&self.service);
    }
}

impl Intake {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(more: &[(&'static str, &str)]) -> Self {
        Self::start_from(Path::new(MANIFEST), more).await
    }

    pub async fn start_from(manifest: &Path, more: &[(&'static str, &str)]) -> Self {
        let (server, postgres) = (PrivateRedis::start().await, Proxy::start(store_address("PG")).await);
        let mut variables = vec![
            ("SPIN_VARIABLE_REDIS_ADDRESS", redis_address(server.port)),
            ("SPIN_VARIABLE_DOORBELL_ADDRESS", redis_address(server.port)),
            ("SPIN_VARIABLE_PG_ADDRESS", format!("postgres://127.0.0.1:{}", postgres.port)),
            // On a busy machine one late call in a thousand would end a drain.
            ("SPIN_VARIABLE_REDIS_DEADLINE_MS", "3000".to_owned()),
        ];
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let service = listen(manifest, &variables).await;
        Self { service, redis: server.connect().await.unwrap(), server, postgres, variables }
    }

    /// The other application over the same stores.
    pub async fn http(&self) -> TestApp {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        TestApp::start_with(&variables).await
    }

    /// Returns the command's id.
    pub async fn add(&self, fields: &[Field<'_>]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg("orders:commands").arg("*");
        fields.iter().for_each(|(name, value)| _ = command.arg(name).arg(value));
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    pub async fn order(&self, key: &str, order: &str) -> String {
        self.add(&[("key", key.as_bytes()), ("order", order.as_bytes())]).await
    }

    pub async fn ring(&self) {
        let heard: i64 = self.redis(&["PUBLISH", "orders:doorbell", "ring"]).await;
        assert_eq!(heard, 1);
    }

    pub async fn redis<V: redis::FromRedisValue>(&self, words: &[&str]) -> V {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// The results, once there are `count`. It rings once a second, as a CronJob does once a minute.
    pub async fn results(&self, count: usize) -> Vec<BTreeMap<String, String>> {
        let (started, mut rung) = (Instant::now(), Instant::now());
        loop {
            // As text: a field that is not UTF-8 would fail here.
            let read: Vec<(String, BTreeMap<String, String>)> =
                self.redis(&["XRANGE", "orders:results", "-", "+"]).await;
            if read.len() >= count {
                return read.into_iter().map(|(_, fields)| fields).collect();
            }
            assert!(started.elapsed() < SETTLES_WITHIN, "{} results instead of {count}", read.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
            if rung.elapsed() > Duration::from_secs(1) {
                rung = Instant::now();
                self.ring().await;
            }
        }
    }

    /// How many commands were delivered and not acknowledged: zero if there is no group yet.
    pub async fn pending(&self) -> i64 {
        let mut command = redis::cmd("XPENDING");
        let pending: redis::RedisResult<Vec<redis::Value>> =
            command.arg(&["orders:commands", "intake"]).query_async(&mut self.redis.clone()).await;
        pending.map_or(0, |pending| redis::FromRedisValue::from_redis_value(&pending[0]).unwrap())
    }

    pub async fn until_pending(&self, count: i64) {
        let started = Instant::now();
        while self.pending().await != count {
            assert!(started.elapsed() < SETTLES_WITHIN, "{} instead of {count}", self.pending().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts the application, and waits until it has subscribed.
pub async fn listen(manifest: &Path, variables: &[(&'static str, String)]) -> Child {
    let mut process = host_command(manifest)
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make test` builds it");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("/orders:doorbell: [intake]")) {
        said.push(lines.next_line().await.unwrap().expect("its address"));
    }
    assert!(said.iter().any(|line| line.starts_with("Active Channels on 127.0.0.1:")), "{said:?}");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    process
}
