//! What the component writes to its log: one JSON line for each request, and one for each problem a request recovered from.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;

use super::support::*;

async fn next(lines: &mut Lines<impl AsyncBufRead + Unpin>) -> (String, Value) {
    let line = loop {
        let line = tokio::time::timeout(CLIENT_TIMEOUT, lines.next_line()).await.expect("a line");
        let line = line.unwrap().unwrap();
        // Spin prints a line of its own.
        if line.starts_with('{') {
            break line;
        }
    };
    let json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
    (line, json)
}

/// The members that are the same in every run.
fn stable(line: &Value) -> Value {
    let names = ["level", "event", "method", "route", "status", "outcome", "problem", "order_id", "key"];
    let members = names.iter().filter_map(|name| Some(((*name).to_owned(), line.get(name)?.clone())));
    Value::Object(members.collect())
}

/// A service, its address, and the lines of its log.
async fn service_and_log(variables: &[(&str, &str)]) -> (Service, String, Lines<BufReader<ChildStderr>>) {
    let mut service = Service::start(Path::new("spin.toml"), variables, Stdio::piped()).await;
    let log = BufReader::new(service.process.stderr.take().unwrap()).lines();
    let url = service.url.clone();
    (service, url, log)
}

#[tokio::test]
async fn each_request_leaves_one_line_and_no_secret() {
    // Redis is a port without a listener, so each request also logs a trouble.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let variables =
        [("SPIN_VARIABLE_REDIS_ADDRESS", &*redis_address(closed)), ("SPIN_VARIABLE_REDIS_PASSWORD", "a-redis-secret")];
    let (_service, url, mut log) = service_and_log(&variables).await;
    let http = client();

    // Every printable character that JSON escapes, within the first eight.
    let secret = fresh_key();
    let key = format!("\"\\\"\\\\{{'{secret}\"");
    let start = format!("\"\\{{'{}", &secret[..4]);
    let place = |body: &str| {
        let request = http.post(format!("{url}/orders?x=hidden")).header("Idempotency-Key", &key);
        request.header("Content-Type", "application/json").body(body.to_owned()).send()
    };
    let mut order_id = Value::Null;
    for (body, status, outcome, problem) in [
        (ORDER, 201, "placed", None),
        (ORDER, 201, "replayed from postgres", None),
        (&ORDER.replace("59900", "1"), 422, "key reused", Some("idempotency-key-reused")),
        ("{}", 422, "refused", Some("invalid-order")),
    ] {
        let answer: Value = place(body).await.unwrap().json().await.unwrap();
        if order_id.is_null() {
            order_id = answer["orderId"].clone();
        }
        let mut warnings = 0;
        let (text, line) = loop {
            let (text, line) = next(&mut log).await;
            if line["level"] != "warn" {
                break (text, line);
            }
            warnings += 1;
            assert!(line["event"].as_str().unwrap().starts_with("redis ") && line["cause"] != "", "{text}");
            assert!(!text.contains("a-redis-secret") && !text.contains(&secret), "{text}");
        };
        let mut expected = json!({
            "level": "info", "event": "request", "method": "POST", "route": "/orders", "status": status,
            "outcome": outcome, "key": start,
        });
        if let Some(slug) = problem {
            expected["problem"] = slug.into();
        }
        if status == 201 {
            expected["order_id"] = order_id.clone();
        }
        assert_eq!(stable(&line), expected, "{text}");
        let asked_the_stores = outcome != "refused";
        // Only one: if opening Redis failed, the same request does not try again.
        assert_eq!(warnings, u32::from(asked_the_stores), "{text}");
        assert_eq!(line.get("redis_ms").is_some() && line.get("pg_ms").is_some(), asked_the_stores, "{text}");
        let spent = line["redis_ms"].as_f64().unwrap_or_default() + line["pg_ms"].as_f64().unwrap_or_default();
        assert!(line["duration_ms"].as_f64().unwrap() >= spent, "{text}");
        for hidden in [&secret, "c-42", "BOOK-1", "x=hidden", &variable("SPIN_VARIABLE_PG_PASSWORD")] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }

    let path = format!("/orders/{}", order_id.as_str().unwrap());
    let patch = |if_match: &str| {
        let request = http.patch(format!("{url}{path}")).header("If-Match", if_match);
        request.header("Content-Type", "application/merge-patch+json").body(r#"{"status":"confirmed"}"#).send()
    };
    for (if_match, status, outcome, problem) in [
        ("\"1\"", 200, "changed", None),
        ("\"1\"", 200, "change repeated", None),
        ("\"9\"", 412, "refused", Some("precondition-failed")),
    ] {
        patch(if_match).await.unwrap();
        let (text, line) = next(&mut log).await;
        let mut expected = json!({
            "level": "info", "event": "request", "method": "PATCH", "route": "/orders/{orderId}", "status": status,
            "outcome": outcome, "order_id": order_id,
        });
        if let Some(slug) = problem {
            expected["problem"] = slug.into();
        }
        assert_eq!(stable(&line), expected, "{text}");
    }
    http.get(format!("{url}/no/such/path")).send().await.unwrap();
    let (_, line) = next(&mut log).await;
    assert_eq!(
        (&line["route"], &line["outcome"], &line["problem"]),
        (&json!("*"), &json!("refused"), &json!("not-found"))
    );
}

#[tokio::test]
async fn a_failure_is_logged_with_its_cause() {
    let (_service, url, mut log) = service_and_log(&[("SPIN_VARIABLE_PG_PASSWORD", "wrong-password")]).await;
    for path in ["/orders", "/readyz"] {
        assert_eq!(client().get(format!("{url}{path}")).send().await.unwrap().status(), 503);
        let (text, line) = next(&mut log).await;
        let expected = (&json!("error"), &json!("failed"), &json!(path));
        assert_eq!((&line["level"], &line["outcome"], &line["route"]), expected, "{text}");
        assert!(!line["cause"].as_str().unwrap().is_empty() && !text.contains("wrong-password"), "{text}");
    }
}

#[tokio::test]
async fn a_silent_redis_is_logged_once() {
    // Accepts a connection and sends nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = redis_address(silent.local_addr().unwrap().port());
    let (_service, url, mut log) = service_and_log(&[("SPIN_VARIABLE_REDIS_ADDRESS", &address)]).await;
    let mut warnings = Vec::new();
    for _ in 0..5 {
        let request = client().post(format!("{url}/orders")).header("Idempotency-Key", fresh_key());
        let answer = request.header("Content-Type", "application/json").body(ORDER).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        while let (_, line) = next(&mut log).await
            && line["level"] == "warn"
        {
            warnings.push(line["event"].clone());
        }
    }
    assert_eq!(warnings, [json!("redis left alone")]);
}
