//! What the host does with a request or a statement before the component sees it. The same on Spin and on the
//! bundled host.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::installations::Database;
use super::support::*;

impl TestApp {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.strip_prefix("http://").unwrap()).await.unwrap()
    }

    /// The answer to these bytes, until the host closes the connection.
    async fn send_raw(&self, request: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is closed with unread bytes may be reset, which the reader sees as an error.
        let end = tokio::time::timeout(CLIENT_TIMEOUT, client.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "neither answered nor closed: {}", String::from_utf8_lossy(request));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn the_host_itself_reports_its_health_and_what_it_serves() {
    let app = TestApp::start().await;
    let health = app.get("/.well-known/spin/health").await;
    assert_eq!((health.status, &*health.body), (200, "OK"));
    let info = app.get("/.well-known/spin/info").await;
    assert_eq!((info.status, info.header("content-type")), (200, "application/json"));
    assert_eq!(info.json(), json!({"name": "order", "version": env!("CARGO_PKG_VERSION")}));
    // Not the component's answer, which would be a problem.
    let other = app.get("/.well-known/spin/other").await;
    assert_eq!((other.status, &*other.body), (404, ""));
    // Before a Host is required.
    let answer = app.send_raw(b"GET /.well-known/spin/health HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && body_of(&answer) == "OK", "{answer}");
}

#[tokio::test]
async fn a_header_that_is_not_utf8_never_reaches_the_component() {
    let app = TestApp::start().await;
    for name in ["Idempotency-Key", "X-Note"] {
        let key = fresh_key();
        let value = reqwest::header::HeaderValue::from_bytes(b"\xff").unwrap();
        let answer = Answer::of(app.post(&key, ORDER).header(name, value).send().await.unwrap(), name).await;
        assert_eq!((answer.status, &*answer.body, answer.header("content-type")), (500, "", ""), "{name}");
        assert_eq!(rows_of(&key).await, 0);
        assert_eq!(app.place(&key, ORDER).await.header("idempotent-replayed"), "false");
    }
    // UTF-8 is passed on.
    let placed = app.post(&fresh_key(), ORDER).header("X-Note", "заказ").send().await.unwrap();
    assert_eq!(placed.status(), 201);
}

/// Connections that a Redis has accepted since it started.
pub async fn connections_so_far(redis: &mut redis::aio::MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.and_then(|count| count.trim().parse().ok()).expect("Redis counts its connections")
}

/// A host instantiates a component of another WASI release for each request, without an error or a log line.
#[tokio::test]
async fn a_hundred_requests_share_an_instance_and_its_connection_to_redis() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let mut redis = redis.connect().await.unwrap();
    let key = fresh_key();
    let first = app.place(&key, ORDER).await;
    let (before, started) = (connections_so_far(&mut redis).await, Instant::now());
    for _ in 0..100 {
        app.place(&key, ORDER).await.assert_replay_of(&first);
    }
    // An instance lasts for 128 requests, or until it is idle for a second.
    let most = 10 + 2 * started.elapsed().as_secs();
    let opened = connections_so_far(&mut redis).await - before;
    assert!(opened <= most, "{opened} connections for 100 requests");
}

#[tokio::test]
async fn a_request_for_no_host_or_for_two_gets_no_answer() {
    let app = TestApp::start().await;
    for head in [
        "GET /healthz HTTP/1.0\r\n",
        "GET /healthz HTTP/1.1\r\n",
        "GET /healthz HTTP/1.1\r\nHost:\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a b\r\n",
        "GET /healthz HTTP/1.1\r\nHost: é\r\n",
        "GET /healthz HTTP/1.1\r\nHost: order.spin.internal\r\n",
        "GET http://a/healthz HTTP/1.1\r\nHost: b\r\n",
        "GET http://a/healthz HTTP/1.1\r\nHost: a:80\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n",
    ] {
        assert_eq!(app.send_raw(format!("{head}\r\n").as_bytes()).await, "", "{head}");
    }
    for head in [
        "GET /healthz HTTP/1.0\r\nHost: a\r\n",
        "GET http://a/healthz HTTP/1.1\r\nHost: A\r\nConnection: close\r\n",
        "GET http://a/healthz HTTP/1.1\r\nConnection: close\r\n",
    ] {
        let answer = app.send_raw(format!("{head}\r\n").as_bytes()).await;
        assert_eq!(answer.split(' ').nth(1), Some("200"), "{head}: {answer}");
    }
    // They ended no other request.
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
}

/// A frame of HTTP/2: its length, type and flags, the stream, its payload.
fn frame(kind: u8, flags: u8, stream: u8, held: &[u8]) -> Vec<u8> {
    let length = u8::try_from(held.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], held].concat()
}

#[tokio::test]
async fn http2_is_served_to_whoever_begins_with_it() {
    let (data, headers, settings, end_stream, end_headers) = (0, 1, 4, 1, 4);
    let app = TestApp::start().await;
    let mut client = app.connect().await;
    // From the static table: GET, http, and the names of the authority and the path.
    let mut request = vec![0x82, 0x86];
    for (name, value) in [(0x41, "a"), (0x44, "/healthz")] {
        request.extend([name, value.len() as u8]);
        request.extend(value.bytes());
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let sent = [preface, frame(settings, 0, 0, &[]), frame(headers, end_stream | end_headers, 1, &request)].concat();
    client.write_all(&sent).await.unwrap();

    let (mut status, mut body) = (0, Vec::new());
    let answered = async {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let mut held = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            client.read_exact(&mut held).await.unwrap();
            match head[3] {
                kind if kind == headers => status = held[0],
                kind if kind == data => body.extend(held),
                _ => continue,
            }
            if head[4] & end_stream != 0 {
                break;
            }
        }
    };
    tokio::time::timeout(CLIENT_TIMEOUT, answered).await.expect("an answer");
    // 0x88 is `:status: 200` in the static table.
    assert_eq!((status, serde_json::from_slice(&body).ok()), (0x88, Some(app.get("/healthz").await.json())));
}

/// Waits until `count` statements wait for the lock of `holder`, and returns their processes.
pub async fn until_waiting(count: usize, holder: &tokio_postgres::Client) -> Vec<i32> {
    let (superuser, started) = (superuser().await, Instant::now());
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let sql = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    loop {
        let waiting = superuser.query(sql, &[&pid]).await.unwrap();
        if waiting.len() == count {
            return waiting.iter().map(|row| row.get(0)).collect();
        }
        assert!(started.elapsed() < CLIENT_TIMEOUT, "{} wait instead of {count}", waiting.len());
    }
}

#[tokio::test]
async fn a_request_may_take_longer_than_half_a_minute() {
    let app = TestApp::start().await;
    let (key, model) = (fresh_key(), fresh_key());
    app.place(&model, ORDER).await;
    let holder = owner().await;
    hold_key(&holder, &key, &model).await;
    let request = tokio::spawn(app.post(&key, ORDER).send());
    until_waiting(1, &holder).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(!request.is_finished());
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(request.await.unwrap().unwrap().status(), 201);
}

/// Connections that a Redis has, except the one that asks. Each instance opens one and keeps it.
async fn connections(redis: &mut redis::aio::MultiplexedConnection) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    clients.lines().count() - 1
}

/// Requests that one instance serves at once.
const AT_ONCE: usize = 16;

#[tokio::test]
async fn an_instance_is_given_another_request_while_all_its_requests_wait_and_no_seventeenth() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let mut redis = redis.connect().await.unwrap();
    let (key, model) = (fresh_key(), fresh_key());
    app.place(&model, ORDER).await;
    let holder = owner().await;
    hold_key(&holder, &key, &model).await;
    let mut requests = Vec::new();
    for count in 1..=AT_ONCE + 1 {
        requests.push(tokio::spawn(app.post(&key, ORDER).send()));
        until_waiting(count, &holder).await;
        assert_eq!(connections(&mut redis).await, count.div_ceil(AT_ONCE), "{count} requests");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(Answer::of(request.await.unwrap().unwrap(), ORDER).await);
    }
    assert_placed_once(&answers);
}

#[tokio::test]
async fn an_instance_that_works_is_given_no_other_request() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let mut redis = redis.connect().await.unwrap();
    let (key, length) = (fresh_key(), ORDER.len());
    let replay = format!(
        "POST /orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{ORDER}"
    );
    let started = Instant::now();
    loop {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            let mut client = app.connect().await;
            client.write_all(b"GET /.well-known/spin/health HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
            clients.push(client);
        }
        // An idle instance ends, and with it its connection.
        while connections(&mut redis).await > 0 {
            assert!(started.elapsed() < CLIENT_TIMEOUT, "an instance without requests does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        app.place(&key, ORDER).await;
        assert_eq!(connections(&mut redis).await, 1);
        // Together they fit into the instance that has the connection, and would need no other.
        for client in &mut clients {
            client.write_all(replay.as_bytes()).await.unwrap();
        }
        for client in &mut clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        }
        if connections(&mut redis).await > 1 {
            return;
        }
        // On a busy machine they may have arrived one after another.
        assert!(started.elapsed() < CLIENT_TIMEOUT, "one instance is given all of them");
    }
}

/// PostgreSQL reports an error among the rows after it has sent some: the host has those rows, and reports the error after
/// them.
#[tokio::test]
async fn a_statement_that_fails_among_its_rows_is_an_error() {
    let database = Database::create().await;
    // Sorted rows are sent once all are read, so the error precedes the first. Rows from the index are sent before the error.
    for is_by_index in [false, true] {
        database.set(&format!("enable_indexscan = {is_by_index}")).await;
        database.set(&format!("enable_sort = {}", !is_by_index)).await;
        let app = database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await;
        let customer = fresh_key();
        let order = ORDER.replace("c-42", &customer);
        let (key, path) = (fresh_key(), format!("/orders?customerId={customer}"));
        let broken = app.place(&key, &order).await.header("location").to_owned();
        app.place(&fresh_key(), &order).await;
        assert_eq!(app.get(&path).await.json()["orders"].as_array().map(Vec::len), Some(2));
        // Not a number of milliseconds: reading this row, the second of the list, fails.
        let sql = "UPDATE orders SET created_at = 'infinity' WHERE idempotency_key = $1";
        assert_eq!(database.owner().await.execute(sql, &[&key]).await.unwrap(), 1);
        app.get(&path).await.assert_problem(503, "store-unavailable");
        app.get(&broken).await.assert_problem(503, "store-unavailable");
        app.get(&format!("/orders?idempotencyKey={key}")).await.assert_problem(503, "store-unavailable");
    }
    database.drop().await;
}

#[tokio::test]
async fn a_cancelled_statement_is_an_error() {
    let app = TestApp::start().await;
    let location = app.place(&fresh_key(), ORDER).await.header("location").to_owned();
    let holder = owner().await;
    let lock = format!("BEGIN; SELECT FROM orders WHERE order_id = '{}' FOR UPDATE", &location["/orders/".len()..]);
    holder.batch_execute(&lock).await.unwrap();
    let change = tokio::spawn(app.change(&location, "\"1\"", "confirmed"));
    let waiting = until_waiting(1, &holder).await;
    superuser().await.execute("SELECT pg_cancel_backend($1)", &[&waiting[0]]).await.unwrap();
    let answer = change.await.unwrap();
    holder.batch_execute("ROLLBACK").await.unwrap();
    answer.assert_problem(503, "store-unavailable");
    assert_eq!(app.get(&location).await.header("etag"), "\"1\"");
}
