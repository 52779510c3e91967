//! A Redis that errs, lies, breaks off or is silent changes no answer, and a request waits at most one deadline for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use order::client::ClientName;
use order::idempotency::{Answer as Stored, Fingerprint, IdempotencyKey, KeyRecord};
use order::order::NewOrder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use xxhash_rust::xxh64::xxh64;

use super::host::connections_so_far;
use super::support::*;

/// The limit of one request: much more than the Redis deadline, and less than PostgreSQL's.
const LONGEST: Duration = Duration::from_secs(20);

/// A whole exchange: placed, repeated, refused for another order. PostgreSQL has one row, and no request was slow.
async fn assert_truth(app: &TestApp, key: &str, lie: &str) {
    let other = ORDER.replace("59900", "59901");
    let mut answers = Vec::new();
    for body in [ORDER, ORDER, &other, ORDER] {
        let started = Instant::now();
        answers.push(app.place(key, body).await);
        assert!(started.elapsed() < LONGEST, "{lie}: {:?}", started.elapsed());
    }
    assert_eq!((answers[0].status, answers[0].header("idempotent-replayed")), (201, "false"), "{lie}");
    answers[1].assert_replay_of(&answers[0]);
    answers[2].assert_problem(422, "idempotency-key-reused");
    answers[3].assert_replay_of(&answers[0]);
    assert_eq!(rows_of(key).await, 1, "{lie}");
}

fn command(text: &str) -> redis::Cmd {
    let mut words = text.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

#[tokio::test]
async fn a_redis_that_refuses_commands_changes_no_answer() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let states: [(&str, &[&str]); 4] = [
        ("OOM", &["CONFIG SET maxmemory 1"]),
        ("READONLY", &["CONFIG SET maxmemory 0", "REPLICAOF 127.0.0.1 1"]),
        ("MASTERDOWN", &["CONFIG SET replica-serve-stale-data no"]),
        // Sessions that are open already stay authenticated.
        ("NOAUTH", &["REPLICAOF NO ONE", "CONFIG SET requirepass secret", "CLIENT KILL TYPE normal SKIPME yes"]),
    ];
    let mut admin = redis.connect().await.unwrap();
    for (state, commands) in states {
        for text in commands {
            let () = command(text).query_async(&mut admin).await.unwrap();
        }
        // Observed through a new session, which the service would also open.
        let mut session = redis.connect().await.unwrap();
        let probe = if state == "MASTERDOWN" { "GET probe" } else { "SET probe 1" };
        let refused = command(probe).query_async::<()>(&mut session).await.expect_err(state);
        assert!(format!("{refused:?}").to_uppercase().contains(state), "{state}: {refused:?}");
        assert_truth(&app, &fresh_key(), state).await;
    }
}

/// The answer to every command, and whether the connection breaks off after it.
type Lie = (&'static [u8], bool);

/// A server that sends the present lie, and counts how often. A new lie ends the connections of the one before.
async fn liar(lie: watch::Receiver<Lie>, told: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (mut lie, told) = (lie.clone(), told.clone());
            tokio::spawn(async move {
                let (reply, breaks_off) = *lie.borrow_and_update();
                let mut asked = [0; 4096];
                loop {
                    tokio::select! {
                        _ = lie.changed() => return,
                        read = socket.read(&mut asked) => {
                            let asked = matches!(read, Ok(1..));
                            told.fetch_add(usize::from(asked), Ordering::SeqCst);
                            let gone = !asked || socket.write_all(reply).await.is_err();
                            if gone || breaks_off {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_redis_that_lies_breaks_off_or_is_silent_changes_no_answer() {
    let lies: [Lie; 13] = [
        (b"", false),
        (b"", true),
        (b"$", true),
        (b"$5\r\nab", true),
        (b"$5\r\nab", false),
        (b"-LOADING Redis is loading the dataset in memory\r\n", false),
        (b"-ERR unknown command\r\n", false),
        (b"+OK\r\n", false),
        (b":1\r\n", false),
        (b"*2\r\n$1\r\na\r\n:7\r\n", false),
        (b"$3\r\n\xff\x00\x01\r\n", false),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (b"$99999999999999999999\r\n", false),
    ];
    let (tell, lie) = watch::channel(lies[0]);
    let told = Arc::new(AtomicUsize::new(0));
    let address = redis_address(liar(lie, told.clone()).await);
    for lie in lies {
        // Each lie has its own service: after a silent Redis a service leaves it alone for a while.
        let deadline = ("SPIN_VARIABLE_REDIS_DEADLINE_MS", "250");
        let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &address), deadline]).await;
        tell.send(lie).unwrap();
        told.store(0, Ordering::SeqCst);
        let end = if lie.1 { "gone" } else { "silent" };
        assert_truth(&app, &fresh_key(), &format!("{:?}, then {end}", String::from_utf8_lossy(lie.0))).await;
        assert!(told.load(Ordering::SeqCst) > 0, "the service did not ask");
    }
}

fn record(key: &str, order: &str, body: &'static str) -> Vec<u8> {
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap();
    let fingerprint = Fingerprint::of(&NewOrder::parse(order.as_bytes()).unwrap());
    let answer = Stored { order_id: uuid::Uuid::nil(), body: body.into() };
    KeyRecord { fingerprint, answer }.encode(&ClientName::default(), &key)
}

/// The entry in another layout that happens to look the same: whole, under its own key, with the checksum of its bytes.
/// Computed here, since nothing in the service makes one.
fn of_version(version: u8, key: &str, entry: &[u8]) -> Vec<u8> {
    let sum_of = |content: &[u8]| xxh64(content, xxh64(key.as_bytes(), 0)).to_be_bytes();
    let (content, sum) = entry.split_last_chunk::<8>().unwrap();
    assert_eq!(*sum, sum_of(content), "this is how the service computes it");
    let content = [&[version], &content[1..]].concat();
    [content.as_slice(), &sum_of(&content)].concat()
}

#[tokio::test]
async fn a_wrong_entry_is_ignored_and_written_again() {
    let app = TestApp::start().await;
    let mut redis = redis().await;
    let other_order = ORDER.replace("59900", "59901");
    let mut wrong: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), vec![]),
        ("text".into(), b"garbage".to_vec()),
        ("64 KiB of zeros".into(), vec![0; 65_536]),
        ("a record of another key".into(), record("another-key", ORDER, "{}")),
    ];
    // Built for each key below, since a record belongs to one key.
    let whole = record("k", ORDER, "{}").len();
    wrong.extend((0..whole).map(|length| (format!("cut to {length} bytes"), vec![])));
    wrong.extend([0, 1, 3, 255].map(|version: u8| (format!("version {version}"), vec![version])));
    wrong.push(("the fingerprint of another order".into(), vec![]));
    for (lie, bytes) in wrong {
        let key = fresh_key();
        let entry = match lie.as_str() {
            "the fingerprint of another order" => record(&key, &other_order, "{}"),
            cut if cut.starts_with("cut") => {
                let length = cut.split(' ').nth(2).unwrap().parse().unwrap();
                record(&key, ORDER, "{}")[..length].to_vec()
            }
            version if version.starts_with("version") => of_version(bytes[0], &key, &record(&key, ORDER, "{}")),
            _ => bytes,
        };
        let name = format!("order::{key}");
        let () = redis::cmd("SET").arg(&name).arg(entry).query_async(&mut redis).await.unwrap();
        assert_healed(&app, &key, &name, &lie).await;
    }
    for command in ["LPUSH", "SADD", "HSET", "INCR"] {
        let key = fresh_key();
        let name = format!("order::{key}");
        let arguments: &[&str] = match command {
            "HSET" => &["field", "value"],
            "INCR" => &[],
            _ => &["value"],
        };
        let () = redis::cmd(command).arg(&name).arg(arguments).query_async(&mut redis).await.unwrap();
        assert_healed(&app, &key, &name, command).await;
    }
}

/// The order is placed all the same, and its entry is whole again with a time to live.
async fn assert_healed(app: &TestApp, key: &str, name: &str, lie: &str) {
    let first = app.place(key, ORDER).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, "false"), "{lie}");
    let parsed = IdempotencyKey::parse(key.as_bytes()).unwrap();
    let decode = |entry: &[u8]| KeyRecord::decode(&ClientName::default(), &parsed, entry);
    let is_own = |entry: &[u8]| decode(entry).is_some_and(|record| record.answer.body == first.body.as_bytes());
    let record = decode(&entry(name, is_own).await).unwrap_or_else(|| panic!("{lie}: not healed"));
    assert_eq!(record.answer.body, first.body.as_bytes(), "{lie}");
    let ttl: i64 = redis::cmd("TTL").arg(name).query_async(&mut redis().await).await.unwrap();
    assert!(ttl > 0, "{lie}: {ttl}");
    app.place(key, ORDER).await.assert_replay_of(&first);
    assert_eq!(rows_of(key).await, 1, "{lie}");
}

#[tokio::test]
async fn an_entry_without_a_time_to_live_still_answers() {
    let app = TestApp::start().await;
    let key = fresh_key();
    let name = format!("order::{key}");
    let mut redis = redis().await;
    let first = app.place_and_keep(&key, ORDER).await;
    let persisted: bool = redis::cmd("PERSIST").arg(&name).query_async(&mut redis).await.unwrap();
    assert!(persisted);
    app.postgres.refuse();
    app.place(&key, ORDER).await.assert_replay_of(&first);
    app.postgres.pass();
    app.place(&key, &ORDER.replace("59900", "59901")).await.assert_problem(422, "idempotency-key-reused");
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn a_redis_that_refuses_commands_keeps_its_connection() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port))]).await;
    let mut admin = redis.connect().await.unwrap();
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    let before = connections_so_far(&mut admin).await;
    // OOM, then NOPERM.
    for text in ["CONFIG SET maxmemory 1", "ACL SETUSER default -set"] {
        let () = command(text).query_async(&mut admin).await.unwrap();
        for _ in 0..20 {
            assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
        }
    }
    assert_eq!(connections_so_far(&mut admin).await, before);
}

/// One after another, so that a few instances serve them all. How many, and how often one of them asks again, depends on the
/// machine; without the pause after a silent answer all thirty would wait.
#[tokio::test]
async fn a_silent_redis_costs_an_instance_one_deadline() {
    // Longer than PostgreSQL's part takes on any machine.
    let deadline = Duration::from_millis(1500);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_DEADLINE_MS", &deadline.as_millis().to_string())]).await;
    let known = fresh_key();
    let placed = app.place(&known, ORDER).await;
    app.redis.stall();
    let mut late = 0;
    for _ in 0..30 {
        let started = Instant::now();
        app.place(&known, ORDER).await.assert_replay_of(&placed);
        late += u32::from(started.elapsed() >= deadline);
    }
    assert!((1..=15).contains(&late), "{late} of 30 requests waited for Redis");
    assert_eq!(app.get("/readyz").await.json()["redis"], "down");

    // It is asked again before long.
    app.redis.pass();
    let started = Instant::now();
    while app.get("/readyz").await.json()["redis"] != "up" {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "Redis is never asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Answers each command with nil, after a while.
async fn slow_redis(delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                while let Ok(length @ 1..) = socket.read(&mut asked).await {
                    tokio::time::sleep(delay).await;
                    // Several commands may arrive together; each begins with the only asterisk in it.
                    let commands = asked[..length].iter().filter(|byte| **byte == b'*').count();
                    let _ = socket.write_all(&b"$-1\r\n".repeat(commands)).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_slow_redis_costs_a_request_one_deadline() {
    let deadline = Duration::from_millis(4000);
    // To connect and to read each fit into the deadline; both together take almost two.
    let port = slow_redis(deadline * 9 / 10).await;
    let app = TestApp::start_with(&[
        ("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(port)),
        ("SPIN_VARIABLE_REDIS_DEADLINE_MS", &deadline.as_millis().to_string()),
    ])
    .await;
    let started = Instant::now();
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    let took = started.elapsed();
    assert!(took >= deadline && took < deadline * 17 / 10, "{took:?}");
}
