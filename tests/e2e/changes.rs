//! `PATCH /orders/{orderId}`: one change at a time, whatever the order of the requests and their repeats.

use std::future::Future;
use std::time::{Duration, Instant};

use super::support::*;

const CONFIRMED: &str = "confirmed";
const CANCELLED: &str = "cancelled";

impl TestApp {
    /// Not sent before it is polled; it borrows nothing, so it may be spawned.
    pub fn change(
        &self,
        location: &str,
        if_match: &str,
        status: &str,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let request = self.http.patch(format!("{}{location}", self.url)).header("If-Match", if_match);
        let request = request.header("Content-Type", "application/merge-patch+json");
        let request = request.body(format!(r#"{{"status":"{status}"}}"#));
        async move { Answer::of(request.send().await.expect("an answer"), "a change").await }
    }
}

/// Status, version, and whether `updated_at` is later than `created_at`, read from PostgreSQL itself.
async fn row_at(location: &str) -> (String, i64, bool) {
    let id: uuid::Uuid = location.strip_prefix("/orders/").unwrap().parse().unwrap();
    let sql = "SELECT status, version, updated_at > created_at FROM orders WHERE order_id = $1::text::uuid";
    let row = owner().await.query_one(sql, &[&id.to_string()]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn fifty_changes_at_once_from_one_version_make_one_change() {
    let app = TestApp::start().await;
    let location = app.place(&fresh_key(), ORDER).await.header("location").to_owned();
    let sent: Vec<_> = (0..50)
        .map(|at| {
            let status = if at % 2 == 0 { CONFIRMED } else { CANCELLED };
            (status, tokio::spawn(app.change(&location, "\"1\"", status)))
        })
        .collect();
    let mut answers = Vec::new();
    for (asked, answer) in sent {
        answers.push((asked, answer.await.unwrap()));
    }
    let (status, version, updated) = row_at(&location).await;
    assert_eq!((version, updated), (2, true));
    let now = app.get(&location).await;
    for (asked, answer) in answers {
        assert_eq!(answer.header("etag"), "\"2\"");
        if asked == status {
            // The one that made the change, and the others that request the same change: they look like its retries, so they get
            // its answer.
            assert_eq!((answer.status, &answer.body), (200, &now.body));
        } else {
            answer.assert_problem(412, "precondition-failed");
        }
    }
}

#[tokio::test]
async fn two_clients_that_change_one_order_reach_one_end_in_either_order() {
    let app = TestApp::start().await;
    for _ in 0..10 {
        let location = app.place(&fresh_key(), ORDER).await.header("location").to_owned();
        let confirm = tokio::spawn(app.change(&location, "\"1\"", CONFIRMED));
        let cancel = tokio::spawn(app.change(&location, "\"1\"", CANCELLED));
        let (confirm, cancel) = (confirm.await.unwrap(), cancel.await.unwrap());
        let (won, lost) = if confirm.status == 200 { (&confirm, &cancel) } else { (&cancel, &confirm) };
        assert_eq!((won.status, won.header("etag")), (200, "\"2\""));
        lost.assert_problem(412, "precondition-failed");
        // The answer to the first one was lost, and it is sent again.
        let asked = if confirm.status == 200 { CONFIRMED } else { CANCELLED };
        let again = app.change(&location, "\"1\"", asked).await;
        assert_eq!((again.status, again.header("etag"), &again.body), (200, "\"2\"", &won.body));
        // The other one reads the order and continues if its change is still allowed.
        let now = app.get(&location).await;
        assert_eq!((now.header("etag"), &now.body), (lost.header("etag"), &won.body));
        if asked == CONFIRMED {
            let cancelled = app.change(&location, now.header("etag"), CANCELLED).await;
            assert_eq!((cancelled.status, cancelled.header("etag")), (200, "\"3\""));
        } else {
            app.change(&location, now.header("etag"), CONFIRMED).await.assert_problem(409, "transition-not-allowed");
        }
        assert_eq!(row_at(&location).await.0, CANCELLED);
    }
}

#[tokio::test]
async fn a_change_that_waits_too_long_is_unknown_and_settles_when_it_is_sent_again() {
    let deadline = Duration::from_secs(10);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "10000")]).await;
    let location = app.place(&fresh_key(), ORDER).await.header("location").to_owned();
    let owner = owner().await;
    owner
        .batch_execute(&format!("BEGIN; SELECT FROM orders WHERE order_id = '{}' FOR UPDATE", &location[8..]))
        .await
        .unwrap();
    let started = Instant::now();
    let failed = app.change(&location, "\"1\"", CONFIRMED).await;
    assert!(started.elapsed() < deadline, "PostgreSQL ends the wait, not the deadline: {:?}", started.elapsed());
    failed.assert_problem(503, "store-unavailable");
    assert_eq!(failed.header("retry-after"), "1");
    owner.batch_execute("ROLLBACK").await.unwrap();

    app.postgres.refuse();
    app.change(&location, "\"1\"", CONFIRMED).await.assert_problem(503, "store-unavailable");
    app.postgres.pass();
    let settled = app.change(&location, "\"1\"", CONFIRMED).await;
    assert_eq!((settled.status, settled.header("etag")), (200, "\"2\""), "{}", settled.body);
    assert_eq!(row_at(&location).await, (CONFIRMED.to_owned(), 2, true));
}

#[tokio::test]
async fn a_replay_still_gives_the_order_as_it_was_placed() {
    let app = TestApp::start().await;
    let key = fresh_key();
    let placed = app.place(&key, ORDER).await;
    let changed = app.change(placed.header("location"), placed.header("etag"), CONFIRMED).await;
    assert_eq!(changed.status, 200);
    app.place(&key, ORDER).await.assert_replay_of(&placed);
    app.redis.refuse();
    app.place(&key, ORDER).await.assert_replay_of(&placed);
    let now = app.get(placed.header("location")).await;
    assert_eq!((&now.body, now.header("etag")), (&changed.body, "\"2\""));
}
