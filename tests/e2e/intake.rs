//! Orders through the stream `orders:commands`: the second application, beside the first one.

mod outside;
mod stream;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::*;
pub use stream::Intake;
use stream::{Field, MANIFEST, SETTLES_WITHIN, listen};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_command_gets_the_answer_of_a_post_and_a_repeat_of_it_the_same_again() {
    let intake = Intake::start().await;
    let http = intake.http().await;
    let key = fresh_key();
    let sent = intake.order(&key, ORDER).await;
    intake.ring().await;
    let first = intake.results(1).await.remove(0);
    assert_eq!((&first["command"], first["client"].as_str()), (&sent, ""));
    assert_eq!((&first["key"], first["status"].as_str(), first["replayed"].as_str()), (&key, "201", "false"));
    assert_eq!(json(&first["body"])["comment"], "leave at the door");
    let over_http = http.place(&key, ORDER).await;
    assert_eq!((over_http.header("idempotent-replayed"), &over_http.body), ("true", &first["body"]));
    // From Redis, and from PostgreSQL.
    for count in [2, 3] {
        intake.order(&key, ORDER).await;
        intake.ring().await;
        let again = intake.results(count).await.remove(count - 1);
        assert_eq!((again["replayed"].as_str(), &again["body"]), ("true", &first["body"]));
        let _: i64 = intake.redis(&["DEL", &format!("order::{key}")]).await;
    }
    intake.until_pending(0).await;
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn one_key_by_http_and_by_the_stream_at_once_is_one_order() {
    let intake = Intake::start().await;
    let http = intake.http().await;
    let keys = fresh_keys(20);
    for key in &keys {
        for _ in 0..3 {
            intake.order(key, ORDER).await;
        }
    }
    let sent = http.place_each(keys.iter().flat_map(|key| std::iter::repeat_n((key.as_str(), ORDER), 3)));
    let (answers, ()) = tokio::join!(sent, intake.ring());
    let results = intake.results(60).await;
    for key in &keys {
        let told = results.iter().filter(|result| result["key"] == *key);
        let mut bodies: Vec<_> = told.clone().map(|result| &result["body"]).collect();
        let mut first = told.filter(|result| result["replayed"] == "false").count();
        for answer in answers.iter().zip(keys.iter().flat_map(|key| [key; 3])).filter(|(_, of)| *of == key) {
            assert_eq!(answer.0.status, 201, "{}", answer.0.body);
            bodies.push(&answer.0.body);
            first += usize::from(answer.0.header("idempotent-replayed") == "false");
        }
        assert_eq!((bodies.len(), first, rows_of(key).await), (6, 1, 1));
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    }
}

#[tokio::test]
async fn what_is_refused_gets_its_problem_and_does_not_stop_the_stream() {
    let intake = Intake::start().await;
    let key = fresh_key();
    let large = format!("{ORDER}{}", " ".repeat(70_000));
    let (key, order) = (("key", key.as_bytes()), ("order", ORDER.as_bytes()));
    let commands: [(&[Field<'_>], &str, &str); 9] = [
        (&[order], "400", "idempotency-key-missing"),
        (&[("key", b"a,b"), order], "400", "idempotency-key-invalid"),
        (&[("key", b"\x00\xff"), order], "400", "idempotency-key-invalid"),
        (&[key, key, order], "400", "idempotency-key-invalid"),
        (&[key], "400", "malformed-json"),
        (&[key, ("order", b"\xff\xfe")], "400", "malformed-json"),
        (&[key, ("order", b"{}")], "422", "invalid-order"),
        (&[key, ("order", large.as_bytes())], "413", "payload-too-large"),
        (&[("a", b"b")], "400", "idempotency-key-missing"),
    ];
    let mut sent = Vec::new();
    for (fields, ..) in commands {
        sent.push(intake.add(fields).await);
    }
    intake.add(&[("unknown", b"\xff"), key, ("token", b"of nobody"), order, ("unknown", b"")]).await;
    intake.ring().await;
    let results = intake.results(commands.len() + 1).await;
    for ((fields, status, slug), sent) in commands.iter().zip(&sent) {
        let result = results.iter().find(|result| result["command"] == *sent).unwrap();
        let told = json(&result["body"])["type"].as_str().unwrap().to_owned();
        assert_eq!((result["status"].as_str(), told), (*status, format!("/problems/{slug}")), "{fields:?}");
        // The key is absent if it is missing, invalid or present twice.
        let is_repeated = !slug.starts_with("idempotency-key");
        assert_eq!(result.get("key").map(String::as_bytes), is_repeated.then_some(key.1), "{fields:?}");
    }
    assert_eq!(results.iter().filter(|result| result["status"] == "201").count(), 1);
    intake.until_pending(0).await;
}

#[tokio::test]
async fn without_postgres_commands_wait_and_are_claimed_once_it_is_back() {
    let intake =
        Intake::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "1000"), ("SPIN_VARIABLE_REDIS_DEADLINE_MS", "250")])
            .await;
    for stop in [Proxy::refuse, Proxy::stall] {
        let keys = fresh_keys(40);
        let settled = intake.redis::<i64>(&["XLEN", "orders:results"]).await;
        stop(&intake.postgres);
        for key in &keys {
            intake.order(key, ORDER).await;
        }
        intake.ring().await;
        // As many as it has workers, and no more.
        intake.until_pending(16).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!((intake.pending().await, intake.redis::<i64>(&["XLEN", "orders:results"]).await), (16, settled));
        intake.postgres.pass();
        let results = intake.results(settled as usize + 40).await;
        assert!(results.iter().all(|result| result["status"] == "201"), "{results:?}");
        intake.until_pending(0).await;
        for key in &keys {
            assert_eq!(rows_of(key).await, 1);
        }
    }
}

#[tokio::test]
async fn what_is_settled_is_deleted_and_nothing_else() {
    let intake = Intake::start().await;
    let ids = async || {
        let entries: Vec<(String, Vec<String>)> = intake.redis(&["XRANGE", "orders:commands", "-", "+"]).await;
        entries.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    intake.order(&fresh_key(), ORDER).await;
    intake.ring().await;
    intake.results(1).await;
    intake.until_pending(0).await;
    assert_eq!(ids().await, [""; 0]);
    let held = intake.order(&fresh_key(), ORDER).await;
    // Another replica is working on it.
    let read = ["XREADGROUP", "GROUP", "intake", "other", "COUNT", "1", "STREAMS", "orders:commands", ">"];
    let _: redis::Value = intake.redis(&read).await;
    for count in [2, 3] {
        intake.order(&fresh_key(), ORDER).await;
        intake.ring().await;
        intake.results(count).await;
        intake.until_pending(1).await;
        assert_eq!(ids().await, [held.as_str()]);
    }
    // By hand: what is in the stream is taken again, and only the unsettled command is in it.
    let () = intake.redis(&["XGROUP", "DESTROY", "orders:commands", "intake"]).await;
    intake.ring().await;
    assert_eq!(intake.results(4).await[3]["command"], held);
    intake.until_pending(0).await;
    assert_eq!(ids().await, [""; 0]);
}

/// Sends commands until Redis is gone, and returns the keys of those that it accepted.
async fn send_until_it_is_gone(mut redis: redis::aio::MultiplexedConnection) -> Vec<String> {
    let mut added = Vec::new();
    loop {
        let key = fresh_key();
        let mut add = redis::cmd("XADD");
        add.arg(&["orders:commands", "*", "key", &key, "order", ORDER]);
        match add.query_async::<String>(&mut redis).await {
            Ok(_) => added.push(key),
            Err(_) => return added,
        }
    }
}

#[tokio::test]
async fn no_command_is_lost_with_a_redis_that_writes_before_it_answers() {
    let mut intake = Intake::start().await;
    let _: Result<(), _> = redis::cmd("SHUTDOWN").arg("NOSAVE").query_async(&mut intake.redis.clone()).await;
    tokio::time::timeout(SETTLES_WITHIN, intake.service.wait()).await.expect("it ends").unwrap();
    let (port, variables) = (intake.server.port, intake.variables.clone());
    let folder = std::env::current_dir().unwrap().join(format!("target/redis-{port}"));
    std::fs::create_dir_all(&folder).unwrap();
    let durable = ["--appendonly", "yes", "--appendfsync", "always", "--dir", folder.to_str().unwrap()];
    intake.server = PrivateRedis::start_on(port, &durable).await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        senders.push(tokio::spawn(send_until_it_is_gone(intake.server.connect().await.unwrap())));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    intake.server.kill().await;
    let mut added = Vec::new();
    for sender in senders {
        added.extend(sender.await.unwrap());
    }
    assert!(!added.is_empty());

    intake.server = PrivateRedis::start_on(port, &durable).await;
    intake.redis = intake.server.connect().await.unwrap();
    intake.service = listen(Path::new(MANIFEST), &variables).await;
    let (owner, started) = (owner().await, Instant::now());
    let sql = "SELECT count(*) FROM orders WHERE idempotency_key = ANY ($1)";
    while owner.query_one(sql, &[&added]).await.unwrap().get::<_, i64>(0) < added.len() as i64 {
        assert!(started.elapsed() < SETTLES_WITHIN, "of {} commands some are lost", added.len());
        intake.ring().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_intake_ends_when_redis_goes_away_and_continues_where_it_was() {
    let mut intake = Intake::start().await;
    // Nothing listens any more, and the process reports it with its exit status.
    let _: Result<(), _> = redis::cmd("SHUTDOWN").arg("NOSAVE").query_async(&mut intake.redis.clone()).await;
    let ended = tokio::time::timeout(SETTLES_WITHIN, intake.service.wait()).await.expect("it ends").unwrap();
    assert!(!ended.success());
    // One that starts now finds no Redis, and ends as well.
    let variables = intake.variables.clone();
    let mut command = host_command(Path::new(MANIFEST));
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).stdout(Stdio::null());
    let mut early = command.spawn().unwrap();
    assert!(!tokio::time::timeout(SETTLES_WITHIN, early.wait()).await.expect("it ends").unwrap().success());

    intake.server = PrivateRedis::start_on(intake.server.port, &[]).await;
    intake.redis = intake.server.connect().await.unwrap();
    // Sent while no intake listens.
    let key = fresh_key();
    intake.order(&key, ORDER).await;
    intake.service = listen(Path::new(MANIFEST), &variables).await;
    intake.ring().await;
    assert_eq!(intake.results(1).await[0]["status"], "201");
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn a_full_redis_loses_no_command() {
    let intake = Intake::start().await;
    let key = fresh_key();
    intake.order(&key, ORDER).await;
    let _: () = intake.redis(&["XGROUP", "CREATE", "orders:commands", "intake", "0"]).await;
    let _: () = intake.redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
    intake.ring().await;
    intake.until_pending(1).await;
    let started = Instant::now();
    while rows_of(&key).await == 0 {
        assert!(started.elapsed() < SETTLES_WITHIN, "no order");
    }
    assert_eq!(intake.redis::<i64>(&["XLEN", "orders:results"]).await, 0);
    let _: () = intake.redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let result = intake.results(1).await.remove(0);
    assert_eq!((result["status"].as_str(), result["replayed"].as_str()), ("201", "true"));
    intake.until_pending(0).await;
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn one_ring_drains_a_stream_of_thousands() {
    let intake = Intake::start().await;
    let keys = fresh_keys(3000);
    let customer = fresh_key();
    let order = ORDER.replace("c-42", &customer);
    let mut all = redis::pipe();
    for key in &keys {
        all.cmd("XADD").arg(&["orders:commands", "*", "key", key, "order", &order]).ignore();
    }
    let () = all.query_async(&mut intake.redis.clone()).await.unwrap();
    let heard: i64 = intake.redis(&["PUBLISH", "orders:doorbell", "ring"]).await;
    assert_eq!(heard, 1);
    let started = Instant::now();
    while intake.redis::<i64>(&["XLEN", "orders:results"]).await < 3000 {
        assert!(started.elapsed() < SETTLES_WITHIN, "the drain does not go on by itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    intake.until_pending(0).await;
    let placed: i64 = owner()
        .await
        .query_one("SELECT count(*) FROM orders WHERE customer_id = $1", &[&customer])
        .await
        .unwrap()
        .get(0);
    assert_eq!(placed, 3000);
    assert_eq!(intake.redis::<i64>(&["XLEN", "orders:commands"]).await, 0);
}
