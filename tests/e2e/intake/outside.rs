//! Causes that settle no command: a missing right, an old Redis. And commands that delay no other: one that crashed, a large one.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::installations::Database;
use super::stream::{Intake, MANIFEST, SETTLES_WITHIN};
use crate::support::*;

/// Longer than five deliveries take.
#[tokio::test]
async fn a_missing_right_or_column_settles_no_command() {
    let database = Database::create().await;
    let deadlines = [("SPIN_VARIABLE_PG_DEADLINE_MS", "200"), ("SPIN_VARIABLE_REDIS_DEADLINE_MS", "100")];
    let intake =
        Intake::start_with(&[&[("SPIN_VARIABLE_PG_DATABASE", database.name())], &deadlines[..]].concat()).await;
    let owner = database.owner().await;
    for (takes, gives) in [
        ("REVOKE INSERT ON orders FROM orders_service", "GRANT INSERT ON orders TO orders_service"),
        ("ALTER TABLE orders RENAME comment TO remark", "ALTER TABLE orders RENAME remark TO comment"),
        // Class 23, but not caused by the command: all of them meet it.
        (
            "ALTER TABLE orders ADD extra text, ADD CONSTRAINT needed CHECK (extra IS NOT NULL) NOT VALID",
            "ALTER TABLE orders DROP extra CASCADE",
        ),
    ] {
        let settled: usize = intake.redis(&["XLEN", "orders:results"]).await;
        owner.batch_execute(takes).await.unwrap();
        for key in fresh_keys(3) {
            intake.order(&key, ORDER).await;
        }
        let started = Instant::now();
        loop {
            intake.ring().await;
            let pending = ["XPENDING", "orders:commands", "intake", "-", "+", "3"];
            let pending: Vec<(String, String, u64, u64)> =
                if intake.pending().await == 0 { Vec::new() } else { intake.redis(&pending).await };
            if pending.len() == 3 && pending.iter().all(|(.., deliveries)| *deliveries > 5) {
                break;
            }
            assert!(started.elapsed() < SETTLES_WITHIN, "{takes}: {pending:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(intake.redis::<usize>(&["XLEN", "orders:results"]).await, settled, "{takes}");
        owner.batch_execute(gives).await.unwrap();
        let results = intake.results(settled + 3).await;
        assert!(results.iter().all(|result| result["status"] == "201"), "{takes}: {results:?}");
        intake.until_pending(0).await;
    }
    drop(intake);
    database.drop().await;
}

#[tokio::test]
async fn a_command_that_is_too_large_to_be_read_delays_no_other_one() {
    let intake = Intake::start_with(&[("SPIN_VARIABLE_REDIS_DEADLINE_MS", "100")]).await;
    let large = intake.add(&[("key", b"large"), ("order", &vec![b' '; 100_000_000])]).await;
    for keys in [fresh_keys(20), fresh_keys(20)] {
        let settled: usize = intake.redis(&["XLEN", "orders:results"]).await;
        for key in &keys {
            intake.order(key, ORDER).await;
        }
        intake.ring().await;
        let results = intake.results(settled + 20).await;
        assert!(results.iter().all(|result| result["status"] == "201"), "{results:?}");
        intake.until_pending(1).await;
        let left: Vec<redis::Value> = intake.redis(&["XRANGE", "orders:commands", &format!("({large}"), "+"]).await;
        assert_eq!((left.len(), intake.redis::<usize>(&["XLEN", "orders:commands"]).await), (0, 1));
    }
}

#[tokio::test]
async fn what_was_deleted_while_it_was_pending_is_forgotten() {
    let intake = Intake::start().await;
    let id = intake.order(&fresh_key(), ORDER).await;
    let () = intake.redis(&["XGROUP", "CREATE", "orders:commands", "intake", "0"]).await;
    let read = ["XREADGROUP", "GROUP", "intake", "intake", "COUNT", "1", "STREAMS", "orders:commands", ">"];
    let _: redis::Value = intake.redis(&read).await;
    let _: redis::Value =
        intake.redis(&["XCLAIM", "orders:commands", "intake", "intake", "0", &id, "IDLE", "60000", "JUSTID"]).await;
    let _: i64 = intake.redis(&["XDEL", "orders:commands", &id]).await;
    intake.until_pending(1).await;
    intake.ring().await;
    intake.until_pending(0).await;
    assert_eq!(intake.redis::<i64>(&["XLEN", "orders:results"]).await, 0);
}

/// Redis 6.0 has no `IDLE`, and answers `XPENDING` like this.
async fn older_redis(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move {
                let ((mut asked, mut told), (mut answers, mut redis)) = (client.into_split(), redis.into_split());
                let (mut question, mut answer) = ([0; 4096], [0; 4096]);
                loop {
                    tokio::select! {
                        count = asked.read(&mut question) => match count {
                            Ok(count) if count > 0 => {
                                let text = &question[..count];
                                let is_unknown = text.windows(8).any(|word| word == b"XPENDING");
                                let done = if is_unknown { told.write_all(b"-ERR syntax error\r\n").await } else { redis.write_all(text).await };
                                if done.is_err() { return }
                            }
                            _ => return,
                        },
                        count = answers.read(&mut answer) => match count {
                            Ok(count) if count > 0 => if told.write_all(&answer[..count]).await.is_err() { return },
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    own
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_named_in_the_log() {
    let redis = PrivateRedis::start().await;
    let mut command = host_command(Path::new(MANIFEST));
    command.env("SPIN_VARIABLE_DOORBELL_ADDRESS", redis_address(redis.port));
    command.env("SPIN_VARIABLE_REDIS_ADDRESS", redis_address(older_redis(redis.port).await));
    let mut intake = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(intake.stderr.take().unwrap()).lines();
    let mut store = redis.connect().await.unwrap();
    let started = Instant::now();
    while redis::cmd("PUBLISH").arg(&["orders:doorbell", "ring"]).query_async::<i64>(&mut store).await.unwrap() == 0 {
        assert!(started.elapsed() < SETTLES_WITHIN, "it does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = async {
        loop {
            let line = log.next_line().await.unwrap().expect("it goes on");
            if line.contains("commands left for later") {
                return line;
            }
        }
    };
    let said = tokio::time::timeout(SETTLES_WITHIN, said).await.expect("the log line");
    assert!(said.contains("the intake needs Redis 6.2 or newer") && said.contains("syntax error"), "{said}");
    end(&intake);
}
