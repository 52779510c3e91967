//! Connections: one to PostgreSQL serves statements in quick succession and is returned; a broken one to Redis is replaced.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::host::until_waiting;
use super::installations::Database;
use super::support::*;

/// The size of the host's pool, as in Spin.
const POOL: usize = 64;
/// More than the pool has sessions.
const REQUESTS: usize = POOL + 16;

/// What all clients of a Redis have sent.
#[derive(Default)]
struct Sent {
    reads: usize,
    writes: usize,
}

/// A Redis that answers all reads together, once there are [`REQUESTS`] of them, and no write at all.
async fn redis_without_writes(sent: watch::Sender<Sent>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, sent.clone()));
        }
    });
    port
}

/// It parses only as much RESP as it needs: each command is a few lines, and its name is one of them.
async fn serve(mut client: TcpStream, sent: watch::Sender<Sent>) {
    let mut seen = sent.subscribe();
    let (mut bytes, mut unanswered) = ([0; 16 * 1024], 0);
    loop {
        let answer = tokio::select! {
            Ok(_) = seen.wait_for(|sent| sent.reads >= REQUESTS), if unanswered > 0 => {
                "$-1\r\n".repeat(std::mem::take(&mut unanswered))
            }
            Ok(length @ 1..) = client.read(&mut bytes) => {
                let lines: Vec<_> = bytes[..length].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
                let count = |name: &str| lines.iter().filter(|line| line.eq_ignore_ascii_case(name.as_bytes())).count();
                let (reads, writes) = (count("GET"), count("SET"));
                unanswered += reads;
                sent.send_modify(|sent| *sent = Sent { reads: sent.reads + reads, writes: sent.writes + writes });
                "+OK\r\n".repeat(count("CLIENT"))
            }
            else => return,
        };
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Longer than an instance keeps a session, and shorter than it lives without a request.
const SESSION_IS_OVER: Duration = Duration::from_millis(300);

/// Places an order with a fresh key. Returns how many sessions that took from the pool.
async fn takes_of_a_create(app: &TestApp) -> usize {
    let before = app.postgres.takes();
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    app.postgres.takes() - before
}

#[tokio::test]
async fn creates_in_quick_succession_share_a_session() {
    let (app, started) = (TestApp::start().await, Instant::now());
    // The time of a session may be over before the next create, and an instance may end: so until it is seen.
    while takes_of_a_create(&app).await > 0 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "no session was kept");
    }
}

/// The host's pool waits without limit, so a session that is never returned blocks other requests.
#[tokio::test]
async fn a_kept_session_is_given_back_after_a_moment() {
    let app = TestApp::start().await;
    for _ in 0..5 {
        assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
        tokio::time::sleep(SESSION_IS_OVER).await;
        assert_eq!(takes_of_a_create(&app).await, 1, "the session was kept");
    }
}

/// A repeat that Redis does not know takes two statements: the second has a session of its own if the first had to wait.
#[tokio::test]
async fn a_session_that_others_wait_for_is_not_kept() {
    let app = TestApp::start().await;
    let (key, mut orders) = (fresh_key(), Vec::new());
    let first = app.place(&key, ORDER).await;
    for _ in 0..POOL {
        orders.push(app.place(&fresh_key(), ORDER).await.header("location").to_owned());
    }
    app.redis.refuse();
    let ids: Vec<_> = orders.iter().map(|location| format!("'{}'", &location["/orders/".len()..])).collect();
    let holder = owner().await;
    let lock = format!("BEGIN; SELECT FROM orders WHERE order_id IN ({}) FOR UPDATE", ids.join(","));
    holder.batch_execute(&lock).await.unwrap();
    // Each has a session of its own: all that the pool has.
    let change = |location: &String| tokio::spawn(app.change(location, "\"1\"", "confirmed"));
    let changes: Vec<_> = orders.iter().map(change).collect();
    let waiting = until_waiting(POOL, &holder).await;
    let before = app.postgres.takes();
    let repeat = app.post(&key, ORDER);
    let repeat = tokio::spawn(async move { Answer::of(repeat.send().await.unwrap(), ORDER).await });
    // Much longer than its statement takes.
    tokio::time::sleep(10 * SESSION_IS_OVER).await;
    // A change that fails keeps no session.
    superuser().await.execute("SELECT pg_cancel_backend(pid) FROM unnest($1::int[]) pid", &[&waiting]).await.unwrap();
    repeat.await.unwrap().assert_replay_of(&first);
    assert_eq!(app.postgres.takes() - before, 2, "the session was kept");
    for change in changes {
        assert_eq!(change.await.unwrap().status, 503);
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
}

/// The test uses reads, since creates share a session.
#[tokio::test]
async fn more_instances_than_the_pool_has_sessions_are_all_served() {
    let app = TestApp::start().await;
    let url = format!("{}/orders?limit=1", app.url);
    for _ in 0..4 {
        let requests: Vec<_> = (0..REQUESTS).map(|_| tokio::spawn(app.http.get(&url).send())).collect();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status(), 200, "no session was free");
        }
    }
}

#[tokio::test]
async fn no_session_is_kept_across_a_failure() {
    let database = Database::create().await;
    let app = database.start(&[]).await;
    let key = fresh_key();
    let broken = app.place(&key, ORDER).await.header("location").to_owned();
    // No number of milliseconds: to read this row is an error.
    let sql = "UPDATE orders SET created_at = 'infinity' WHERE idempotency_key = $1";
    assert_eq!(database.owner().await.execute(sql, &[&key]).await.unwrap(), 1);
    for _ in 0..5 {
        app.get(&broken).await.assert_problem(503, "store-unavailable");
        assert_eq!(takes_of_a_create(&app).await, 1, "the session of a statement that failed was kept");
    }
    database.drop().await;
}

/// A kept session that breaks, before its statement or in it, costs a second try, but never an error or a second order.
#[tokio::test]
async fn a_kept_session_that_is_lost_costs_no_request() {
    let app = TestApp::start().await;
    for _ in 0..20 {
        let (key, before) = (fresh_key(), fresh_key());
        let first = app.place(&before, ORDER).await;
        let order = first.header("location").to_owned();
        app.postgres.cut();
        let placed = app.place(&key, ORDER).await;
        assert_eq!((placed.status, placed.header("idempotent-replayed")), (201, "false"));
        assert_eq!(rows_of(&key).await, 1);
        app.postgres.cut();
        assert_eq!(app.get(&order).await.status, 200);
        app.postgres.cut();
        assert_eq!(app.change(&order, first.header("etag"), "confirmed").await.status, 200);
    }
}

/// The second try finds that the first one took the key. Without a kept session the answer is `503` instead of a second
/// try, so the test repeats until a session was kept.
#[tokio::test]
async fn an_order_whose_commit_a_lost_session_did_not_confirm_is_the_requests_own() {
    let (app, started) = (TestApp::start().await, Instant::now());
    let mut tried_again = 0;
    while tried_again < 5 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "no session was kept");
        let key = fresh_key();
        assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
        app.postgres.lose_the_answer_to("INSERT INTO orders");
        let placed = app.place(&key, ORDER).await;
        if placed.status != 503 {
            assert_eq!((placed.status, placed.header("idempotent-replayed")), (201, "false"));
            tried_again += 1;
        }
        assert_eq!(rows_of(&key).await, 1);
    }
}

/// If it were sent again, its own first try could make the second one fail.
#[tokio::test]
async fn a_change_whose_commit_was_not_confirmed_is_not_sent_again() {
    let app = TestApp::start().await;
    for _ in 0..5 {
        let first = app.place(&fresh_key(), ORDER).await;
        let location = first.header("location");
        app.postgres.lose_the_answer_to("UPDATE orders");
        assert_eq!(app.change(location, first.header("etag"), "confirmed").await.status, 503);
        assert_eq!(app.get(location).await.json()["status"], "confirmed");
    }
}

#[tokio::test]
async fn no_answer_waits_for_redis_to_be_written() {
    let sent = watch::Sender::new(Sent::default());
    let port = redis_without_writes(sent.clone()).await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(port))]).await;
    let started = Instant::now();
    let requests: Vec<_> = (0..REQUESTS).map(|_| tokio::spawn(app.post(&fresh_key(), ORDER).send())).collect();
    for request in requests {
        let answer = request.await.unwrap().unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["idempotent-replayed"], "false");
    }
    let waited = started.elapsed();
    assert!(waited < DEADLINE, "{waited:?}");
    let mut sent = sent.subscribe();
    let all_sent = sent.wait_for(|sent| (sent.reads, sent.writes) == (REQUESTS, REQUESTS));
    tokio::time::timeout(DEADLINE, all_sent).await.expect("a write is missing").unwrap();
}

#[tokio::test]
async fn redis_answers_again_once_it_is_back() {
    let app = TestApp::start().await;
    let (key, meanwhile) = (fresh_key(), fresh_key());
    app.place(&fresh_key(), ORDER).await;
    app.redis.refuse();
    assert_eq!(app.place(&meanwhile, ORDER).await.status, 201);
    app.redis.pass();
    let first = app.place_and_keep(&key, ORDER).await;
    assert_eq!(first.status, 201);
    app.postgres.refuse();
    app.place(&key, ORDER).await.assert_replay_of(&first);
}

/// On a shared connection it would: PostgreSQL runs the statements of one session one after another.
#[tokio::test]
async fn a_statement_that_waits_for_a_lock_holds_up_no_other() {
    let app = TestApp::start().await;
    let (key, model) = (fresh_key(), fresh_key());
    app.place(&model, ORDER).await;
    let holder = owner().await;
    hold_key(&holder, &key, &model).await;

    let waiting = tokio::spawn(app.post(&key, ORDER).send());
    until_one_waits_for(&holder).await;
    let mut requests = Vec::new();
    for _ in 0..24 {
        requests.extend((0..4).map(|_| tokio::spawn(app.post(&fresh_key(), ORDER).send())));
        // A pause that needs no PostgreSQL, so that the next requests arrive while the first one waits.
        let _ = app.get("/healthz").await;
    }
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 201);
    }
    assert!(!waiting.is_finished(), "the others waited for a lock that does not concern them");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 201);
}
