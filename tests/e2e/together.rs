//! Orders that several requests of one instance place at the same time go into one statement.

use std::time::Instant;

use crate::support::*;

/// How many orders have these keys, and how many transactions placed them.
async fn placed_by(keys: &[String]) -> (i64, i64) {
    let sql = "SELECT count(*), count(DISTINCT xmin::text) FROM orders WHERE idempotency_key = ANY ($1)";
    let row = owner().await.query_one(sql, &[&keys]).await.unwrap();
    (row.get(0), row.get(1))
}

/// A request whose key is held, so that later ones wait for it until it has to step aside.
struct Held {
    holder: tokio_postgres::Client,
    request: tokio::task::JoinHandle<Result<reqwest::Response, reqwest::Error>>,
}

impl Held {
    async fn send(app: &TestApp) -> Self {
        let key = fresh_key();
        let holder = hold(app, &key).await;
        let request = tokio::spawn(app.post(&key, ORDER).send());
        until_one_waits_for(&holder).await;
        Self { holder, request }
    }

    async fn let_go(self) {
        self.holder.batch_execute("ROLLBACK").await.unwrap();
        let _ = self.request.await;
    }
}

async fn hold(app: &TestApp, key: &str) -> tokio_postgres::Client {
    let (holder, model) = (owner().await, fresh_key());
    app.place(&model, ORDER).await;
    hold_key(&holder, key, &model).await;
    holder
}

async fn place_all(app: &TestApp, keys: &[String]) -> Vec<Answer> {
    app.place_each(keys.iter().map(|key| (key.as_str(), ORDER))).await
}

/// An instance has at most 16 requests, one of which is held.
const TOGETHER: usize = 12;

#[tokio::test]
async fn a_batch_is_one_transaction_and_a_key_that_was_taken_before_is_detected() {
    let app = TestApp::start().await;
    // Redis does not know the keys, so the repeats go to PostgreSQL with the others.
    app.redis.refuse();
    let (mut rounds, mut grouped, started) = (0, 0, Instant::now());
    // Requests that reach several instances, or arrive one after another, are not grouped: so repeat until some are.
    while rounds < 5 || grouped < 2 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "no two orders went together");
        let keys = fresh_keys(TOGETHER);
        let (taken, fresh) = keys.split_at(TOGETHER / 2);
        let first = place_all(&app, taken).await;
        let held = Held::send(&app).await;
        let mixed: Vec<_> = taken.iter().zip(fresh).flat_map(|(taken, fresh)| [taken.clone(), fresh.clone()]).collect();
        let answers = place_all(&app, &mixed).await;
        held.let_go().await;
        for (pair, first) in answers.chunks(2).zip(&first) {
            pair[0].assert_replay_of(first);
            assert_eq!((pair[1].status, pair[1].header("idempotent-replayed")), (201, "false"));
        }
        let (placed, by) = placed_by(fresh).await;
        assert_eq!(placed, fresh.len() as i64);
        (rounds, grouped) = (rounds + 1, grouped + placed - by);
    }
}

#[tokio::test]
async fn every_order_of_a_group_is_kept_as_it_was_sent() {
    let app = TestApp::start().await;
    let orders: Vec<String> = (1..=TOGETHER)
        .map(|number| match number % 3 {
            0 => format!(r#"{{"customerId":"\"\\ {number}","currency":"EUR","items":[{{"sku":"ü\\u0009'","quantity":{number},"unitAmount":0}}]}}"#),
            1 => ORDER.replace("leave at the door", &format!("{number} 😀 \\n \\\" {{}}")),
            _ => ORDER.replace("59900", &format!("{}", 1_000_000_000_000 - number as i64)),
        })
        .collect();
    let held = Held::send(&app).await;
    let keys = fresh_keys(TOGETHER);
    let answers = app.place_each(keys.iter().map(String::as_str).zip(orders.iter().map(String::as_str))).await;
    held.let_go().await;
    // PostgreSQL has what was answered.
    app.redis.refuse();
    for ((key, order), answer) in keys.iter().zip(&orders).zip(&answers) {
        assert_eq!(answer.status, 201, "{order}");
        app.place(key, order).await.assert_replay_of(answer);
        let now = app.get(answer.header("location")).await;
        assert_eq!(now.json(), answer.json(), "{order}");
    }
}

/// The held order is first the leader, then a member of a group.
#[tokio::test]
async fn a_key_that_another_transaction_holds_delays_no_other_for_long() {
    let app = TestApp::start().await;
    let in_group = fresh_key();
    let holder = hold(&app, &in_group).await;
    let held = Held::send(&app).await;
    let waiting = tokio::spawn({
        let request = app.post(&in_group, ORDER);
        async move { (request.send().await.unwrap().status().as_u16(), Instant::now()) }
    });
    for answer in place_all(&app, &fresh_keys(TOGETHER)).await {
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, "false"));
    }
    let all_placed = Instant::now();
    let (status, waited_until) = waiting.await.unwrap();
    assert_eq!(status, 409);
    assert!(all_placed < waited_until, "they waited for a lock that does not concern them");
    assert_eq!(held.request.await.unwrap().unwrap().status(), 409);
    for holder in [held.holder, holder] {
        holder.batch_execute("ROLLBACK").await.unwrap();
    }
}
