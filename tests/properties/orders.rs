//! Orders in every spelling that JSON allows.

use order::idempotency::Fingerprint;
use order::order::{Item, NewOrder};
use proptest::collection::{SizeRange, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::in_memory::{TestApp, at_once};
use super::{config, laws};

/// Up to this many characters, and now and then exactly as many.
pub fn text(max_chars: usize) -> impl Strategy<Value = String> {
    prop_oneof![20 => text_of(1..=max_chars), 1 => text_of(max_chars)]
}

pub fn text_of(chars: impl Into<SizeRange>) -> impl Strategy<Value = String> {
    let char =
        prop_oneof![4 => prop::char::range(' ', '~'), 1 => any::<char>(), 1 => select(vec!['"', '\\', '/', 'я', '🦀'])];
    let char = char.prop_filter("control characters are refused", |char| !char.is_control());
    vec(char, chars).prop_map(String::from_iter)
}

fn item() -> impl Strategy<Value = Item> {
    let unit_amount = prop_oneof![0..1_000_000_i64, 0..=1_000_000_000_000_i64, Just(0)];
    let quantity = prop_oneof![1..10_i64, 1..=10_000_i64];
    let sku = prop_oneof![9 => text(8), 1 => text(64)];
    (sku, quantity, unit_amount).prop_map(|(sku, quantity, unit_amount)| Item { sku, quantity, unit_amount })
}

pub fn order() -> impl Strategy<Value = NewOrder> {
    let comment =
        prop_oneof![4 => text(20), 1 => text(500), 1 => Just(String::new()), 1 => "[\t\n\r\u{1}-\u{1f}]{1,3}"];
    let items = prop_oneof![30 => vec(item(), 1..4), 1 => vec(item(), 1..=100)];
    let order =
        (text(64), "[A-Z]{3}", items, option::of(comment)).prop_map(|(customer_id, currency, items, comment)| {
            let total_amount = items.iter().map(|item| item.quantity * item.unit_amount).sum();
            NewOrder { customer_id, currency, items, comment, total_amount }
        });
    order.prop_filter("the total is bounded", |order| order.total_amount <= order::order::MAX_TOTAL)
}

/// Chooses among the spellings that JSON allows; the choices come from the generator and repeat.
pub struct Pen {
    choices: Vec<u8>,
    next: usize,
}

impl Pen {
    fn choose(&mut self, from: usize) -> usize {
        let choice = self.choices[self.next % self.choices.len()];
        self.next += 1;
        usize::from(choice) % from
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n", "\r\n\t"][self.choose(6)]
    }

    fn string(&mut self, text: &str) -> String {
        let mut json = "\"".to_owned();
        for char in text.chars() {
            let short = match char {
                '"' | '\\' | '/' => Some(char),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                _ => None,
            };
            match (self.choose(8), short) {
                (0..2, _) => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| json += &format!("\\u{unit:04x}")),
                (2, _) => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| json += &format!("\\u{unit:04X}")),
                (3.., Some(short)) => json.extend(['\\', short]),
                (3.., None) if char < ' ' => json += &format!("\\u{:04x}", u32::from(char)),
                (3.., None) => json.push(char),
            }
        }
        json + "\""
    }

    fn integer(&mut self, value: i64) -> String {
        if value == 0 && self.choose(2) == 0 { "-0".to_owned() } else { value.to_string() }
    }

    /// `members` in any order.
    fn object(&mut self, mut members: Vec<(&str, String)>) -> String {
        let mut json = "{".to_owned();
        while !members.is_empty() {
            let (name, value) = members.remove(self.choose(members.len()));
            let comma = if members.is_empty() { "" } else { "," };
            let (name, [a, b, c, d]) = (self.string(name), std::array::from_fn(|_| self.space()));
            json += &format!("{a}{name}{b}:{c}{value}{d}{comma}");
        }
        json + "}"
    }

    pub fn order(&mut self, order: &NewOrder) -> String {
        let mut items = Vec::new();
        for item in &order.items {
            let sku = ("sku", self.string(&item.sku));
            let quantity = ("quantity", self.integer(item.quantity));
            let unit_amount = ("unitAmount", self.integer(item.unit_amount));
            items.push(self.object(vec![sku, quantity, unit_amount]));
        }
        let separator = format!("{},{}", self.space(), self.space());
        let mut members = vec![
            ("customerId", self.string(&order.customer_id)),
            ("currency", self.string(&order.currency)),
            ("items", format!("[{}{}]", self.space(), items.join(&separator))),
        ];
        members.extend(order.comment.as_deref().map(|comment| ("comment", self.string(comment))));
        let (before, json) = (self.space(), self.object(members));
        format!("{before}{json}{}", self.space())
    }
}

pub fn pen() -> impl Strategy<Value = Pen> {
    vec(any::<u8>(), 1..200).prop_map(|choices| Pen { choices, next: 0 }).no_shrink()
}

impl std::fmt::Debug for Pen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.choices)
    }
}

/// The order with one thing changed, and `false` if nothing changed.
fn changed(order: &NewOrder, other: &NewOrder, at: Index, what: usize) -> (NewOrder, bool) {
    let mut changed = order.clone();
    let here = at.index(order.items.len());
    let theirs = at.get(&other.items).clone();
    match what {
        0 => changed.customer_id.clone_from(&other.customer_id),
        1 => changed.currency.clone_from(&other.currency),
        2 => changed.comment.clone_from(&other.comment),
        3 => changed.comment = order.comment.is_none().then(String::new),
        4 => changed.items[here].sku = theirs.sku,
        5 => changed.items[here].quantity = theirs.quantity,
        6 => changed.items[here].unit_amount = theirs.unit_amount,
        7 => changed.items.insert(here, theirs),
        8 => drop(changed.items.remove(here)),
        9 => changed.items.reverse(),
        10 => std::mem::swap(&mut changed.items[here].sku, &mut changed.customer_id),
        // Where one field ends and the next begins is part of the meaning.
        11 => {
            let moved = changed.comment.as_mut().and_then(String::pop);
            changed.items[0].sku.insert_str(0, &moved.map(String::from).unwrap_or_default());
        }
        12 => {
            let digits = order.items[here].quantity.to_string();
            changed.items[here].sku.push_str(&digits[..1]);
            changed.items[here].quantity = digits[1..].parse().unwrap_or_default();
        }
        _ => {
            let digits = format!("{}{}", order.items[here].quantity, order.items[here].unit_amount);
            changed.items[here].quantity = digits[..1].parse().unwrap();
            changed.items[here].unit_amount = digits[1..].parse().unwrap();
        }
    }
    let is_another = changed != *order;
    (changed, is_another)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn every_spelling_of_an_order_is_that_order(order in order(), mut pen in pen()) {
        let json = pen.order(&order);
        laws::body(json.as_bytes());
        prop_assert_eq!(NewOrder::parse(json.as_bytes()), Ok(order));
    }

    #[test]
    fn a_respelled_retry_is_a_replay(order in order(), mut pens in (pen(), pen())) {
        let app = TestApp::default();
        let first = at_once(app.place("k", &pens.0.order(&order)));
        prop_assert_eq!(first.status(), 201);
        let replay = at_once(app.place("k", &pens.1.order(&order)));
        prop_assert_eq!((replay.status(), replay.body()), (first.status(), first.body()));
        prop_assert_eq!(&replay.headers()["location"], &first.headers()["location"]);
        prop_assert_eq!(app.order_count(), 1);
    }

    #[test]
    fn any_change_of_an_order_changes_its_fingerprint(
        order in order(), other in order(), at in any::<Index>(), what in 0..14_usize,
    ) {
        let (changed, is_another) = changed(&order, &other, at, what);
        prop_assert_eq!(Fingerprint::of(&order) != Fingerprint::of(&changed), is_another);
    }
}
