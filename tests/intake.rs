//! Orders through the queue, over streams and stores in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod in_memory;
#[path = "intake/queue.rs"]
mod queue;
#[path = "intake/results.rs"]
mod results;
#[path = "intake/suspects.rs"]
mod suspects;

use bytes::Bytes;
use http::Request;
use in_memory::{TestApp, at_once};
use order::api::MAX_BODY_BYTES;
use order::client::{ClientName, Clients};
use order::intake::CommandResult;
use order::order::Timestamp;
use order::stores::StoreError;
use queue::Queue;
use uuid::Uuid;

const ORDER: &str =
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}"#;

/// SHA-256 of `test`.
const WEB: &str = "web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn unavailable() -> Option<StoreError> {
    Some(StoreError::Unavailable("away".into()))
}

#[tokio::test]
async fn a_command_takes_three_writes_in_this_order_and_gets_the_answer_of_a_post() {
    let queue = Queue::new();
    let id = queue.place("\"k-1\"", ORDER);
    queue.ring().await;
    assert_eq!(*queue.writes.borrow(), ["order", "result", "removal"]);
    assert!(queue.is_settled());
    let replay = at_once(queue.app.place("k-1", ORDER));
    assert_eq!(replay.headers()["idempotent-replayed"], "true");
    let result = queue.results.borrow()[0].clone();
    let (command, client, key) = (id, ClientName::default(), Some("\"k-1\"".to_owned()));
    let body = replay.into_body();
    assert_eq!(result, CommandResult { command, client, key, status: 201, body: body.clone(), is_replay: false });
    let body = str::from_utf8(&body).unwrap().to_owned();
    let fields = [("command", id.to_string()), ("client", String::new()), ("key", "\"k-1\"".into())];
    let answer = [("status", "201".to_owned()), ("body", body), ("replayed", "false".into())];
    assert_eq!(result.fields(), [fields, answer].concat());
}

#[tokio::test]
async fn every_body_and_every_key_get_what_they_get_over_http() {
    let (queue, http) = (Queue::new(), TestApp::default());
    let same = Some((Uuid::from_u128(7), Timestamp::default()));
    queue.app.fixed.set(same);
    http.fixed.set(same);
    let large = format!("{ORDER}{}", " ".repeat(MAX_BODY_BYTES));
    let bodies = [ORDER, "", "{", "[]", "{\"customerId\":1}", &ORDER.replace("RUB", "rub"), &large, "\u{0}"];
    let keys = ["k", " k\t", "\"k\"", "\"k\";a=1", "a,b", "\"a", "", &"k".repeat(256), "\"\\x\""];
    for (key, body) in bodies.map(|body| ("k", body)).into_iter().chain(keys.map(|key| (key, ORDER))) {
        queue.place(key, body);
        queue.ring().await;
        let answer = at_once(http.place(key, body));
        let result = queue.results.borrow().last().unwrap().clone();
        assert_eq!((result.status, &result.body), (answer.status().as_u16(), answer.body()), "{key:?} {body:?}");
        let replayed = answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        assert_eq!(result.is_replay, replayed, "{key:?} {body:?}");
    }
    assert_eq!((queue.app.order_count(), queue.is_settled()), (1, true));
}

#[tokio::test]
async fn a_key_or_a_token_that_no_header_could_carry_is_refused_like_any_other() {
    let queue = Queue::new();
    for key in ["k\n", "\u{0}", "\"\u{7f}\"", "\r\n"] {
        queue.place(key, ORDER);
        queue.ring().await;
        assert_eq!(queue.slug(), "idempotency-key-invalid", "{key:?}");
    }
    queue.app.clients.replace(Clients::parse(&format!("web:{}", "0".repeat(64))).unwrap());
    queue.add(&[("key", b"k"), ("order", ORDER.as_bytes()), ("token", b"a\nb")]);
    queue.ring().await;
    assert_eq!((queue.slug().as_str(), queue.app.order_count()), ("unauthorized", 0));
}

#[tokio::test]
async fn a_token_names_the_client_and_comes_before_all_else() {
    let queue = Queue::new();
    queue.app.clients.replace(Clients::parse(WEB).unwrap());
    let (key, order) = (("key", &b"k"[..]), ("order", ORDER.as_bytes()));
    for (fields, status) in [
        (&[key, order][..], 401),
        (&[key, order, ("token", b"other")], 401),
        (&[key, order, ("token", b"")], 401),
        (&[key, order, ("token", b"test"), ("token", b"test")], 401),
        (&[("token", b"other")], 401),
        (&[("token", b"test")], 400),
        (&[key, order, ("token", b"test")], 201),
    ] {
        queue.add(fields);
        queue.ring().await;
        assert_eq!(queue.statuses().pop(), Some(status), "{fields:?}");
    }
    let rows = queue.app.orders.rows.borrow();
    assert_eq!(rows.iter().map(|(client, ..)| client.as_str()).collect::<Vec<_>>(), ["web"]);
    assert!(queue.is_settled());
}

#[tokio::test]
async fn a_field_may_be_unknown_but_neither_missing_nor_doubled() {
    let queue = Queue::new();
    let (key, order) = (("key", &b"k"[..]), ("order", ORDER.as_bytes()));
    for (fields, slug) in [
        (&[order][..], "idempotency-key-missing"),
        (&[key], "malformed-json"),
        (&[key, key, order], "idempotency-key-invalid"),
        (&[key, order, order], "malformed-json"),
        (&[("Key", b"k"), order], "idempotency-key-missing"),
        (&[], "idempotency-key-missing"),
    ] {
        queue.add(fields);
        queue.ring().await;
        assert_eq!(queue.slug(), slug, "{fields:?}");
    }
    assert_eq!((queue.app.order_count(), queue.is_settled()), (0, true));
    queue.add(&[("trace", b"\xff"), key, ("token", b"of nobody"), order, ("trace", b"")]);
    queue.ring().await;
    assert_eq!((queue.statuses().pop(), queue.app.order_count()), (Some(201), 1));
}

#[tokio::test]
async fn a_command_sent_twice_or_also_over_http_places_one_order() {
    let queue = Queue::new();
    let first = at_once(queue.app.place("k", ORDER)).into_body();
    for _ in 0..3 {
        queue.place("k", ORDER);
    }
    queue.place("k", &ORDER.replace("59900", "59901"));
    queue.ring().await;
    let mut statuses = queue.statuses();
    statuses.sort();
    assert_eq!((statuses, queue.app.order_count()), (vec![201, 201, 201, 422], 1));
    let results = queue.results.borrow();
    assert!(results.iter().all(|result| result.status == 422 || result.is_replay && result.body == first));
}

#[tokio::test]
async fn an_outage_leaves_commands_for_later_and_takes_no_more_than_the_workers_have() {
    let queue = Queue::new();
    (0..40).for_each(|at| _ = queue.place(&format!("k-{at}"), ORDER));
    queue.app.orders.failure.replace(unavailable());
    queue.ring().await;
    assert_eq!((queue.pending.borrow().len(), queue.given.get(), queue.statuses()), (16, 16, vec![]));
    assert_eq!((queue.left().len(), queue.reports.borrow().len()), (40, 0));
    queue.app.orders.failure.replace(None);
    queue.ring().await;
    assert_eq!((queue.is_settled(), queue.statuses(), queue.app.order_count()), (true, vec![201; 40], 40));
}

#[tokio::test]
async fn a_reply_that_was_lost_settles_to_one_order() {
    let queue = Queue::new();
    queue.place("k", ORDER);
    queue.app.orders.loses_replies.set(true);
    queue.ring().await;
    assert_eq!((queue.statuses(), queue.app.order_count(), queue.is_settled()), (vec![], 1, false));
    queue.app.orders.loses_replies.set(false);
    queue.ring().await;
    assert_eq!((queue.statuses(), queue.app.order_count(), queue.is_settled()), (vec![201], 1, true));
    assert!(queue.results.borrow()[0].is_replay);
}

#[tokio::test]
async fn a_key_in_use_is_left_for_later_and_does_not_stop_its_worker() {
    let queue = Queue::new();
    (0..40).for_each(|at| _ = queue.place(&format!("k-{at}"), ORDER));
    queue.app.orders.failure.replace(Some(StoreError::KeyInUse("held".into())));
    queue.ring().await;
    assert_eq!((queue.given.get(), queue.pending.borrow().len(), queue.statuses()), (40, 40, vec![]));
    queue.app.orders.failure.replace(None);
    queue.ring().await;
    assert_eq!((queue.is_settled(), queue.statuses()), (true, vec![201; 40]));
}

#[tokio::test]
async fn a_ring_for_nothing_costs_two_calls_and_a_full_stream_has_sixteen_workers() {
    let queue = Queue::new();
    queue.ring().await;
    assert_eq!(queue.calls.get(), 2);
    // More than a round, so that the drain continues by itself.
    (0..2500).for_each(|at| _ = queue.place(&format!("k-{at}"), ORDER));
    queue.ring().await;
    assert_eq!((queue.app.order_count(), queue.most_in_work.get(), queue.is_settled()), (2500, 16, true));
}

#[tokio::test]
async fn streams_that_fail_at_any_call_lose_nothing() {
    let commands = |queue: &Queue| (0..20).for_each(|at| _ = queue.place(&format!("k-{}", at % 15), ORDER));
    let dry = Queue::new();
    commands(&dry);
    dry.ring().await;
    for from in 1..=dry.calls.get() {
        let queue = Queue::new();
        commands(&queue);
        queue.fails_from.set(from);
        queue.ring().await;
        assert_eq!(queue.reports.borrow().len(), 1, "from {from}");
        assert_eq!(queue.reports.borrow()[0], "commands left for later: store unavailable: no streams");
        queue.fails_from.set(usize::MAX);
        queue.ring().await;
        assert!(queue.is_settled(), "from {from}");
        assert_eq!(queue.app.order_count(), 15, "from {from}");
        assert!(queue.statuses().len() >= 20 && queue.statuses().iter().all(|status| *status == 201), "from {from}");
    }
}

/// Commutativity: in whatever order commands come, and however often, the same orders are placed.
#[tokio::test]
async fn any_order_of_commands_leaves_the_same_orders() {
    let mut random = fastrand::Rng::with_seed(19);
    let mut commands: Vec<_> =
        (0..30).map(|at| (format!("k-{}", at % 20), ORDER.replace("BOOK-1", &format!("BOOK-{}", at % 20)))).collect();
    let mut expected = None;
    for _ in 0..50 {
        random.shuffle(&mut commands);
        let queue = Queue::new();
        for (at, (key, order)) in commands.iter().enumerate() {
            if at % 7 == 3 {
                let request = Request::post("/orders").header("Idempotency-Key", key);
                let request = request.header("Content-Type", "application/json");
                at_once(queue.app.send(request.body(Bytes::from(order.clone())).unwrap()));
            } else {
                queue.place(key, order);
            }
            if random.u8(..4) == 0 {
                queue.ring().await;
            }
        }
        queue.ring().await;
        let rows = queue.app.orders.rows.borrow();
        let mut orders: Vec<_> = rows.iter().map(|(_, key, print, _)| (key.clone(), print.0)).collect();
        orders.sort();
        assert_eq!(orders.len(), 20);
        assert_eq!(*expected.get_or_insert_with(|| orders.clone()), orders);
    }
}
