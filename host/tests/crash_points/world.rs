//! The service under test and its stores, and what must hold of a scenario whichever call goes wrong.

use order_host::faults::{CALLS, Call, Plan, Rule};
use order_host::{Host, manifest};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::Scenario;

const ORDER: &str = r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"comment":"leave at the door"}"#;
const OTHER_ORDER: &str =
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":3,"unitAmount":59900}]}"#;

/// Short, so that a call that hangs costs little.
const REDIS_DEADLINE_MS: &str = "100";
const PG_DEADLINE_MS: &str = "1000";
/// As a rule a request settles at the second attempt; a busy machine may be late for a deadline again and again.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);
/// The write to Redis, after the answer.
const COMES_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    location: String,
    etag: String,
    body: String,
}

pub struct World {
    host: Host,
    http: reqwest::Client,
    owner: tokio_postgres::Client,
    redis: redis::aio::MultiplexedConnection,
}

pub fn calls_without_sessions(counts: &[u32; CALLS.len()]) -> u32 {
    counts.iter().sum::<u32>() - counts[Call::PgOpen as usize]
}

/// A service with its own instances, pools and plan.
pub struct Service {
    url: String,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

impl Service {
    /// How often each call was made, and whether `rule` was applied. It may have to wait: the last call comes after the answer.
    async fn calls(&self, scenario: Scenario, rule: Option<Rule>) -> ([u32; CALLS.len()], bool) {
        let started = Instant::now();
        loop {
            let (counts, came_to_pass) =
                (self.plan.counts(), rule.is_none_or(|rule| self.plan.injected().contains(&rule)));
            let is_done =
                if rule.is_some() { came_to_pass } else { calls_without_sessions(&counts) >= scenario.calls() };
            if is_done || started.elapsed() > COMES_WITHIN {
                return (counts, came_to_pass);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    pub async fn new() -> Self {
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
            // A connection kept to a service that has ended would keep that service's pool too.
            // The host has no time limit for a request, so one that hangs has to be noticed here.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).timeout(SETTLES_WITHIN).build().unwrap(),
            owner,
            redis: redis.get_multiplexed_async_connection().await.expect("Redis"),
        }
    }

    pub async fn serve(self: &Arc<Self>, rules: Vec<Rule>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let plan = Arc::new(Plan::new(rules, None));
        let (world, faults) = (self.clone(), plan.clone());
        let task = tokio::spawn(async move {
            let failed = world.host.serve(listener, faults).await;
            panic!("{failed:?}");
        });
        Service { url, plan, task }
    }

    /// `None` if the answer broke off: its instance died after the head, which may not have been sent by then.
    async fn send(&self, service: &Service, key: &str, order: &'static str) -> Option<Answer> {
        let request = self.http.post(format!("{}/orders", service.url)).header("Idempotency-Key", key);
        let sent = request.header("Content-Type", "application/json").body(order).send().await;
        let answer = sent.inspect_err(|error| assert!(!error.is_timeout() && !error.is_connect(), "{error:?}")).ok()?;
        let header =
            |name| answer.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        let (status, location, etag) = (answer.status().as_u16(), header("location"), header("etag"));
        Some(Answer { status, location, etag, body: answer.text().await.ok()? })
    }

    async fn forget(&self, key: &str) {
        let mut redis = self.redis.clone();
        let () = redis::cmd("DEL").arg(format!("order::{key}")).query_async(&mut redis).await.unwrap();
    }

    /// Waits for the entry, which is written after the answer.
    async fn until_written(&self, key: &str) {
        let (mut redis, started) = (self.redis.clone(), Instant::now());
        while !redis::cmd("EXISTS").arg(format!("order::{key}")).query_async::<bool>(&mut redis).await.unwrap() {
            assert!(started.elapsed() < SETTLES_WITHIN, "no entry is written");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sets up, without a fault, what the scenario's request finds. Returns the first answer if it is to be replayed.
    async fn prepare(&self, clean: &Service, scenario: Scenario, key: &str) -> Option<Answer> {
        let earlier = match scenario {
            Scenario::First | Scenario::NextOne | Scenario::Duplicate => return None,
            Scenario::ReplayFromRedis | Scenario::ReplayFromPostgres => ORDER,
            Scenario::KeyReused => OTHER_ORDER,
        };
        let started = Instant::now();
        let first = loop {
            match self.send(clean, key, earlier).await {
                Some(first) if first.status == 201 => break first,
                answer => assert!(started.elapsed() < SETTLES_WITHIN, "{scenario:?}: {answer:?}"),
            }
        };
        self.until_written(key).await;
        if scenario == Scenario::ReplayFromPostgres {
            self.forget(key).await;
        }
        Some(first).filter(|_| scenario != Scenario::KeyReused)
    }

    /// Sends the scenario's request under `rule` until it settles, and checks every promise at each step.
    /// Returns how often each call was made in the first attempt, and whether the rule was applied.
    pub async fn run(
        self: &Arc<Self>,
        scenario: Scenario,
        clean: &Service,
        rule: Option<Rule>,
    ) -> ([u32; CALLS.len()], bool) {
        let key = fresh_key();
        let about = format!("{scenario:?}, {}", rule.map_or("no fault".to_owned(), |rule| rule.to_string()));
        let earlier = self.prepare(clean, scenario, &key).await;
        let service = self.serve(rule.into_iter().chain(scenario.delays()).collect()).await;

        if scenario == Scenario::NextOne {
            // With any outcome: the rule may concern this one.
            self.send(&service, &fresh_key(), ORDER).await;
        }
        let together = (0..scenario.requests()).map(|_| self.send(&service, &key, ORDER));
        let mut answers = futures::future::join_all(together).await;
        let (counts, came_to_pass) = service.calls(scenario, rule).await;
        let kills = rule.is_some_and(|rule| rule.fault.kills());
        let is_redis = rule.is_some_and(|rule| rule.to_string().starts_with("redis."));

        let settled = scenario.settled();
        let started = Instant::now();
        while answers.last().unwrap().as_ref().is_none_or(|answer| answer.status != settled) {
            assert!(started.elapsed() < SETTLES_WITHIN, "{about}: does not settle: {answers:?}");
            answers.push(self.send(&service, &key, ORDER).await);
        }
        if settled == 201 {
            // Once more over Redis alone, which may have to recover first, and once more over PostgreSQL.
            let statements = || service.plan.counts()[Call::PgExecute as usize];
            loop {
                let before = statements();
                answers.push(self.send(&service, &key, ORDER).await);
                if statements() == before {
                    break;
                }
                assert!(started.elapsed() < SETTLES_WITHIN, "{about}: Redis is not healed");
            }
            self.forget(&key).await;
        }
        answers.push(self.send(&service, &key, ORDER).await);

        let lost = answers.iter().filter(|answer| answer.as_ref().is_none_or(|answer| answer.status == 500)).count();
        // The host's own 500, or no answer, for each request that a killed instance held. The component itself never sends 500.
        assert!(lost <= if kills { scenario.requests() } else { 0 }, "{about}: {answers:?}");
        let answers: Vec<Answer> = earlier.into_iter().chain(answers.into_iter().flatten()).collect();
        for answer in &answers {
            let allowed = match answer.status {
                500 => answer.body.is_empty(),
                422 => settled == 422 && answer.body.contains("/problems/idempotency-key-reused"),
                // A client never notices what goes wrong with Redis alone.
                409 => !is_redis && answer.body.contains("/problems/idempotency-key-in-use"),
                503 => !is_redis && answer.body.contains("/problems/store-unavailable"),
                status => status == settled,
            };
            assert!(allowed, "{about}: {answer:?}");
        }
        let sql = "SELECT order_id, (items->0->>'quantity')::int FROM orders WHERE idempotency_key = $1";
        let rows = self.owner.query(sql, &[&key]).await.unwrap();
        assert_eq!(rows.len(), 1, "{about}");
        let (id, quantity): (String, i32) = (rows[0].get::<_, Uuid>(0).to_string(), rows[0].get(1));
        assert_eq!(quantity, if settled == 201 { 2 } else { 3 }, "{about}");
        let first = answers.iter().find(|answer| answer.status == 201);
        assert!(answers.iter().all(|answer| answer.status != 201 || Some(answer) == first), "{about}: {answers:?}");
        if let Some(first) = first {
            assert_eq!((&first.location, first.etag.as_str()), (&format!("/orders/{id}"), "\"1\""), "{about}");
            let body: Value = serde_json::from_str(&first.body).unwrap();
            assert_eq!((&body["orderId"], &body["items"][0]["quantity"]), (&json!(id), &json!(2)), "{about}");
        }
        (counts, came_to_pass)
    }
}

fn fresh_key() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let run = RandomState::new().hash_one(0); // another seed in every process
    format!("crash-point-{run:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
