//! Connections: one to PostgreSQL serves one statement and is given back at once, one to Redis that broke is replaced.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::*;

/// What the pool holds, as in Spin, and some more.
const REQUESTS: usize = 64 + 16;

/// What a Redis has been sent by all its clients.
#[derive(Default)]
struct Sent {
    reads: usize,
    writes: usize,
}

/// A Redis that answers all the reads together, once there are [`REQUESTS`] of them, and no write at all.
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

/// Of RESP it knows no more than it needs: each command is a few lines, and its name is one of them.
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

/// The host's pool waits without limit, so a request that keeps a connection stops the others. By reads, since creates share
/// one; in less time than an instance without requests lasts.
#[tokio::test]
async fn a_postgres_connection_is_given_back_with_its_statement() {
    let app = TestApp::start().await;
    let url = format!("{}/orders?limit=1", app.url);
    for _ in 0..REQUESTS / 8 {
        let requests: Vec<_> = (0..8).map(|_| tokio::spawn(app.http.get(&url).send())).collect();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status(), 200, "no connection was free");
        }
    }
}

#[tokio::test]
async fn no_answer_waits_for_redis_to_be_written() {
    let sent = watch::Sender::new(Sent::default());
    let port = redis_without_writes(sent.clone()).await;
    // Longer than all of the rest takes on any machine.
    let redis_deadline = Duration::from_secs(60);
    let app = TestApp::start_with(&[
        ("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(port)),
        ("SPIN_VARIABLE_REDIS_DEADLINE_MS", &redis_deadline.as_millis().to_string()),
    ])
    .await;
    let started = Instant::now();
    let requests: Vec<_> = (0..REQUESTS).map(|_| tokio::spawn(app.post(&fresh_key(), ORDER).send())).collect();
    for request in requests {
        let answer = request.await.unwrap().unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["idempotent-replayed"], "false");
    }
    let waited = started.elapsed();
    assert!(waited < redis_deadline, "{waited:?}");
    let mut sent = sent.subscribe();
    let all_sent = sent.wait_for(|sent| (sent.reads, sent.writes) == (REQUESTS, REQUESTS));
    tokio::time::timeout(redis_deadline, all_sent).await.expect("a write is missing").unwrap();
}

#[tokio::test]
async fn redis_answers_again_once_it_is_back() {
    let app = TestApp::start_with(&[PATIENT]).await;
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

/// On a shared connection it would: PostgreSQL runs the statements of one session one after the other.
#[tokio::test]
async fn a_statement_that_waits_for_a_lock_holds_up_no_other() {
    let app = TestApp::start().await;
    let (key, model) = (fresh_key(), fresh_key());
    app.place(&model, ORDER).await;
    let holder = owner().await;
    hold_key(&holder, &key, &model).await;

    let waiting = tokio::spawn(answered(app.post(&key, ORDER)));
    until_one_waits_for(&holder).await;
    let mut requests = Vec::new();
    for _ in 0..24 {
        requests.extend((0..4).map(|_| tokio::spawn(answered(app.post(&fresh_key(), ORDER)))));
        // A pause that needs no PostgreSQL, so that the next ones come while it waits.
        let _ = app.get("/healthz").await;
    }
    let all_sent = Instant::now();
    let (status, waited_until) = waiting.await.unwrap();
    assert_eq!(status, 409);
    assert!(waited_until > all_sent, "the others were sent while it waited");
    for request in requests {
        let (status, at) = request.await.unwrap();
        assert_eq!(status, 201);
        assert!(at < waited_until, "a request waited for a lock that it had no part in");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
}

/// The status, and when it came.
async fn answered(request: reqwest::RequestBuilder) -> (u16, Instant) {
    let status = request.send().await.unwrap().status().as_u16();
    (status, Instant::now())
}
