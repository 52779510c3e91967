//! The fastest that Spin's host allows: the calls to the stores that a replay and a create of the service make, an answer of
//! the same size, and nothing else. The service divided by this is what the service's own work costs.
//!
//! It does not keep the contract, and must never be copied. It leaves out:
//!
//! - reading the order: it places the same order for every request, so another order under the same key is a replay;
//! - every rule about method, target, headers, key and body;
//! - the deadlines, so a store that never answers holds its request forever;
//! - recovery: without Redis it fails, and it uses a broken connection again;
//! - the log, the clock and randomness: the order's id is a hash of the key, and all orders have the same time.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use spin_sdk::pg::wit::postgres::{self, ParameterValue};
use spin_sdk::redis::{self, RedisParameter, RedisResult};
use spin_sdk::variables;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{ErrorCode, Fields, Request, Response};
use spin_sdk::wasip3::wit_bindgen::{self, StreamResult};
use spin_sdk::wasip3::{wit_future, wit_stream};
use uuid::Uuid;

const RETENTION_SECONDS: i64 = 86_400;
/// As long as in the load.
const CUSTOMER: &str = "c-4242";
const ITEMS: &str =
    r#"[{"sku":"BOOK-1","quantity":2,"unitAmount":59900},{"sku":"PEN-7","quantity":1,"unitAmount":9900}]"#;
const COMMENT: &str = "leave at the door";
const TOTAL_AMOUNT: i64 = 129_700;
const CREATED_AT: &str = "2026-11-26T00:00:00.000Z";
const CREATED_AT_MS: i64 = 1_795_651_200_000;

struct Floor;
spin_sdk::wasip3::http::service::export!(Floor);

impl Guest for Floor {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        handle(request).await.map_err(|error| ErrorCode::InternalError(Some(format!("{error:#}"))))
    }
}

async fn handle(request: Request) -> Result<Response> {
    if request.get_path_with_query().as_deref() == Some("/healthz") {
        return answer(200, &[("cache-control", "no-store")], br#"{"status":"up"}"#.to_vec());
    }
    let fields = request.get_headers();
    let header = |name| fields.get(name).pop().and_then(|value| String::from_utf8(value).ok()).context(name);
    let key = header("idempotency-key")?;
    receive(request, header("content-length")?.parse()?).await?;
    let stores = stores().await?;

    let name = || RedisParameter::Binary(key.as_bytes().to_vec());
    let found = stores.redis.execute("GET", [name()]).await?;
    let id = id_of(&key).to_string();
    if let Some(RedisResult::Binary(body)) = found.into_iter().next() {
        return created(&id, "true", body);
    }
    let text = |value: &str| ParameterValue::Str(value.to_owned());
    let parameters = vec![
        ParameterValue::Uuid(id.clone()),
        text(&key),
        ParameterValue::Binary(vec![0x5a; 32]),
        text(CUSTOMER),
        text("RUB"),
        ParameterValue::Jsonb(ITEMS.into()),
        text(COMMENT),
        ParameterValue::Int64(TOTAL_AMOUNT),
        ParameterValue::Int64(CREATED_AT_MS),
        text(""),
    ];
    let sql = include_str!("../../../src/spin/sql/place_order.sql").to_owned();
    postgres::Connection::open_async(stores.pg_url.clone()).await?.execute_async(sql, parameters).await?;
    let body = format!(
        r#"{{"orderId":"{id}","status":"created","version":1,"customerId":"{CUSTOMER}","currency":"RUB","items":{ITEMS},"comment":"{COMMENT}","totalAmount":{TOTAL_AMOUNT},"createdAt":"{CREATED_AT}"}}"#
    )
    .into_bytes();
    let arguments = [
        name(),
        RedisParameter::Binary(body.clone()),
        RedisParameter::Binary(b"EX".to_vec()),
        RedisParameter::Int64(RETENTION_SECONDS),
    ];
    stores.redis.execute("SET", arguments).await?;
    created(&id, "false", body)
}

/// Reads the body and discards it. As in the service, the end of the body is not awaited: that would be two more calls.
async fn receive(request: Request, length: usize) -> Result<()> {
    let (_taken, outcome) = wit_future::new(|| Ok(()));
    let (mut stream, _end) = Request::consume_body(request, outcome);
    let mut body = Vec::with_capacity(length);
    while body.len() < length {
        let (result, read) = stream.read(body).await;
        if !matches!(result, StreamResult::Complete(_)) {
            bail!("the body was cut off");
        }
        body = read;
    }
    Ok(())
}

struct Stores {
    redis: redis::Connection,
    pg_url: String,
}

thread_local! {
    static STORES: RefCell<Option<Rc<Stores>>> = const { RefCell::new(None) };
}

/// The instance's connections. As in the service, its first requests may each open them, and the last ones are kept.
async fn stores() -> Result<Rc<Stores>> {
    if let Some(stores) = STORES.with_borrow(Clone::clone) {
        return Ok(stores);
    }
    let redis = redis::Connection::open(variables::get("redis_url").await?).await?;
    let stores = Rc::new(Stores { redis, pg_url: variables::get("pg_url").await? });
    STORES.replace(Some(stores.clone()));
    Ok(stores)
}

/// FNV-1a: no two keys of a load share an id; a random id would be a host call.
fn id_of(key: &str) -> Uuid {
    let hash = key.bytes().fold(0x6c62272e07bb014262b821756295c58d, |hash: u128, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b)
    });
    Uuid::from_u128(hash)
}

fn created(id: &str, replayed: &str, body: Vec<u8>) -> Result<Response> {
    let location = format!("/orders/{id}");
    let headers = [
        ("cache-control", "private, no-cache"),
        ("location", &location),
        ("etag", "\"1\""),
        ("idempotent-replayed", replayed),
    ];
    answer(201, &headers, body)
}

/// With the headers that every answer of the service has.
fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Response> {
    let length = body.len().to_string();
    let common =
        [("content-type", "application/json"), ("content-length", &length), ("x-content-type-options", "nosniff")];
    let fields: Vec<_> =
        common.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let (mut writer, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::from_list(&fields)?, Some(contents), trailers);
    response.set_status_code(status).ok().context("no such status")?;
    wit_bindgen::spawn(async move {
        writer.write_all(body).await;
        drop(writer);
        let _ = end.write(Ok(None)).await;
    });
    Ok(response)
}
