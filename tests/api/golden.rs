//! Orders that an earlier build has placed: their fingerprints, their entries in Redis, their answers.

use order::client::ClientName;
use order::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{NewOrder, Order, Status};
use order::stores::StoreError;

use super::golden::{Replay, bytes, fingerprints, replays};
use super::{TestApp, assert_problem, header};

#[test]
fn an_order_has_the_fingerprint_that_it_always_had() {
    let lists = fingerprints();
    assert_eq!(lists.keys().collect::<Vec<_>>(), ["order/1"], "compare each version with what computes it");
    for (version, orders) in lists {
        assert!(!orders.is_empty());
        for golden in orders {
            let order = NewOrder::parse(golden.order.get().as_bytes()).unwrap();
            let digits: String = Fingerprint::of(&order).0.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digits, golden.fingerprint, "{version}: {}", golden.name);
        }
    }
}

/// The row as the store reads it.
fn stored(golden: &Replay) -> (String, String, Fingerprint, Order) {
    let fingerprint = bytes(golden.column("fingerprint").strip_prefix("\\x").unwrap()).try_into().unwrap();
    let order = Order {
        id: golden.column("order_id").parse().unwrap(),
        created_at: golden.column("created_at").parse().unwrap(),
        placed: NewOrder {
            customer_id: golden.column("customer_id").into(),
            currency: golden.column("currency").into(),
            items: serde_json::from_value(golden.row["items"].clone()).unwrap(),
            comment: golden.row["comment"].as_str().map(Into::into),
            total_amount: golden.row["total_amount"].as_i64().unwrap(),
        },
        status: Status::parse(golden.column("status")).unwrap(),
        version: golden.row["version"].as_i64().unwrap(),
    };
    (String::new(), golden.column("idempotency_key").into(), Fingerprint(fingerprint), order)
}

async fn assert_replayed(app: &TestApp, golden: &Replay) {
    let answer = app.place(&golden.header(), golden.order.get()).await;
    assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (201, golden.body.as_bytes()), "{}", golden.name);
    let headers = ["location", "etag", "idempotent-replayed"].map(|name| header(&answer, name));
    assert_eq!(headers, [&*golden.location, &*golden.etag, "true"], "{}", golden.name);
}

#[tokio::test]
async fn a_row_of_an_earlier_release_is_replayed_byte_for_byte() {
    for golden in replays().into_values().flatten() {
        let app = TestApp::default();
        app.orders.rows.borrow_mut().push(stored(&golden));
        assert_replayed(&app, &golden).await;
        assert_eq!(app.answers.records.borrow()[&format!(":{}", golden.key)], golden.entry("2"), "{}", golden.name);
        let other = golden.order.get().replacen("RUB", "XTS", 1);
        assert_problem(&app.place(&golden.header(), &other).await, 422, "idempotency-key-reused");
        assert_eq!(app.order_count(), 1);
    }
}

#[tokio::test]
async fn an_entry_that_an_earlier_build_wrote_is_replayed_byte_for_byte_or_is_a_miss() {
    for golden in replays().into_values().flatten() {
        let key = IdempotencyKey::parse(golden.header().as_bytes()).unwrap();
        // Layout 1 is no longer read: such an entry is a miss, so PostgreSQL answers.
        assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &golden.entry("1")), None, "{}", golden.name);
        let record = KeyRecord::decode(&ClientName::default(), &key, &golden.entry("2")).expect("layout 2 is read");
        assert_eq!(record.encode(&ClientName::default(), &key), golden.entry("2"), "{}", golden.name);

        let app = TestApp::default();
        app.answers.records.borrow_mut().insert(format!(":{}", golden.key), golden.entry("2"));
        *app.orders.failure.borrow_mut() = Some(StoreError::Unavailable("Redis alone answers".into()));
        assert_replayed(&app, &golden).await;
    }
}
