//! Bodies that are almost valid.

use order::order::{MAX_TOTAL, NewOrder, Rejected};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::orders::{order, pen, text, text_of};
use super::{config, laws};

/// JSON as it may be sent: numbers in any spelling, members twice.
#[derive(Debug, Clone)]
pub enum Json {
    Raw(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn text(&self) -> String {
        match self {
            Self::Raw(text) => text.clone(),
            Self::Array(entries) => format!("[{}]", entries.iter().map(Self::text).collect::<Vec<_>>().join(",")),
            Self::Object(members) => {
                let member =
                    |(name, value): &(String, Self)| format!("{}:{}", Value::from(name.as_str()), value.text());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// Whether the contract's table allows it, judged by the tree and not by the text.
    fn is_order(&self) -> bool {
        let Self::Object(members) = self else { return false };
        let is_once = |members: &[(String, Self)], known: &[&str]| {
            known.iter().all(|name| members.iter().filter(|(given, _)| given == name).count() <= 1)
                && members.iter().all(|(name, _)| known.contains(&name.as_str()))
        };
        let get = |members: &[(String, Self)], name: &str| -> Option<Self> {
            members.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
        };
        let string = |json: Option<Self>| match json {
            Some(Self::Raw(text)) => serde_json::from_str::<String>(&text).ok(),
            _ => None,
        };
        let integer = |json: Option<Self>| match json {
            Some(Self::Raw(text)) if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => {
                text.parse::<i64>().ok()
            }
            _ => None,
        };
        let is_id = |text: Option<String>| {
            text.is_some_and(|text| (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control))
        };
        let is_item = |json: &Self| match json {
            Self::Object(members) => {
                is_once(members, &["sku", "quantity", "unitAmount"])
                    && is_id(string(get(members, "sku")))
                    && integer(get(members, "quantity")).is_some_and(|value| (1..=10_000).contains(&value))
                    && integer(get(members, "unitAmount")).is_some_and(|value| (0..=1_000_000_000_000).contains(&value))
            }
            _ => false,
        };
        is_once(members, &["customerId", "currency", "items", "comment"])
            && is_id(string(get(members, "customerId")))
            && string(get(members, "currency"))
                .is_some_and(|text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()))
            && matches!(get(members, "items"), Some(Self::Array(items)) if (1..=100).contains(&items.len()) && items.iter().all(is_item))
            && get(members, "comment").is_none_or(|comment| {
                string(Some(comment)).is_some_and(|text| text.chars().count() <= 500 && !text.contains('\0'))
            })
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        select(vec![
            "null",
            "true",
            "1",
            "0",
            "-1",
            "1.0",
            "1e2",
            "-0",
            "1e999",
            "10000",
            "10001",
            "1000000000000",
            "1000000000001",
            "9223372036854775807",
            "99999999999999999999",
            r#""""#,
            r#""RUB""#,
            r#""rub""#,
            r#""я""#,
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\u001f""#,
            "{}",
            "[]",
        ])
        .prop_map(|text| Json::Raw(text.to_owned())),
        quoted(text(70)),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            vec((member_name(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

fn member_name() -> impl Strategy<Value = String> {
    let known = ["customerId", "currency", "items", "comment", "sku", "quantity", "unitAmount", "a/b~", "~1", "", "0"];
    prop_oneof![9 => select(known.to_vec()).prop_map(str::to_owned), 1 => text(5)]
}

/// `right` most of the time.
fn nearly(right: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Json> {
    prop_oneof![20 => right, 1 => any_json()].boxed()
}

fn raw(text: &'static str) -> impl Strategy<Value = Json> {
    Just(Json::Raw(text.to_owned()))
}

fn quoted(text: impl Strategy<Value = String>) -> impl Strategy<Value = Json> {
    text.prop_map(|text| Json::Raw(Value::from(text).to_string()))
}

/// Most of `members`; now and then one is missing, doubled, or joined by an unknown one.
fn nearly_object(members: Vec<(&'static str, BoxedStrategy<Json>)>) -> impl Strategy<Value = Json> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            prop_oneof![1 => vec(value.clone(), 0), 20 => vec(value.clone(), 1), 1 => vec(value, 2)]
                .prop_map(move |values| (name, values))
        })
        .collect();
    let more = prop_oneof![20 => Just(vec![]), 1 => vec((member_name(), any_json()), 1)];
    (members, more).prop_map(|(members, more)| {
        let known =
            members.into_iter().flat_map(|(name, values)| values.into_iter().map(|value| (name.to_owned(), value)));
        Json::Object(known.chain(more).collect())
    })
}

pub fn nearly_order() -> BoxedStrategy<Json> {
    let item = nearly_object(vec![
        ("sku", nearly(raw(r#""BOOK-1""#))),
        ("quantity", nearly(raw("2"))),
        ("unitAmount", nearly(raw("59900"))),
    ]);
    let item = nearly(item);
    let items = prop_oneof![20 => vec(item.clone(), 1..3), 1 => vec(item.clone(), 0), 1 => vec(item, 101)];
    nearly(nearly_object(vec![
        ("customerId", nearly(prop_oneof![20 => raw(r#""c-42""#), 1 => quoted(text_of(64)), 1 => quoted(text_of(65))])),
        ("currency", nearly(raw(r#""RUB""#))),
        ("items", nearly(items.prop_map(Json::Array))),
        ("comment", nearly(quoted(prop_oneof![40 => text(10), 1 => text_of(500), 1 => text_of(501)]))),
    ]))
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn an_order_is_accepted_by_the_contracts_table_only(json in nearly_order()) {
        let text = json.text();
        laws::body(text.as_bytes());
        let parsed = NewOrder::parse(text.as_bytes());
        prop_assert!(!matches!(parsed, Err(Rejected::Malformed(_))), "{parsed:?}");
        prop_assert_eq!(parsed.is_ok(), json.is_order(), "{:?}", parsed);
    }

    #[test]
    fn a_body_with_any_byte_changed_is_refused_in_order_or_read_in_full(
        order in order(), mut pen in pen(), edits in vec((any::<Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut body = pen.order(&order).into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(body.len());
            match edit {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at.max(1)),
            }
        }
        laws::body(&body);
    }

    #[test]
    fn any_bytes_are_a_body(body in vec(any::<u8>(), 0..200)) {
        laws::body(&body);
    }
}

const ORDER: &str =
    r#"{"customerId":"c","currency":"RUB","items":[{"sku":"a","quantity":2,"unitAmount":50}],"comment":"x"}"#;

fn pointers(json: &str) -> Vec<String> {
    match NewOrder::parse(json.as_bytes()) {
        Err(Rejected::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_fault_is_listed_at_once() {
    assert_eq!(
        pointers(r#"{"customerId":"","colour":1,"items":[{"sku":1,"quantity":0},{"a/b~":1}],"comment":null}"#),
        [
            "/colour",
            "/customerId",
            "/currency",
            "/items/0/sku",
            "/items/0/quantity",
            "/items/0/unitAmount",
            "/items/1/a~1b~0",
            "/items/1/sku",
            "/items/1/quantity",
            "/items/1/unitAmount",
            "/comment"
        ],
    );
}

#[test]
fn one_change_makes_one_fault() {
    for (from, to, pointer) in [
        (r#""customerId":"c""#, r#""customerId":"c","customerId":"c""#, "/customerId"),
        (r#""customerId":"c""#, r#""customerId":"\u0000""#, "/customerId"),
        (r#""customerId":"c""#, r#""customerId":"\ud800""#, "/customerId"),
        ("RUB", "rub", "/currency"),
        ("RUB", "РУБ", "/currency"),
        (r#""quantity":2"#, r#""quantity":2.0"#, "/items/0/quantity"),
        (r#""quantity":2"#, r#""quantity":2e0"#, "/items/0/quantity"),
        (r#""quantity":2"#, r#""quantity":1e999"#, "/items/0/quantity"),
        (r#""quantity":2"#, r#""quantity":10001"#, "/items/0/quantity"),
        (r#""quantity":2"#, r#""quantity":-1"#, "/items/0/quantity"),
        (r#""quantity":2"#, r#""quantity":"2""#, "/items/0/quantity"),
        (r#""unitAmount":50"#, r#""unitAmount":1000000000001"#, "/items/0/unitAmount"),
        (r#""unitAmount":50"#, r#""unitAmount":99999999999999999999999"#, "/items/0/unitAmount"),
        (r#"{"sku":"a","quantity":2,"unitAmount":50}"#, "", "/items"),
        (r#"{"sku":"a","quantity":2,"unitAmount":50}"#, "[]", "/items/0"),
        (r#""comment":"x""#, r#""comment":"a\u0000b""#, "/comment"),
        (r#""comment":"x""#, r#""comment":{}"#, "/comment"),
    ] {
        assert_eq!(pointers(&ORDER.replace(from, to)), [pointer], "{to}");
    }
}

#[test]
fn a_total_that_not_every_json_reader_holds_is_refused() {
    let item = r#"{"sku":"a","quantity":10000,"unitAmount":1000000000000}"#;
    let json = ORDER.replace(r#"{"sku":"a","quantity":2,"unitAmount":50}"#, &[item; 100].join(","));
    assert_eq!(pointers(&json), ["/items"]);
    let exact =
        r#"{"sku":"a","quantity":9007,"unitAmount":1000000000000},{"sku":"b","quantity":1,"unitAmount":199254740991}"#;
    let json = ORDER.replace(r#"{"sku":"a","quantity":2,"unitAmount":50}"#, exact);
    assert_eq!(NewOrder::parse(json.as_bytes()).unwrap().total_amount, MAX_TOTAL);
    assert_eq!(pointers(&json.replace("199254740991", "199254740992")), ["/items"]);
}

#[test]
fn deep_nesting_is_a_fault_and_not_a_crash() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(pointers(&deep), [""]);
    assert_eq!(pointers(&ORDER.replace(r#""comment":"x""#, &format!(r#""comment":{deep}"#))), ["/comment"]);
}
