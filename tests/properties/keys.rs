//! Keys, and the record that Redis keeps under one.

use bytes::Bytes;
use order::client::ClientName;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, InvalidKey, KeyRecord};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use uuid::Uuid;
use xxhash_rust::xxh64::xxh64;

use super::{config, laws};

fn key_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,255}", "[!-~]{1,40}", r#"[",\\; a]{1,9}"#]
}

fn idempotency_key() -> impl Strategy<Value = IdempotencyKey> {
    key_text().prop_map(|text| IdempotencyKey::parse(laws::quoted(&text).as_bytes()).unwrap())
}

/// Bytes that are often almost valid.
pub fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(select(b"\"\"\\\\,; \tkK=\x7f\x80\0".to_vec()), 0..12),
        "[ -~]{0,300}".prop_map(String::into_bytes),
        key_text().prop_map(|text| format!("{};a=1", laws::quoted(&text)).into_bytes()),
    ]
}

/// Parameters of a structured field, after RFC 8941, 3.1.2.
const PARAMETERS: &str = concat!(
    r#"(; {0,2}[a-z*][a-z0-9_.*-]{0,5}(=(-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|"[ !#-\[\]-~]{0,8}"|"#,
    r"\?[01]|[A-Za-z*][!#$%&'*+.^_`|~:/A-Za-z0-9-]{0,8}|:[A-Za-z0-9+/=]{0,8}:))?){0,3}",
);

/// What follows a quoted key and is no such list: it begins wrong, or a name, a number, a boolean, bytes or a string is wrong.
const NO_PARAMETERS: &str = concat!(
    r#"([ ;]?[;,=] ?|; |, "b"| ;v=1|;v=1( ?,| w)|;v( =|=)|;v= 1|;[A-Z0-9=]=1|;\t?v\t=1|;\tv|"#,
    r"=1|;v=(-|[0-9]{1,15}\.|\.[0-9]|[0-9]\.[0-9]{4,6}|[0-9]{16,20}|[0-9]{13,15}\.[0-9])|",
    r#";v=(\?[^01]?|:[a-z]{0,3}|:a b:|"[a-z]{0,3}|"\\b"|"é"|\(1 2\)|[@!\-]))"#,
);

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn a_key_is_read_from_its_quoted_spelling(
        text in key_text(), before in "[ \t]{0,3}", parameters in PARAMETERS, after in "[ \t]{0,3}",
    ) {
        let spelled = format!("{before}{}{parameters}{after}", laws::quoted(&text));
        let key = IdempotencyKey::parse(spelled.as_bytes());
        prop_assert_eq!(key.as_ref().map(IdempotencyKey::as_str), Ok(text.as_str()));
    }

    #[test]
    fn a_second_key_after_a_quoted_one_is_detected(text in key_text(), parameters in PARAMETERS, other in key_text()) {
        for between in [",", ", ", " , ", " ", ""] {
            let spelled = format!("{}{parameters}{between}{}", laws::quoted(&text), laws::quoted(&other));
            prop_assert!(IdempotencyKey::parse(spelled.as_bytes()).is_err(), "{}", spelled);
        }
    }

    #[test]
    fn what_is_no_list_of_parameters_may_be_a_second_key(text in key_text(), wrong in NO_PARAMETERS) {
        let spelled = format!("{}{wrong}", laws::quoted(&text));
        prop_assert_eq!(IdempotencyKey::parse(spelled.as_bytes()), Err(InvalidKey::TrailingText), "{}", spelled);
    }

    #[test]
    fn a_backslash_escapes_only_a_quote_or_a_backslash(
        before in key_text(), escaped in r"[ !#-\[\]-~]", after in key_text(),
    ) {
        let quoted = laws::quoted(&format!("{before}{after}"));
        let at = laws::quoted(&before).len() - 1;
        let spelled = format!("{}\\{escaped}{}", &quoted[..at], &quoted[at..]);
        prop_assert_eq!(IdempotencyKey::parse(spelled.as_bytes()), Err(InvalidKey::BadEscape));
    }

    #[test]
    fn a_bare_key_and_its_quoted_spelling_are_one(text in "[!#-+--~]([ !#-+--~]{0,253}[!#-+--~])?") {
        prop_assert_eq!(IdempotencyKey::parse(text.as_bytes()), IdempotencyKey::parse(laws::quoted(&text).as_bytes()));
    }

    #[test]
    fn any_bytes_are_a_whole_key_or_refused(value in key_bytes()) {
        laws::key(&value);
    }
}

fn record() -> impl Strategy<Value = KeyRecord> {
    (any::<[u8; 32]>(), any::<u128>(), vec(any::<u8>(), 0..300)).prop_map(|(fingerprint, id, body)| KeyRecord {
        fingerprint: Fingerprint(fingerprint),
        answer: Answer { order_id: Uuid::from_u128(id), body: Bytes::from(body) },
    })
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_record_is_read_whole_under_its_own_key_alone(
        record in record(), key in idempotency_key(), other in idempotency_key(),
        at in any::<Index>(), flip in 1..=255_u8, tail in vec(any::<u8>(), 1..9),
    ) {
        let bytes = record.encode(&ClientName::default(), &key);
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &bytes), Some(record));
        prop_assert_eq!(KeyRecord::decode(&ClientName::parse("web").unwrap(), &key, &bytes), None);
        let mut other_layout = bytes[..bytes.len() - 8].to_vec();
        other_layout[0] ^= flip;
        other_layout.extend(xxh64(&other_layout, xxh64(key.as_str().as_bytes(), 0)).to_be_bytes());
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &other_layout), None);
        prop_assert!(key == other || KeyRecord::decode(&ClientName::default(), &other, &bytes).is_none());
        let at = at.index(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= flip;
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &flipped), None);
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &bytes[..at]), None);
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &bytes[at + 1..]), None);
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &key, &[bytes.as_slice(), &tail].concat()), None);
    }

    /// The end of the key and the beginning of the record are separated.
    #[test]
    fn a_record_does_not_decode_for_a_longer_or_shorter_key(record in record(), key in "[!#-+--~]{2,255}") {
        let (long, short) = (IdempotencyKey::parse(key.as_bytes()), IdempotencyKey::parse(&key.as_bytes()[..key.len() - 1]));
        let (long, short) = (long.unwrap(), short.unwrap());
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &short, &record.encode(&ClientName::default(), &long)), None);
        prop_assert_eq!(KeyRecord::decode(&ClientName::default(), &long, &record.encode(&ClientName::default(), &short)), None);
    }

    #[test]
    fn any_bytes_are_a_miss_or_a_record(key in idempotency_key(), bytes in vec(any::<u8>(), 0..300)) {
        laws::record(&key, &bytes);
    }
}

fn parsed(value: &str) -> Result<String, InvalidKey> {
    IdempotencyKey::parse(value.as_bytes()).map(|key| key.as_str().to_owned())
}

#[test]
fn every_malformed_key_is_named() {
    for (value, expected) in [
        ("", InvalidKey::Empty),
        ("   ", InvalidKey::Empty),
        ("\"\"", InvalidKey::Empty),
        ("a,b", InvalidKey::BareDelimiter),
        ("a\"b", InvalidKey::BareDelimiter),
        ("\"ab", InvalidKey::Unclosed),
        ("\"ab\\", InvalidKey::Unclosed),
        ("\"a\\b\"", InvalidKey::BadEscape),
        ("\"ab\"c", InvalidKey::TrailingText),
        ("ключ", InvalidKey::NotPrintable),
        ("a\tb", InvalidKey::NotPrintable),
        ("\"a\u{7f}\"", InvalidKey::NotPrintable),
    ] {
        assert_eq!(parsed(value), Err(expected), "{value:?}");
    }
    assert!(parsed(&"k".repeat(255)).is_ok());
    assert_eq!(parsed(&"k".repeat(256)), Err(InvalidKey::TooLong));
    assert!(parsed(&format!("\"{}\"", "\\\"".repeat(255))).is_ok());
}
