//! Every host call of one `POST /orders`, and everything that can go wrong with it.
//!
//! A dry run counts the calls. Then each of them fails, is late, hangs, loses its reply or takes its instance with it,
//! once, on instances of its own; and the same request is sent until it settles. Run through `make test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use futures::{StreamExt, stream};
use order_host::faults::{CALLS, Plan, Rule};
use order_host::{Host, manifest};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use uuid::Uuid;

const ORDER: &str = r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"comment":"leave at the door"}"#;
const OTHER_ORDER: &str =
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":3,"unitAmount":59900}]}"#;

/// Longer than the Redis deadline below, shorter than PostgreSQL's.
const FAULTS: [&str; 6] = ["fail", "delay=150", "hang", "lose-reply", "kill-before", "kill-after"];
/// Short, so that a call that hangs costs little.
const REDIS_DEADLINE_MS: &str = "100";
const PG_DEADLINE_MS: &str = "600";
/// A settled request is the rule at the second try; a slow machine may need more.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
const AT_ONCE: usize = 8;

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scenario {
    /// Nothing: it is the first with its key.
    First,
    /// The first one's answer, in Redis.
    ReplayFromRedis,
    /// The first one's row, and no entry in Redis.
    ReplayFromPostgres,
    /// Another one like it, at the same time.
    Duplicate,
    /// The row of another order.
    KeyReused,
}

const SCENARIOS: [Scenario; 5] = [
    Scenario::First,
    Scenario::ReplayFromRedis,
    Scenario::ReplayFromPostgres,
    Scenario::Duplicate,
    Scenario::KeyReused,
];

impl Scenario {
    fn requests(self) -> usize {
        if self == Self::Duplicate { 2 } else { 1 }
    }

    /// Both of two duplicates are past Redis before one of them inserts.
    fn delays(self) -> Vec<Rule> {
        let delays = ["pg.execute:1:delay=30", "pg.execute:2:delay=30"];
        delays.into_iter().filter(|_| self == Self::Duplicate).map(|rule| rule.parse().unwrap()).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    location: String,
    etag: String,
    body: String,
}

struct World {
    host: Host,
    http: reqwest::Client,
    owner: tokio_postgres::Client,
    redis: redis::aio::MultiplexedConnection,
}

/// A service with instances, pools and a plan of its own.
struct Service {
    url: String,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    async fn new() -> Self {
        let variable = |name: &str| match name {
            "SPIN_VARIABLE_REDIS_DEADLINE_MS" => Some(REDIS_DEADLINE_MS.to_owned()),
            "SPIN_VARIABLE_PG_DEADLINE_MS" => Some(PG_DEADLINE_MS.to_owned()),
            name => std::env::var(name).ok(),
        };
        let app = manifest::load(Path::new("../spin.toml"), variable).expect("run this through `make test`");
        let url = |name| std::env::var(name).expect("run this through `make test`");
        let (owner, connection) = tokio_postgres::connect(&url("DATABASE_URL"), NoTls).await.expect("PostgreSQL");
        tokio::spawn(connection);
        let redis = redis::Client::open(url("REDIS_URL")).unwrap();
        Self {
            host: Host::load(app).expect("the component is built by `make build`"),
            http: reqwest::Client::new(),
            owner,
            redis: redis.get_multiplexed_async_connection().await.expect("Redis"),
        }
    }

    async fn serve(self: &Arc<Self>, rules: Vec<Rule>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let plan = Arc::new(Plan::new(rules, None));
        let (world, faults) = (self.clone(), plan.clone());
        let task = tokio::spawn(async move { world.host.serve(listener, faults).await });
        Service { url, plan, task }
    }

    async fn send(&self, service: &Service, key: &str, order: &'static str) -> Answer {
        let request = self.http.post(format!("{}/orders", service.url)).header("Idempotency-Key", key);
        let answer = request.header("Content-Type", "application/json").body(order).send().await.expect("an answer");
        let header =
            |name| answer.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        let (status, location, etag) = (answer.status().as_u16(), header("location"), header("etag"));
        Answer { status, location, etag, body: answer.text().await.expect("a body") }
    }

    async fn forget(&self, key: &str) {
        let mut redis = self.redis.clone();
        let () = redis::cmd("DEL").arg(format!("order:idempotency:{key}")).query_async(&mut redis).await.unwrap();
    }

    /// Brings about what the scenario's request finds, without a fault.
    async fn prepare(&self, clean: &Service, scenario: Scenario, key: &str) {
        let earlier = match scenario {
            Scenario::First | Scenario::Duplicate => return,
            Scenario::ReplayFromRedis | Scenario::ReplayFromPostgres => ORDER,
            Scenario::KeyReused => OTHER_ORDER,
        };
        assert_eq!(self.send(clean, key, earlier).await.status, 201);
        if scenario == Scenario::ReplayFromPostgres {
            self.forget(key).await;
        }
    }

    /// Sends the scenario's request under `rules` until it settles, and checks every promise on the way.
    async fn run(self: &Arc<Self>, scenario: Scenario, clean: &Service, rule: Option<Rule>) -> [u32; CALLS.len()] {
        let key = fresh_key();
        let about = format!("{scenario:?}, {}", rule.map_or("no fault".to_owned(), |rule| rule.to_string()));
        self.prepare(clean, scenario, &key).await;
        let service = self.serve(rule.into_iter().chain(scenario.delays()).collect()).await;

        let both = (0..scenario.requests()).map(|_| self.send(&service, &key, ORDER));
        let mut answers = futures::future::join_all(both).await;
        let counts = service.plan.counts();
        let settled = if scenario == Scenario::KeyReused { 422 } else { 201 };
        let started = Instant::now();
        while answers[answers.len() - 1].status != settled {
            assert!(started.elapsed() < SETTLES_WITHIN, "{about}: does not settle: {answers:?}");
            answers.push(self.send(&service, &key, ORDER).await);
        }
        // Once more over Redis, once more over PostgreSQL.
        answers.push(self.send(&service, &key, ORDER).await);
        self.forget(&key).await;
        answers.push(self.send(&service, &key, ORDER).await);

        let kills = rule.is_some_and(|rule| rule.to_string().contains(":kill-"));
        for answer in &answers {
            let allowed = match answer.status {
                409 => answer.body.contains("idempotency-key-in-use"),
                503 => answer.body.contains("store-unavailable"),
                // The host's own, for an instance that is gone: the component never answers 500 here.
                500 => kills && answer.body.is_empty(),
                status => status == settled,
            };
            assert!(allowed, "{about}: {answer:?}");
        }
        let sql = "SELECT order_id FROM orders WHERE idempotency_key = $1";
        let rows = self.owner.query(sql, &[&key]).await.unwrap();
        assert_eq!(rows.len(), 1, "{about}");
        if settled == 201 {
            let id = rows[0].get::<_, Uuid>(0).to_string();
            let first = answers.iter().find(|answer| answer.status == 201).unwrap();
            assert!(answers.iter().all(|answer| answer.status != 201 || answer == first), "{about}: {answers:?}");
            assert_eq!((&first.location, first.etag.as_str()), (&format!("/orders/{id}"), "\"1\""), "{about}");
            assert_eq!(serde_json::from_str::<Value>(&first.body).unwrap()["orderId"], id.as_str(), "{about}");
        }
        counts
    }
}

fn fresh_key() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let run = RandomState::new().hash_one(0); // another one in every process
    format!("crash-point-{run:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_host_call_leaves_one_order_and_one_answer() {
    let world = Arc::new(World::new().await);
    let clean = Arc::new(world.serve(Vec::new()).await);
    let mut cases = Vec::new();
    for scenario in SCENARIOS {
        let counts = world.run(scenario, &clean, None).await;
        let before = cases.len();
        for ((name, _), count) in CALLS.iter().zip(counts) {
            let faults = (1..=count).flat_map(|nth| FAULTS.map(|fault| format!("{name}:{nth}:{fault}")));
            cases.extend(faults.map(|rule| (scenario, rule.parse::<Rule>().unwrap())));
        }
        let calls: u32 = counts.iter().sum();
        println!("crash points: {scenario:?}: {calls} host calls, {} cases", cases.len() - before);
        assert_eq!(cases.len() - before, calls as usize * FAULTS.len());
    }
    // The protocol makes at least these; fewer would mean that the faults are not where the calls are.
    assert!(cases.len() >= 6 * (5 + 2 + 7 + 11 + 7), "{}", cases.len());
    let total = cases.len();
    let runs = cases.into_iter().map(|(scenario, rule)| {
        let (world, clean) = (world.clone(), clean.clone());
        async move {
            world.run(scenario, &clean, Some(rule)).await;
        }
    });
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    println!("crash points: {total} cases, each with one row and one answer");
}
