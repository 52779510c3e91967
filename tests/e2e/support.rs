//! Starts the service, on the bundled host or on Spin, over real stores, each behind a proxy that a test can make refuse or stall.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

pub use crate::proxy::Proxy;

pub const ORDER: &str = r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"comment":"leave at the door"}"#;

/// The deadlines of the body and of both stores, unless a test sets its own: none takes this long, on however slow a machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Longer than any request of these tests takes. The host has no limit, so a request that hangs is detected here.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(90);

pub struct TestApp {
    pub url: String,
    pub http: reqwest::Client,
    pub redis: Proxy,
    pub postgres: Proxy,
    _service: Service,
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run this through `make test`"))
}

/// The program that serves the component: Spin if RUNTIME is spin, else the bundled host.
pub fn is_spin() -> bool {
    std::env::var("RUNTIME").is_ok_and(|runtime| runtime == "spin")
}

/// A process that serves the component. Spin has a process group of its own, since `spin up` is two processes.
pub struct Service {
    pub url: String,
    pub process: Child,
}

impl Service {
    pub async fn start(manifest: &Path, variables: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = host_command(manifest);
        command.args(["--listen", "127.0.0.1:0"]).envs(variables.iter().copied());
        let process = command.stdout(Stdio::piped()).stderr(log).spawn();
        let mut process = process.expect("`make test` builds it");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().expect("its address");
            if let Some(url) = line.strip_prefix("Serving ") {
                break url.to_owned();
            }
        };
        // Drained, so that no writer is left with a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url, process }
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(CLIENT_TIMEOUT).build().unwrap()
}

/// The command that serves that application; the caller adds settings. To be ended with [`end`].
pub fn host_command(manifest: &Path) -> Command {
    let mut command = if is_spin() { Command::new("spin") } else { Command::new("target/host/order-host") };
    command.args(if is_spin() { ["up", "--from"].as_slice() } else { &["--manifest"] }).arg(manifest);
    if is_spin() {
        command.process_group(0);
    }
    command.kill_on_drop(true);
    command
}

pub fn end(process: &Child) {
    if let (Some(pid), true) = (process.id(), is_spin()) {
        // The shell's own `kill`: bare Debian has no other.
        let group = format!("-{pid}");
        let _ = std::process::Command::new("sh").args(["-c", "kill -KILL \"$1\"", "sh", &group]).status();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        end(&self.process);
    }
}

/// Host and port of the real store.
pub fn store_address(store: &str) -> String {
    let address = variable(&format!("SPIN_VARIABLE_{store}_ADDRESS"));
    address.split_once("://").expect("scheme://host:port").1.to_owned()
}

pub fn redis_address(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::start_manifest(Path::new("spin.toml"), variables).await
    }

    pub async fn start_manifest(manifest: &Path, variables: &[(&str, &str)]) -> Self {
        let redis = Proxy::start(store_address("REDIS")).await;
        let postgres = Proxy::start(store_address("PG")).await;
        let deadline = DEADLINE.as_millis().to_string();
        let stores = [
            ("SPIN_VARIABLE_REDIS_ADDRESS", redis_address(redis.port)),
            ("SPIN_VARIABLE_PG_ADDRESS", format!("postgres://127.0.0.1:{}", postgres.port)),
            ("SPIN_VARIABLE_REDIS_DEADLINE_MS", deadline.clone()),
            ("SPIN_VARIABLE_PG_DEADLINE_MS", deadline.clone()),
            ("SPIN_VARIABLE_BODY_DEADLINE_MS", deadline),
        ];
        let stores: Vec<_> = stores.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let service = Service::start(manifest, &[&stores, variables].concat(), Stdio::inherit()).await;
        Self { url: service.url.clone(), http: client(), redis, postgres, _service: service }
    }

    pub fn post(&self, key: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/orders", self.url)).header("Idempotency-Key", key);
        request.header("Content-Type", "application/json").body(body)
    }

    pub async fn place(&self, key: &str, body: &str) -> Answer {
        Answer::of(self.post(key, body.to_owned()).send().await.expect("an answer"), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(format!("{}{path}", self.url)).send().await.expect("an answer"), path).await
    }

    /// `count` requests with one key and one order at once.
    pub async fn place_at_once(&self, count: usize, key: &str) -> Vec<Answer> {
        self.place_each(std::iter::repeat_n((key, ORDER), count)).await
    }

    /// Places orders under their keys, all at the same time.
    pub async fn place_each<'a>(&self, orders: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Answer> {
        let sent: Vec<_> = orders
            .into_iter()
            .map(|(key, order)| {
                let (request, order) = (self.post(key, order.to_owned()), order.to_owned());
                tokio::spawn(async move { Answer::of(request.send().await.expect("an answer"), &order).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in sent {
            answers.push(answer.await.unwrap());
        }
        answers
    }
}

/// An answer, with the parts that tests compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response, about: &str) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.unwrap_or_else(|error| panic!("a body for {about}: {error}"));
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    #[track_caller]
    pub fn assert_problem(&self, status: u16, slug: &str) {
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{}", self.body);
        assert_eq!(self.json()["type"], format!("/problems/{slug}"));
    }

    #[track_caller]
    pub fn assert_replay_of(&self, first: &Self) {
        assert_eq!((self.status, &self.body), (201, &first.body));
        for name in ["location", "etag", "content-type"] {
            assert!(!first.header(name).is_empty(), "{name}");
            assert_eq!(self.header(name), first.header(name));
        }
        assert_eq!(self.header("idempotent-replayed"), "true");
    }
}

/// Exactly one request placed the order, and all got its answer.
#[track_caller]
pub fn assert_placed_once(answers: &[Answer]) {
    let first: Vec<_> = answers.iter().filter(|answer| answer.header("idempotent-replayed") == "false").collect();
    assert_eq!(first.len(), 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for answer in answers {
        if answer != first[0] {
            answer.assert_replay_of(first[0]);
        }
    }
}

pub fn fresh_key() -> String {
    uuid::Uuid::from_u128(random()).to_string()
}

pub fn fresh_keys(count: usize) -> Vec<String> {
    (0..count).map(|_| fresh_key()).collect()
}

fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(0));
    (half() << 64) | half()
}

/// Rows with this key, read from PostgreSQL itself.
pub async fn rows_of(key: &str) -> i64 {
    let sql = "SELECT count(*) FROM orders WHERE idempotency_key = $1";
    owner().await.query_one(sql, &[&key]).await.unwrap().get(0)
}

pub async fn owner() -> tokio_postgres::Client {
    session(&variable("DATABASE_URL")).await
}

/// For what the owner may not do.
pub async fn superuser() -> tokio_postgres::Client {
    session(&variable("PG_SUPERUSER_URL")).await
}

pub async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

/// Begins a first request with `key` that never commits: a copy of the order under the key `model`.
pub async fn hold_key(owner: &tokio_postgres::Client, key: &str, model: &str) {
    owner.batch_execute("BEGIN").await.unwrap();
    let copy = "INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment,
        total_amount, created_at, status, version, updated_at)
        SELECT gen_random_uuid(), $1, fingerprint, customer_id, currency, items, comment,
        total_amount, created_at, status, version, updated_at FROM orders WHERE idempotency_key = $2";
    owner.execute(copy, &[&key, &model]).await.unwrap();
}

/// Waits until a session waits for a lock of `holder`; other tests have waits of their own.
pub async fn until_one_waits_for(holder: &tokio_postgres::Client) {
    let holder: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let (observer, started) = (owner().await, std::time::Instant::now());
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))";
    while observer.query_one(waits, &[&holder]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "no session waits");
    }
}

impl TestApp {
    /// Places an order, and waits until Redis has its entry too.
    pub async fn place_and_keep(&self, key: &str, order: &str) -> Answer {
        let answer = self.place(key, order).await;
        assert!(!entry(&format!("order::{key}"), |entry| !entry.is_empty()).await.is_empty(), "no entry is written");
        answer
    }
}

/// The entry `name` in Redis, once `is_there`: it is written after the answer.
pub async fn entry(name: &str, is_there: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (mut redis, started) = (redis().await, Instant::now());
    loop {
        // A key of another type is an error.
        let entry: Vec<u8> = redis::cmd("GET").arg(name).query_async(&mut redis).await.unwrap_or_default();
        if is_there(&entry) || started.elapsed() > CLIENT_TIMEOUT {
            return entry;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(variable("REDIS_URL")).unwrap();
    client.get_multiplexed_async_connection().await.expect("Redis")
}

pub async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A separate Redis, for states that would disturb other tests.
pub struct PrivateRedis {
    pub port: u16,
    /// The port for TLS, if it was started with `--tls-port {free}`.
    pub tls_port: u16,
    process: Child,
}

impl PrivateRedis {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(options: &[&str]) -> Self {
        Self::start_on(free_port().await, options).await
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub async fn start_on(port: u16, options: &[&str]) -> Self {
        let tls_port = free_port().await;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.args(options.iter().map(|option| option.replace("{free}", &tls_port.to_string())));
        let process = command.stdout(Stdio::null()).kill_on_drop(true).spawn().expect("redis-server is installed");
        let redis = Self { port, tls_port, process };
        let started = std::time::Instant::now();
        while redis.connect().await.is_err() {
            assert!(started.elapsed() < CLIENT_TIMEOUT, "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        redis
    }

    pub async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        client.get_multiplexed_async_connection().await
    }
}
