//! The laws of the feed: `OrderStore::events`, read by cursors. `late_commits` has what it shows while others write.

use std::collections::BTreeMap;

use order::client::ClientName;
use order::events::{Cursor, read_events};
use order::order::{Order, Status};
use order::stores::{Event, Snapshot, StoreError};
use uuid::Uuid;

use super::{Stores, assert_just_full, at, change, fresh_client, large_orders, orders, place_all};

/// A consumer that follows a client's feed and keeps the highest version of each order.
#[derive(Clone)]
pub struct Consumer {
    client: ClientName,
    pub cursor: Option<Cursor>,
    pub table: BTreeMap<Uuid, i64>,
}

impl Consumer {
    pub fn new(client: &ClientName) -> Self {
        Self { client: client.clone(), cursor: None, table: BTreeMap::new() }
    }

    /// The next page. Its cursor survives being written and read.
    pub async fn page(&mut self, stores: &impl Stores, limit: u32) -> Vec<Event> {
        let page = read_events(stores.orders(), &self.client, self.cursor.clone(), limit).await;
        let (events, next) = page.unwrap().expect("it has not expired");
        assert_eq!(Cursor::parse(&next.to_string()).as_ref(), Some(&next), "{next}");
        assert!(events.is_sorted_by_key(Event::position) && events.len() <= limit as usize);
        self.cursor = Some(next);
        for event in &events {
            let version = self.table.entry(event.order.id).or_default();
            *version = event.order.version.max(*version);
        }
        events
    }

    /// All pages up to an empty one.
    pub async fn poll(&mut self, stores: &impl Stores, limit: u32) -> Vec<Order> {
        let mut all = Vec::new();
        loop {
            let page = self.page(stores, limit).await;
            if page.is_empty() {
                return all;
            }
            all.extend(page.into_iter().map(|event| event.order));
        }
    }
}

pub async fn the_feed_has_the_newest_change_of_each_order_in_the_order_of_the_changes(stores: &impl Stores) {
    let ([client, other], [older, newer, third]) = ([fresh_client(), fresh_client()], orders());
    let mut consumer = Consumer::new(&client);
    assert_eq!(consumer.page(stores, 100).await, []);
    // The order of the changes counts, not that of the ids.
    place_all(stores, &client, &[newer.clone(), older.clone()]).await;
    place_all(stores, &other, &[third]).await;
    let before = consumer.page(stores, 100).await;
    assert_eq!(before.iter().map(|event| &event.order).collect::<Vec<_>>(), [&newer, &older]);
    assert_eq!(before.iter().map(|event| event.at).collect::<Vec<_>>(), [newer.created_at, older.created_at]);

    let confirmed = change(stores, &client, &newer, Status::Confirmed).await.unwrap().unwrap();
    let cancelled = change(stores, &client, &confirmed, Status::Cancelled).await.unwrap().unwrap();
    // A change that is not made is not an event.
    assert_eq!(change(stores, &client, &older, Status::Created).await, Ok(None));
    let after = consumer.page(stores, 100).await;
    let [event] = &after[..] else { panic!("{after:?}") };
    assert_eq!((&event.order, event.at), (&cancelled, at(1000)));
    assert_eq!(Consumer::new(&client).poll(stores, 100).await, [older, cancelled]);
}

pub async fn the_feed_goes_on_after_any_page(stores: &impl Stores) {
    let (client, all) = (fresh_client(), orders::<5>());
    place_all(stores, &client, &all).await;
    for limit in 1..=6 {
        let mut consumer = Consumer::new(&client);
        let (mut seen, mut pages) = (Vec::new(), 0);
        while seen.len() < all.len() {
            // A consumer that dies before it has kept a page gets it again.
            let again = consumer.clone().page(stores, limit).await;
            let page = consumer.page(stores, limit).await;
            assert_eq!(page, again);
            seen.extend(page.into_iter().map(|event| event.order));
            pages += 1;
        }
        assert_eq!((seen, pages), (all.to_vec(), all.len().div_ceil(limit as usize)), "{limit}");
        let then = consumer.cursor.clone().unwrap().sweep;
        assert_eq!(consumer.poll(stores, limit).await, []);
        let now = consumer.cursor.unwrap().sweep;
        // Only transactions of other clients may have ended meanwhile.
        assert_eq!(now.done.xmax, then.done.xmax, "nothing new");
        assert!(now.done.open.iter().all(|xid| then.done.open.contains(xid)), "{then:?} {now:?}");
        // The last page has ended the sweep even if it was full.
        assert_eq!((now.begun, then.begun), (None, None), "{limit}");
    }
}

pub async fn a_cursor_of_another_life_or_of_the_future_has_expired(stores: &impl Stores) {
    let (client, all) = (fresh_client(), orders::<3>());
    place_all(stores, &client, &all).await;
    let mut consumer = Consumer::new(&client);
    consumer.page(stores, 1).await;
    let cursor = consumer.cursor.unwrap();
    let with = |change: fn(&mut Cursor)| {
        let mut other = cursor.clone();
        change(&mut other);
        other
    };
    for expired in [
        with(|cursor| cursor.epoch += 1),
        with(|cursor| cursor.epoch -= 1),
        with(|cursor| cursor.sweep.done.xmax = u64::MAX / 2),
        with(|cursor| cursor.sweep.done = Snapshot { xmax: u64::MAX / 2, open: vec![5] }),
    ] {
        let page = read_events(stores.orders(), &client, Some(expired.clone()), 1).await;
        assert_eq!(page, Ok(None), "{expired:?}");
    }
}

pub async fn a_page_of_the_feed_ends_where_it_is_full(stores: &impl Stores) {
    let (client, all) = (fresh_client(), large_orders::<15>());
    place_all(stores, &client, &all).await;
    let mut consumer = Consumer::new(&client);
    let first: Vec<_> = consumer.page(stores, 100).await.into_iter().map(|event| event.order).collect();
    assert_just_full(&first);
    assert_eq!(first, all[..first.len()]);
    assert_eq!(consumer.poll(stores, 100).await, all[first.len()..]);
    assert_eq!(Consumer::new(&client).page(stores, 2).await.len(), 2);
}

pub async fn a_feed_that_cannot_be_reached_is_unavailable(stores: &impl Stores) {
    stores.set_reachable(false);
    let page = read_events(stores.orders(), &fresh_client(), None, 1).await;
    assert!(matches!(page, Err(StoreError::Unavailable(_))), "{page:?}");
}
