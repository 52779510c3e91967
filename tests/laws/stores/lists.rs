//! The laws of `OrderStore::list`.

use order::order::Status;
use order::stores::{Filter, OrderStore, PAGE_ROWS, Page, Placement};
use uuid::Uuid;

use super::{
    Stores, assert_just_full, change, changed, fresh_client, key, large_orders, many_orders, orders, place, place_all,
};

pub async fn a_list_is_newest_first_and_of_its_client(stores: &impl Stores) {
    let ([client, other], all) = ([fresh_client(), fresh_client()], orders::<5>());
    assert_eq!(stores.orders().list(&client, &Filter::default(), 100).await, Ok(Page::default()));
    // The order of their ids counts, not the order in which they are placed.
    for at in [2, 0, 3, 1] {
        let key = key(&at.to_string());
        assert_eq!(place(stores, &client, &key, &all[at]).await, Ok(Placement::Placed));
    }
    assert_eq!(place(stores, &other, &key("k"), &all[4]).await, Ok(Placement::Placed));
    assert_eq!(change(stores, &client, &all[1], Status::Confirmed).await.unwrap().unwrap().version, 2);
    let changed = changed(&all[1], Status::Confirmed);
    let expected = [all[3].clone(), all[2].clone(), changed, all[0].clone()].to_vec();
    let page = stores.orders().list(&client, &Filter::default(), 100).await;
    assert_eq!(page, Ok(Page { orders: expected, next: None }));
}

pub async fn every_filter_must_match(stores: &impl Stores) {
    let (client, mut all) = (fresh_client(), orders::<8>());
    for (number, order) in all.iter_mut().enumerate() {
        order.placed.customer_id = ["c-1", "C-1"][number % 2].into();
    }
    place_all(stores, &client, &all).await;
    for number in [2, 3, 6, 7] {
        all[number] = change(stores, &client, &all[number], Status::Confirmed).await.unwrap().unwrap();
    }
    for customer_id in [None, Some("c-1"), Some("c")] {
        for status in [None, Some(Status::Confirmed), Some(Status::Cancelled)] {
            for by_key in [None, Some(6), Some(99)] {
                for before in [None, Some(all[6].id), Some(Uuid::max())] {
                    let filter = Filter {
                        customer_id: customer_id.map(str::to_owned),
                        status,
                        idempotency_key: by_key.map(|number: usize| key(&number.to_string())),
                        before,
                    };
                    let matching = all.iter().enumerate().filter(|(number, order)| {
                        customer_id.is_none_or(|id| order.placed.customer_id == id)
                            && status.is_none_or(|status| order.status == status)
                            && by_key.is_none_or(|wanted| wanted == *number)
                            && before.is_none_or(|before| order.id < before)
                    });
                    let expected: Vec<_> = matching.rev().map(|(_, order)| order.clone()).collect();
                    let page = stores.orders().list(&client, &filter, 100).await;
                    assert_eq!(page, Ok(Page { orders: expected, next: None }), "{filter:?}");
                }
            }
        }
    }
}

pub async fn pages_follow_one_another(stores: &impl Stores) {
    let (client, mut all) = (fresh_client(), orders::<5>());
    place_all(stores, &client, &all).await;
    all.reverse();
    for limit in 1..=6 {
        let mut before = None;
        for rest in (0..all.len()).step_by(limit) {
            let filter = Filter { before, ..Filter::default() };
            let orders = all[rest..].iter().take(limit).cloned().collect::<Vec<_>>();
            let next = orders.last().map(|order| order.id).filter(|_| all.len() - rest > limit);
            let expected = Page { orders, next };
            before = next;
            assert_eq!(stores.orders().list(&client, &filter, limit as u32).await, Ok(expected), "{limit} {rest}");
        }
    }
}

pub async fn a_page_ends_where_it_is_full(stores: &impl Stores) {
    let (client, mut all) = (fresh_client(), large_orders::<15>());
    place_all(stores, &client, &all).await;
    all.reverse();
    let page = stores.orders().list(&client, &Filter::default(), 100).await.unwrap();
    let filter = Filter { before: page.orders.last().map(|order| order.id), ..Filter::default() };
    let rest = stores.orders().list(&client, &filter, 100).await.unwrap();
    assert_eq!([page.orders.as_slice(), &rest.orders].concat(), all);
    assert_eq!((page.next, rest.next), (page.orders.last().map(|order| order.id), None));
    assert_just_full(&page.orders);
    // The limit of the page applies as well.
    let short = stores.orders().list(&client, &Filter::default(), 2).await;
    assert_eq!(short, Ok(Page { orders: all[..2].to_vec(), next: Some(all[1].id) }));
}

pub async fn orders_of_one_status_are_found_however_far_apart_they_are(stores: &impl Stores) {
    let (client, mut all) = (fresh_client(), many_orders(2 * PAGE_ROWS + 100));
    stores.place_many(&client, &all).await;
    let at = |number: usize| all.len() - 1 - number;
    // In the first page, in the last one, and the oldest of all.
    let few = [at(PAGE_ROWS - 1), at(2 * PAGE_ROWS), 0];
    for number in few {
        all[number] = change(stores, &client, &all[number], Status::Confirmed).await.unwrap().unwrap();
    }
    let [first, second, oldest] = few.map(|number| all[number].clone());
    let mut filter = Filter { customer_id: Some("c-42".into()), status: Some(Status::Confirmed), ..Filter::default() };
    for (orders, next) in [
        (vec![first.clone()], Some(first.id)),
        // Nothing that matches is among the orders that this page reads.
        (vec![], Some(all[few[1] + 1].id)),
        (vec![second, oldest], None),
    ] {
        assert_eq!(stores.orders().list(&client, &filter, 100).await, Ok(Page { orders, next }));
        filter.before = next;
    }
}
