//! The laws of the feed while others write: a late commit is not skipped, and nothing waits for it.

use std::collections::BTreeMap;
use std::slice;

use order::order::{Order, Status};
use order::stores::{OrderStore, Placement};

use super::feed::Consumer;
use super::{Transactions, Write, change, changed, fresh_client, key, orders, place, place_all, without_waiting};

pub async fn an_open_transaction_holds_up_no_other_one(stores: &impl Transactions) {
    let (client, [before, late, later, after, last]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&before)).await;
    let mut consumer = Consumer::new(&client);
    assert_eq!(consumer.poll(stores, 1).await, slice::from_ref(&before));
    // Two orders of one transaction and a change, then others that commit before it.
    let mut open = stores.begin_empty().await;
    stores.write(&mut open, &client, Write::Place(&key("later"), &later), false).await;
    stores.write(&mut open, &client, Write::Place(&key("late"), &late), true).await;
    stores.write(&mut open, &client, Write::Change(&before, Status::Confirmed), false).await;
    for (name, order) in [("after", &after), ("last", &last)] {
        assert_eq!(place(stores, &client, &key(name), order).await, Ok(Placement::Placed));
        assert_eq!(without_waiting(consumer.poll(stores, 1)).await, slice::from_ref(order));
    }
    stores.end(open, true).await;
    let mut seen = consumer.poll(stores, 1).await;
    seen.sort_by_key(|order| order.id);
    assert_eq!(seen, [changed(&before, Status::Confirmed), late, later]);
}

pub async fn what_commits_during_a_sweep_comes_after_it(stores: &impl Transactions) {
    let (client, [late, first, second, third, new]) = (fresh_client(), orders());
    let mut open = stores.begin_empty().await;
    stores.write(&mut open, &client, Write::Place(&key("late"), &late), false).await;
    place_all(stores, &client, &[first.clone(), second.clone(), third.clone()]).await;
    let mut consumer = Consumer::new(&client);
    let mut seen: Vec<Order> = consumer.page(stores, 1).await.into_iter().map(|event| event.order).collect();
    // One before its position, one that it has read, one that it has not, and one that did not exist.
    stores.end(open, true).await;
    let first_again = change(stores, &client, &first, Status::Confirmed).await.unwrap().unwrap();
    let third_again = change(stores, &client, &third, Status::Cancelled).await.unwrap().unwrap();
    assert_eq!(place(stores, &client, &key("new"), &new).await, Ok(Placement::Placed));
    seen.extend(consumer.poll(stores, 1).await);
    assert_eq!(seen, [first, second, late, first_again, third_again, new]);
}

pub async fn the_feed_does_not_show_what_was_aborted(stores: &impl Transactions) {
    let (client, [order, undone, after]) = (fresh_client(), orders());
    place_all(stores, &client, slice::from_ref(&order)).await;
    let mut consumer = Consumer::new(&client);
    let mut open = stores.begin_empty().await;
    stores.write(&mut open, &client, Write::Place(&key("k"), &undone), false).await;
    stores.write(&mut open, &client, Write::Change(&order, Status::Cancelled), true).await;
    assert_eq!(consumer.poll(stores, 100).await, slice::from_ref(&order));
    stores.end(open, false).await;
    assert_eq!(place(stores, &client, &key("k"), &after).await, Ok(Placement::Placed));
    assert_eq!(consumer.poll(stores, 100).await, slice::from_ref(&after));
    assert_eq!(Consumer::new(&client).poll(stores, 100).await, [order, after]);
}

pub async fn a_prepared_transaction_is_an_open_one(stores: &impl Transactions) {
    let (client, [late, undone, after]) = (fresh_client(), orders());
    let mut prepared = Vec::new();
    for (name, order) in [("late", &late), ("undone", &undone)] {
        let mut open = stores.begin_empty().await;
        stores.write(&mut open, &client, Write::Place(&key(name), order), true).await;
        stores.prepare(&mut open).await;
        prepared.push(open);
    }
    assert_eq!(place(stores, &client, &key("after"), &after).await, Ok(Placement::Placed));
    let mut consumer = Consumer::new(&client);
    assert_eq!(without_waiting(consumer.poll(stores, 1)).await, slice::from_ref(&after));
    for (open, commits) in prepared.into_iter().zip([true, false]) {
        stores.end(open, commits).await;
    }
    assert_eq!(consumer.poll(stores, 1).await, slice::from_ref(&late));
}

/// So it is short, and does not change while the client's orders do not.
pub async fn a_cursor_names_the_open_transactions_below_the_last_change_alone(stores: &impl Transactions) {
    let (client, [one, other]) = (fresh_client(), orders());
    let (below, still_below) = (stores.begin_empty().await, stores.begin_empty().await);
    place_all(stores, &client, &[one, other]).await;
    let above = [stores.begin_empty().await, stores.begin_empty().await];
    let mut consumer = Consumer::new(&client);
    consumer.poll(stores, 1).await;
    let cursor = consumer.cursor.clone().unwrap();
    assert!(cursor.sweep.done.open.len() >= 2, "{cursor:?}");
    for transaction in above {
        stores.end(transaction, true).await;
    }
    assert_eq!(consumer.poll(stores, 1).await, []);
    assert!(consumer.cursor.as_ref().unwrap().to_string().len() <= cursor.to_string().len());
    stores.end(below, true).await;
    consumer.poll(stores, 1).await;
    assert!(consumer.cursor.unwrap().sweep.done.open.len() < cursor.sweep.done.open.len(), "{cursor:?}");
    stores.end(still_below, false).await;
}

/// Up to four transactions, each with its own order and a change of an order that no other one is changing.
pub async fn consumers_of_random_transactions_miss_nothing(stores: &impl Transactions) {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2 {
        random_transactions(stores, &mut random).await;
    }
}

async fn random_transactions(stores: &impl Transactions, random: &mut fastrand::Rng) {
    let (client, placed) = (fresh_client(), orders::<3>());
    place_all(stores, &client, &placed).await;
    let new = orders::<24>();
    let mut rows: BTreeMap<_, Order> = placed.into_iter().map(|order| (order.id, order)).collect();
    let mut consumers: Vec<Consumer> = (0..3).map(|_| Consumer::new(&client)).collect();
    // Each with what it has written, and whether it was left to the server.
    let mut open: Vec<(_, Vec<Order>, bool)> = Vec::new();
    let mut fresh = new.iter();
    for _ in 0..40 {
        match random.u8(..8) {
            0 | 1 if open.len() < 4 => open.push((stores.begin_empty().await, Vec::new(), false)),
            2 | 3 if !open.is_empty() => {
                let locked: Vec<_> = open.iter().flat_map(|(_, written, _)| written).map(|order| order.id).collect();
                let at = random.usize(..open.len());
                let (transaction, written, is_prepared) = &mut open[at];
                let free = rows.values().find(|order| !locked.contains(&order.id) && order.version < 3);
                let (write, after) = match (free, fresh.next()) {
                    _ if *is_prepared => continue,
                    (Some(order), _) if random.bool() => {
                        let status = if order.version == 1 { Status::Confirmed } else { Status::Cancelled };
                        (Write::Change(order, status), changed(order, status))
                    }
                    (_, Some(order)) => (Write::Place(&key(&order.id.to_string()), order), order.clone()),
                    _ => continue,
                };
                stores.write(transaction, &client, write, random.bool()).await;
                written.push(after);
            }
            4 if !open.is_empty() => {
                let at = random.usize(..open.len());
                let (transaction, _, is_prepared) = &mut open[at];
                if !std::mem::replace(is_prepared, true) {
                    stores.prepare(transaction).await;
                }
            }
            5 | 6 if !open.is_empty() => {
                let (transaction, written, _) = open.swap_remove(random.usize(..open.len()));
                let commits = random.u8(..3) > 0;
                stores.end(transaction, commits).await;
                rows.extend(written.into_iter().filter(|_| commits).map(|order| (order.id, order)));
            }
            _ => {
                let limit = random.u32(1..4);
                random.choice(&mut consumers).unwrap().page(stores, limit).await;
            }
        }
        // Whatever is open, the consumer has what is committed as soon as it is caught up.
        let consumer = random.choice(&mut consumers).unwrap();
        if random.u8(..4) == 0 {
            consumer.poll(stores, 2).await;
            assert_eq!(consumer.table, versions(&rows));
        }
    }
    for (transaction, written, _) in open {
        stores.end(transaction, true).await;
        rows.extend(written.into_iter().map(|order| (order.id, order)));
    }
    for mut consumer in consumers {
        consumer.poll(stores, 1).await;
        assert_eq!(consumer.table, versions(&rows));
    }
    assert_eq!(rows_by_list(stores, &client).await, versions(&rows));
}

fn versions<Id: Ord + Copy>(rows: &BTreeMap<Id, Order>) -> BTreeMap<Id, i64> {
    rows.iter().map(|(id, order)| (*id, order.version)).collect()
}

async fn rows_by_list(stores: &impl Transactions, client: &order::client::ClientName) -> BTreeMap<uuid::Uuid, i64> {
    let page = stores.orders().list(client, &order::stores::Filter::default(), 100).await.unwrap();
    page.orders.iter().map(|order| (order.id, order.version)).collect()
}
