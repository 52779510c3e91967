//! The clients of a storm: what they send, and everything that they see.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::history::{Answer, Event, Row, Variant};
use crate::queue;
use crate::service::{Host, LONGEST, client};

/// How many keys are settled at the same time.
const AT_ONCE: usize = 24;
/// The clients of the service. Each key here belongs to one client: three in a row are spelt alike, with different orders.
pub const NAMES: [&str; 3] = ["web", "shop", "partner-1"];

/// The setting `clients` that names them.
pub fn setting_of_clients() -> String {
    let entry = |name: &&str| {
        let digest: String = Sha256::digest(token(name)).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{digest}")
    };
    NAMES.iter().map(entry).collect::<Vec<_>>().join(" ")
}

pub fn token(name: &str) -> String {
    format!("token-of-{name}")
}

pub struct Clients {
    pub name: String,
    pub urls: Vec<String>,
    pub http: reqwest::Client,
    pub events: Mutex<Vec<Event>>,
    pub requests: AtomicUsize,
    clock: AtomicU64,
    /// The requests that are not among the events yet: when each was sent.
    unanswered: Mutex<BTreeSet<u64>>,
}

impl Clients {
    pub fn new(name: String, hosts: &[Host]) -> Self {
        Self {
            name,
            urls: hosts.iter().map(|host| host.url.clone()).collect(),
            http: client(),
            events: Mutex::default(),
            requests: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            unanswered: Mutex::default(),
        }
    }

    /// The next tick of the clock that orders the events.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// The key as each of the three clients sends it.
    pub fn key(&self, key: usize) -> String {
        format!("{}-{}", self.name, key / NAMES.len())
    }

    pub fn token(&self, key: usize) -> String {
        token(NAMES[key % NAMES.len()])
    }

    /// Each key has its own order, so that an answer for another key is detected.
    fn order(&self, key: usize, variant: Variant) -> String {
        let quantity = match variant {
            Variant::A => 1,
            Variant::B => 2,
        };
        let items = format!(r#"[{{"sku":"S-{key}","quantity":{quantity},"unitAmount":100}}]"#);
        format!(r#"{{"customerId":"{}","currency":"RUB","items":{items}}}"#, self.name)
    }

    pub async fn place(&self, url: &str, key: usize, variant: Variant) -> Answer {
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

    /// Whether the body of a `201` is the order that was sent, with the id that `Location` names.
    fn is_about(&self, key: usize, variant: Variant, id: &str, body: &str) -> bool {
        let (Ok(mut said), Ok(Value::Object(sent))) =
            (serde_json::from_str::<Value>(body), serde_json::from_str(&self.order(key, variant)))
        else {
            return false;
        };
        said["orderId"].take() == id && sent.iter().all(|(member, value)| said[member] == *value)
    }

    /// Sends it through the stream, which sends no answer back: `results` reads the outcome.
    pub async fn command(&self, key: usize, variant: Variant, times: usize) {
        let (token, order) = (self.token(key), self.order(key, variant));
        let sent = async {
            queue::order(&self.key(key), &order, &token, times).await;
            Ok(Answer::Maybe)
        };
        self.record(key, variant, sent).await;
    }

    /// The results in the stream, as far as it was not flushed: evidence like any other answer.
    pub async fn results(&self) -> Vec<Event> {
        let answered = self.tick();
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

    pub async fn list(&self, url: &str, key: usize) -> Answer {
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
        // Under the lock, so that `have_answers_before` misses none.
        let sent = {
            let mut unanswered = self.unanswered.lock().unwrap();
            let sent = self.tick();
            unanswered.insert(sent);
            sent
        };
        let answer = answer.await.unwrap_or_else(|error| match error.is_timeout() {
            true => Answer::Unexpected(format!("neither an answer nor an end within {LONGEST:?}: {error:?}")),
            false => Answer::Maybe,
        });
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.events.lock().unwrap().push(Event { key, variant, sent, answered: self.tick(), answer: answer.clone() });
        self.unanswered.lock().unwrap().remove(&sent);
        answer
    }

    /// Waits until every request that was sent before `tick` is among the events.
    pub async fn have_answers_before(&self, tick: u64) {
        while self.unanswered.lock().unwrap().first().is_some_and(|sent| *sent < tick) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The requests tried so far.
    pub fn keys(&self) -> BTreeSet<usize> {
        self.events.lock().unwrap().iter().map(|event| event.key).collect()
    }

    /// Sends both orders of every key until each has a clear answer.
    pub async fn settle(&self, keys: &BTreeSet<usize>) {
        stream::iter(keys).for_each_concurrent(AT_ONCE, |key| self.settle_key(*key)).await;
    }

    async fn settle_key(&self, key: usize) {
        let deadline = Instant::now() + 2 * LONGEST;
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

    pub async fn rows(&self, owner: &tokio_postgres::Client) -> Vec<Row> {
        let sql = "SELECT idempotency_key, order_id::text, (items->0->>'quantity')::int, client FROM orders WHERE customer_id = $1";
        let rows = owner.query(sql, &[&self.name]).await.unwrap();
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
        // The host's own `500`, for an instance that ended.
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
