//! The real component on the bundled host, over real Redis and PostgreSQL. Run through `make test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bodies;
mod cells;
mod changes;
mod clients;
mod connections;
mod failover;
mod feed;
mod golden;
#[path = "../golden/mod.rs"]
mod golden_files;
mod host;
mod installations;
mod intake;
mod late_commits;
mod logs;
mod proxies;
#[path = "../proxy/mod.rs"]
mod proxy;
mod redis_liar;
mod slow_clients;
mod stack;
mod support;
mod tls;
mod together;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn two_hundred_duplicates_at_once_place_one_order() {
    let app = TestApp::start().await;
    let key = fresh_key();
    assert_placed_once(&app.place_at_once(200, &key).await);
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn duplicates_after_redis_was_flushed_replay_the_first_answer() {
    // Its own Redis, since the test flushes it.
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let key = fresh_key();
    let first = app.place(&key, ORDER).await;
    let () = redis::cmd("FLUSHDB").query_async(&mut redis.connect().await.unwrap()).await.unwrap();
    for answer in app.place_at_once(200, &key).await {
        answer.assert_replay_of(&first);
    }
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn duplicates_without_redis_place_one_order() {
    let app = TestApp::start().await;
    app.redis.refuse();
    let key = fresh_key();
    assert_placed_once(&app.place_at_once(200, &key).await);
    assert_eq!(rows_of(&key).await, 1);
    assert_eq!(app.get("/readyz").await.json(), json!({"status": "degraded", "postgres": "up", "redis": "down"}));
}

#[tokio::test]
async fn a_redis_that_never_answers_costs_one_deadline_and_no_more() {
    let deadline = Duration::from_secs(3);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_DEADLINE_MS", "3000")]).await;
    app.place(&fresh_key(), ORDER).await;
    app.redis.stall();
    let started = Instant::now();
    let first = app.place(&fresh_key(), ORDER).await;
    let placed_after = started.elapsed();
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, "false"));
    assert!(placed_after >= deadline, "Redis was asked: {placed_after:?}");
    // Less than two deadlines: the write to Redis is skipped.
    assert!(placed_after < 2 * deadline, "{placed_after:?}");
    let key = fresh_key();
    assert_placed_once(&app.place_at_once(200, &key).await);
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn without_postgres_a_new_order_waits_and_a_known_one_is_replayed() {
    let deadline = Duration::from_secs(5);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "5000")]).await;
    let known = fresh_key();
    let first = app.place_and_keep(&known, ORDER).await;
    let key = fresh_key();
    for stop in [Proxy::refuse, Proxy::stall] {
        stop(&app.postgres);
        let started = Instant::now();
        let failed = app.place(&key, ORDER).await;
        assert!(started.elapsed() < 3 * deadline, "{:?}", started.elapsed());
        failed.assert_problem(503, "store-unavailable");
        assert_eq!(failed.header("retry-after"), "1");
        app.place(&known, ORDER).await.assert_replay_of(&first);
        let readiness = app.get("/readyz").await;
        assert_eq!((readiness.status, readiness.json()["status"].as_str()), (503, Some("unavailable")));
        app.postgres.pass();
    }
    // The abandoned statement may still have placed it: either way there is one order and one answer.
    let settled = app.place(&key, ORDER).await;
    assert_eq!(settled.status, 201, "{}", settled.body);
    app.place(&key, ORDER).await.assert_replay_of(&settled);
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn a_replay_is_the_same_bytes_from_redis_and_from_postgres() {
    let app = TestApp::start().await;
    let body = r#"{"comment":"Ünïcode 🦀 \" \\ \n","customerId":"клиент","currency":"JPY",
        "items":[{"unitAmount":0,"sku":"a","quantity":1},{"quantity":10000,"unitAmount":900000000,"sku":"b/~"}]}"#;
    for body in [body, ORDER, &ORDER.replace(r#","comment":"leave at the door""#, "")] {
        let key = format!("\"{}\\\"\\\\,\"", fresh_key());
        let first = app.place(&key, body).await;
        assert_eq!(first.header("idempotent-replayed"), "false", "{}", first.body);
        app.place(&key, body).await.assert_replay_of(&first);
        app.redis.refuse();
        app.place(&key, body).await.assert_replay_of(&first);
        app.redis.pass();
        assert_eq!(app.get(first.header("location")).await.body, first.body);
    }
}

#[tokio::test]
async fn redis_alone_answers_a_replay_and_keeps_it_for_the_retention() {
    let app = TestApp::start_with(&[("SPIN_VARIABLE_KEY_RETENTION_SECONDS", "1000")]).await;
    let key = fresh_key();
    let first = app.place_and_keep(&key, ORDER).await;
    let mut redis = redis().await;
    let name = format!("order::{key}");
    let ttl: i64 = redis::cmd("TTL").arg(&name).query_async(&mut redis).await.unwrap();
    assert!((990..=1000).contains(&ttl), "{ttl}");
    app.postgres.refuse();
    app.place(&key, ORDER).await.assert_replay_of(&first);
    app.postgres.pass();
    for garbage in ["", "garbage", "\u{1}"] {
        let () = redis::cmd("SET").arg(&name).arg(garbage).query_async(&mut redis).await.unwrap();
        app.place(&key, ORDER).await.assert_replay_of(&first);
    }
}

#[tokio::test]
async fn a_key_reused_with_another_order_is_refused() {
    let app = TestApp::start().await;
    let key = fresh_key();
    let first = app.place(&key, ORDER).await;
    let other = ORDER.replace("59900", "59901");
    app.place(&key, &other).await.assert_problem(422, "idempotency-key-reused");
    app.redis.refuse();
    app.place(&key, &other).await.assert_problem(422, "idempotency-key-reused");
    app.place(&key, ORDER).await.assert_replay_of(&first);
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn a_duplicate_that_waited_too_long_gets_409_and_retry_after() {
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "10000")]).await;
    let (key, model) = (fresh_key(), fresh_key());
    app.place(&model, ORDER).await;
    let owner = owner().await;
    for end in ["ROLLBACK", "COMMIT"] {
        let key = format!("{key}{end}");
        hold_key(&owner, &key, &model).await;
        let waited = app.place(&key, ORDER).await;
        // PostgreSQL ends the wait: after the deadline the outcome would be unknown.
        waited.assert_problem(409, "idempotency-key-in-use");
        assert_eq!(waited.header("retry-after"), "1");
        owner.batch_execute(end).await.unwrap();
        let settled = app.place(&key, ORDER).await;
        assert_eq!((settled.status, settled.header("idempotent-replayed") == "true"), (201, end == "COMMIT"));
        assert_eq!(rows_of(&key).await, 1);
    }
}

#[tokio::test]
async fn two_hundred_and_fifty_six_clients_at_once_see_no_error() {
    let app = TestApp::start().await;
    let end = Instant::now() + Duration::from_secs(10);
    let clients: Vec<_> = (0..256)
        .map(|_| {
            let (http, url) = (app.http.clone(), format!("{}/orders", app.url));
            tokio::spawn(async move {
                let mut placed = 0;
                while Instant::now() < end {
                    let request = http.post(&url).header("Idempotency-Key", fresh_key());
                    let answer = request.header("Content-Type", "application/json").body(ORDER).send().await.unwrap();
                    assert_eq!(answer.status(), 201);
                    placed += 1;
                }
                placed
            })
        })
        .collect();
    let mut placed = 0;
    for client in clients {
        placed += client.await.unwrap();
    }
    assert!(placed > 256, "{placed}");
    assert_eq!(app.get("/readyz").await.json()["status"], "ready");
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
}

#[tokio::test]
async fn bad_input_gets_its_problem_and_leaves_the_service_well() {
    let app = TestApp::start().await;
    let deep = format!(r#"{{"customerId":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [(Vec<u8>, u16, &str); 9] = [
        (b"".to_vec(), 400, "malformed-json"),
        (ORDER[..40].into(), 400, "malformed-json"),
        (b"{\"customerId\":\"\xff\"}".to_vec(), 400, "malformed-json"),
        (deep.into(), 422, "invalid-order"),
        (b"[".repeat(10_000), 400, "malformed-json"),
        (vec![b' '; 1024 * 1024], 413, "payload-too-large"),
        (ORDER.replace("c-42", "\\u0000").into(), 422, "invalid-order"),
        (ORDER.replace("leave", "\\ud800").into(), 422, "invalid-order"),
        (ORDER.replace("59900", "1e999").into(), 422, "invalid-order"),
    ];
    for (body, status, slug) in bodies {
        let key = fresh_key();
        let response = app.post(&key, body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["type"], format!("/problems/{slug}"));
        assert_eq!(rows_of(&key).await, 0);
    }
    for key in [&b"a,b"[..], b"\"a", b"k\xc3\xa9y", b"", &[b'k'; 256], &[b'k'; 5000]] {
        let header = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        let request = app.http.post(format!("{}/orders", app.url)).header("Idempotency-Key", header);
        let response = request.header("Content-Type", "application/json").body(ORDER).send().await.unwrap();
        assert_eq!(response.status(), 400);
    }
    for query in ["%00", "customerId=%00", "limit=99999999999999999999", "&&&=", "cursor=%F0%28", &"a".repeat(5000)] {
        app.get(&format!("/orders?{query}")).await.assert_problem(400, "invalid-parameter");
    }
    app.get("/orders/%00").await.assert_problem(404, "order-not-found");
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
}

#[tokio::test]
async fn the_list_finds_orders_by_customer_key_and_status() {
    let app = TestApp::start().await;
    let customer = fresh_key();
    let order = ORDER.replace("c-42", &customer);
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(fresh_key());
        assert_eq!(app.place(&keys[keys.len() - 1], &order).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = format!("/orders?customerId={customer}&status=created&limit=2");
    loop {
        let page = app.get(&path).await;
        let orders = page.json()["orders"].as_array().unwrap().clone();
        seen.extend(orders.iter().map(|order| order["orderId"].as_str().unwrap().to_owned()));
        match page.header("link").strip_prefix('<') {
            Some(link) => path = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().collect::<std::collections::BTreeSet<_>>().len() == 5);
    let by_key = app.get(&format!("/orders?idempotencyKey={}", keys[0])).await.json();
    assert_eq!(by_key["orders"].as_array().unwrap().len(), 1);
    assert_eq!(app.get(&format!("/orders?customerId={customer}&status=cancelled")).await.json()["orders"], json!([]));
    let shown = app.get(&format!("/orders/{}", seen[0])).await;
    assert_eq!((shown.status, shown.header("etag")), (200, "\"1\""));
}

#[tokio::test]
async fn a_page_ends_when_it_grows_large_and_the_next_one_continues() {
    let app = TestApp::start().await;
    let customer = fresh_key();
    let item = format!(r#"{{"sku":"{}","quantity":1,"unitAmount":1}}"#, "€".repeat(64));
    let large = format!(r#"{{"customerId":"{customer}","currency":"RUB","items":[{}]}}"#, vec![item; 100].join(","));
    let small = ORDER.replace("c-42", &customer);
    let mut placed = Vec::new();
    for at in 0..30 {
        let order = if at % 5 == 0 { &small } else { &large };
        placed.insert(0, app.place(&fresh_key(), order).await.json()["orderId"].clone());
    }
    let (mut path, mut seen, mut pages) = (format!("/orders?customerId={customer}&limit=100"), Vec::new(), 0);
    loop {
        let page = app.get(&path).await;
        assert!(page.body.len() < (256 + 64) * 1024, "{}", page.body.len());
        seen.extend(page.json()["orders"].as_array().unwrap().iter().map(|order| order["orderId"].clone()));
        pages += 1;
        let Some(link) = page.header("link").strip_prefix('<') else { break };
        path = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(seen, placed);
    assert!(pages > 2, "{pages}");
    // As many as requested, with and without further ones.
    for (cursor, limit, has_more) in [(0, 5, true), (25, 4, false), (25, 3, true), (25, 100, false)] {
        let path = format!("/orders?customerId={customer}&limit={limit}&cursor={}", id_of(&placed[cursor]));
        let page = app.get(&path).await.json();
        assert_eq!(page["orders"].as_array().unwrap().len(), limit.min(29 - cursor), "{path}");
        assert_eq!(page["nextCursor"].is_string(), has_more, "{path}");
    }
}

/// The number as a cursor encodes it.
fn id_of(order_id: &Value) -> String {
    order_id.as_str().unwrap().replace('-', "")
}

#[tokio::test]
async fn every_answer_with_a_body_names_its_length_so_that_a_cut_one_is_seen() {
    let app = TestApp::start().await;
    let key = fresh_key();
    let mut answers = vec![app.place(&key, ORDER).await, app.place(&key, ORDER).await, app.place(&key, "{}").await];
    for path in ["/orders", "/healthz", "/readyz", "/nowhere"] {
        answers.push(app.get(path).await);
    }
    for answer in answers {
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_length_beyond_any_number_gets_its_problem() {
    let app = TestApp::start().await;
    let mut client = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n\
                Content-Length: 9223372036854775808\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let app = TestApp::start().await;
    for path in ["/orders", "/healthz", "/readyz", "/nowhere"] {
        let head = app.http.head(format!("{}{path}", app.url)).send().await.unwrap();
        let got = app.get(path).await;
        assert_eq!(
            (head.status().as_u16(), &head.headers()["content-length"]),
            (got.status, &got.headers["content-length"]),
            "{path}"
        );
        assert!(head.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_service_role_can_neither_delete_nor_rewrite_an_order() {
    let address = store_address("PG");
    let (host, port) = address.rsplit_once(':').unwrap();
    let config = tokio_postgres::Config::new()
        .host(host)
        .port(port.parse().unwrap())
        .user("orders_service")
        .password(variable("PG_SERVICE_PASSWORD"))
        .dbname(variable("SPIN_VARIABLE_PG_DATABASE"))
        .to_owned();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in [
        "DELETE FROM orders",
        "TRUNCATE orders",
        "UPDATE orders SET customer_id = 'x'",
        "UPDATE orders SET fingerprint = ''",
        "CREATE TABLE x ()",
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}");
    }
}
