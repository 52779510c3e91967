//! The laws of `OrderStore` for one order at a time.

use std::slice;

use order::client::ClientName;
use order::order::{Item, MAX_TOTAL, Order, Status};
use order::stores::{Filter, OrderStore, Placement, StoreError};
use uuid::Uuid;

use super::{Stores, at, change, changed, fresh_client, key, orders, place, place_all, record_of, rows_of};

const STATUSES: [Status; 3] = [Status::Created, Status::Confirmed, Status::Cancelled];

pub async fn a_key_is_placed_once(stores: &impl Stores) {
    let (client, [first, mut same, other]) = (fresh_client(), orders());
    same.placed = first.placed.clone();
    assert_eq!(place(stores, &client, &key("k"), &first).await, Ok(Placement::Placed));
    for again in [&same, &other] {
        assert_eq!(place(stores, &client, &key("k"), again).await, Ok(Placement::KeyTaken));
        assert_eq!(stores.orders().find(&client, again.id).await, Ok(None));
    }
    assert_eq!(stores.orders().find_by_key(&client, &key("k")).await, Ok(record_of(&first)));
    assert_eq!(stores.orders().list(&client, &Filter::default(), 100).await.unwrap().orders, [first]);
}

pub async fn an_order_is_found_as_it_was_placed(stores: &impl Stores) {
    let (client, mut all) = (fresh_client(), orders::<4>());
    let [_, least, most, odd] = &mut all;
    least.placed.items[0].unit_amount = 0;
    least.placed.total_amount = 0;
    least.placed.comment = Some(String::new());
    most.placed.customer_id = "я🦀".repeat(32);
    most.placed.items = vec![Item { sku: "s".repeat(64), quantity: 10_000, unit_amount: 1_000_000_000_000 }; 100];
    most.placed.total_amount = MAX_TOTAL;
    most.placed.comment = Some("🦀".repeat(500));
    odd.placed.customer_id = r#" '"\%_, "#.into();
    odd.placed.items = ["b", "a", "b"].map(|sku| Item { sku: sku.into(), quantity: 2, unit_amount: 1 }).to_vec();
    odd.placed.total_amount = 6;
    odd.placed.comment = Some("\u{1}\t\r\n\\u0000 e\u{301}\u{feff}\u{10ffff}".into());
    place_all(stores, &client, &all).await;
    for (number, order) in all.iter().enumerate() {
        assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(order.clone())));
        let found = stores.orders().find_by_key(&client, &key(&number.to_string())).await;
        assert_eq!(found, Ok(record_of(order)));
    }
    assert_eq!(stores.orders().find(&client, Uuid::from_u128(fastrand::u128(..))).await, Ok(None));
}

pub async fn a_key_is_always_answered_as_its_first_request_was(stores: &impl Stores) {
    let (client, [order]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&order)).await;
    let mut now = order.clone();
    for status in [Status::Confirmed, Status::Cancelled] {
        now = change(stores, &client, &now, status).await.unwrap().unwrap();
        assert_eq!(stores.orders().find_by_key(&client, &key("0")).await, Ok(record_of(&order)));
        assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(now.clone())));
    }
}

pub async fn a_key_without_a_row_is_unavailable(stores: &impl Stores) {
    let found = stores.orders().find_by_key(&fresh_client(), &key("k")).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
}

pub async fn keys_are_compared_byte_by_byte(stores: &impl Stores) {
    let (client, all) = (fresh_client(), orders::<6>());
    let keys = ["k", "K", "k ", " k", "k\\", "kk"].map(key);
    for (key, order) in keys.iter().zip(&all) {
        assert_eq!(place(stores, &client, key, order).await, Ok(Placement::Placed), "{key:?}");
    }
    for (key, order) in keys.iter().zip(&all) {
        assert_eq!(stores.orders().find_by_key(&client, key).await, Ok(record_of(order)));
        assert_eq!(rows_of(stores, &client, key).await, slice::from_ref(order));
    }
}

pub async fn keys_and_orders_of_two_clients_are_separate(stores: &impl Stores) {
    let [one, other] = [fresh_client(), fresh_client()];
    // Fresh, since the client without a name is shared by all laws.
    let key = key(one.as_str());
    let everyone = ClientName::default();
    let all = orders::<3>();
    let owners = [&one, &other, &everyone];
    for (client, order) in owners.into_iter().zip(&all) {
        assert_eq!(place(stores, client, &key, order).await, Ok(Placement::Placed));
    }
    for (number, client) in owners.into_iter().enumerate() {
        assert_eq!(stores.orders().find_by_key(client, &key).await, Ok(record_of(&all[number])));
        assert_eq!(rows_of(stores, client, &key).await, [all[number].clone()]);
        for (at, order) in all.iter().enumerate() {
            let found = stores.orders().find(client, order.id).await.unwrap();
            assert_eq!(found.is_some(), at == number, "{client:?}");
            if at != number {
                assert_eq!(change(stores, client, order, Status::Confirmed).await, Ok(None));
            }
        }
    }
}

/// An existing order, and its client.
async fn order_at(stores: &impl Stores, status: Status) -> (ClientName, Order) {
    let (client, [order]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&order)).await;
    let order = match status {
        Status::Created => order,
        status => change(stores, &client, &order, status).await.unwrap().unwrap(),
    };
    assert_eq!(order.status, status);
    (client, order)
}

pub async fn a_change_makes_an_allowed_move_and_raises_the_version_by_one(stores: &impl Stores) {
    for (from, to) in STATUSES.into_iter().flat_map(|from| STATUSES.map(|to| (from, to))) {
        let (client, order) = order_at(stores, from).await;
        let expected = to.sources().contains(&from).then(|| changed(&order, to));
        assert_eq!(change(stores, &client, &order, to).await, Ok(expected.clone()), "{from:?} {to:?}");
        let now = expected.unwrap_or(order);
        assert_eq!(stores.orders().find(&client, now.id).await, Ok(Some(now)), "{from:?} {to:?}");
    }
}

pub async fn a_change_is_made_from_a_named_version_only(stores: &impl Stores) {
    let (client, order) = order_at(stores, Status::Confirmed).await;
    assert_eq!(order.version, 2);
    let change = |versions| stores.orders().change(&client, order.id, versions, Status::Cancelled, at(2000));
    for versions in [&[], [1].as_slice(), &[3, 1], &[i64::MAX, -2, 0]] {
        assert_eq!(change(versions).await, Ok(None), "{versions:?}");
        assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(order.clone())), "{versions:?}");
    }
    assert_eq!(change(&[7, 2, 1]).await, Ok(Some(changed(&order, Status::Cancelled))));
    // A repeat of the change finds another version.
    assert_eq!(change(&[2]).await, Ok(None));
}

pub async fn a_missing_order_is_not_changed(stores: &impl Stores) {
    let (client, [order]) = (fresh_client(), orders());
    assert_eq!(change(stores, &client, &order, Status::Confirmed).await, Ok(None));
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(None));
}

pub async fn orders_that_cannot_be_reached_are_unavailable(stores: &impl Stores) {
    let (client, [order, other]) = (fresh_client(), orders());
    assert_eq!(stores.orders().check().await, Ok(()));
    place_all(stores, &client, slice::from_ref(&order)).await;
    stores.set_reachable(false);
    let store = stores.orders();
    let errors = [
        store.check().await.err(),
        place(stores, &client, &key("k"), &other).await.err(),
        store.find_by_key(&client, &key("0")).await.err(),
        store.find(&client, order.id).await.err(),
        change(stores, &client, &order, Status::Confirmed).await.err(),
        store.list(&client, &Filter::default(), 1).await.err(),
    ];
    stores.set_reachable(true);
    for error in errors {
        assert!(matches!(error, Some(StoreError::Unavailable(_))), "{error:?}");
    }
    // No call reached the store, so nothing was written.
    assert_eq!(store.list(&client, &Filter::default(), 100).await.unwrap().orders, [order]);
}
