//! The errors of a real Redis, in the words in which Spin's host passes them on.

#[path = "../../src/spin/redis_replies.rs"]
mod redis_replies;

use redis::{ErrorKind, RedisError, RedisResult, Value, cmd};

use redis_replies::keeps_connection;

use super::real::variable;

/// An error of this server, in its own words.
async fn refusal(words: &[&str]) -> String {
    let client = redis::Client::open(variable("redis_address")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let reply: RedisResult<Value> = command.query_async(&mut connection).await;
    reply.unwrap_err().to_string()
}

#[tokio::test]
async fn an_error_of_redis_itself_costs_no_connection() {
    let stream = format!("refusals-{:x}", fastrand::u64(..));
    let no_group = ["XREADGROUP", "GROUP", "g", "c", "STREAMS", &stream, ">"];
    for command in [&["NONSENSE"][..], &["GET"], &no_group, &["EVALSHA", "0000", "0"], &["SET", "a", "b", "EX", "0"]] {
        let text = refusal(command).await;
        assert!(keeps_connection(&text), "{command:?}: {text}");
    }
    // A script can answer with any code, as the server does.
    for code in
        ["OOM", "MISCONF", "NOPERM", "NOAUTH", "LOADING", "MOVED", "CLUSTERDOWN", "BUSY", "NOREPLICAS", "BUSYGROUP"]
    {
        let text = refusal(&["EVAL", &format!("return redis.error_reply('{code} why')"), "0"]).await;
        assert!(keeps_connection(&text), "{code}: {text}");
    }
}

#[test]
fn a_replica_and_a_connection_that_broke_are_left() {
    for kind in [ErrorKind::ReadOnly, ErrorKind::MasterDown] {
        let signalled = "An error was signalled by the server";
        for error in [RedisError::from((kind, signalled)), RedisError::from((kind, signalled, "why: so".to_owned()))] {
            assert!(!keeps_connection(&error.to_string()), "{error}");
        }
    }
    let io = |kind: std::io::ErrorKind| RedisError::from(std::io::Error::from(kind)).to_string();
    let texts = [
        io(std::io::ErrorKind::BrokenPipe),
        io(std::io::ErrorKind::UnexpectedEof),
        RedisError::from(std::io::Error::from_raw_os_error(104)).to_string(),
        RedisError::from((ErrorKind::ParseError, "invalid response", "why".to_owned())).to_string(),
        RedisError::from((ErrorKind::IoError, "TLS error", "why".to_owned())).to_string(),
        "no answer".to_owned(),
        "".to_owned(),
        ": ".to_owned(),
    ];
    for text in texts {
        assert!(!keeps_connection(&text), "{text}");
    }
}
