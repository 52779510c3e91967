//! Cursors of the feed, and the snapshots in them.

use std::collections::BTreeSet;

use order::client::ClientName;
use order::events::{Cursor, MAX_OPEN, read_events};
use order::stores::{Position, Snapshot, Sweep};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::in_memory::{TestApp, at_once};
use super::{ORDERS, config};

/// Distances between the open transactions, from the highest down.
fn snapshot(distances: impl Strategy<Value = Vec<u64>>) -> impl Strategy<Value = Snapshot> {
    (1_u64 << 20..1 << 60, distances).prop_map(|(xmax, distances)| {
        let below = distances.into_iter().scan(xmax | 1, |xid, distance| {
            *xid -= distance;
            Some(*xid)
        });
        let mut open: Vec<u64> = below.filter(|xid| *xid as u32 != 0).collect();
        open.reverse();
        Snapshot { xmax: xmax | 1, open }
    })
}

fn cursor(most_open: usize, most_distance: u64) -> impl Strategy<Value = Cursor> {
    let snapshot = || snapshot(vec(1..=most_distance, 0..=most_open));
    let position = (any::<u64>(), any::<u128>());
    let begun = proptest::option::of((snapshot(), position));
    (0..1_i64 << 48, snapshot(), begun).prop_map(|(epoch, done, begun)| {
        let begun = begun.map(|(of, (xid, id))| (of, Position { xid, order_id: Uuid::from_u128(id) }));
        Cursor { epoch, sweep: Sweep { done, begun } }
    })
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn a_cursor_is_read_as_it_was_written(cursor in cursor(30, 500)) {
        let text = cursor.to_string();
        prop_assert_eq!(Cursor::parse(&text), Some(cursor));
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{}", text);
        for other in [format!("{text}0"), format!("{text}w"), format!("s{text}"), text[1..].to_owned(), text.to_uppercase()] {
            prop_assert_eq!(Cursor::parse(&other), None);
        }
    }

    #[test]
    fn a_cursor_of_four_hundred_sessions_fits_into_a_url(cursor in cursor(400, 1000)) {
        prop_assert!(cursor.to_string().len() < 2048);
    }

    #[test]
    fn whatever_is_sent_as_a_cursor_is_refused_or_read(digits in "s?[0-9a-zA-Z_-]{0,60}") {
        let page = at_once(TestApp::default().get(&format!("/events?after={digits}")));
        prop_assert!([200, 400, 410].contains(&page.status().as_u16()), "{:?}", page);
        if page.status() == 200 {
            prop_assert_eq!(serde_json::from_slice::<Value>(page.body()).unwrap(), Value::Array(Vec::new()));
        }
        if let Some(cursor) = Cursor::parse(&digits) {
            prop_assert_eq!(cursor.to_string(), digits);
        }
    }
}

#[test]
fn a_cursor_is_short_names_a_bounded_number_of_transactions_and_no_id_that_postgresql_does_not_read() {
    let of =
        |xmax: u64, open: Vec<u64>| Cursor { epoch: 0, sweep: Sweep { done: Snapshot { xmax, open }, begun: None } };
    assert_eq!(of(742, Vec::new()).to_string(), "s0Cn0");
    for (cursor, is_read) in [
        (of(5000, (1..=MAX_OPEN as u64).collect()), true),
        (of(5000, (1..=MAX_OPEN as u64 + 1).collect()), false),
        (of(u64::MAX, vec![u64::MAX - 1]), true),
        (of(7, vec![7]), false),
        (of(7, vec![0]), false),
        (of(1 << 32, Vec::new()), false),
        (of((1 << 32) + 1, vec![1 << 32]), false),
        (of(0, Vec::new()), false),
    ] {
        assert_eq!(Cursor::parse(&cursor.to_string()).is_some(), is_read, "{cursor:?}");
    }
}

#[test]
fn with_more_open_transactions_than_a_cursor_names_it_can_be_read_and_skips_nothing() {
    let app = TestApp::default();
    let open: Vec<u64> = (0..MAX_OPEN + 500).map(|_| app.orders.begin()).collect();
    at_once(app.place("first", ORDERS[0]));
    let row = app.orders.rows.borrow()[0].clone();
    for xid in [open[0], open[MAX_OPEN + 100]] {
        let mut late = row.clone();
        late.3.id = Uuid::from_u128(u128::from(xid) << 64);
        late.1 = late.3.id.to_string();
        app.orders.write(xid, late, row.3.created_at);
    }
    let client = ClientName::default();
    let mut cursor: Option<Cursor> = None;
    let mut seen = BTreeSet::new();
    let mut page = || {
        let (events, next) = at_once(read_events(&app.orders, &client, cursor.clone(), 1)).unwrap().unwrap();
        assert_eq!(Cursor::parse(&next.to_string()).as_ref(), Some(&next));
        cursor = Some(next);
        seen.extend(events.iter().map(|event| event.order.id));
        events.is_empty()
    };
    // Some are returned again and again, as long as so many are open.
    for _ in 0..5 {
        page();
    }
    for xid in open {
        app.orders.end(xid, true);
    }
    while !page() {}
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_snapshot_reads_and_writes_the_text_of_postgresql() {
    for text in ["1:1:", "10:20:10,14,15", "795:799:795"] {
        assert_eq!(Snapshot::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Snapshot::parse("10:20:"), Some(Snapshot { xmax: 20, open: Vec::new() }));
    for text in ["", "1", "1:2", "1:x:", "1:9:2,x"] {
        assert_eq!(Snapshot::parse(text), None, "{text}");
    }
}

#[test]
fn two_snapshots_together_show_what_both_show() {
    let [one, other] = ["2:9:2,5", "3:7:3,5"].map(|text| Snapshot::parse(text).unwrap());
    let both = one.clone().and(&other);
    assert_eq!(both.to_string(), "2:7:2,3,5");
    for xid in 0..12 {
        assert_eq!(both.shows(xid), one.shows(xid) && other.shows(xid), "{xid}");
    }
    assert_eq!(both.up_to(5).to_string(), "2:5:2,3");
}
