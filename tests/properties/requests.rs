//! Whole requests, one at a time and in series with faults between them.

use bytes::Bytes;
use http::{Method, Request, Response};
use order::idempotency::Answer;
use order::stores::StoreError;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::bodies::nearly_order;
use super::in_memory::{TestApp, at_once};
use super::keys::key_bytes;
use super::queries::query;
use super::{ORDERS, config, laws};

/// Usually a method that a route knows.
fn method() -> impl Strategy<Value = String> {
    let known = vec!["GET", "POST", "HEAD", "PATCH", "DELETE", "OPTIONS"];
    prop_oneof![9 => select(known).prop_map(str::to_owned), 1 => "[A-Z]{1,9}"]
}

/// Usually a path that leads somewhere.
fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just("/orders".to_owned()),
        2 => query().prop_map(|query| format!("/orders?{query}")),
        1 => select(vec!["/", "/healthz", "/readyz", "/openapi.yaml", "/problems", "/problems/internal", "/orders/", "/orders/1", "/orders/00000000-0000-0000-0000-000000000001", "//", "*", "http://a/orders"])
            .prop_map(str::to_owned),
        1 => "/[!-~]{0,30}",
    ]
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        key_bytes().prop_map(|value| [b"Idempotency-Key: ".as_slice(), &value].concat()),
        select(vec![
            "Content-Type: application/json",
            "Content-Type: text/plain",
            "If-None-Match: *",
            "If-Match: \"1\""
        ])
        .prop_map(|line| line.as_bytes().to_vec()),
    ];
    let usual = [b"Content-Type: application/json".to_vec(), b"Idempotency-Key: k".to_vec()];
    let headers = prop_oneof![Just(usual.to_vec()), vec(header, 0..4)];
    let body = prop_oneof![
        select(ORDERS.to_vec()).prop_map(|order| order.as_bytes().to_vec()),
        nearly_order().prop_map(|json| json.text().into_bytes()),
        vec(any::<u8>(), 0..50),
        (65_530..65_545_usize)
            .prop_map(|length| [ORDERS[0], &" ".repeat(length - ORDERS[0].len())].concat().into_bytes()),
    ];
    (method(), target(), headers, body).prop_map(|(method, target, headers, body)| {
        let mut request = format!("{method} {target}\n").into_bytes();
        headers.iter().for_each(|line| request.extend(line.iter().chain(b"\n")));
        [request.as_slice(), b"\n", &body].concat()
    })
}

/// The next step: requests, and what happens to the stores meanwhile.
#[derive(Debug, Clone)]
enum Step {
    Place { key: usize, order: usize, is_quoted: bool },
    RedisLoses,
    RedisGarbles(Index, u8),
    RedisMixesUp,
    RedisIsDown(bool),
    PostgresFails(Option<StoreError>),
    PostgresLosesReplies(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let failure =
        select(vec![None, Some(StoreError::Unavailable("away".into())), Some(StoreError::KeyInUse("locked".into()))]);
    prop_oneof![
        12 => (0..3_usize, 0..ORDERS.len(), any::<bool>())
            .prop_map(|(key, order, is_quoted)| Step::Place { key, order, is_quoted }),
        1 => Just(Step::RedisLoses),
        1 => (any::<Index>(), 1..=255_u8).prop_map(|(at, flip)| Step::RedisGarbles(at, flip)),
        1 => Just(Step::RedisMixesUp),
        2 => any::<bool>().prop_map(Step::RedisIsDown),
        2 => failure.prop_map(Step::PostgresFails),
        2 => any::<bool>().prop_map(Step::PostgresLosesReplies),
    ]
}

fn place(app: &TestApp, key: usize, order: usize, is_quoted: bool) -> Response<Bytes> {
    let key = if is_quoted { format!("\"key-{key}\"") } else { format!("key-{key}") };
    at_once(app.place(&key, ORDERS[order]))
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_request_is_answered_within_the_contract(bytes in any_request()) {
        if let Some(request) = laws::read_request(&bytes) {
            laws::request(&request);
        }
    }

    #[test]
    fn any_bytes_are_answered(
        method in method(),
        target in target(),
        key in prop_oneof![Just(b"k".to_vec()), vec(any::<u8>(), 0..9)],
        body in vec(any::<u8>(), 0..99),
    ) {
        let request = Request::builder().method(method.as_str()).uri(target);
        let request = request.header("Content-Type", "application/json").header("Idempotency-Key", key);
        let request = request.body(Bytes::from(body));
        if let Ok(request) = request {
            laws::request(&request);
        }
    }

    /// The promise over any series of requests and faults: one order and one answer for each key.
    #[test]
    fn any_series_of_requests_and_faults_keeps_the_promise(steps in vec(step(), 1..40)) {
        let app = TestApp::default();
        let mut owners: [Option<(usize, Response<Bytes>)>; 3] = [const { None }; 3];
        let mut tried = [const { Vec::new() }; 3];
        let settle = [Step::PostgresFails(None), Step::PostgresLosesReplies(false), Step::RedisIsDown(false)];
        let again = (0..3).map(|key| Step::Place { key, order: 0, is_quoted: false });
        for step in steps.into_iter().chain(settle).chain(again) {
            match step {
                Step::RedisLoses => app.answers.records.borrow_mut().clear(),
                Step::RedisGarbles(at, flip) => app.answers.records.borrow_mut().values_mut().for_each(|record| {
                    let at = at.index(record.len());
                    record[at] ^= flip;
                }),
                Step::RedisMixesUp => {
                    let mut records = app.answers.records.borrow_mut();
                    let mixed: Vec<_> = records.values().rev().cloned().collect();
                    records.values_mut().zip(mixed).for_each(|(record, other)| *record = other);
                }
                Step::RedisIsDown(is_down) => app.answers.is_down.set(is_down),
                Step::PostgresFails(failure) => *app.orders.failure.borrow_mut() = failure,
                Step::PostgresLosesReplies(loses) => app.orders.loses_replies.set(loses),
                Step::Place { key, order, is_quoted } => {
                    let answer = place(&app, key, order, is_quoted);
                    laws::answer(&Method::POST, &answer);
                    tried[key].push(order);
                    match (answer.status().as_u16(), &owners[key]) {
                        (201, None) => owners[key] = Some((order, answer)),
                        (201, Some((owner, first))) => {
                            prop_assert_eq!((order, answer.body()), (*owner, first.body()));
                            prop_assert_eq!(&answer.headers()["location"], &first.headers()["location"]);
                            prop_assert_eq!(&answer.headers()["idempotent-replayed"], "true");
                        }
                        (422, owner) => prop_assert!(owner.as_ref().is_none_or(|(owner, _)| *owner != order)),
                        (status, _) => prop_assert!(matches!(status, 409 | 503), "{}", status),
                    }
                }
            }
            let rows = app.orders.rows.borrow();
            for (key, owner) in owners.iter().enumerate() {
                let rows: Vec<_> = rows.iter().filter(|(_, taken, ..)| *taken == format!("key-{key}")).collect();
                prop_assert!(rows.len() <= 1);
                if let Some((_, first)) = owner {
                    prop_assert_eq!(&Answer::of(rows[0].3.clone()).body, first.body(), "an acknowledged order stays");
                }
            }
        }
        for (key, tried) in tried.iter().enumerate() {
            // Once all is settled, one of the orders that were tried has the key, and its own retry is answered.
            let rows = app.orders.rows.borrow().iter().filter(|(_, taken, ..)| *taken == format!("key-{key}")).count();
            prop_assert_eq!(rows, 1);
            let answers: Vec<u16> = tried.iter().map(|order| place(&app, key, *order, true).status().as_u16()).collect();
            prop_assert!(answers.iter().all(|status| matches!(status, 201 | 422)) && answers.contains(&201));
        }
    }
}
