//! What holds for any bytes at all. `tests/properties/` and the targets in `fuzz/` both check it.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use order::client::ClientName;
use order::events::MEDIA_TYPE;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord, MAX_KEY_CHARS};
use order::order::{Fault, MAX_TOTAL, NewOrder, Order, Rejected, Status};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::in_memory::{TestApp, at_once};

/// The quoted spelling of a key.
pub fn quoted(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An accepted key fits both stores and has one quoted spelling; a bare key is used as it is or refused.
pub fn key(value: &[u8]) {
    let parsed = IdempotencyKey::parse(value);
    let bare = value.trim_ascii();
    if bare.first() != Some(&b'"') {
        let is_accepted = (1..=MAX_KEY_CHARS).contains(&bare.len())
            && bare.iter().all(|byte| matches!(byte, b' '..=b'~') && !b",\"".contains(byte));
        assert_eq!(parsed.is_ok(), is_accepted, "{parsed:?}");
    }
    let Ok(key) = parsed else { return };
    assert!((1..=MAX_KEY_CHARS).contains(&key.as_str().len()));
    assert!(key.as_str().bytes().all(|byte| matches!(byte, b' '..=b'~')));
    assert!(bare.first() == Some(&b'"') || bare == key.as_str().as_bytes());
    assert_eq!(IdempotencyKey::parse(quoted(key.as_str()).as_bytes()), Ok(key));
}

/// JSON is never reported as malformed; each fault of a refused order can be found in it; an accepted order breaks no rule.
pub fn body(body: &[u8]) {
    let text = std::str::from_utf8(body).ok();
    let json = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match (NewOrder::parse(body), json) {
        (Err(Rejected::Malformed(reason)), None) => assert!(!reason.is_empty()),
        (Err(Rejected::Invalid(faults)), Some(json)) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| assert_leads_somewhere(json, fault));
        }
        (Ok(order), Some(_)) => accepted_order(order),
        (parsed, json) => panic!("{parsed:?} where JSON is {json:?}"),
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// An accepted order meets the contract's table, and its answer contains all of it and parses to the same order again.
fn accepted_order(order: NewOrder) {
    assert!(is_id(&order.customer_id));
    assert!(order.currency.len() == 3 && order.currency.bytes().all(|byte| byte.is_ascii_uppercase()));
    assert!((1..=100).contains(&order.items.len()));
    for item in &order.items {
        assert!(is_id(&item.sku));
        assert!((1..=10_000).contains(&item.quantity) && (0..=1_000_000_000_000).contains(&item.unit_amount));
    }
    assert!(order.comment.as_ref().is_none_or(|text| text.chars().count() <= 500 && !text.contains('\0')));
    let total: i128 = order.items.iter().map(|item| i128::from(item.quantity) * i128::from(item.unit_amount)).sum();
    assert_eq!(i128::from(order.total_amount), total);
    assert!(order.total_amount <= MAX_TOTAL);

    let placed = Order::new(Uuid::from_u128(1), DateTime::UNIX_EPOCH, order.clone());
    let answer = Answer::of(placed);
    let mut said: Value = serde_json::from_slice(&answer.body).unwrap();
    let members = said.as_object_mut().unwrap();
    for (name, value) in [
        ("orderId", json!(answer.order_id)),
        ("status", json!("created")),
        ("version", json!(1)),
        ("totalAmount", json!(order.total_amount)),
        ("createdAt", json!("1970-01-01T00:00:00.000Z")),
    ] {
        assert_eq!(members.remove(name), Some(value));
    }
    let again = NewOrder::parse(said.to_string().as_bytes()).unwrap();
    assert_eq!(Fingerprint::of(&again), Fingerprint::of(&order));
    assert_eq!(again, order);
}

/// The pointer names a value in the document, or the place of a missing member.
fn assert_leads_somewhere(json: &str, fault: &Fault) {
    let mut values: Vec<&RawValue> = vec![serde_json::from_str(json).unwrap()];
    let tokens: Vec<String> =
        fault.pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'), "{fault:?}");
    for (at, token) in tokens.iter().enumerate() {
        // A member that is given twice is reached twice.
        let next: Vec<&RawValue> = values.iter().flat_map(|value| children(value, token)).collect();
        if next.is_empty() {
            let is_place = at + 1 == tokens.len() && fault.detail == "is required";
            assert!(is_place && values.iter().any(|value| value.get().starts_with('{')), "{fault:?} in {json}");
        }
        values = next;
    }
    assert!(!fault.detail.is_empty());
}

fn children<'a>(value: &'a RawValue, token: &str) -> Vec<&'a RawValue> {
    if let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        return token.parse::<usize>().ok().and_then(|at| entries.get(at).copied()).into_iter().collect();
    }
    struct Collect;
    impl<'de> Visitor<'de> for Collect {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    let members = serde_json::Deserializer::from_str(value.get()).deserialize_map(Collect).unwrap_or_default();
    members.into_iter().filter(|(name, _)| name == token).map(|(_, value)| value).collect()
}

/// A record that decodes was encoded for this key, byte for byte.
pub fn record(key: &IdempotencyKey, bytes: &[u8]) {
    if let Some(record) = KeyRecord::decode(&ClientName::default(), key, bytes) {
        assert_eq!(record.encode(&ClientName::default(), key), bytes);
    }
    let record = KeyRecord {
        fingerprint: Fingerprint(std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default())),
        answer: Answer { order_id: Uuid::from_u128(bytes.len() as u128), body: Bytes::copy_from_slice(bytes) },
    };
    let mut whole = record.encode(&ClientName::default(), key);
    assert_eq!(KeyRecord::decode(&ClientName::default(), key, &whole), Some(record));
    let at = bytes.first().map_or(0, |byte| usize::from(*byte) % whole.len());
    whole[at] ^= 1 << (bytes.len() % 8);
    assert_eq!(KeyRecord::decode(&ClientName::default(), key, &whole), None);
}

/// A query with a fault is refused; any other gives pages that hold each matching order once, newest first.
pub fn query(query: &str) {
    let app = TestApp::default();
    for customer in ["c-1", "c-2", "c-1", "c-2"] {
        let order = format!(
            r#"{{"customerId":"{customer}","currency":"RUB","items":[{{"sku":"a","quantity":1,"unitAmount":1}}]}}"#
        );
        at_once(app.place(&format!("key-{}", app.order_count()), &order));
    }
    app.orders.rows.borrow_mut()[1].3.status = Status::Confirmed;
    let Ok(first) = Uri::try_from(format!("/orders?{query}")) else { return };
    let (parameters, mut is_refused) = match parameters(first.query().unwrap()) {
        Some(parameters) => (parameters, false),
        None => (Vec::new(), true),
    };
    let names: BTreeSet<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    let mut expected = Vec::new();
    is_refused |= names.len() < parameters.len();
    for (_, key, _, order) in app.orders.rows.borrow().iter().rev() {
        let matches: Vec<_> = parameters.iter().map(|(name, value)| matches(order, key, name, value)).collect();
        is_refused |= matches.contains(&None);
        if !matches.contains(&Some(false)) {
            expected.push(order.id.to_string());
        }
    }
    let limit = parameters.iter().find(|(name, _)| name == "limit");
    let limit = limit.map_or(20, |(_, value)| number(value).unwrap_or_default());

    let mut ids = Vec::new();
    let mut next = Some(first.clone());
    while let Some(uri) = next.take() {
        let page = at_once(app.get(&uri.to_string()));
        answer(&Method::GET, &page);
        if is_refused {
            assert_eq!(page.status(), StatusCode::BAD_REQUEST);
            return;
        }
        assert_eq!(page.status(), StatusCode::OK, "{uri} after {first}");
        let json: Value = serde_json::from_slice(page.body()).unwrap();
        let orders = json["orders"].as_array().unwrap();
        ids.extend(orders.iter().map(|order| order["orderId"].as_str().unwrap().to_owned()));
        assert!(expected.starts_with(&ids), "{ids:?} where {expected:?} match");
        if let Some(link) = page.headers().get(header::LINK) {
            let link = link.to_str().unwrap().strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
            assert!(link.ends_with(&format!("cursor={}", json["nextCursor"].as_str().unwrap())));
            assert_eq!(orders.len(), limit);
            next = Some(link.try_into().unwrap());
        } else {
            assert_eq!(json.get("nextCursor"), None);
            assert!(orders.len() <= limit);
        }
    }
    assert_eq!(ids, expected, "{first}");
}

/// The pairs of a query, each decoded. `None` if a pair can be decoded in two ways or not at all.
fn parameters(query: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            bytes.push(match (byte, digit(0), digit(1)) {
                (b'%', Some(high), Some(low)) => {
                    rest = &after[2..];
                    (high * 16 + low) as u8
                }
                (b'%' | b'+' | 0x80.., ..) => return None,
                _ => *byte,
            });
        }
        String::from_utf8(bytes).ok()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| Some((decoded(name)?, decoded(value)?))).collect()
}

/// A number in its one spelling.
fn number(text: &str) -> Option<usize> {
    let is_one = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_one)
}

/// Whether a parameter of the list admits an order. `None` if the parameter must be refused.
fn matches(order: &Order, key: &str, name: &str, value: &str) -> Option<bool> {
    match name {
        "limit" => number(value).is_some_and(|limit| (1..=100).contains(&limit)).then_some(true),
        "cursor" => {
            let is_id = value.len() == 32 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_id.then(|| order.id.simple().to_string().as_str() < value)
        }
        "customerId" => is_id(value).then(|| order.placed.customer_id == value),
        "status" => ["created", "confirmed", "cancelled"].contains(&value).then(|| order.status.as_str() == value),
        "idempotencyKey" => IdempotencyKey::parse(value.as_bytes()).ok().map(|wanted| wanted.as_str() == key),
        _ => None,
    }
}

/// A request as it is sent: method and target, headers, an empty line, the body. `None` if `http` cannot represent it.
pub fn read_request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (line, mut rest) = (lines.next()?, lines.next().unwrap_or_default());
    let mut words = line.split(|byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    loop {
        let mut lines = rest.splitn(2, |byte| *byte == b'\n');
        let line = lines.next()?;
        rest = lines.next().unwrap_or_default();
        if line.is_empty() {
            return request.body(Bytes::copy_from_slice(rest)).ok();
        }
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(line[at + 1..].trim_ascii()));
        request = request.header(name.ok()?, value.ok()?);
    }
}

/// While both stores are well, a request that is sent twice gets the same answer within the contract, and places at most one
/// order.
pub fn request(request: &Request<Bytes>) {
    let app = TestApp::default();
    let first = at_once(app.send(request.clone()));
    answer(request.method(), &first);
    assert_ne!(first.status(), StatusCode::CONFLICT);
    assert_ne!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    let is_placed = first.status() == StatusCode::CREATED;
    assert_eq!(app.order_count(), usize::from(is_placed));

    let replay = at_once(app.send(request.clone()));
    let mut expected = first.headers().clone();
    if is_placed {
        expected.insert("idempotent-replayed", HeaderValue::from_static("true"));
        assert_eq!(first.headers()["idempotent-replayed"], "false");
    }
    assert_eq!((replay.status(), replay.body(), replay.headers()), (first.status(), first.body(), &expected));
    assert_eq!(app.order_count(), usize::from(is_placed));
    if is_placed {
        let shown = at_once(app.get(first.headers()[header::LOCATION].to_str().unwrap()));
        assert_eq!((shown.status(), shown.body()), (StatusCode::OK, first.body()));
        assert_eq!(shown.headers()[header::ETAG], first.headers()[header::ETAG]);
    }
}

/// The status is one of the contract's, never 500, and the answer has what the contract requires for that status.
pub fn answer(method: &Method, response: &Response<Bytes>) {
    let status = response.status().as_u16();
    let expected = [200, 201, 304, 400, 404, 405, 409, 410, 412, 413, 415, 422, 428, 503];
    assert!(expected.contains(&status), "{response:?}");
    let text = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let is_empty_feed = text("content-type") == MEDIA_TYPE && response.body().as_ref() == b"[]";
    assert!(is_empty_feed || text("retry-after").is_empty() != matches!(status, 409 | 503));
    assert_eq!(text("allow").is_empty(), status != 405);
    assert!(
        ["no-store", "no-cache", "private, no-cache, no-transform"].contains(&text("cache-control")),
        "{response:?}"
    );
    if method == Method::HEAD || status == 304 {
        assert!(response.body().is_empty());
        return;
    }
    match status {
        200 | 201 if text("content-type") == "application/json" => drop(json_of(response)),
        200 | 201 => assert!(!text("content-type").is_empty()),
        _ => {
            assert_eq!(text("content-type"), "application/problem+json");
            let problem = json_of(response);
            assert!(problem["type"].as_str().unwrap().starts_with("/problems/"));
            assert_eq!(problem["status"], status);
            assert!(problem["title"].is_string() && problem["detail"].is_string());
            let faults = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert_eq!(faults.is_empty(), problem["type"] != "/problems/invalid-order");
            assert!(faults.iter().all(|fault| fault["pointer"].is_string() && fault["detail"].is_string()));
        }
    }
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap_or_else(|error| panic!("{error} in {response:?}"))
}
