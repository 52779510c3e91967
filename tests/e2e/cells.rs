//! Two cells, each with its own PostgreSQL server and Redis; an nginx in front knows each client's cell by the host name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use super::clients::entry;
use super::failover::PrivatePostgres;
use super::proxies::Nginx;
use super::support::*;

/// For all that may take longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Cell {
    app: TestApp,
    postgres: PrivatePostgres,
    _redis: PrivateRedis,
}

impl Cell {
    /// One that knows these clients. The token of `web` is `token-web`.
    async fn start(clients: &[&str]) -> Self {
        let (postgres, redis) = (PrivatePostgres::start().await, PrivateRedis::start().await);
        let clients = clients.iter().map(|name| entry(name, &format!("token-{name}"))).collect::<Vec<_>>().join(" ");
        let app = TestApp::start_with(&[("SPIN_VARIABLE_CLIENTS", &clients)]).await;
        app.postgres.lead_to(postgres.address());
        app.redis.lead_to(format!("127.0.0.1:{}", redis.port));
        Self { app, postgres, _redis: redis }
    }

    /// How many orders each client has there.
    async fn orders(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT client, count(*) FROM orders GROUP BY client";
        let rows = session(&self.postgres.url("orders")).await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// The host name of each client, and the service that it leads to.
fn routes(of: &[(&str, &str)]) -> String {
    let lines: String = of.iter().map(|(client, url)| format!("{client}.orders.test {url};\n")).collect();
    format!(
        "map $host $cell {{ {lines} }}
        server {{ listen LISTEN; location / {{ proxy_pass $cell; proxy_set_header Host $http_host; }} }}"
    )
}

/// A client, as the proxy sees it.
#[derive(Clone)]
struct Caller {
    name: &'static str,
    nginx: String,
    http: reqwest::Client,
}

impl Caller {
    fn new(name: &'static str, nginx: &Nginx) -> Self {
        Self { name, nginx: nginx.url.clone(), http: client() }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let host = format!("{}.orders.test", self.name);
        let request = self.http.request(method, format!("{}{path}", self.nginx));
        request.header("Host", host).bearer_auth(format!("token-{}", self.name))
    }

    fn order(&self, key: &str) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::POST, "/orders").header("Idempotency-Key", key);
        request.header("Content-Type", "application/json").body(ORDER)
    }

    fn confirmation(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::PATCH, path).header("If-Match", "\"1\"");
        request.header("Content-Type", "application/merge-patch+json").body(r#"{"status":"confirmed"}"#)
    }

    async fn place(&self, key: &str) -> Answer {
        Answer::of(self.order(key).send().await.expect("an answer"), key).await
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(reqwest::Method::GET, path).send().await.expect("an answer"), path).await
    }
}

/// Repeats a request until it gets an answer that settles it, which `409`, `503` and the proxy's `502` do not.
async fn insist(request: reqwest::RequestBuilder, repeats: &AtomicUsize) -> Answer {
    let started = Instant::now();
    loop {
        match request.try_clone().unwrap().send().await {
            Ok(answer) if ![409, 502, 503].contains(&answer.status().as_u16()) => {
                return Answer::of(answer, "it").await;
            }
            other => assert!(started.elapsed() < PATIENCE, "no answer: {other:?}"),
        }
        repeats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Events of a page as id and version of the order, and where to go on.
fn page(answer: &Answer) -> (Vec<(String, u64)>, String) {
    let events: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
    let id = |event: &Value| event["subject"].as_str().unwrap().to_owned();
    let events = events.iter().map(|event| (id(event), event["data"]["version"].as_u64().unwrap())).collect();
    (events, answer.header("link").strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[tokio::test]
async fn a_client_stays_in_its_cell_and_a_cell_that_is_down_stops_its_clients_only() {
    let (one, two) = tokio::join!(Cell::start(&["web"]), Cell::start(&["shop"]));
    let nginx = Nginx::start(&routes(&[("web", &one.app.url), ("shop", &two.app.url)])).await;
    let (web, shop) = (Caller::new("web", &nginx), Caller::new("shop", &nginx));
    let key = fresh_key();
    let placed = [web.place(&key).await, shop.place(&key).await];
    for answer in &placed {
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, "false"), "{}", answer.body);
    }
    assert_ne!(placed[0].json()["orderId"], placed[1].json()["orderId"]);
    for (caller, own, others, cell) in [(&web, 0, 1, &one), (&shop, 1, 0, &two)] {
        caller.place(&key).await.assert_replay_of(&placed[own]);
        let order = caller.get(placed[others].header("location")).await;
        order.assert_problem(404, "order-not-found");
        let (events, _) = page(&caller.get("/events").await);
        let id = placed[own].json()["orderId"].as_str().unwrap().to_owned();
        assert_eq!(events, [(id, 1)], "{}", caller.name);
        assert_eq!(cell.orders().await, [(caller.name.to_owned(), 1)].into());
    }
    // A token is good in its own cell only, so a wrong way places nothing.
    let stray = Caller { name: "shop", nginx: one.app.url.clone(), http: client() };
    stray.place(&key).await.assert_problem(401, "unauthorized");

    // Its stores first, then all of it.
    one.app.redis.refuse();
    one.app.postgres.refuse();
    web.place(&fresh_key()).await.assert_problem(503, "store-unavailable");
    assert_eq!(shop.place(&fresh_key()).await.status, 201);
    let Cell { app, postgres, _redis } = one;
    drop(app);
    drop(_redis);
    assert_eq!(web.place(&fresh_key()).await.status, 502);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(shop.place(&fresh_key()).await.status);
    }
    assert_eq!(statuses, [201; 20]);
    shop.place(&key).await.assert_replay_of(&placed[1]);
    assert_eq!(two.orders().await, [("shop".to_owned(), 22)].into());
    drop(postgres);
}

/// Places orders and confirms every other one, until it is told to end. Keys with their answers and the newest version.
async fn write(
    caller: Caller,
    ends: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    repeats: Arc<AtomicUsize>,
) -> Vec<(String, Answer, u64)> {
    let mut written = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let key = fresh_key();
        let placed = insist(caller.order(&key), &repeats).await;
        assert_eq!(placed.status, 201, "{}", placed.body);
        let mut version = 1;
        if written.len() % 2 == 1 {
            let changed = insist(caller.confirmation(placed.header("location")), &repeats).await;
            assert_eq!(changed.status, 200, "{}", changed.body);
            version = 2;
        }
        written.push((key, placed, version));
        done.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Follows the feed by the rules of docs/queues.md, until it is told to end and then to the next empty page.
async fn follow(caller: Caller, ends: Arc<AtomicBool>, seen: Arc<Mutex<BTreeMap<String, u64>>>) -> usize {
    let (mut path, mut restarts, repeats) = ("/events".to_owned(), 0, AtomicUsize::new(0));
    // Known before a restart, and not seen since.
    let mut stale = Vec::new();
    loop {
        let was_ended = ends.load(Ordering::Relaxed);
        let answer = insist(caller.request(reqwest::Method::GET, &path), &repeats).await;
        if answer.status == 410 {
            answer.assert_problem(410, "cursor-expired");
            (path, restarts) = ("/events".to_owned(), restarts + 1);
            stale = seen.lock().unwrap().keys().cloned().collect();
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        let (events, next) = page(&answer);
        path = next;
        let mut seen = seen.lock().unwrap();
        for (id, version) in &events {
            let was_stale = stale.iter().position(|known| known == id).map(|at| stale.swap_remove(at)).is_some();
            let known = seen.entry(id.clone()).or_insert(*version);
            *known = if was_stale { *version } else { (*known).max(*version) };
        }
        if events.is_empty() {
            for id in stale.drain(..) {
                seen.remove(&id);
            }
            if was_ended {
                return restarts;
            }
        }
    }
}

/// Until the writers have counted this many more.
async fn until_counted(counter: &AtomicUsize, more: usize) {
    let (before, started) = (counter.load(Ordering::Relaxed), Instant::now());
    while counter.load(Ordering::Relaxed) < before + more {
        assert!(started.elapsed() < PATIENCE, "the writers make no progress");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn move_client(step: &str, from: &Cell, to: &Cell) {
    let urls = [("FROM_DATABASE_URL", from.postgres.url("orders")), ("TO_DATABASE_URL", to.postgres.url("orders"))];
    let output = Command::new("scripts/move-client.sh").args([step, "web"]).envs(urls).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{step}: {said}");
    print!("cells: {said}");
}

#[tokio::test]
async fn a_client_moves_to_another_cell_under_load_without_a_second_order_or_a_missed_event() {
    let (one, two) = tokio::join!(Cell::start(&["web", "depot"]), Cell::start(&["web", "shop"]));
    let before = [("web", &*one.app.url), ("depot", &one.app.url), ("shop", &two.app.url)];
    let nginx = Nginx::start(&routes(&before)).await;
    let [ends, consumer_ends] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
    let [done, done_beside, repeats, repeats_beside] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let caller = |name| Caller::new(name, &nginx);
    let writers: Vec<_> =
        (0..4)
            .map(|_| tokio::spawn(write(caller("web"), ends.clone(), done.clone(), repeats.clone())))
            .chain(["depot", "shop"].map(|name| {
                tokio::spawn(write(caller(name), ends.clone(), done_beside.clone(), repeats_beside.clone()))
            }))
            .collect();
    let consumer = tokio::spawn(follow(caller("web"), consumer_ends.clone(), seen.clone()));

    until_counted(&done, 40).await;
    move_client("stop", &one, &two).await;
    let web = caller("web");
    web.place(&fresh_key()).await.assert_problem(503, "store-unavailable");
    until_counted(&repeats, 1).await;
    until_counted(&done_beside, 4).await;
    move_client("copy", &one, &two).await;
    nginx.reload(&routes(&[("web", &*two.app.url), before[1], before[2]])).await;
    until_counted(&done, 40).await;
    move_client("drop", &one, &two).await;
    until_counted(&done, 10).await;
    ends.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    let mut beside = 0;
    for (at, writer) in writers.into_iter().enumerate() {
        let of_one = writer.await.unwrap();
        if at < 4 { written.extend(of_one) } else { beside += of_one.len() }
    }
    let (mut lost, mut missed) = (0, BTreeMap::new());
    for (key, placed, version) in &written {
        let again = web.place(key).await;
        lost += usize::from(again.header("idempotent-replayed") != "true" || again.body != placed.body);
        missed.insert(placed.json()["orderId"].as_str().unwrap().to_owned(), *version);
    }
    // A page may be empty while any transaction of the server runs, so the consumer has time.
    let started = Instant::now();
    while !missed.is_empty() && started.elapsed() < PATIENCE {
        missed.retain(|id, version| seen.lock().unwrap().get(id) != Some(version));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    consumer_ends.store(true, Ordering::Relaxed);
    let (restarts, missed) = (consumer.await.unwrap(), missed.len());
    let (old, new) = (one.orders().await, two.orders().await);
    let duplicates = new["web"] - written.len() as i64;
    println!(
        "cells: web placed {} orders while it moved, {} requests were repeated; duplicates {duplicates}, lost {lost}, events missed {missed}, \
         restarts of the feed {restarts}; the clients beside placed {beside}, {} requests repeated",
        written.len(),
        repeats.load(Ordering::Relaxed),
        repeats_beside.load(Ordering::Relaxed)
    );
    assert_eq!((duplicates, lost, missed), (0, 0, 0));
    assert_eq!(old.keys().collect::<Vec<_>>(), ["depot"]);
    assert_eq!(new.keys().collect::<Vec<_>>(), ["shop", "web"]);
    assert_eq!((old["depot"] + new["shop"]) as usize, beside);
    assert_eq!(seen.lock().unwrap().len(), written.len(), "the consumer knows no other order");
    assert_eq!(restarts, 1, "the cursor was of the other cell");
}
