//! The laws of `OrderStore` while others write: which call waits for what, and its outcome.

use std::pin::pin;
use std::slice;

use futures::future::join_all;
use order::client::ClientName;
use order::order::{Order, Status};
use order::stores::{Filter, OrderStore, Placement, StoreError};

use super::{
    SharedStores, Stores, Write, at, change, changed, fresh_client, key, orders, place, record_of, rows_of,
    sees_waiting, without_waiting,
};

/// Checks that the client's only order is this one, under the key `k`.
async fn assert_only(stores: &impl Stores, client: &ClientName, order: &Order) {
    assert_eq!(stores.orders().find_by_key(client, &key("k")).await, Ok(record_of(order)));
    assert_eq!(stores.orders().list(client, &Filter::default(), 100).await.unwrap().orders, slice::from_ref(order));
}

pub async fn a_place_waits_for_its_key_and_finds_it_taken_after_the_commit(stores: &impl SharedStores) {
    let (client, key, [first, second]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    let mut placing = pin!(place(stores, &client, &key, &second));
    sees_waiting(placing.as_mut()).await;
    stores.commit(held).await;
    assert_eq!(placing.await, Ok(Placement::KeyTaken));
    // In the very next statement.
    assert_only(stores, &client, &first).await;
}

pub async fn a_place_waits_for_its_key_and_is_placed_after_the_abort(stores: &impl SharedStores) {
    let (client, key, [first, second]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    let mut placing = pin!(place(stores, &client, &key, &second));
    sees_waiting(placing.as_mut()).await;
    stores.abort(held).await;
    assert_eq!(placing.await, Ok(Placement::Placed));
    assert_only(stores, &client, &second).await;
}

pub async fn of_those_that_wait_for_a_key_one_is_placed_after_the_abort(stores: &impl SharedStores) {
    let (client, key, [first, second, third]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    let mut placing = pin!(join_all([&second, &third].map(|order| place(stores, &client, &key, order))));
    sees_waiting(placing.as_mut()).await;
    stores.abort(held).await;
    match placing.await[..] {
        [Ok(Placement::Placed), Ok(Placement::KeyTaken)] => assert_only(stores, &client, &second).await,
        [Ok(Placement::KeyTaken), Ok(Placement::Placed)] => assert_only(stores, &client, &third).await,
        ref other => panic!("{other:?}"),
    }
}

pub async fn a_place_of_another_key_does_not_wait(stores: &impl SharedStores) {
    let (client, [held_order, order, others, repeat]) = (fresh_client(), orders());
    let held = stores.begin(&client, &[Write::Place(&key("k"), &held_order)]).await;
    assert_eq!(without_waiting(place(stores, &client, &key("l"), &order)).await, Ok(Placement::Placed));
    assert_eq!(without_waiting(place(stores, &fresh_client(), &key("k"), &others)).await, Ok(Placement::Placed));
    assert_eq!(without_waiting(place(stores, &client, &key("l"), &repeat)).await, Ok(Placement::KeyTaken));
    stores.commit(held).await;
    assert_eq!(rows_of(stores, &client, &key("k")).await, [held_order]);
    assert_eq!(rows_of(stores, &client, &key("l")).await, [order]);
}

pub async fn of_many_places_of_a_key_at_once_one_is_placed(stores: &impl SharedStores) {
    let (client, key, all) = (fresh_client(), key("k"), orders::<8>());
    let places = join_all(all.iter().map(|order| place(stores, &client, &key, order))).await;
    let placed: Vec<_> = places.iter().zip(&all).filter(|(place, _)| **place == Ok(Placement::Placed)).collect();
    let [(_, order)] = placed[..] else { panic!("{places:?}") };
    assert_eq!(places.iter().filter(|place| **place == Ok(Placement::KeyTaken)).count(), 7, "{places:?}");
    assert_only(stores, &client, order).await;
}

pub async fn what_is_not_committed_is_invisible(stores: &impl SharedStores) {
    let (client, [order]) = (fresh_client(), orders());
    let held = stores.begin(&client, &[Write::Place(&key("k"), &order)]).await;
    assert_eq!(without_waiting(stores.orders().find(&client, order.id)).await, Ok(None));
    let found = without_waiting(stores.orders().find_by_key(&client, &key("k"))).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    assert_eq!(without_waiting(rows_of(stores, &client, &key("k"))).await, []);
    assert_eq!(without_waiting(change(stores, &client, &order, Status::Confirmed)).await, Ok(None));
    stores.commit(held).await;
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(order.clone())));
    assert_only(stores, &client, &order).await;
}

pub async fn a_place_that_waits_too_long_fails_and_writes_nothing(stores: &impl SharedStores) {
    let (client, key, [first, second, third]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    let mut placing = pin!(place(stores, &client, &key, &second));
    sees_waiting(placing.as_mut()).await;
    stores.pass_lock_timeout().await;
    let outcome = placing.await;
    assert!(matches!(outcome, Err(StoreError::KeyInUse(_))), "{outcome:?}");
    // It does not write once the key is free either.
    stores.abort(held).await;
    assert_eq!(rows_of(stores, &client, &key).await, []);
    assert_eq!(place(stores, &client, &key, &third).await, Ok(Placement::Placed));
    assert_only(stores, &client, &third).await;
}

/// If the outcome of a place is unknown, its row may exist or not. The next place of the key shows which.
async fn assert_settles(stores: &impl Stores, client: &ClientName, unknown: &Order, next: &Order) {
    match place(stores, client, &key("k"), next).await {
        Ok(Placement::Placed) => assert_only(stores, client, next).await,
        Ok(Placement::KeyTaken) => assert_only(stores, client, unknown).await,
        Err(error) => panic!("{error}"),
    }
    let again = place(stores, client, &key("k"), &orders::<1>()[0]).await;
    assert_eq!(again, Ok(Placement::KeyTaken));
}

pub async fn a_place_whose_caller_left_is_settled_by_the_next_one(stores: &impl SharedStores) {
    let (client, key, [first, unknown, next]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    {
        let mut placing = pin!(place(stores, &client, &key, &unknown));
        sees_waiting(placing.as_mut()).await;
    }
    stores.abort(held).await;
    assert_settles(stores, &client, &unknown, &next).await;
}

pub async fn a_place_that_is_cut_off_is_settled_by_the_next_one(stores: &impl SharedStores) {
    let (client, key, [first, unknown, next]) = (fresh_client(), key("k"), orders());
    let held = stores.begin(&client, &[Write::Place(&key, &first)]).await;
    let mut placing = pin!(place(stores, &client, &key, &unknown));
    sees_waiting(placing.as_mut()).await;
    stores.set_reachable(false);
    let outcome = placing.await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    stores.set_reachable(true);
    stores.abort(held).await;
    assert_settles(stores, &client, &unknown, &next).await;
}

/// An order placed under the key `k`, and its client.
async fn placed(stores: &impl Stores) -> (ClientName, Order) {
    let (client, [order]) = (fresh_client(), orders());
    assert_eq!(place(stores, &client, &key("k"), &order).await, Ok(Placement::Placed));
    (client, order)
}

pub async fn a_change_waits_and_writes_nothing_after_the_commit(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    let mut changing = pin!(change(stores, &client, &order, Status::Cancelled));
    sees_waiting(changing.as_mut()).await;
    stores.commit(held).await;
    assert_eq!(changing.await, Ok(None));
    let confirmed = changed(&order, Status::Confirmed);
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(confirmed)));
}

pub async fn a_change_waits_and_is_made_after_the_abort(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    let mut changing = pin!(change(stores, &client, &order, Status::Cancelled));
    sees_waiting(changing.as_mut()).await;
    stores.abort(held).await;
    let cancelled = changed(&order, Status::Cancelled);
    assert_eq!(changing.await, Ok(Some(cancelled.clone())));
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(cancelled)));
}

pub async fn a_change_that_names_both_versions_goes_on_from_the_commit(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    let mut changing = pin!(stores.orders().change(&client, order.id, &[1, 2], Status::Cancelled, at(2000)));
    sees_waiting(changing.as_mut()).await;
    stores.commit(held).await;
    let cancelled = changed(&changed(&order, Status::Confirmed), Status::Cancelled);
    assert_eq!(changing.await, Ok(Some(cancelled.clone())));
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(cancelled)));
}

pub async fn of_many_changes_of_a_version_at_once_one_is_made(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let targets = [Status::Confirmed, Status::Cancelled].repeat(4);
    let outcomes = join_all(targets.into_iter().map(|status| change(stores, &client, &order, status))).await;
    let made: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().unwrap().as_ref()).collect();
    let [made] = made[..] else { panic!("{outcomes:?}") };
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(made.clone())));
    assert_eq!(made.version, 2);
}

pub async fn reads_do_not_wait_for_a_change_and_see_the_version_before(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    assert_eq!(without_waiting(stores.orders().find(&client, order.id)).await, Ok(Some(order.clone())));
    without_waiting(assert_only(stores, &client, &order)).await;
    stores.commit(held).await;
    let confirmed = changed(&order, Status::Confirmed);
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(confirmed.clone())));
    assert_only(stores, &client, &confirmed).await;
}

pub async fn a_place_waits_for_a_change_of_the_order_that_has_its_key(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let (key, [repeat]) = (key("k"), orders());
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    {
        let mut placing = pin!(place(stores, &client, &key, &repeat));
        sees_waiting(placing.as_mut()).await;
        stores.abort(held).await;
        assert_eq!(placing.await, Ok(Placement::KeyTaken));
    }
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    let mut placing = pin!(place(stores, &client, &key, &repeat));
    sees_waiting(placing.as_mut()).await;
    stores.commit(held).await;
    assert_eq!(placing.await, Ok(Placement::KeyTaken));
    assert_only(stores, &client, &changed(&order, Status::Confirmed)).await;
}

pub async fn a_change_that_waits_too_long_writes_nothing(stores: &impl SharedStores) {
    let (client, order) = placed(stores).await;
    let held = stores.begin(&client, &[Write::Change(&order, Status::Confirmed)]).await;
    let mut changing = pin!(change(stores, &client, &order, Status::Cancelled));
    sees_waiting(changing.as_mut()).await;
    stores.pass_lock_timeout().await;
    let outcome = changing.await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    stores.abort(held).await;
    assert_eq!(stores.orders().find(&client, order.id).await, Ok(Some(order.clone())));
}
