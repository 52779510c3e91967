//! The API over stores in memory: every status, header and problem that needs no real store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "api/clients.rs"]
mod clients;
#[path = "api/feed.rs"]
mod feed;
mod golden;
#[path = "api/golden.rs"]
mod golden_orders;
mod in_memory;
#[path = "api/log.rs"]
mod log;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/routes.rs"]
mod routes;
#[path = "api/strictness.rs"]
mod strictness;

use bytes::Bytes;
use http::{Method, Request, Response};
use in_memory::{MERGE_PATCH, TestApp};
use order::api::MAX_BODY_BYTES;
use order::client::ClientName;
use order::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use order::order::Status;
use order::stores::{AnswerCache, StoreError};
use order::trace::Note;
use serde_json::{Value, json};
use uuid::Uuid;

const ORDER: &str =
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}"#;

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[track_caller]
fn assert_problem(response: &Response<Bytes>, status: u16, slug: &str) {
    let problem = json_of(response);
    assert_eq!(response.status(), status, "{problem}");
    assert_eq!(header(response, "content-type"), "application/problem+json");
    assert_eq!(problem["type"], format!("/problems/{slug}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
}

#[track_caller]
fn assert_replay_of(replay: &Response<Bytes>, first: &Response<Bytes>) {
    assert_eq!(replay.status(), 201);
    assert_eq!(replay.body(), first.body());
    for name in ["location", "etag", "content-type"] {
        assert!(!header(first, name).is_empty(), "{name}");
        assert_eq!(header(replay, name), header(first, name));
    }
    assert_eq!(header(replay, "idempotent-replayed"), "true");
}

#[tokio::test]
async fn a_first_order_is_placed() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    assert_eq!(first.status(), 201);
    assert_eq!(header(&first, "location"), "/orders/00000000-0000-0000-0000-000000000001");
    assert_eq!(header(&first, "etag"), "\"1\"");
    assert_eq!(header(&first, "idempotent-replayed"), "false");
    let expected = concat!(
        r#"{"orderId":"00000000-0000-0000-0000-000000000001","status":"created","version":1,"customerId":"c-42","#,
        r#""currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"totalAmount":119800,"#,
        r#""createdAt":"2025-11-23T12:00:00.124Z"}"#
    );
    assert_eq!(first.body(), expected);
}

#[tokio::test]
async fn a_replay_from_redis_touches_no_postgres() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    let statements = app.orders.statements.get();
    assert_replay_of(&app.place("\"k\"", &ORDER.replace(',', " , ")).await, &first);
    assert_eq!(app.orders.statements.get(), statements);
    assert_eq!(app.order_count(), 1);
}

#[tokio::test]
async fn a_replay_survives_the_loss_of_redis_and_heals_it() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    for garbage in [None, Some(b"garbage".to_vec()), Some(vec![])] {
        match garbage {
            None => app.answers.records.borrow_mut().clear(),
            Some(bytes) => drop(app.answers.records.borrow_mut().insert(":k".into(), bytes)),
        }
        assert_replay_of(&app.place("k", ORDER).await, &first);
        let statements = app.orders.statements.get();
        assert_replay_of(&app.place("k", ORDER).await, &first);
        assert_eq!(app.orders.statements.get(), statements, "the entry was written again");
    }
    app.answers.is_down.set(true);
    assert_replay_of(&app.place("k", ORDER).await, &first);
    assert_eq!(app.order_count(), 1);
}

#[tokio::test]
async fn an_entry_of_another_order_never_decides() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    let key = IdempotencyKey::parse(b"k").unwrap();
    let foreign = KeyRecord {
        fingerprint: Fingerprint([0; 32]),
        answer: order::idempotency::Answer { order_id: Uuid::nil(), body: Bytes::from_static(b"{}") },
    };
    app.answers.remember(&ClientName::default(), &key, &foreign).await;
    assert_replay_of(&app.place("k", ORDER).await, &first);
}

#[tokio::test]
async fn a_key_reused_with_another_order_is_refused() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    for redis_is_down in [false, true] {
        app.answers.is_down.set(redis_is_down);
        let refused = app.place("k", &ORDER.replace("59900", "59901")).await;
        assert_problem(&refused, 422, "idempotency-key-reused");
        assert_eq!(json_of(&refused)["orderId"], json!(Uuid::from_u128(1)));
    }
    assert_replay_of(&app.place("k", ORDER).await, &first);
    assert_eq!(app.order_count(), 1);
}

#[tokio::test]
async fn a_replay_gives_the_order_as_it_was_placed() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    {
        let mut rows = app.orders.rows.borrow_mut();
        rows[0].3.status = Status::Confirmed;
        rows[0].3.version = 2;
    }
    app.answers.records.borrow_mut().clear();
    assert_replay_of(&app.place("k", ORDER).await, &first);
    let now = app.get(header(&first, "location")).await;
    assert_eq!(header(&now, "etag"), "\"2\"");
    assert_eq!(json_of(&now)["status"], "confirmed");
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_unused() {
    let app = TestApp::default();
    assert_problem(&app.place("k", "{}").await, 422, "invalid-order");
    assert_problem(&app.place("k", "{").await, 400, "malformed-json");
    assert_eq!(app.orders.statements.get(), 0, "a refusal comes before any store");
    assert_eq!(header(&app.place("k", ORDER).await, "idempotent-replayed"), "false");
}

#[tokio::test]
async fn a_store_failure_is_not_stored_and_reveals_nothing_internal() {
    let app = TestApp::default();
    for (failure, status, slug, retry_after) in [
        (StoreError::Unavailable("secret".into()), 503, "store-unavailable", "1"),
        (StoreError::KeyInUse("secret".into()), 409, "idempotency-key-in-use", "1"),
        (StoreError::Broken("secret".into()), 500, "internal", ""),
    ] {
        *app.orders.failure.borrow_mut() = Some(failure);
        let failed = app.place("k", ORDER).await;
        assert_problem(&failed, status, slug);
        assert_eq!(header(&failed, "retry-after"), retry_after);
        assert!(!String::from_utf8_lossy(failed.body()).contains("secret"));
    }
    *app.orders.failure.borrow_mut() = None;
    assert!(app.answers.records.borrow().is_empty());
    assert_eq!(header(&app.place("k", ORDER).await, "idempotent-replayed"), "false");
}

#[test]
fn only_the_values_of_a_statement_are_its_own_fault() {
    let of = |code: &str| StoreError::of_sqlstate(Some(code).filter(|code| !code.is_empty()), "why".into());
    for code in ["22P02", "22021", "23502", "23505", "23514"] {
        assert_eq!(of(code), StoreError::Broken("why".into()), "{code}");
    }
    for code in
        ["", "0", "08006", "25006", "26000", "40001", "42P05", "53300", "55P03", "57014", "57P01", "XX000", "é00"]
    {
        assert_eq!(of(code), StoreError::Unavailable("why".into()), "{code}");
    }
    for code in ["42P01", "42703", "42P10", "42704", "42501", "42883", "42601"] {
        let StoreError::Unavailable(cause) = of(code) else { panic!("{code}") };
        assert!(cause.contains("missing") && cause.ends_with("why"), "{code}: {cause}");
    }
}

#[tokio::test]
async fn what_redis_knows_is_replayed_without_postgres() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    *app.orders.failure.borrow_mut() = Some(StoreError::Unavailable(String::new()));
    assert_replay_of(&app.place("k", ORDER).await, &first);
}

#[tokio::test]
async fn the_key_header_is_required_once_and_well_formed() {
    let app = TestApp::default();
    let post = || Request::post("/orders").header("content-type", "application/json");
    let body = || Bytes::from_static(ORDER.as_bytes());
    assert_problem(&app.send(post().body(body()).unwrap()).await, 400, "idempotency-key-missing");
    let twice = post().header("idempotency-key", "a").header("idempotency-key", "a").body(body()).unwrap();
    assert_problem(&app.send(twice).await, 400, "idempotency-key-invalid");
    for key in ["", "a,b", "\"a", "\"a\"b", "\"\""] {
        assert_problem(&app.place(key, ORDER).await, 400, "idempotency-key-invalid");
    }
    assert_eq!(app.order_count(), 0);
}

#[tokio::test]
async fn only_json_of_a_bounded_size_is_read() {
    let app = TestApp::default();
    for media_type in ["text/plain", "application/jsonp", "", "application/merge-patch+json"] {
        let request = Request::post("/orders").header("idempotency-key", "k").header("content-type", media_type);
        let refused = app.send(request.body(Bytes::from_static(ORDER.as_bytes())).unwrap()).await;
        assert_problem(&refused, 415, "unsupported-media-type");
    }
    let request = Request::post("/orders")
        .header("idempotency-key", "k")
        .header("content-type", "Application/JSON ; charset=utf-8");
    assert_eq!(app.send(request.body(Bytes::from_static(ORDER.as_bytes())).unwrap()).await.status(), 201);
    let padded = |length: usize| format!("{ORDER}{}", " ".repeat(length - ORDER.len()));
    assert_eq!(app.place("l", &padded(MAX_BODY_BYTES)).await.status(), 201);
    assert_problem(&app.place("m", &padded(MAX_BODY_BYTES + 1)).await, 413, "payload-too-large");
}

#[tokio::test]
async fn an_invalid_order_names_each_fault_by_its_pointer() {
    let app = TestApp::default();
    let refused = app
        .place("k", r#"{"customerId":"c","currency":"RUB","items":[{"sku":"a","quantity":0,"unitAmount":-1}]}"#)
        .await;
    assert_problem(&refused, 422, "invalid-order");
    let errors = json_of(&refused)["errors"].clone();
    assert_eq!(errors[0], json!({"pointer": "/items/0/quantity", "detail": "must be from 1 to 10000"}));
    assert_eq!(errors[1]["pointer"], "/items/0/unitAmount");
}

#[tokio::test]
async fn an_order_is_shown_under_its_location_and_etag() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    let location = header(&first, "location");
    let shown = app.get(location).await;
    assert_eq!((shown.status().as_u16(), header(&shown, "etag")), (200, "\"1\""));
    assert_eq!(shown.body(), first.body());
    for (tags, status) in
        [("\"1\"", 304), ("W/\"1\"", 304), ("\"0\", \"1\"", 304), ("*", 304), ("\"2\"", 200), ("1", 200)]
    {
        let request = Request::get(location).header("if-none-match", tags).body(Bytes::new()).unwrap();
        let response = app.send(request).await;
        assert_eq!((response.status().as_u16(), header(&response, "etag")), (status, "\"1\""), "{tags}");
        assert_eq!(response.body().is_empty(), status == 304);
    }
    for id in ["x", "00000000-0000-0000-0000-00000000ffff", "00000000000000000000000000000001"] {
        assert_problem(&app.get(&format!("/orders/{id}")).await, 404, "order-not-found");
    }
}

#[tokio::test]
async fn the_list_is_paged_newest_first() {
    let app = TestApp::default();
    for at in 0..5 {
        app.place(&format!("k{at}"), &ORDER.replace("c-42", if at == 4 { "other" } else { "c 42&" })).await;
    }
    let mut path = "/orders?customerId=c%2042%26&limit=3".to_owned();
    let page = app.get(&path).await;
    let link = header(&page, "link");
    let ids = |page: &Response<Bytes>| -> Vec<String> {
        json_of(page)["orders"].as_array().unwrap().iter().map(|order| order["orderId"].to_string()).collect()
    };
    assert_eq!(ids(&page).len(), 3);
    assert!(ids(&page).is_sorted_by(|newer, older| newer > older));
    path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    assert!(path.contains(json_of(&page)["nextCursor"].as_str().unwrap()));
    let last = app.get(&path).await;
    assert_eq!(ids(&last).len(), 1);
    assert!(json_of(&last).get("nextCursor").is_none() && header(&last, "link").is_empty());
    assert_eq!(ids(&app.get("/orders?idempotencyKey=k4").await).len(), 1);
    assert_eq!(ids(&app.get("/orders?idempotencyKey=%22k4%22&status=created").await).len(), 1);
    assert_eq!(ids(&app.get("/orders?status=cancelled").await).len(), 0);
    assert_eq!(ids(&app.get("/orders?limit=100").await).len(), 5);
}

const CONFIRM: &str = r#"{"status":"confirmed"}"#;
const CANCEL: &str = r#"{"status":"cancelled"}"#;

#[tokio::test]
async fn a_change_raises_the_version_and_is_found_again() {
    let app = TestApp::default();
    let placed = app.place("k", ORDER).await;
    let location = header(&placed, "location");
    let confirmed = app.patch(location, "\"1\"", CONFIRM).await;
    assert_eq!((confirmed.status().as_u16(), header(&confirmed, "etag")), (200, "\"2\""));
    let expected =
        String::from_utf8_lossy(placed.body()).replace(r#""created","version":1"#, r#""confirmed","version":2"#);
    assert_eq!(confirmed.body(), expected.as_bytes());
    assert_eq!(app.get(location).await.body(), confirmed.body());
    assert_eq!(json_of(&app.get("/orders?status=confirmed").await)["orders"][0], json_of(&confirmed));
    let cancelled = app.patch(location, "\"2\"", CANCEL).await;
    assert_eq!((cancelled.status().as_u16(), header(&cancelled, "etag")), (200, "\"3\""));
    assert_replay_of(&app.place("k", ORDER).await, &placed);
    app.answers.records.borrow_mut().clear();
    assert_replay_of(&app.place("k", ORDER).await, &placed);
}

#[tokio::test]
async fn a_lost_answer_to_a_change_may_be_retried_blindly() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    app.orders.loses_replies.set(true);
    assert_problem(&app.patch(&location, "\"1\"", CONFIRM).await, 503, "store-unavailable");
    app.orders.loses_replies.set(false);
    let first = app.patch(&location, "\"1\"", CONFIRM).await;
    assert_eq!((first.status().as_u16(), header(&first, "etag")), (200, "\"2\""));
    let again = app.patch(&location, "\"1\"", CONFIRM).await;
    assert_eq!((again.status(), again.headers(), again.body()), (first.status(), first.headers(), first.body()));
    let cancelled = app.patch(&location, "\"2\"", CANCEL).await;
    let again = app.patch(&location, "\"2\"", CANCEL).await;
    assert_eq!(
        (again.status(), again.headers(), again.body()),
        (cancelled.status(), cancelled.headers(), cancelled.body())
    );
    // Too late for the first change: the order has changed since.
    assert_problem(&app.patch(&location, "\"1\"", CONFIRM).await, 412, "precondition-failed");
    // The requested status, but from another version than the change began with: not a repeat.
    assert_problem(&app.patch(&location, "\"1\"", CANCEL).await, 412, "precondition-failed");
}

#[tokio::test]
async fn a_change_of_another_version_is_refused_with_the_present_etag() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    app.patch(&location, "\"1\"", CONFIRM).await;
    for tags in [
        "\"1\"",
        "\"3\"",
        "W/\"1\"",
        "W/2",
        "w/\"2\"",
        "W/W/\"2\"",
        "\"2-gzip\"",
        "2",
        "\"02\"",
        "\"+2\"",
        "\"x\"",
        "\"99999999999999999999\"",
        "\"0\", \"1\"",
    ] {
        let refused = app.patch(&location, tags, CANCEL).await;
        assert_problem(&refused, 412, "precondition-failed");
        assert_eq!(header(&refused, "etag"), "\"2\"", "{tags}");
    }
    assert_eq!(app.patch(&location, "\"7\" ,, W/\"1\", W/\"2\"", CANCEL).await.status(), 200);
    // Its repeat, with the tag of the first one.
    assert_eq!(app.patch(&location, "W/\"2\"", CANCEL).await.status(), 200);
}

#[tokio::test]
async fn a_fresh_order_is_no_repeat_of_a_change_to_created() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    let refused = app.patch(&location, "\"0\"", r#"{"status":"created"}"#).await;
    assert_problem(&refused, 412, "precondition-failed");
}

#[tokio::test]
async fn only_three_moves_are_allowed() {
    let statuses = [Status::Created, Status::Confirmed, Status::Cancelled];
    for (from, to) in statuses.iter().flat_map(|from| statuses.map(|to| (*from, to))) {
        let app = TestApp::default();
        let location = header(&app.place("k", ORDER).await, "location").to_owned();
        app.orders.rows.borrow_mut()[0].3.status = from;
        let answer = app.patch(&location, "\"1\"", &format!(r#"{{"status":"{}"}}"#, to.as_str())).await;
        let allowed = matches!(
            (from, to),
            (Status::Created, Status::Confirmed | Status::Cancelled) | (Status::Confirmed, Status::Cancelled)
        );
        if allowed {
            assert_eq!(answer.status(), 200, "{from:?} to {to:?}");
        } else {
            assert_problem(&answer, 409, "transition-not-allowed");
            assert_eq!(app.orders.rows.borrow()[0].3.version, 1);
        }
    }
}

#[tokio::test]
async fn a_malformed_change_never_reaches_the_store() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    let statements = app.orders.statements.get();
    let patch = |media_type: &str, tags: Option<&str>, body: &str| {
        let request = Request::patch(&location).header("content-type", media_type);
        let request = tags.into_iter().fold(request, |request, tag| request.header("if-match", tag));
        request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    };
    for media_type in ["application/json", "", "application/json-patch+json"] {
        let refused = app.send(patch(media_type, Some("\"1\""), CONFIRM)).await;
        assert_problem(&refused, 415, "unsupported-media-type");
        assert_eq!(header(&refused, "accept-patch"), MERGE_PATCH);
    }
    for tags in [None, Some("*"), Some(""), Some("\"1\", *")] {
        assert_problem(&app.send(patch(MERGE_PATCH, tags, CONFIRM)).await, 428, "precondition-required");
    }
    assert_problem(&app.patch(&location, "\"1\"", "{").await, 400, "malformed-json");
    for (body, pointers) in [
        ("{}", &["/status"][..]),
        ("[]", &[""]),
        ("null", &[""]),
        (r#"{"status":null}"#, &["/status"]),
        (r#"{"status":1}"#, &["/status"]),
        (r#"{"status":"shipped"}"#, &["/status"]),
        (r#"{"status":"Confirmed"}"#, &["/status"]),
        (r#"{"status":"confirmed","status":"cancelled"}"#, &["/status"]),
        (r#"{"status":"confirmed","comment":null,"version":2}"#, &["/comment", "/version"]),
        (r#"{"Status":"confirmed"}"#, &["/Status", "/status"]),
    ] {
        let refused = app.patch(&location, "\"1\"", body).await;
        assert_problem(&refused, 422, "invalid-order");
        let errors = json_of(&refused)["errors"].clone();
        let found: Vec<_> = errors.as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
        assert_eq!(found, pointers, "{body}");
    }
    let long = format!("{CONFIRM}{}", " ".repeat(MAX_BODY_BYTES));
    assert_problem(&app.patch(&location, "\"1\"", &long).await, 413, "payload-too-large");
    assert_problem(&app.patch("/orders/x", "\"1\"", CONFIRM).await, 404, "order-not-found");
    assert_eq!(app.orders.statements.get(), statements);
    let unknown = format!("/orders/{}", Uuid::from_u128(99));
    assert_problem(&app.patch(&unknown, "\"1\"", CONFIRM).await, 404, "order-not-found");
    let respelled = r#" {"status" : "\u0063onfirmed"} "#;
    let parameters = patch("Application/Merge-Patch+JSON; charset=utf-8", Some("\"1\""), respelled);
    assert_eq!(app.send(parameters).await.status(), 200);
}

#[tokio::test]
async fn a_change_whose_outcome_is_unknown_is_503() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    *app.orders.failure.borrow_mut() = Some(StoreError::Unavailable("secret".into()));
    let failed = app.patch(&location, "\"1\"", CONFIRM).await;
    assert_problem(&failed, 503, "store-unavailable");
    assert_eq!(header(&failed, "retry-after"), "1");
}

#[tokio::test]
async fn a_bad_parameter_is_refused() {
    let app = TestApp::default();
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1&limit=1",
        "cursor=x",
        "cursor=",
        "status=new",
        "customerId=",
        "customerId=%00",
        "idempotencyKey=a,b",
        "idempotencyKey=",
        "colour=red",
        "=",
        "%FF%FE",
    ] {
        assert_problem(&app.get(&format!("/orders?{query}")).await, 400, "invalid-parameter");
    }
    assert_eq!(app.orders.statements.get(), 0);
    assert_eq!(app.get("/orders?").await.status(), 200);
}

#[tokio::test]
async fn readiness_follows_the_stores() {
    let app = TestApp::default();
    for (redis_is_down, failure, status, body) in [
        (false, None, 200, json!({"status": "ready", "postgres": "up", "redis": "up"})),
        (true, None, 200, json!({"status": "degraded", "postgres": "up", "redis": "down"})),
        (
            false,
            Some(StoreError::Broken(String::new())),
            503,
            json!({"status": "unavailable", "postgres": "down", "redis": "up"}),
        ),
    ] {
        app.answers.is_down.set(redis_is_down);
        *app.orders.failure.borrow_mut() = failure;
        let response = app.get("/readyz").await;
        assert_eq!((response.status().as_u16(), json_of(&response)), (status, body));
        assert_eq!(app.get("/healthz").await.status(), 200);
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let app = TestApp::default();
    for (method, path, allow) in [
        ("DELETE", "/orders", "GET, HEAD, POST"),
        ("PUT", "/orders/1", "GET, HEAD, PATCH"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/openapi.yaml", "GET, HEAD"),
        ("DELETE", "/problems/", "GET, HEAD"),
        ("PUT", "/problems/internal", "GET, HEAD"),
        ("BREW", "/orders", "GET, HEAD, POST"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let refused = app.send(request).await;
        assert_problem(&refused, 405, "method-not-allowed");
        assert_eq!(header(&refused, "allow"), allow);
    }
    for path in ["/nowhere", "/orders/1/2", "//orders", "/ORDERS", "/problems/x", "/problems/internal/", "//"] {
        assert_problem(&app.get(path).await, 404, "not-found");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let app = TestApp::default();
    let first = app.place("k", ORDER).await;
    let pages = ["/", "/openapi.yaml", "/problems/", "/problems/internal", "/problems/nothing"];
    for path in
        [header(&first, "location"), "/orders", "/events", "/healthz", "/readyz", "/nowhere"].into_iter().chain(pages)
    {
        let get = app.get(path).await;
        let head = app.send(Request::head(path).body(Bytes::new()).unwrap()).await;
        assert_eq!((head.status(), head.headers()), (get.status(), get.headers()), "{path}");
        assert!(head.body().is_empty());
    }
}

#[tokio::test]
async fn with_a_setting_that_does_not_parse_only_the_orders_are_unavailable() {
    let app = TestApp::default();
    app.invalid_setting.set(Some("pg_address"));
    for path in ["/", "/healthz", "/openapi.yaml", "/problems/", "/problems/internal"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
    let readiness = app.get("/readyz").await;
    let unavailable = json!({"status": "unavailable", "postgres": "down", "redis": "down"});
    assert_eq!((readiness.status().as_u16(), json_of(&readiness)), (503, unavailable));
    let cause = |response: &Response<Bytes>| response.extensions().get::<Note>().and_then(|note| note.cause.clone());
    assert_eq!(cause(&readiness).as_deref(), Some("variable pg_address: is wrong"));

    let order = format!("/orders/{}", Uuid::nil());
    // Before anything else of the request is checked.
    for response in [
        app.get("/orders").await,
        app.get("/orders?limit=none").await,
        app.get(&order).await,
        app.get("/orders/no-id").await,
        app.place("k", ORDER).await,
        app.place("", "{}").await,
        app.patch(&order, "\"1\"", r#"{"status":"confirmed"}"#).await,
    ] {
        assert_problem(&response, 500, "internal");
        assert!(!String::from_utf8_lossy(response.body()).contains("pg_address"));
        assert_eq!(cause(&response).as_deref(), Some("variable pg_address: is wrong"));
    }
    assert_eq!((app.order_count(), app.orders.statements.get()), (0, 0));
}
