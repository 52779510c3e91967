//! The log line of a request.

use std::time::Duration;

use super::*;
use order::order::Timestamp;
use order::trace::{Measured, Outcome, key_prefix, request_line};

fn line(response: &Response<()>) -> Value {
    let measured = Measured {
        at: Timestamp::from_timestamp_millis(1_795_435_200_123).unwrap(),
        duration: Duration::from_nanos(1_234_567),
        redis: Duration::from_micros(310),
        postgres: Duration::ZERO,
    };
    let method = Method::from_bytes(b"BREW").unwrap();
    serde_json::from_str(&request_line(&method, "/orders", response, &measured)).unwrap()
}

#[test]
fn a_line_has_what_is_known_and_nothing_empty() {
    let mut response = Response::new(());
    *Note::on(&mut response) = Note {
        outcome: Some(Outcome::ReplayedFromRedis),
        order_id: Some(Uuid::nil()),
        key: Some(key_prefix(&IdempotencyKey::parse(br#""\"}\\{0123456789""#).unwrap())),
        ..Note::default()
    };
    let expected = json!({
        "time": "2026-11-23T12:00:00.123Z", "level": "info", "event": "request", "method": "other",
        "route": "/orders", "status": 200, "outcome": "replayed from redis",
        "order_id": "00000000-0000-0000-0000-000000000000", "key": r#""}\{0123"#, "duration_ms": 1.234, "redis_ms": 0.31,
    });
    assert_eq!(line(&response), expected);
}

#[test]
fn without_an_outcome_the_status_tells_it() {
    for (status, slug, outcome, level) in [
        (200, None, "answered", "info"),
        (304, None, "answered", "info"),
        (404, Some("order-not-found"), "refused", "info"),
        (422, Some("idempotency-key-reused"), "key reused", "info"),
        (503, None, "failed", "error"),
        (500, Some("internal"), "failed", "error"),
    ] {
        let mut response = Response::builder().status(status).body(()).unwrap();
        Note::on(&mut response).problem = slug;
        let line = line(&response);
        assert_eq!((&line["outcome"], &line["level"]), (&json!(outcome), &json!(level)), "{status}");
        assert_eq!(line.get("problem"), slug.map(|slug| json!(slug)).as_ref());
    }
}

#[test]
fn a_key_is_never_logged_whole() {
    for (key, start) in [("0123456789", "01234567"), ("012345678", "01234567"), ("01234567", "0123"), ("a", "")] {
        assert_eq!(key_prefix(&IdempotencyKey::parse(key.as_bytes()).unwrap()), start);
    }
}
