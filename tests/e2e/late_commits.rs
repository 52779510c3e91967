//! Orders whose transaction commits late, after later orders have been listed.

use super::support::*;

impl TestApp {
    /// The ids on a page, and the path of the next one.
    async fn page(&self, path: &str) -> (Vec<uuid::Uuid>, Option<String>) {
        let page = self.get(path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let json = page.json();
        let orders = json["orders"].as_array().unwrap().iter();
        let ids = orders.map(|order| order["orderId"].as_str().unwrap().parse().unwrap()).collect();
        let link = page.header("link").strip_prefix('<');
        (ids, link.map(|link| link.strip_suffix(">; rel=\"next\"").unwrap().to_owned()))
    }

    /// The orders on the pages from `path` on.
    async fn walk(&self, path: &str) -> Vec<uuid::Uuid> {
        let (mut ids, mut next) = self.page(path).await;
        while let Some(path) = next {
            let (more, after) = self.page(&path).await;
            ids.extend(more);
            next = after;
        }
        ids
    }
}

/// Inserts a copy of the order under `model`, with another key and id, in the transaction of `owner`.
async fn insert_copy(owner: &tokio_postgres::Client, id: uuid::Uuid, key: &str, model: &str) {
    let copy = "INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment,
        total_amount, created_at, status, version, updated_at)
        SELECT $1::text::uuid, $2, fingerprint, customer_id, currency, items, comment,
        total_amount, created_at, status, version, updated_at FROM orders WHERE idempotency_key = $3";
    assert_eq!(owner.execute(copy, &[&id.to_string(), &key, &model]).await.unwrap(), 1);
}

fn between(one: uuid::Uuid, other: uuid::Uuid) -> uuid::Uuid {
    uuid::Uuid::from_u128(one.as_u128().midpoint(other.as_u128()))
}

/// Each page shows what is committed at its moment, by id. So a walk shows every order that existed at its start once,
/// whatever commits meanwhile, and of those that commit meanwhile only the ones still ahead of it.
#[tokio::test]
async fn a_list_skips_and_repeats_nothing_that_was_there_when_it_began() {
    let app = TestApp::start().await;
    let (customer, model) = (fresh_key(), fresh_key());
    let order = ORDER.replace("c-42", &customer);
    app.place(&model, &order).await;
    for _ in 0..4 {
        assert_eq!(app.place(&fresh_key(), &order).await.status, 201);
    }
    let path = format!("/orders?customerId={customer}&limit=2");
    let there = app.walk(&path).await;
    let [newest, second, third, fourth, oldest] = there[..] else { panic!("{there:?}") };
    assert!(there.is_sorted_by(|newer, older| newer > older), "{there:?}");

    // One whose place is on the page that is read first, one whose place is further on, and one that is rolled back.
    let (first, other) = (owner().await, owner().await);
    let (passed, ahead, undone) = (between(newest, second), between(third, fourth), between(fourth, oldest));
    let (passed_key, ahead_key) = (fresh_key(), fresh_key());
    first.batch_execute("BEGIN").await.unwrap();
    insert_copy(&first, passed, &passed_key, &model).await;
    insert_copy(&first, ahead, &ahead_key, &model).await;
    other.batch_execute("BEGIN").await.unwrap();
    insert_copy(&other, undone, &fresh_key(), &model).await;

    let (first_page, next) = app.page(&path).await;
    assert_eq!(first_page, [newest, second], "nothing is shown, or waited for, that is not committed");
    let by_key = format!("/orders?idempotencyKey={passed_key}");
    assert!(app.page(&by_key).await.0.is_empty());
    first.batch_execute("COMMIT").await.unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();

    assert_eq!(app.walk(&next.unwrap()).await, [third, ahead, fourth, oldest]);
    assert_eq!(app.page(&by_key).await.0, [passed]);
    assert_eq!(app.walk(&path).await, [newest, passed, second, third, ahead, fourth, oldest]);
}
