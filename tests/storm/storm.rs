//! The storm itself: clients, what goes wrong meanwhile, and the judgement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::feed::Consumer;
use crate::history::{Answer, Event, Row, Variant, Violation, check};
use crate::queue::{self, Intake};
use crate::service::{Host, Stores, is_spin, owner, redis, setting, superuser};

const CLIENTS: usize = 24;
/// Short, so that many things can go wrong in little time.
const DEADLINES: [(&str, &str); 2] =
    [("SPIN_VARIABLE_REDIS_DEADLINE_MS", "100"), ("SPIN_VARIABLE_PG_DEADLINE_MS", "1000")];
/// A client that waits longer takes the answer for lost.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys in play at one time: few, so that requests meet at the same key.
const HOT_KEYS: usize = 9;
/// Clients of the service. Each key here is one client's: of three in a row the spelling is the same, and the orders differ.
const NAMES: [&str; 3] = ["web", "shop", "partner-1"];

/// The setting that names them.
fn clients() -> String {
    let entry = |name: &&str| {
        let digest: String = Sha256::digest(token(name)).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{digest}")
    };
    NAMES.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}

struct Storm {
    name: String,
    urls: Vec<String>,
    http: reqwest::Client,
    events: Mutex<Vec<Event>>,
    clock: AtomicU64,
    requests: AtomicUsize,
    ends: Instant,
}

impl Storm {
    /// As it is sent, by each of the three clients.
    fn key(&self, key: usize) -> String {
        format!("{}-{}", self.name, key / NAMES.len())
    }

    fn token(&self, key: usize) -> String {
        token(NAMES[key % NAMES.len()])
    }

    /// Another order for each key, so that an answer that went astray is seen.
    fn order(&self, key: usize, variant: Variant) -> String {
        let quantity = match variant {
            Variant::A => 1,
            Variant::B => 2,
        };
        let items = format!(r#"[{{"sku":"S-{key}","quantity":{quantity},"unitAmount":100}}]"#);
        format!(r#"{{"customerId":"{}","currency":"RUB","items":{items}}}"#, self.name)
    }

    async fn place(&self, url: &str, key: usize, variant: Variant) -> Answer {
        let request = self.http.post(format!("{url}/orders")).header("Idempotency-Key", self.key(key));
        let request = request.header("Content-Type", "application/json").body(self.order(key, variant));
        let request = request.bearer_auth(self.token(key));
        let answer = self.record(key, variant, async {
            let answer = read_placed(request.send().await?).await?;
            Ok(match &answer {
                Answer::Order { id, body, .. } if !self.is_about(key, variant, id, body) => {
                    Answer::Unexpected(format!("201 about something else: {id} {body}"))
                }
                _ => answer,
            })
        });
        answer.await
    }

    /// Whether the body of a `201` is the order that was sent, under the id that `Location` gives.
    fn is_about(&self, key: usize, variant: Variant, id: &str, body: &str) -> bool {
        let (Ok(mut said), Ok(Value::Object(sent))) =
            (serde_json::from_str::<Value>(body), serde_json::from_str(&self.order(key, variant)))
        else {
            return false;
        };
        said["orderId"].take() == id && sent.iter().all(|(member, value)| said[member] == *value)
    }

    /// By the stream, which answers nobody here: `results` reads what came of it.
    async fn command(&self, key: usize, variant: Variant, times: usize) {
        let (token, order) = (self.token(key), self.order(key, variant));
        let sent = async {
            queue::order(&self.key(key), &order, &token, times).await;
            Ok(Answer::Maybe)
        };
        self.record(key, variant, sent).await;
    }

    /// What the stream of results says, as far as it was not flushed: evidence like any other answer.
    async fn results(&self) -> Vec<Event> {
        let answered = self.clock.fetch_add(1, Ordering::SeqCst);
        let mut events = Vec::new();
        for (order, body, replayed) in queue::placed().await {
            let item = &order["items"][0];
            let Some(key) = item["sku"].as_str().and_then(|sku| sku.strip_prefix("S-")?.parse().ok()) else { continue };
            let variant = if item["quantity"] == 1 { Variant::A } else { Variant::B };
            let id = order["orderId"].as_str().unwrap().to_owned();
            assert!(self.is_about(key, variant, &id, &body), "a result about something else: {body}");
            events.push(Event { key, variant, sent: 0, answered, answer: Answer::Order { replayed, id, body } });
        }
        events
    }

    async fn list(&self, url: &str, key: usize) -> Answer {
        let request = self.http.get(format!("{url}/orders?idempotencyKey={}", self.key(key)));
        let request = request.bearer_auth(self.token(key));
        self.record(key, Variant::A, async { read_list(request.send().await?).await }).await
    }

    async fn record(
        &self,
        key: usize,
        variant: Variant,
        answer: impl Future<Output = Result<Answer, reqwest::Error>>,
    ) -> Answer {
        let tick = || self.clock.fetch_add(1, Ordering::SeqCst);
        let sent = tick();
        let answer = answer.await.unwrap_or(Answer::Maybe);
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.events.lock().unwrap().push(Event { key, variant, sent, answered: tick(), answer: answer.clone() });
        answer
    }

    /// One client: mostly the newest keys, where the others are too, sometimes an old one, sometimes the list.
    async fn client(&self, mut random: fastrand::Rng, newest: &AtomicUsize) {
        while Instant::now() < self.ends {
            let url = &self.urls[random.usize(..self.urls.len())];
            let last = newest.load(Ordering::SeqCst);
            let key = if random.u8(..4) > 0 { last + random.usize(..HOT_KEYS) } else { random.usize(..last + 1) };
            match random.u8(..20) {
                0 => drop(self.list(url, key).await),
                1 => drop(newest.fetch_add(1, Ordering::SeqCst)),
                2 => self.command(key, if random.bool() { Variant::A } else { Variant::B }, random.usize(1..3)).await,
                other => {
                    let variant = if other % 2 == 0 { Variant::A } else { Variant::B };
                    if self.place(url, key, variant).await == Answer::Maybe {
                        // A host that is gone refuses at once, and its clients would do nothing but ask it.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        }
    }

    /// Sends both orders of a key until each has a clear answer.
    async fn settle(&self, key: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        for variant in [Variant::A, Variant::B] {
            for url in self.urls.iter().cycle() {
                if matches!(self.place(url, key, variant).await, Answer::Order { .. } | Answer::KeyReused) {
                    break;
                }
                assert!(Instant::now() < deadline, "{} does not settle", self.key(key));
            }
            self.list(&self.urls[0], key).await;
        }
    }

    async fn rows(&self) -> Vec<Row> {
        let sql = "SELECT idempotency_key, order_id::text, (items->0->>'quantity')::int, client FROM orders WHERE customer_id = $1";
        let rows = owner().await.query(sql, &[&self.name]).await.unwrap();
        let row = |row: tokio_postgres::Row| Row {
            key: row.get::<_, &str>(0).rsplit('-').next().unwrap().parse::<usize>().unwrap() * NAMES.len()
                + NAMES.iter().position(|name| *name == row.get::<_, &str>(3)).unwrap(),
            id: row.get(1),
            variant: if row.get::<_, i32>(2) == 1 { Variant::A } else { Variant::B },
        };
        rows.into_iter().map(row).collect()
    }
}

async fn read_placed(response: reqwest::Response) -> Result<Answer, reqwest::Error> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (status, location, replayed) = (response.status().as_u16(), header("location"), header("idempotent-replayed"));
    let body = response.text().await?;
    Ok(match (status, replayed.as_str(), location.strip_prefix("/orders/")) {
        (201, "true" | "false", Some(id)) => Answer::Order { replayed: replayed == "true", id: id.to_owned(), body },
        (422, ..) if body.contains("/problems/idempotency-key-reused") => Answer::KeyReused,
        (409, ..) if body.contains("/problems/idempotency-key-in-use") => Answer::KeyInUse,
        (503, ..) if body.contains("/problems/store-unavailable") => Answer::Maybe,
        // The host's own, for an instance that is gone.
        (500, ..) if body.is_empty() => Answer::Maybe,
        _ => Answer::Unexpected(format!("{status} {body}")),
    })
}

async fn read_list(response: reqwest::Response) -> Result<Answer, reqwest::Error> {
    let status = response.status().as_u16();
    let body = response.text().await?;
    Ok(match status {
        200 => {
            let page: Value = serde_json::from_str(&body).unwrap_or_default();
            let ids = page["orders"].as_array().map(|orders| orders.iter().map(|order| order["orderId"].clone()));
            let ids = ids.map(|ids| ids.map(|id| id.as_str().unwrap_or_default().to_owned()).collect());
            ids.map_or(Answer::Unexpected(body), Answer::Listed)
        }
        503 => Answer::Maybe,
        500 if body.is_empty() => Answer::Maybe,
        _ => Answer::Unexpected(format!("{status} {body}")),
    })
}

const TROUBLES: [&str; 8] = [
    "Redis flushed",
    "Redis stopped",
    "Redis killed",
    "Redis killed and restarted",
    "PostgreSQL killed and restarted",
    "PostgreSQL's connections terminated",
    "the table locked",
    "a host killed",
];

/// Breaks one thing after another. Every kind of trouble comes once before any comes again.
async fn break_things(
    stores: &Stores,
    hosts: &mut [Host],
    mut random: fastrand::Rng,
    ends: Instant,
) -> BTreeMap<&'static str, usize> {
    let mut done = BTreeMap::new();
    let mut deck = Vec::new();
    let pause = async |ms: u64| tokio::time::sleep(Duration::from_millis(ms)).await;
    while Instant::now() < ends {
        if deck.is_empty() {
            deck = TROUBLES.to_vec();
            random.shuffle(&mut deck);
        }
        let trouble = deck.pop().unwrap();
        println!("storm: {trouble}");
        match trouble {
            "Redis flushed" => {
                let () = redis::cmd("FLUSHDB").query_async(&mut redis().await).await.unwrap();
            }
            "Redis stopped" => {
                stores.stop_redis();
                pause(random.u64(200..1200)).await;
                stores.continue_redis();
            }
            "Redis killed" => {
                stores.kill_redis();
                pause(random.u64(200..1200)).await;
                stores.restart().await;
            }
            "Redis killed and restarted" => {
                stores.kill_redis();
                stores.restart().await;
            }
            "PostgreSQL killed and restarted" => {
                stores.kill_postgres();
                stores.restart().await;
            }
            "PostgreSQL's connections terminated" => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orders_service'";
                superuser().await.query(sql, &[]).await.unwrap();
            }
            "the table locked" => {
                let owner = owner().await;
                owner.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
                pause(random.u64(200..1500)).await;
                owner.batch_execute("ROLLBACK").await.unwrap();
            }
            _ => hosts[random.usize(..hosts.len())].crash().await,
        }
        *done.entry(trouble).or_default() += 1;
        pause(random.u64(100..500)).await;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn no_storm_makes_a_duplicate_or_loses_an_acknowledged_order() {
    let seconds = setting("STORM_SECONDS", 25);
    let seed = setting("STORM_SEED", fastrand::u64(..1_000_000));
    println!("storm: seed {seed}, {seconds} s (STORM_SEED and STORM_SECONDS give others)");
    let stores = Stores::find();
    // Everything that is drawn comes of this one stream, so that near seeds have nothing in common.
    let mut random = fastrand::Rng::with_seed(seed);
    let mut hosts = Vec::new();
    let clients: &str = clients().leak();
    for host in ["host-1", "host-2"] {
        let variables = [&DEADLINES[..], &[("SPIN_VARIABLE_CLIENTS", clients)]].concat();
        hosts.push(Host::start(host, Some(random.fork()), &variables).await);
    }
    let ends = Instant::now() + Duration::from_secs(seconds);
    let storm = Arc::new(Storm {
        name: format!("storm-{seed}-{}", fastrand::u32(..)),
        urls: hosts.iter().map(|host| host.url.clone()).collect(),
        http: reqwest::Client::builder().timeout(CLIENT_TIMEOUT).build().unwrap(),
        events: Mutex::default(),
        clock: AtomicU64::new(0),
        requests: AtomicUsize::new(0),
        ends,
    });
    let variables = [&DEADLINES[..], &[("SPIN_VARIABLE_CLIENTS", clients)]].concat();
    let intake = Intake::start(random.fork(), variables);
    let newest = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (storm, newest, random) = (storm.clone(), newest.clone(), random.fork());
            tokio::spawn(async move { storm.client(random, &newest).await })
        })
        .collect();
    let consumers = NAMES.map(|name| {
        let consumer = Consumer::new(storm.http.clone(), storm.urls.clone(), name, token(name));
        tokio::spawn(consumer.consume(random.fork(), ends))
    });
    let troubles = break_things(&stores, &mut hosts, random.fork(), ends).await;
    for client in clients {
        client.await.unwrap();
    }

    let tried: std::collections::BTreeSet<_> = storm.events.lock().unwrap().iter().map(|event| event.key).collect();
    let in_the_storm = storm.events.lock().unwrap().clone();
    println!("storm: over; settling {} keys", tried.len());
    stream::iter(&tried).for_each_concurrent(CLIENTS, |key| storm.settle(*key)).await;
    let starts = intake.finish().await;
    let results = storm.results().await;
    println!(
        "storm: the intake was started {starts} times; {} results of orders are kept, nothing is pending",
        results.len()
    );
    storm.events.lock().unwrap().extend(results);
    for consumer in consumers {
        let (events, orders) = consumer.await.unwrap().finish().await;
        println!(
            "storm: a consumer was shown {events} events of {orders} orders, and has them all at their last version"
        );
    }
    let rows = storm.rows().await;
    let events = storm.events.lock().unwrap().clone();
    let violations = check(&events, &rows);
    let of_kind = |kind: fn(&Violation) -> bool| violations.iter().filter(|violation| kind(violation)).count();
    let answers = |kind: fn(&Answer) -> bool| in_the_storm.iter().filter(|event| kind(&event.answer)).count();
    let faults: usize = hosts.iter().map(Host::faults).sum();
    let kinds = [
        ("placed", answers(|answer| matches!(answer, Answer::Order { replayed: false, .. }))),
        ("replayed", answers(|answer| matches!(answer, Answer::Order { replayed: true, .. }))),
        ("key reused", answers(|answer| *answer == Answer::KeyReused)),
        ("maybe", answers(|answer| *answer == Answer::Maybe)),
        ("listed", answers(|answer| matches!(answer, Answer::Listed(_)))),
        ("key in use", answers(|answer| *answer == Answer::KeyInUse)),
    ];
    println!("storm: troubles {troubles:?}");
    println!("storm: answers before it was over: {kinds:?}");
    println!(
        "storm: seed {seed}: {} requests, {} keys, {} orders, {faults} faults injected, {} troubles; \
         {} duplicates, {} lost acknowledged orders, {} wrong replays, {} other violations",
        storm.requests.load(Ordering::SeqCst),
        tried.len(),
        rows.len(),
        troubles.values().sum::<usize>(),
        of_kind(|violation| matches!(violation, Violation::Duplicate(_))),
        of_kind(|violation| matches!(violation, Violation::Lost(_))),
        of_kind(|violation| matches!(violation, Violation::WrongReplay(_) | Violation::WrongOwner(_))),
        of_kind(|violation| matches!(violation, Violation::Unsettled(_) | Violation::Unexpected(..))),
    );
    for violation in &violations {
        println!("storm: {violation:?}");
        events.iter().filter(|event| event.key == violation.key()).for_each(|event| println!("  {event:?}"));
        rows.iter().filter(|row| row.key == violation.key()).for_each(|row| println!("  {row:?}"));
    }
    assert!(violations.is_empty(), "see the history above");
    assert_eq!(rows.len(), tried.len());
    let traps: Vec<_> = hosts.iter().flat_map(Host::traps).collect();
    assert!(traps.is_empty(), "{traps:#?}");
    // A storm without wind proves nothing. `409` is the one kind that may not come.
    assert!(
        (faults > 0 || is_spin()) && troubles.len() >= TROUBLES.len().min(seconds as usize / 4),
        "{faults} {troubles:?}"
    );
    assert!(kinds[..5].iter().all(|(_, count)| *count > 0), "{kinds:?}");
}
