//! When the service requests a body, how long it waits for one, and what it does with a body that it does not need.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::*;

const BODY_DEADLINE: Duration = Duration::from_millis(1000);

async fn start() -> TestApp {
    TestApp::start_with(&[("SPIN_VARIABLE_BODY_DEADLINE_MS", &BODY_DEADLINE.as_millis().to_string())]).await
}

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap()
}

fn head(key: &str, more: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n{more}\r\n"
    )
}

/// Everything until the host closes the connection, in time for a client that the service does not wait for.
async fn read_all(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(CLIENT_TIMEOUT, client.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "not closed after {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn assert_problem(answer: &str, status: u16, slug: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!(r#""type":"/problems/{slug}""#)), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_needed_is_not_requested() {
    let app = TestApp::start().await;
    let started = Instant::now();
    let expect = "Expect: 100-continue\r\nContent-Length: 100\r\n";
    let no_key = head("", expect).replace("Idempotency-Key: \r\n", "");
    for (request, status, slug) in [
        (no_key.clone(), 400, "idempotency-key-missing"),
        (head("a,b", expect), 400, "idempotency-key-invalid"),
        (head("k", expect).replace("application/json", "text/plain"), 415, "unsupported-media-type"),
        (head("k", &format!("Content-Encoding: gzip\r\n{expect}")), 415, "unsupported-media-type"),
        (head("k", &expect.replace("100\r\n", "65537\r\n")), 413, "payload-too-large"),
        (head("k", expect).replace("POST /orders", "POST /orders/"), 404, "not-found"),
        (head("k", expect).replace("POST", "PUT"), 405, "method-not-allowed"),
        // More than the service reads and drops for any client.
        (
            no_key.replace("Expect: 100-continue\r\n", "").replace("100\r\n", "17000000\r\n"),
            400,
            "idempotency-key-missing",
        ),
    ] {
        let mut client = connect(&app).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut client).await;
        assert_problem(&answer, status, slug);
    }
    assert!(started.elapsed() < DEADLINE, "an answer waited for the body: {:?}", started.elapsed());
    let key = fresh_key();
    let mut client = connect(&app).await;
    let expected =
        head(&key, &format!("Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n", ORDER.len()));
    client.write_all(expected.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(ORDER.as_bytes()).await.unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 201 "));
    assert_eq!(rows_of(&key).await, 1);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_awaited_until_its_deadline_only() {
    let app = start().await;
    let length = format!("Content-Length: {}\r\n", ORDER.len());
    for (sent, more) in [("", &*length), (&ORDER[..40], &length), ("5\r\nabcde\r\n", "Transfer-Encoding: chunked\r\n")]
    {
        let (key, mut client, started) = (fresh_key(), connect(&app).await, Instant::now());
        client.write_all(format!("{}{sent}", head(&key, more)).as_bytes()).await.unwrap();
        let answer = read_all(&mut client).await;
        assert_problem(&answer, 408, "request-timeout");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(started.elapsed() >= BODY_DEADLINE, "{:?}", started.elapsed());
        assert!(started.elapsed() < 8 * BODY_DEADLINE, "{:?}", started.elapsed());
        assert_eq!(rows_of(&key).await, 0);
        assert_eq!(app.place(&key, ORDER).await.header("idempotent-replayed"), "false");
    }
    // Sending a byte at a time does not extend the deadline. The rest may find the connection closed.
    let (key, mut client, started) = (fresh_key(), connect(&app).await, Instant::now());
    client.write_all(head(&key, &length).as_bytes()).await.unwrap();
    while started.elapsed() < BODY_DEADLINE + Duration::from_millis(500) {
        if client.write_all(b" ").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap_or(0);
    assert_problem(&String::from_utf8_lossy(&answer[..length]), 408, "request-timeout");
    assert_eq!(rows_of(&key).await, 0);
}

#[tokio::test]
async fn two_hundred_bodies_that_never_arrive_delay_no_other_client() {
    const STALLED: usize = 200;
    let deadline = Duration::from_secs(20);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_BODY_DEADLINE_MS", "20000")]).await;
    let (mut clients, started) = (Vec::new(), Instant::now());
    for at in 0..STALLED {
        let mut client = connect(&app).await;
        // Half of them stall before the body, the others inside it.
        let sent = if at % 2 == 0 { "" } else { &ORDER[..40] };
        let request = format!("{}{sent}", head(&fresh_key(), &format!("Content-Length: {}\r\n", ORDER.len())));
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    for _ in 0..20 {
        assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    }
    assert!(started.elapsed() < deadline, "the others waited for a body: {:?}", started.elapsed());
    for client in &mut clients {
        assert_problem(&read_all(client).await, 408, "request-timeout");
    }
}

/// A client that writes its whole body before it reads must find the answer, not a broken connection.
#[tokio::test]
async fn a_body_that_is_too_large_is_read_over_up_to_16_mib() {
    let app = TestApp::start().await;
    for mebibytes in [1, 5, 15] {
        let size = mebibytes * 1024 * 1024;
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        for (more, body) in [
            (format!("Content-Length: {size}\r\n"), " ".repeat(size)),
            ("Transfer-Encoding: chunked\r\n".to_owned(), chunk.repeat(size / 0x10000) + "0\r\n\r\n"),
        ] {
            for (key, status, slug) in [("k", 413, "payload-too-large"), ("a,b", 400, "idempotency-key-invalid")] {
                let mut client = connect(&app).await;
                let request = head(key, &format!("{more}Connection: close\r\n"));
                client.write_all(request.as_bytes()).await.unwrap();
                client.write_all(body.as_bytes()).await.unwrap();
                let answer = read_all(&mut client).await;
                assert_problem(&answer, status, slug);
            }
        }
    }
}

/// A stranger may send as much and as slowly as it likes: the answer comes at once, or after a second at the latest.
#[tokio::test]
async fn a_request_without_a_token_is_answered_without_its_body() {
    const CLIENT: &str = "web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let app =
        TestApp::start_with(&[("SPIN_VARIABLE_CLIENTS", CLIENT), ("SPIN_VARIABLE_BODY_DEADLINE_MS", "10000")]).await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for (target, status, slug) in [
        ("POST /orders HTTP", 401, "unauthorized"),
        ("POST /nowhere HTTP", 404, "not-found"),
        ("POST /healthz HTTP", 405, "method-not-allowed"),
    ] {
        for (more, body, longest_ms) in [
            ("Content-Length: 16777216\r\n", String::new(), 900),
            ("Content-Length: 65537\r\n", String::new(), 900),
            ("Content-Length: 100\r\n", ORDER[..40].to_owned(), 5000),
            ("Transfer-Encoding: chunked\r\n", String::new(), 5000),
            // Without an end, so the service cannot have read all of it.
            ("Transfer-Encoding: chunked\r\n", chunk.repeat(15), 5000),
        ] {
            // A busy machine may delay any one of them.
            let mut fastest = Duration::MAX;
            for _ in 0..10 {
                let (mut client, started) = (connect(&app).await, Instant::now());
                let request = head("k", more).replace("POST /orders HTTP", target) + &body;
                let mut answer = Vec::new();
                let (mut reader, mut writer) = client.split();
                // An unread body breaks the connection, but only after the answer has arrived.
                let (_, read) = tokio::join!(
                    writer.write_all(request.as_bytes()),
                    tokio::time::timeout(CLIENT_TIMEOUT, reader.read_to_end(&mut answer))
                );
                assert!(read.is_ok(), "{target} {more} is not answered");
                assert_problem(&String::from_utf8_lossy(&answer), status, slug);
                fastest = fastest.min(started.elapsed());
                if fastest < Duration::from_millis(longest_ms) {
                    break;
                }
            }
            assert!(fastest < Duration::from_millis(longest_ms), "{target} {more} {fastest:?}");
        }
    }
    // A stranger whose body is at most as large as an order finds the answer after writing it, on an intact connection.
    let mut client = connect(&app).await;
    let body = " ".repeat(64 * 1024);
    let refused = head("k", &format!("Content-Length: {}\r\n", body.len())) + &body;
    let next = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(format!("{refused}{next}").as_bytes()).await.unwrap();
    let answers = read_all(&mut client).await;
    assert!(answers.starts_with("HTTP/1.1 401 ") && answers.contains("HTTP/1.1 200 "), "{answers}");
    // A client's body is read and dropped, however long it is.
    let mut client = connect(&app).await;
    let body = " ".repeat(1024 * 1024);
    let more = format!("Authorization: Bearer test\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    client.write_all(format!("{}{body}", head("a,b", &more)).as_bytes()).await.unwrap();
    assert_problem(&read_all(&mut client).await, 400, "idempotency-key-invalid");
}

/// If both headers are present, the chunks decide where the body ends, whichever header comes first or is removed by the host.
#[tokio::test]
async fn a_chunked_body_is_read_to_its_last_chunk_whatever_length_it_claims() {
    let app = TestApp::start().await;
    let chunked = |bodies: &[&str]| {
        let chunks: String = bodies.iter().map(|body| format!("{:x}\r\n{body}\r\n", body.len())).collect();
        chunks + "0\r\nX-Trailer: t\r\n\r\n"
    };
    let padded = |size: usize| format!("{ORDER}{}", " ".repeat(size - ORDER.len()));
    for (claimed, bodies, answered) in [
        (Some(ORDER.len()), &[ORDER, "xyz"][..], "HTTP/1.1 400 "),
        (Some(70_000), &[ORDER], "HTTP/1.1 201 "),
        (Some(1), &[&ORDER[..40], &ORDER[40..]], "HTTP/1.1 201 "),
        (None, &[&padded(65_536)], "HTTP/1.1 201 "),
        (None, &[&padded(65_536), " "], "HTTP/1.1 413 "),
    ] {
        let claimed = claimed.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
        for headers in
            [format!("{claimed}Transfer-Encoding: chunked\r\n"), format!("Transfer-Encoding: chunked\r\n{claimed}")]
        {
            let mut client = connect(&app).await;
            let request = head(&fresh_key(), &format!("Connection: close\r\n{headers}")) + &chunked(bodies);
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = read_all(&mut client).await;
            assert!(answer.starts_with(answered), "{headers}: {answer}");
        }
    }
}

#[tokio::test]
async fn created_at_is_the_moment_when_the_whole_request_has_arrived() {
    let app = TestApp::start().await;
    let key = fresh_key();
    let mut client = connect(&app).await;
    let request = head(&key, &format!("Connection: close\r\nContent-Length: {}\r\n", ORDER.len()));
    client.write_all(format!("{request}{}", &ORDER[..40]).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before_rest = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    client.write_all(&ORDER.as_bytes()[40..]).await.unwrap();
    let answer = read_all(&mut client).await;
    let order: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let created_at: chrono::DateTime<chrono::Utc> = order["createdAt"].as_str().unwrap().parse().unwrap();
    // To the millisecond, the precision that is stored.
    assert!(created_at.timestamp_millis() >= before_rest, "{created_at} {before_rest}");
    let id: uuid::Uuid = order["orderId"].as_str().unwrap().parse().unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    assert_eq!(seconds as i64 * 1000 + i64::from(nanos / 1_000_000), created_at.timestamp_millis());
}

#[tokio::test]
async fn the_body_of_a_get_is_not_part_of_the_next_request() {
    let app = TestApp::start().await;
    for more in ["Content-Length: 5\r\n\r\nabcde", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"] {
        let mut client = connect(&app).await;
        let first = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{more}");
        let second = "GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
        let answers = read_all(&mut client).await;
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 404 "), "{answers}");
    }
}

#[tokio::test]
async fn a_query_and_a_condition_pass_the_host_unchanged() {
    let app = TestApp::start().await;
    for query in ["idempotencyKey=a+b", "limit=%2B5", "limit=05", "customerId=%ff", "customerId=%zz"] {
        app.get(&format!("/orders?{query}")).await.assert_problem(400, "invalid-parameter");
    }
    let location = app.place(&fresh_key(), ORDER).await.header("location").to_owned();
    let read = async |name: &str, tags: &str| {
        let request = app.http.get(format!("{}{location}", app.url)).header(name, tags);
        Answer::of(request.send().await.unwrap(), tags).await
    };
    read("if-match", "\"7\"").await.assert_problem(412, "precondition-failed");
    assert_eq!(read("if-match", "*").await.status, 200);
    assert_eq!(read("if-none-match", "\"1\"").await.status, 304);
    assert_eq!(read("if-none-match", "\"1\"").await.header("cache-control"), "private, no-cache, no-transform");
    let misspelt = app.http.post(format!("{}/orders", app.url)).header("x-idempotency-key", "k");
    let misspelt = misspelt.header("content-type", "application/json").body(ORDER).send().await.unwrap();
    let misspelt = Answer::of(misspelt, "x-idempotency-key").await;
    misspelt.assert_problem(400, "idempotency-key-missing");
    assert!(misspelt.body.contains("x-idempotency-key is not read"), "{}", misspelt.body);
    app.post("k", ORDER)
        .header("content-encoding", "gzip")
        .send()
        .await
        .map(|answer| assert_eq!(answer.status(), 415))
        .unwrap();
}
