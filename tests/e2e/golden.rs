//! Rows and entries that an earlier build has stored, over the real stores: replays across builds.

use super::golden_files::{Replay, replays};
use super::support::*;

/// Inserts the row as it was stored, whatever columns were added since.
async fn insert(owner: &tokio_postgres::Client, golden: &Replay) {
    owner.execute("DELETE FROM orders WHERE idempotency_key = $1", &[&golden.key]).await.unwrap();
    let columns = golden.row.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "INSERT INTO orders ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::orders, $1::text::jsonb)"
    );
    let row = serde_json::to_string(&golden.row).unwrap();
    assert_eq!(owner.execute(&sql, &[&row]).await.unwrap(), 1);
}

async fn assert_replayed(app: &TestApp, golden: &Replay) {
    let answer = app.place(&golden.header(), golden.order.get()).await;
    assert_eq!((answer.status, &answer.body), (201, &golden.body), "{}", golden.name);
    let headers = ["location", "etag", "idempotent-replayed"].map(|name| answer.header(name));
    assert_eq!(headers, [&*golden.location, &*golden.etag, "true"], "{}", golden.name);
}

#[tokio::test]
async fn what_an_earlier_build_stored_is_replayed_byte_for_byte() {
    let app = TestApp::start().await;
    let (owner, mut redis) = (owner().await, redis().await);
    for golden in replays().into_values().flatten() {
        let name = format!("order::{}", golden.key);
        insert(&owner, &golden).await;
        // No entry, then one of a layout that is no longer read: PostgreSQL answers, and the entry is written again.
        for stale in [None, Some(golden.entry("1"))] {
            let () = match stale {
                None => redis::cmd("DEL").arg(&name).query_async(&mut redis).await.unwrap(),
                Some(stale) => redis::cmd("SET").arg(&name).arg(stale).query_async(&mut redis).await.unwrap(),
            };
            assert_replayed(&app, &golden).await;
            let expected = golden.entry("2");
            assert_eq!(entry(&name, |entry| entry == expected).await, expected, "{}", golden.name);
        }
        // Only an entry that a build of this layout wrote.
        let () = redis::cmd("SET").arg(&name).arg(golden.entry("2")).query_async(&mut redis).await.unwrap();
        app.postgres.refuse();
        assert_replayed(&app, &golden).await;
        app.postgres.pass();
        assert_eq!(rows_of(&golden.key).await, 1);
    }
}
