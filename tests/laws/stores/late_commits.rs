//! The laws of `OrderStore::events` while others write: what commits late is not skipped.

use std::slice;

use order::order::Status;
use order::stores::{OrderStore, Placement};

use super::feed::{events, orders_of, position};
use super::{SharedStores, Write, fresh_client, key, orders, place, place_all, without_waiting};

pub async fn the_feed_shows_nothing_that_something_may_still_come_before(stores: &impl SharedStores) {
    let (client, [before, late, later, after]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&before)).await;
    let shown = events(stores, &client, None, 1).await;
    let start = Some(position(shown.epoch, &shown.events[0]));
    // Two orders of one transaction, and then another one's that has committed.
    let writes = [Write::Place(&key("later"), &later), Write::Place(&key("late"), &late)];
    let held = stores.begin(&client, &writes).await;
    assert_eq!(place(stores, &client, &key("after"), &after).await, Ok(Placement::Placed));
    assert_eq!(without_waiting(stores.orders().events(&client, start, 100)).await.unwrap().unwrap().events, []);
    stores.commit(held).await;
    let shown = events(stores, &client, start, 3).await;
    assert_eq!(orders_of(&shown), [late, later.clone(), after.clone()]);
    // Also from between the two.
    let between = position(shown.epoch, &shown.events[0]);
    assert_eq!(orders_of(&events(stores, &client, Some(between), 2).await), [later, after]);
}

pub async fn the_feed_does_not_show_what_was_aborted(stores: &impl SharedStores) {
    let (client, [order, undone, after]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&order)).await;
    let writes = [Write::Place(&key("k"), &undone), Write::Change(&order, Status::Cancelled)];
    let held = stores.begin(&client, &writes).await;
    stores.abort(held).await;
    assert_eq!(place(stores, &client, &key("k"), &after).await, Ok(Placement::Placed));
    assert_eq!(orders_of(&events(stores, &client, None, 2).await), [order, after]);
}
