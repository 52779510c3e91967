//! Every call that a drain of `orders:commands` makes to a store, broken in each way of [`FAULTS`].
//!
//! As in `crash_points.rs`, a dry run counts the calls. Then each call goes wrong once, and the bell is rung until
//! everything is settled. Run through `make test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use futures::future::join_all;
use order_host::faults::{CALLS, Call, Plan, Rule};
use order_host::{Host, manifest};
use redis::aio::MultiplexedConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const ORDER: &str = r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"comment":"leave at the door"}"#;
const FAULTS: [&str; 7] = ["fail", "delay=20", "hang", "hang-after", "lose-reply", "kill-before", "kill-after"];
/// Short, so that a call that hangs costs little and a pending command is claimed soon: after 2.3 s.
const REDIS_DEADLINE_MS: &str = "100";
const PG_DEADLINE_MS: &str = "500";
/// A busy machine may be late for a deadline again and again.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);
/// How many cases run side by side. The streams have fixed names, so each lane has its own Redis.
const LANES: usize = 8;
/// Two commands that did not meet are sent again with other keys.
const TRIES: usize = 10;

/// What a drain finds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scenario {
    /// A command with a new key.
    First,
    /// A command that another consumer took and abandoned long ago; its order exists.
    Claimed,
    /// Two commands with one key.
    Twice,
    /// A command that is refused.
    Refused,
}

const SCENARIOS: [Scenario; 4] = [Scenario::First, Scenario::Claimed, Scenario::Twice, Scenario::Refused];

impl Scenario {
    fn commands(self) -> usize {
        if self == Self::Twice { 2 } else { 1 }
    }

    fn order(self) -> &'static str {
        if self == Self::Refused { "{}" } else { ORDER }
    }

    fn status(self) -> &'static str {
        if self == Self::Refused { "422" } else { "201" }
    }

    fn rows(self) -> usize {
        if self == Self::Refused { 0 } else { 1 }
    }
}

struct Lane {
    host: Host,
    redis: MultiplexedConnection,
    owner: Arc<tokio_postgres::Client>,
    process: Child,
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Lane {
    async fn new(owner: Arc<tokio_postgres::Client>) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let address = format!("redis://127.0.0.1:{port}");
        let client = redis::Client::open(address.as_str()).unwrap();
        let started = Instant::now();
        let redis = loop {
            match client.get_multiplexed_async_connection().await {
                Ok(redis) => break redis,
                Err(error) => assert!(started.elapsed() < SETTLES_WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let variable = |name: &str| match name {
            "SPIN_VARIABLE_REDIS_ADDRESS" | "SPIN_VARIABLE_DOORBELL_ADDRESS" => Some(address.clone()),
            "SPIN_VARIABLE_REDIS_DEADLINE_MS" => Some(REDIS_DEADLINE_MS.to_owned()),
            "SPIN_VARIABLE_PG_DEADLINE_MS" => Some(PG_DEADLINE_MS.to_owned()),
            name => std::env::var(name).ok(),
        };
        let app = manifest::load(Path::new("../intake/spin.toml"), variable).expect("run this through `make test`");
        Self { host: Host::load(app).expect("the component is built by `make build`"), redis, owner, process }
    }

    async fn redis<V: redis::FromRedisValue>(&self, command: &str) -> V {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| _ = command.arg(word));
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Returns the command's id.
    async fn add(&self, key: &str, order: &str) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(&["orders:commands", "*", "key", key, "order", order]);
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Rings once, with its own instances and pools.
    async fn ring(&self, rule: Option<Rule>) -> Arc<Plan> {
        let plan = Arc::new(Plan::new(rule.into_iter().collect(), None));
        self.host.subscriber(plan.clone()).call(b"ring".to_vec()).await;
        plan
    }

    async fn rows(&self, key: &str) -> usize {
        self.owner.query("SELECT FROM orders WHERE idempotency_key = $1", &[&key]).await.unwrap().len()
    }

    async fn results(&self) -> Vec<BTreeMap<String, String>> {
        let entries: Vec<(String, BTreeMap<String, String>)> = self.redis("XRANGE orders:results - +").await;
        entries.into_iter().map(|(_, fields)| fields).collect()
    }

    /// Whether every command was answered, acknowledged and deleted.
    async fn is_settled(&self) -> bool {
        // The group exists once something was deleted.
        self.redis::<i64>("XLEN orders:commands").await == 0
            && self.redis::<Vec<redis::Value>>("XPENDING orders:commands intake").await[0] == redis::Value::Int(0)
    }

    /// Rings until everything is settled.
    async fn settle(&self, about: &str) {
        let started = Instant::now();
        while !self.is_settled().await {
            assert!(started.elapsed() < SETTLES_WITHIN, "{about}: does not settle");
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.ring(None).await;
        }
    }

    /// Runs the scenario under `rule` until it settles, and checks every promise. Returns how often each call was made in the
    /// first attempt, and whether the rule was applied; without one, whether that attempt settled everything.
    async fn run(&self, scenario: Scenario, rule: Option<Rule>) -> ([u32; CALLS.len()], bool) {
        let (key, about) =
            (fresh_key(), format!("{scenario:?}, {}", rule.map_or("no fault".into(), |rule| rule.to_string())));
        let () = self.redis("FLUSHALL").await;
        if scenario == Scenario::Claimed {
            self.add(&key, ORDER).await;
            self.settle(&about).await;
            let _: i64 = self.redis(&format!("DEL orders:results order::{key}")).await;
        }
        let mut sent = BTreeSet::new();
        for _ in 0..scenario.commands() {
            sent.insert(self.add(&key, scenario.order()).await);
        }
        if scenario == Scenario::Claimed {
            let _: redis::Value = self.redis("XREADGROUP GROUP intake intake STREAMS orders:commands >").await;
            let pending: Vec<(String, String, u64, u64)> = self.redis("XPENDING orders:commands intake - + 1").await;
            let claim = format!("XCLAIM orders:commands intake intake 0 {} IDLE 60000", pending[0].0);
            let _: redis::Value = self.redis(&claim).await;
        }
        let plan = self.ring(rule).await;
        let came_to_pass = match rule {
            Some(rule) => plan.injected().contains(&rule),
            None => self.is_settled().await,
        };

        self.settle(&about).await;
        let results = self.results().await;
        let told: BTreeSet<_> = results.iter().map(|result| result["command"].clone()).collect();
        assert_eq!(told, sent, "{about}: {results:?}");
        for result in &results {
            let told = (result["key"].as_str(), result["status"].as_str(), &result["body"]);
            assert_eq!(told, (key.as_str(), scenario.status(), &results[0]["body"]), "{about}");
        }
        assert_eq!(self.rows(&key).await, scenario.rows(), "{about}");
        (plan.counts(), came_to_pass)
    }
}

fn fresh_key() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let run = RandomState::new().hash_one(0); // another seed in every process
    format!("intake-{run:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_host_call_of_a_drain_leaves_one_order_a_result_and_nothing_pending() {
    let url = std::env::var("DATABASE_URL").expect("run this through `make test`");
    let (owner, connection) = tokio_postgres::connect(&url, NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    let owner = Arc::new(owner);
    let lanes = join_all((0..LANES).map(|_| Lane::new(owner.clone()))).await;
    let mut cases = Vec::new();
    for scenario in SCENARIOS {
        let mut tries = 0;
        let counts = loop {
            let (counts, is_undisturbed) = lanes[0].run(scenario, None).await;
            if is_undisturbed {
                break counts;
            }
            tries += 1;
            assert!(tries < TRIES, "{scenario:?}: a drain without a fault settles nothing");
        };
        let before = cases.len();
        for ((name, _), count) in CALLS.iter().zip(counts) {
            let faults = (1..=count).flat_map(|nth| FAULTS.map(|fault| format!("{name}:{nth}:{fault}")));
            cases.extend(faults.map(|rule| (scenario, rule.parse::<Rule>().unwrap())));
        }
        let calls: u32 = counts.iter().sum();
        println!("crash points: a drain, {scenario:?}: {calls} host calls, {} cases", cases.len() - before);
    }
    let total = cases.len();
    let cases = Mutex::new(cases);
    let next = || cases.lock().unwrap().pop();
    join_all(lanes.iter().map(|lane| async {
        while let Some((scenario, rule)) = next() {
            let mut tries = 0;
            while !lane.run(scenario, Some(rule)).await.1 {
                tries += 1;
                // How many sessions a drain takes depends on how quick its statements are.
                if rule.call == Call::PgOpen && rule.nth > 1 && tries == TRIES {
                    break;
                }
                assert!(tries < TRIES, "{scenario:?}, {rule}: the fault never came to pass");
            }
        }
    }))
    .await;
    println!("crash points: a drain, {total} cases, each with one row, its results and nothing pending");
}
