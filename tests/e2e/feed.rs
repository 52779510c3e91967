//! The feed over a real PostgreSQL: nothing is skipped, nothing waits, and it outlives a move to another server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use super::failover::PrivatePostgres;
use super::installations::Database;
use super::support::*;

/// A page: its events as `orderId/version`, and the path of the next page.
struct Page {
    ids: Vec<String>,
    next: String,
    is_over: bool,
}

impl TestApp {
    async fn feed_page(&self, path: &str) -> Page {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/cloudevents-batch+json");
        let events: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
        let next = answer.header("link").strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert_eq!(answer.header("retry-after"), if events.is_empty() { "1" } else { "" });
        let ids = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        Page { ids, next, is_over: events.is_empty() }
    }

    /// Reads from `path` to an empty page. Also returns the path of the next page.
    async fn read_on(&self, path: &str, count: usize) -> (Vec<String>, String) {
        let (mut ids, mut page) = (Vec::new(), self.feed_page(path).await);
        while !page.is_over {
            ids.extend(page.ids);
            page = self.feed_page(&page.next).await;
        }
        assert_eq!(ids.len(), count, "{ids:?}");
        (ids, page.next)
    }

    /// Places an order and returns its first event's id.
    async fn placed(&self) -> String {
        let answer = self.place(&fresh_key(), ORDER).await;
        assert_eq!(answer.status, 201);
        format!("{}/1", answer.json()["orderId"].as_str().unwrap())
    }
}

async fn start(database: &Database) -> TestApp {
    database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await
}

/// Inserts copies of an order, with new keys and ids, in the transaction of `owner`. Returns their events' ids.
async fn insert_copies(owner: &tokio_postgres::Client, count: i32) -> Vec<String> {
    let copy = "INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment,
        total_amount, created_at, status, version, updated_at)
        SELECT gen_random_uuid(), gen_random_uuid()::text, fingerprint, customer_id, currency,
        items, comment, total_amount, created_at, status, version, updated_at
        FROM (SELECT * FROM orders LIMIT 1) AS model, generate_series(1, $1) RETURNING order_id::text || '/1'";
    let mut ids: Vec<String> = owner.query(copy, &[&count]).await.unwrap().iter().map(|row| row.get(0)).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn the_feed_shows_each_order_and_then_its_newest_change_after_the_others() {
    let database = Database::create().await;
    let app = start(&database).await;
    let empty = app.feed_page("/events?limit=2").await;
    assert!(empty.is_over);
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(app.placed().await);
    }
    let (seen, next) = app.read_on("/events?limit=2", 5).await;
    assert_eq!(seen, placed, "in the order of their commits");
    assert!(next.ends_with("&limit=2"), "{next}");
    assert_eq!(app.read_on(&empty.next, 5).await.0, placed, "an empty feed's position is its beginning");

    let changed = [3, 1].map(|at: usize| placed[at].strip_suffix("/1").unwrap());
    for (id, version, status) in
        [(changed[0], 1, "confirmed"), (changed[1], 1, "confirmed"), (changed[0], 2, "cancelled")]
    {
        let answer = app.change(&format!("/orders/{id}"), &format!("\"{version}\""), status).await;
        assert_eq!(answer.status, 200);
    }
    let expected = [format!("{}/2", changed[1]), format!("{}/3", changed[0])];
    assert_eq!(app.read_on(&next, 2).await.0, expected, "compacted: version 2 of the other was replaced");
    let all = app.read_on("/events", 5).await.0;
    assert_eq!(all, [&placed[0], &placed[2], &placed[4], &expected[0], &expected[1]].map(Clone::clone));
    database.drop().await;
}

#[tokio::test]
async fn an_open_transaction_holds_up_no_other_order_and_its_own_come_after_its_commit() {
    let database = Database::create().await;
    let app = start(&database).await;
    let before = app.placed().await;
    let (_, next) = app.read_on("/events", 1).await;
    let (late, undone) = (database.owner().await, database.owner().await);
    for transaction in [&late, &undone] {
        transaction.batch_execute("BEGIN").await.unwrap();
    }
    let late_ids = insert_copies(&late, 3).await;
    insert_copies(&undone, 1).await;
    let after = app.placed().await;
    let (seen, next) = app.read_on(&next, 1).await;
    assert_eq!(seen, std::slice::from_ref(&after));
    // The cursor may change: transactions of other tests end meanwhile.
    app.read_on(&next, 0).await;
    late.batch_execute("COMMIT").await.unwrap();
    // Pages of one, for three orders of one transaction.
    let (seen, next) = app.read_on(&format!("{next}&limit=1"), 3).await;
    assert_eq!(seen, late_ids);
    undone.batch_execute("ROLLBACK").await.unwrap();
    app.read_on(&next, 0).await;
    let (mut seen, _) = app.read_on("/events?limit=1", 5).await;
    seen.sort();
    let mut all = [vec![before], late_ids, vec![after]].concat();
    all.sort();
    assert_eq!(seen, all);
    database.drop().await;
}

#[tokio::test]
async fn a_cursor_outlives_a_crash_of_postgresql() {
    let server = PrivatePostgres::start().await;
    let address = format!("postgres://{}", server.address());
    let app = TestApp::start_with(&[
        ("SPIN_VARIABLE_PG_ADDRESS", &address),
        ("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key()),
    ])
    .await;
    app.placed().await;
    let (_, cursor) = app.read_on("/events", 1).await;
    server.crash().await;
    // Each session that was open fails once, and the writes that meet one have an unknown outcome.
    let started = Instant::now();
    let key = fresh_key();
    while app.place(&key, ORDER).await.status != 201 {
        assert!(started.elapsed() < Duration::from_secs(60), "the service does not write again");
    }
    while app.get(&cursor).await.status == 503 {
        assert!(started.elapsed() < Duration::from_secs(60), "the service does not read again");
    }
    app.read_on(&cursor, 1).await;
}

/// Runs a program and returns its output.
async fn run(program: &[&str], url: &str) -> String {
    let output = Command::new(program[0]).args(&program[1..]).env("DATABASE_URL", url).output().await.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{program:?}: {said}");
    said
}

#[tokio::test]
async fn orders_that_were_loaded_into_another_server_are_read_from_the_beginning() {
    let (database, server) = (Database::create().await, PrivatePostgres::start().await);
    let app = start(&database).await;
    // Far ahead of the new server's transactions.
    let burn = "DO $$BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END$$";
    database.owner().await.batch_execute(burn).await.unwrap();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..3 {
        expected.insert(app.placed().await.replace("/1", ""), 1);
    }
    let (_, cursor) = app.read_on("/events", 3).await;

    let loaded = server.url("loaded");
    server.superuser().await.batch_execute("CREATE DATABASE loaded OWNER orders_owner").await.unwrap();
    let dump = std::env::temp_dir().join(format!("{}.sql", fresh_key()));
    let file = dump.to_str().unwrap();
    run(&["pg_dump", "--dbname", &database.url(), "--file", file], "").await;
    run(&["psql", &loaded, "--quiet", "--set", "ON_ERROR_STOP=1", "--file", file], "").await;
    std::fs::remove_file(&dump).unwrap();
    let address = format!("postgres://{}", server.address());
    let app = TestApp::start_with(&[
        ("SPIN_VARIABLE_PG_ADDRESS", &address),
        ("SPIN_VARIABLE_PG_DATABASE", "loaded"),
        ("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key()),
    ])
    .await;
    assert_eq!(app.get("/readyz").await.status, 503, "the feed would hide the orders");
    let said = run(&["scripts/migrate.sh"], &loaded).await;
    assert!(said.contains("3 orders had transaction ids of another server"), "{said}");
    assert_eq!(app.get("/readyz").await.status, 200);
    expected.insert(app.placed().await.replace("/1", ""), 1);
    app.get(&cursor).await.assert_problem(410, "cursor-expired");
    let (seen, _) = app.read_on("/events", 4).await;
    let seen: BTreeMap<String, u64> = seen.iter().map(|id| (id.replace("/1", ""), 1)).collect();
    assert_eq!(seen, expected);
    database.drop().await;
}
