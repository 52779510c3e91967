//! What holds for any pair of stores: the contracts in `src/stores.rs`, except for what they promise about time.
//!
//! They are checked on the stores in memory, on the real Redis and PostgreSQL, and on the model that `tests/interleavings/`
//! uses instead. A test binary that has this as its `laws` provides a [`Stores`] for each, and `laws!` makes a test of each
//! law. Every law has its own client, so all run side by side over the same stores.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use chrono::DateTime;
use order::client::ClientName;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{Item, NewOrder, Order, Status, Timestamp};
use order::stores::{AnswerCache, Filter, OrderStore, PAGE_BYTES, Placement, StoreError};
use uuid::Uuid;

pub mod feed;
pub mod keys;
pub mod late_commits;
pub mod lists;
pub mod meanwhile;
pub mod orders;

/// A pair of stores, and what may happen to them.
pub trait Stores {
    fn answers(&self) -> &impl AnswerCache;
    fn orders(&self) -> &impl OrderStore;

    /// The bytes stored under the client's key.
    async fn entry(&self, client: &ClientName, key: &IdempotencyKey) -> Option<Vec<u8>>;

    /// Stores other bytes there, or removes them.
    async fn set_entry(&self, client: &ClientName, key: &IdempotencyKey, entry: Option<&[u8]>);

    /// Places many orders of a client, as fast as it can.
    async fn place_many(&self, client: &ClientName, orders: &[Order])
    where
        Self: Sized,
    {
        place_all(self, client, orders).await;
    }

    /// Cuts off both stores, or connects them again. A call in flight when they are cut off never gets its answer.
    fn set_reachable(&self, is_reachable: bool);
}

/// Stores to which others write at the same time. The stores in memory are not: a call ends before another begins.
pub trait SharedStores: Stores {
    /// An open transaction of another writer.
    type Held;

    /// Opens one that has written all of this without committing it. Each of these writes finds the rows that it needs.
    async fn begin(&self, client: &ClientName, writes: &[Write<'_>]) -> Self::Held;

    async fn commit(&self, held: Self::Held);

    async fn abort(&self, held: Self::Held);

    /// Lets the lock timeout of waiting calls pass. Does nothing if time passes by itself.
    async fn pass_lock_timeout(&self) {}
}

/// Stores with transactions of other writers, as the feed sees them.
pub trait Transactions: Stores {
    type Transaction;

    /// Begins one, which gets its id.
    async fn begin_empty(&self) -> Self::Transaction;

    /// Writes in it; if `nested`, in a subtransaction, after another one that was rolled back.
    async fn write(&self, transaction: &mut Self::Transaction, client: &ClientName, write: Write<'_>, nested: bool);

    /// Leaves it to the server, without its session.
    async fn prepare(&self, transaction: &mut Self::Transaction);

    async fn end(&self, transaction: Self::Transaction, commits: bool);
}

#[derive(Clone, Copy)]
pub enum Write<'a> {
    Place(&'a IdempotencyKey, &'a Order),
    /// A change from the version that the order has.
    Change(&'a Order, Status),
}

/// A test for each law of a part, over the stores that the asynchronous function `$stores` returns.
macro_rules! laws {
    (keys, $stores:ident) => { laws! { keys, $stores:
        nothing_is_found_if_nothing_was_remembered
        a_record_is_found_byte_for_byte
        the_last_one_remembered_is_found
        another_key_and_another_client_find_nothing
        what_was_lost_is_not_found_and_can_be_remembered_again
        a_damaged_entry_is_not_found
        an_entry_copied_from_elsewhere_is_not_found
        keys_that_cannot_be_reached_are_not_up_and_find_nothing
    } };
    (orders, $stores:ident) => { laws! { orders, $stores:
        a_key_is_placed_once
        an_order_is_found_as_it_was_placed
        a_key_is_always_answered_as_its_first_request_was
        a_key_without_a_row_is_unavailable
        keys_are_compared_byte_by_byte
        keys_and_orders_of_two_clients_are_separate
        a_change_makes_an_allowed_move_and_raises_the_version_by_one
        a_change_is_made_from_a_named_version_only
        a_missing_order_is_not_changed
        orders_that_cannot_be_reached_are_unavailable
    } };
    (lists, $stores:ident) => { laws! { lists, $stores:
        a_list_is_newest_first_and_of_its_client
        every_filter_must_match
        pages_follow_one_another
        a_page_ends_where_it_is_full
        orders_of_one_status_are_found_however_far_apart_they_are
    } };
    (feed, $stores:ident) => { laws! { feed, $stores:
        the_feed_has_the_newest_change_of_each_order_in_the_order_of_the_changes
        the_feed_goes_on_after_any_page
        a_cursor_of_another_life_or_of_the_future_has_expired
        a_page_of_the_feed_ends_where_it_is_full
        a_feed_that_cannot_be_reached_is_unavailable
    } };
    (meanwhile, $stores:ident) => { laws! { meanwhile, $stores:
        a_place_waits_for_its_key_and_finds_it_taken_after_the_commit
        a_place_waits_for_its_key_and_is_placed_after_the_abort
        of_those_that_wait_for_a_key_one_is_placed_after_the_abort
        a_place_of_another_key_does_not_wait
        of_many_places_of_a_key_at_once_one_is_placed
        what_is_not_committed_is_invisible
        a_place_that_waits_too_long_fails_and_writes_nothing
        a_place_whose_caller_left_is_settled_by_the_next_one
        a_place_that_is_cut_off_is_settled_by_the_next_one
        a_change_waits_and_writes_nothing_after_the_commit
        a_change_waits_and_is_made_after_the_abort
        a_change_that_names_both_versions_goes_on_from_the_commit
        of_many_changes_of_a_version_at_once_one_is_made
        reads_do_not_wait_for_a_change_and_see_the_version_before
        a_place_waits_for_a_change_of_the_order_that_has_its_key
        a_change_that_waits_too_long_writes_nothing
    } };
    (late_commits, $stores:ident) => { laws! { late_commits, $stores:
        an_open_transaction_holds_up_no_other_one
        what_commits_during_a_sweep_comes_after_it
        the_feed_does_not_show_what_was_aborted
        a_prepared_transaction_is_an_open_one
        a_cursor_names_the_open_transactions_below_the_last_change_alone
        consumers_of_random_transactions_miss_nothing
    } };
    ($part:ident, $stores:ident: $($law:ident)*) => {
        mod $part {
            $(#[tokio::test]
            async fn $law() {
                crate::laws::$part::$law(&super::$stores().await).await;
            })*
        }
    };
}

pub fn fresh_client() -> ClientName {
    ClientName::parse(&format!("law-{:016x}", fastrand::u64(..))).unwrap()
}

pub fn key(text: &str) -> IdempotencyKey {
    let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    IdempotencyKey::parse(quoted.as_bytes()).unwrap()
}

/// A moment of 2025, plus this many milliseconds.
pub fn at(ms: i64) -> Timestamp {
    DateTime::from_timestamp_millis(1_763_899_200_123 + ms).unwrap()
}

/// Distinct ids, each newer than the one before.
pub fn orders<const N: usize>() -> [Order; N] {
    many_orders(N).try_into().unwrap()
}

pub fn many_orders(count: usize) -> Vec<Order> {
    let first = fastrand::u128(..u128::MAX / 2);
    let order = |number| {
        let item = Item { sku: "BOOK-1".into(), quantity: number as i64 + 1, unit_amount: 59_900 };
        let placed = NewOrder {
            customer_id: "c-42".into(),
            currency: "RUB".into(),
            total_amount: item.quantity * item.unit_amount,
            items: vec![item],
            comment: None,
        };
        Order::new(Uuid::from_u128(first + number as u128), at(number as i64), placed)
    };
    (0..count).map(order).collect()
}

/// Orders of such a size that a page holds nine.
pub fn large_orders<const N: usize>() -> [Order; N] {
    let item = |number: usize| Item { sku: format!("{number:🦀>64}"), quantity: 1, unit_amount: 1 };
    orders().map(|mut order: Order| {
        order.placed.items = (0..100).map(item).collect();
        order.placed.total_amount = 100;
        order.placed.comment = Some("x".repeat(500));
        order
    })
}

/// Checks that the last order is the one that fills the page.
pub fn assert_just_full(page: &[Order]) {
    let bytes_of = |order: &Order| {
        let comment = order.placed.comment.as_ref().map_or(0, String::len);
        serde_json::to_vec(&order.placed.items).unwrap().len() + comment
    };
    let bytes: usize = page.iter().map(bytes_of).sum();
    assert!(bytes - page.last().map_or(0, bytes_of) < PAGE_BYTES, "{bytes}");
    // The spaces that PostgreSQL inserts between members are a fiftieth.
    assert!(bytes + bytes / 50 >= PAGE_BYTES, "{bytes}");
}

pub fn record_of(order: &Order) -> KeyRecord {
    KeyRecord { fingerprint: Fingerprint::of(&order.placed), answer: Answer::of(order.clone()) }
}

pub async fn place(
    stores: &impl Stores,
    client: &ClientName,
    key: &IdempotencyKey,
    order: &Order,
) -> Result<Placement, StoreError> {
    stores.orders().place(client, key, Fingerprint::of(&order.placed), order).await
}

/// Each under a key that is its number.
pub async fn place_all(stores: &impl Stores, client: &ClientName, orders: &[Order]) {
    for (number, order) in orders.iter().enumerate() {
        assert_eq!(place(stores, client, &key(&number.to_string()), order).await, Ok(Placement::Placed));
    }
}

/// A change from the version that `order` has, at the moment `at(1000)`.
pub async fn change(
    stores: &impl Stores,
    client: &ClientName,
    order: &Order,
    status: Status,
) -> Result<Option<Order>, StoreError> {
    stores.orders().change(client, order.id, &[order.version], status, at(1000)).await
}

/// The order one change later.
pub fn changed(order: &Order, status: Status) -> Order {
    Order { status, version: order.version + 1, ..order.clone() }
}

/// All orders that are placed under the key.
pub async fn rows_of(stores: &impl Stores, client: &ClientName, key: &IdempotencyKey) -> Vec<Order> {
    let filter = Filter { idempotency_key: Some(key.clone()), ..Filter::default() };
    stores.orders().list(client, &filter, 100).await.unwrap().orders
}

/// Checks that the call waits, for a while: a statement that does not wait ends sooner.
pub async fn sees_waiting<F: Future<Output: Debug>>(call: Pin<&mut F>) {
    if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(200), call).await {
        panic!("it did not wait: {outcome:?}");
    }
}

/// The call's outcome, which must arrive before any lock here is released.
pub async fn without_waiting<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("it should not wait")
}
