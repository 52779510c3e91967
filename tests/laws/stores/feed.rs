//! The laws of `OrderStore::events`. What it shows while others write is in `late_commits`.

use std::time::{Duration, Instant};

use order::client::ClientName;
use order::order::{Order, Status};
use order::stores::{Event, Events, OrderStore, Position, StoreError};
use uuid::Uuid;

use super::{Stores, assert_just_full, at, change, fresh_client, large_orders, orders, place_all};

/// The first events behind `after`, once there are so many: a transaction elsewhere may hold them back.
pub async fn events(stores: &impl Stores, client: &ClientName, after: Option<Position>, count: usize) -> Events {
    let started = Instant::now();
    loop {
        let page = stores.orders().events(client, after, 100).await.unwrap().unwrap();
        if page.events.len() >= count {
            assert_eq!(page.events.len(), count, "{page:?}");
            return page;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{page:?} are not {count}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn position(epoch: i64, event: &Event) -> Position {
    Position { epoch, xid: event.xid, order_id: event.order.id }
}

pub fn orders_of(events: &Events) -> Vec<Order> {
    events.events.iter().map(|event| event.order.clone()).collect()
}

pub async fn the_feed_has_the_newest_change_of_each_order_in_the_order_of_the_changes(stores: &impl Stores) {
    let ([client, other], [older, newer, third]) = ([fresh_client(), fresh_client()], orders());
    assert_eq!(events(stores, &client, None, 0).await.events, []);
    // The order of the changes counts, not that of the ids.
    place_all(stores, &client, &[newer.clone(), older.clone()]).await;
    place_all(stores, &other, &[third]).await;
    let before = events(stores, &client, None, 2).await;
    assert_eq!(orders_of(&before), [newer.clone(), older.clone()]);
    assert_eq!(before.events.iter().map(|event| event.at).collect::<Vec<_>>(), [newer.created_at, older.created_at]);

    let confirmed = change(stores, &client, &newer, Status::Confirmed).await.unwrap().unwrap();
    let cancelled = change(stores, &client, &confirmed, Status::Cancelled).await.unwrap().unwrap();
    // Something that is not made is no event.
    assert_eq!(change(stores, &client, &older, Status::Created).await, Ok(None));
    let position = position(before.epoch, &before.events[1]);
    let after = events(stores, &client, Some(position), 1).await;
    let [event] = &after.events[..] else { panic!("{after:?}") };
    assert_eq!((&event.order, event.at), (&cancelled, at(1000)));
    assert_eq!(orders_of(&events(stores, &client, None, 2).await), [older, cancelled]);
}

pub async fn the_feed_goes_on_behind_any_position(stores: &impl Stores) {
    let (client, all) = (fresh_client(), orders::<4>());
    place_all(stores, &client, &all).await;
    let whole = events(stores, &client, None, 4).await;
    assert_eq!(orders_of(&whole), all);
    assert_eq!(events(stores, &client, Some(Position::start(whole.epoch)), 4).await, whole);
    for (number, event) in whole.events.iter().enumerate() {
        let after = position(whole.epoch, event);
        assert_eq!(events(stores, &client, Some(after), 3 - number).await.events, whole.events[number + 1..]);
        for limit in 1..=3 {
            let page = stores.orders().events(&client, Some(after), limit).await.unwrap().unwrap();
            let rest = &whole.events[number + 1..];
            assert_eq!(page.events, rest[..rest.len().min(limit as usize)], "{number} {limit}");
        }
    }
}

pub async fn a_position_of_another_life_or_of_the_future_has_expired(stores: &impl Stores) {
    let client = fresh_client();
    let epoch = events(stores, &client, None, 0).await.epoch;
    let start = Position::start(epoch);
    for expired in [
        Position { epoch: epoch + 1, ..start },
        Position { epoch: epoch - 1, ..start },
        Position { xid: u64::MAX / 2, order_id: Uuid::nil(), ..start },
    ] {
        assert_eq!(stores.orders().events(&client, Some(expired), 1).await, Ok(None), "{expired:?}");
    }
}

pub async fn a_page_of_the_feed_ends_where_it_is_full(stores: &impl Stores) {
    let (client, all) = (fresh_client(), large_orders::<15>());
    place_all(stores, &client, &all).await;
    let (mut seen, mut after, started) = (Vec::new(), None, Instant::now());
    while seen.len() < all.len() {
        assert!(started.elapsed() < Duration::from_secs(30), "{} of them", seen.len());
        let page = stores.orders().events(&client, after, 100).await.unwrap().unwrap();
        after = page.events.last().map(|event| position(page.epoch, event)).or(after);
        seen.extend(orders_of(&page));
    }
    assert_eq!(seen, all);
    // Nothing holds any of them back now, so the first page ends where it is full.
    let first = stores.orders().events(&client, None, 100).await.unwrap().unwrap();
    assert_just_full(&orders_of(&first));
    assert_eq!(orders_of(&first), all[..first.events.len()]);
    let short = stores.orders().events(&client, None, 2).await.unwrap().unwrap();
    assert_eq!(short.events, first.events[..2]);
}

pub async fn a_feed_that_cannot_be_reached_is_unavailable(stores: &impl Stores) {
    stores.set_reachable(false);
    let page = stores.orders().events(&fresh_client(), None, 1).await;
    assert!(matches!(page, Err(StoreError::Unavailable(_))), "{page:?}");
}
