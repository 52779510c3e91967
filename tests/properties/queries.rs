//! Queries and cursors of the list.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use uuid::Uuid;

use super::in_memory::{TestApp, at_once};
use super::{ORDERS, config, laws};

pub fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![select(vec!["limit", "cursor", "customerId", "status", "idempotencyKey", "colour", ""])];
    let value = prop_oneof![
        select(vec![
            "1",
            "2",
            "100",
            "0",
            "101",
            "-1",
            "created",
            "confirmed",
            "c-1",
            "key-1",
            "%22key-2%22",
            "%00",
            "%FF",
            ""
        ])
        .prop_map(str::to_owned),
        any::<u128>().prop_map(|id| Uuid::from_u128(id % 9).simple().to_string()),
        "[!-~é]{0,10}".prop_map(|text| text.replace('#', "%23")),
    ];
    let pair = (name, value).prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![9 => vec(pair, 0..4).prop_map(|pairs| pairs.join("&")), 1 => "[!-~é]{0,30}"]
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn any_query_is_refused_or_walks_the_matching_orders_once(query in query()) {
        laws::query(&query);
    }

    #[test]
    fn the_pages_hold_every_order_once_whatever_their_size(orders in 0..12_usize, limit in 1..5_usize) {
        let app = TestApp::default();
        for at in 0..orders {
            at_once(app.place(&format!("k{at}"), ORDERS[0]));
        }
        let mut path = format!("/orders?limit={limit}");
        let mut seen = Vec::new();
        loop {
            let page: Value = serde_json::from_slice(at_once(app.get(&path)).body()).unwrap();
            seen.extend(page["orders"].as_array().unwrap().iter().map(|order| order["orderId"].to_string()));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            prop_assert_eq!(page["orders"].as_array().unwrap().len(), limit);
            path = format!("/orders?cursor={cursor}&limit={limit}");
        }
        prop_assert_eq!(seen.len(), orders);
        prop_assert!(seen.is_sorted_by(|newer, older| newer > older));
    }

    #[test]
    fn a_cursor_has_one_spelling(id in any::<u128>(), other in "[0-9a-zA-Z{}:.-]{0,40}", spelling in 0..6_usize) {
        let status = |cursor: &str| at_once(TestApp::default().get(&format!("/orders?cursor={cursor}"))).status().as_u16();
        let id = Uuid::from_u128(id);
        let cursor = id.simple().to_string();
        prop_assert_eq!(status(&cursor), 200);
        let foreign = match spelling {
            0 => id.hyphenated().to_string(),
            1 => format!("%7B{id}%7D"),
            2 => id.urn().to_string(),
            3 => format!("A{}", cursor[1..].to_uppercase()),
            4 => cursor[1..].to_owned(),
            _ => other.replace(['{', '}'], "%7B"),
        };
        prop_assert_eq!(status(&foreign), 400);
    }
}
