//! `POST /orders` as the SDK's examples would write it: both stores are opened on every request.
//!
//! Parsing, fingerprint, record and SQL are the service's own files, so that the only difference is how the stores are
//! reached. They are linked, not depended on: the service's crate would bring its own entry point to a wasm build.

use anyhow::{Context, Result};
use bytes::Bytes;
use chrono::DateTime;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use spin_sdk::http::Request;
use spin_sdk::pg::{DbValue, ParameterValue};
use spin_sdk::redis::RedisParameter;
use spin_sdk::{http_service, pg, redis, variables};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

use client::ClientName;
use idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::{NewOrder, Order, Status};

pub mod client;
pub mod idempotency;
pub mod order;

const RETENTION_SECONDS: i64 = 86_400;

#[http_service]
async fn handle(request: Request) -> Response<Full<Bytes>> {
    let answer = match create_order(request).await {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("request failed: {error:#}");
            refused(StatusCode::SERVICE_UNAVAILABLE)
        }
    };
    answer.map(Full::new)
}

async fn create_order(request: Request) -> Result<Response<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if (head.method.as_str(), head.uri.path()) != ("POST", "/orders") {
        return Ok(refused(StatusCode::NOT_FOUND));
    }
    let key = head.headers.get("idempotency-key").map(|value| IdempotencyKey::parse(value.as_bytes()));
    let Some(Ok(key)) = key else {
        return Ok(refused(StatusCode::BAD_REQUEST));
    };
    if head.headers.get(header::CONTENT_TYPE).is_none_or(|value| value != "application/json") {
        return Ok(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let Ok(new_order) = NewOrder::parse(&body) else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY));
    };

    // Without Redis the request is only slower.
    let redis = redis::Connection::open(variables::get("redis_address").await?).await.ok();
    let pg = pg::Connection::open(pg_address().await?).await?;

    let fingerprint = Fingerprint::of(&new_order);
    // The client of an open service.
    let client = ClientName::default();
    let name = format!("order:{}:{}", client.as_str(), key.as_str());
    if let Some(redis) = &redis
        && let Ok(Some(bytes)) = redis.get(&name).await
        && let Some(record) = KeyRecord::decode(&client, &key, &bytes)
        && record.fingerprint == fingerprint
    {
        return created(record.answer, "true");
    }

    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let now = DateTime::from_timestamp_millis(now_ms).context("the clock is out of range")?;
    let order = Order::new(Uuid::now_v7(), now, new_order);
    let sql = include_str!("../../../src/spin/sql/place_order.sql");
    let (record, replayed) = match pg.execute(sql, parameters(&client, &key, fingerprint, &order)?).await? {
        1 => (KeyRecord { fingerprint, answer: Answer::of(order) }, "false"),
        _ => (find_by_key(&pg, &client, &key).await?, "true"),
    };
    if let Some(redis) = &redis {
        let arguments = [
            RedisParameter::Binary(name.into_bytes()),
            RedisParameter::Binary(record.encode(&client, &key)),
            RedisParameter::Binary(b"EX".to_vec()),
            RedisParameter::Int64(RETENTION_SECONDS),
        ];
        let _ = redis.execute("SET", arguments).await;
    }
    match record.fingerprint == fingerprint {
        true => created(record.answer, replayed),
        false => Ok(refused(StatusCode::UNPROCESSABLE_ENTITY)),
    }
}

async fn pg_address() -> Result<String> {
    let address = variables::get("pg_address").await?;
    let (host, port) = address.trim_start_matches("postgres://").split_once(':').context("pg_address has no port")?;
    Ok(format!(
        "host={host} port={port} user={} password={} dbname={} sslmode=disable options='-c statement_timeout=2400 -c lock_timeout=1800'",
        variables::get("pg_user").await?,
        variables::get("pg_password").await?,
        variables::get("pg_database").await?,
    ))
}

fn parameters(client: &ClientName, key: &IdempotencyKey, fingerprint: Fingerprint, order: &Order) -> Result<Vec<ParameterValue>> {
    let placed = &order.placed;
    Ok(vec![
        ParameterValue::Uuid(order.id.to_string()),
        ParameterValue::Str(key.as_str().to_owned()),
        ParameterValue::Binary(fingerprint.0.to_vec()),
        ParameterValue::Str(placed.customer_id.clone()),
        ParameterValue::Str(placed.currency.clone()),
        ParameterValue::Jsonb(serde_json::to_vec(&placed.items)?),
        placed.comment.clone().map_or(ParameterValue::DbNull, ParameterValue::Str),
        ParameterValue::Int64(placed.total_amount),
        ParameterValue::Int64(order.created_at.timestamp_millis()),
        ParameterValue::Str(client.as_str().to_owned()),
    ])
}

async fn find_by_key(pg: &pg::Connection, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord> {
    let sql = include_str!("../../../src/spin/sql/find_by_key.sql");
    let keys = [client.as_str(), key.as_str()].map(|text| ParameterValue::Str(text.to_owned()));
    let mut result = pg.query(sql, keys.to_vec()).await?;
    let row = result.rows().next().await.context("the row that held the key is gone")?;
    let columns: Result<[DbValue; 10], _> = row.try_into();
    let Ok(
        [
            DbValue::Uuid(id),
            DbValue::Str(customer_id),
            DbValue::Str(currency),
            DbValue::Jsonb(items),
            comment,
            DbValue::Int64(total_amount),
            DbValue::Int64(created_at_ms),
            _,
            _,
            DbValue::Binary(fingerprint),
        ],
    ) = columns
    else {
        anyhow::bail!("a row has other columns than the statement names");
    };
    let comment = if let DbValue::Str(comment) = comment { Some(comment) } else { None };
    let order = Order {
        id: Uuid::parse_str(&id)?,
        created_at: DateTime::from_timestamp_millis(created_at_ms).context("created_at is out of range")?,
        placed: NewOrder { customer_id, currency, items: serde_json::from_slice(&items)?, comment, total_amount },
        status: Status::Created,
        version: 1,
    };
    let fingerprint = Fingerprint(fingerprint.as_slice().try_into().context("a fingerprint is not 32 bytes")?);
    Ok(KeyRecord { fingerprint, answer: Answer::of(order) })
}

fn created(answer: Answer, replayed: &str) -> Result<Response<Bytes>> {
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::LOCATION, format!("/orders/{}", answer.order_id))
        .header(header::ETAG, "\"1\"")
        .header("idempotent-replayed", replayed)
        .body(answer.body)?;
    Ok(response)
}

/// The peer serves the hot path only; problems are the service's.
fn refused(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
