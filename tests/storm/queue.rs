//! Commands in the storm: a stream, and an intake that is started again whenever it ends, as in a
//! cluster.

use std::collections::HashMap;
use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::service::{end, faults_argument, is_spin, redis};

/// An intake, and the task that rings for it.
pub struct Intake {
    task: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
    starts: Arc<AtomicUsize>,
}

impl Intake {
    pub fn start(mut seeds: fastrand::Rng, variables: Vec<(&'static str, &'static str)>) -> Self {
        let (is_over, starts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, count) = (is_over.clone(), starts.clone());
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                let log = File::options().create(true).append(true).open("target/storm-intake.log").unwrap();
                let mut command = Command::new(if is_spin() { "spin" } else { "target/host/order-host" });
                command.args(if is_spin() { ["up", "--from"].as_slice() } else { &["--manifest"] });
                command.arg("intake/spin.toml").args(faults_argument(&mut seeds));
                command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
                if is_spin() {
                    command.process_group(0);
                }
                let mut child = command.spawn().expect("`make test` builds it");
                count.fetch_add(1, Ordering::SeqCst);
                while child.try_wait().unwrap().is_none() && !ends.load(Ordering::SeqCst) {
                    ring().await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                end(&mut child, "-KILL").await;
            }
        });
        Self { task, is_over, starts }
    }

    /// Waits until no command is left, and ends the intake. Returns how often it was started.
    pub async fn finish(self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !nothing_is_left().await {
            assert!(Instant::now() < deadline, "commands are left; see target/storm-intake.log");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.starts.load(Ordering::SeqCst)
    }
}

async fn ring() {
    if let Ok(mut redis) = try_redis().await {
        let _ = redis::cmd("PUBLISH").arg(&["orders:doorbell", "ring"]).query_async::<i64>(&mut redis).await;
    }
}

/// Redis is killed while commands are sent.
async fn try_redis() -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(crate::service::variable("REDIS_URL"))?;
    let connection = client.get_multiplexed_async_connection();
    tokio::time::timeout(Duration::from_millis(500), connection)
        .await
        .unwrap_or(Err(redis::RedisError::from((redis::ErrorKind::IoError, "late"))))
}

/// Sends a command once or twice; as with a `POST` without an answer, it may or may not have arrived.
pub async fn order(key: &str, order: &str, token: &str, times: usize) {
    let Ok(mut redis) = try_redis().await else { return };
    for _ in 0..times {
        let fields = ["orders:commands", "*", "key", key, "order", order, "token", token];
        let mut add = redis::cmd("XADD");
        let added = add.arg(&fields).query_async::<String>(&mut redis);
        let _ = tokio::time::timeout(Duration::from_millis(500), added).await;
    }
}

/// What is settled is deleted, and what is deleted is acknowledged.
async fn nothing_is_left() -> bool {
    let mut redis = redis().await;
    let left: i64 = redis::cmd("XLEN").arg("orders:commands").query_async(&mut redis).await.unwrap();
    let pending = redis::cmd("XPENDING").arg(&["orders:commands", "intake"]).query_async(&mut redis).await;
    let pending = match pending {
        Ok(redis::Value::Array(summary)) => summary.first() == Some(&redis::Value::Int(0)),
        // A stream that was flushed and has received no command since has no group.
        Err(error) => error.code() == Some("NOGROUP"),
        Ok(other) => panic!("XPENDING answers {other:?}"),
    };
    left == 0 && pending
}

/// The orders in the stream of results, each with its text and whether it is a replay. A command has one answer,
/// however often it appears.
pub async fn placed() -> Vec<(Value, String, bool)> {
    let range = ["orders:results", "-", "+"];
    let entries: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&range).query_async(&mut redis().await).await.unwrap();
    let field = |fields: &[String], name: &str| fields.chunks(2).find(|pair| pair[0] == name).unwrap()[1].clone();
    let mut answers = HashMap::new();
    for (_, fields) in &entries {
        let answer = (field(fields, "key"), field(fields, "status"), field(fields, "body"));
        let first = answers.entry(field(fields, "command")).or_insert_with(|| answer.clone());
        assert_eq!(*first, answer, "two results of a command differ");
    }
    let placed = entries.iter().filter(|(_, fields)| field(fields, "status") == "201");
    placed
        .map(|(_, fields)| {
            let body = field(fields, "body");
            (serde_json::from_str(&body).unwrap(), body, field(fields, "replayed") == "true")
        })
        .collect()
}
