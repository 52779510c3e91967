//! `POST /orders` as a native service: axum, a pool of PostgreSQL clients whose statements stay prepared, one
//! multiplexed Redis connection. Parsing, fingerprint, record and SQL are the service's own, so that the only difference
//! is where it runs and how it reaches the stores.
//!
//! Takes the address to listen on; the stores come from SPIN_VARIABLE_*, as for the service.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use chrono::{SubsecRound, Utc};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use order::client::ClientName;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{Item, NewOrder, Order, Status};
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio_postgres::NoTls;
use tokio_postgres::types::Json;
use uuid::Uuid;

const INSERT: &str = include_str!("../../../src/spin/sql/place_order.sql");
const SELECT: &str = include_str!("../../../src/spin/sql/find_by_key.sql");
/// As many as in Spin's pool.
const PG_CONNECTIONS: usize = 64;
const REDIS_TIMEOUT: Duration = Duration::from_millis(250);
const PG_WAIT: Duration = Duration::from_secs(3);
const RETENTION_SECONDS: u64 = 86_400;

#[derive(Clone)]
struct Stores {
    redis: ConnectionManager,
    pg: Pool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = env::args().nth(1).context("usage: native <address:port>")?;
    let stores = Stores { redis: connect_redis().await?, pg: pg_pool()? };
    let app = Router::new()
        .route("/healthz", get(|| async { ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"up"}"#) }))
        .route("/orders", post(create_order))
        .with_state(stores);
    let listener = tokio::net::TcpListener::bind(&address).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

fn variable(name: &str) -> Result<String> {
    let name = format!("SPIN_VARIABLE_{name}");
    env::var(&name).with_context(|| format!("{name} is not set"))
}

async fn connect_redis() -> Result<ConnectionManager> {
    let client = redis::Client::open(variable("REDIS_ADDRESS")?)?;
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(REDIS_TIMEOUT)
        .set_response_timeout(REDIS_TIMEOUT);
    Ok(ConnectionManager::new_with_config(client, config).await?)
}

fn pg_pool() -> Result<Pool> {
    let mut config: tokio_postgres::Config = variable("PG_ADDRESS")?.parse()?;
    config
        .user(variable("PG_USER")?)
        .password(variable("PG_PASSWORD")?)
        .dbname(variable("PG_DATABASE")?)
        .options("-c statement_timeout=2400 -c lock_timeout=1800");
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let pool = Pool::builder(manager)
        .max_size(PG_CONNECTIONS)
        .wait_timeout(Some(PG_WAIT))
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .build()?;
    Ok(pool)
}

async fn create_order(State(stores): State<Stores>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let key = headers.get("idempotency-key").map(|value| IdempotencyKey::parse(value.as_bytes()));
    let Some(Ok(key)) = key else {
        return refused(StatusCode::BAD_REQUEST);
    };
    if headers.get(header::CONTENT_TYPE).is_none_or(|value| value != "application/json") {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let Ok(new_order) = NewOrder::parse(&body) else {
        return refused(StatusCode::UNPROCESSABLE_ENTITY);
    };
    match place(stores, &key, new_order).await {
        Ok(Some((answer, replayed))) => created(answer, replayed),
        Ok(None) => refused(StatusCode::UNPROCESSABLE_ENTITY),
        Err(error) => {
            eprintln!("request failed: {error:#}");
            refused(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// The answer and whether it is a replay; `None` if the key belongs to another order.
async fn place(mut stores: Stores, key: &IdempotencyKey, new_order: NewOrder) -> Result<Option<(Answer, bool)>> {
    let fingerprint = Fingerprint::of(&new_order);
    // The client of an open service.
    let client = ClientName::default();
    let name = format!("order:{}:{}", client.as_str(), key.as_str());
    // Without Redis the request is only slower.
    let entry: Option<Vec<u8>> = stores.redis.get(&name).await.unwrap_or_default();
    if let Some(record) = entry.and_then(|bytes| KeyRecord::decode(&client, key, &bytes))
        && record.fingerprint == fingerprint
    {
        return Ok(Some((record.answer, true)));
    }

    let order = Order::new(Uuid::now_v7(), Utc::now().trunc_subsecs(3), new_order);
    let (record, placed) = {
        let pg = stores.pg.get().await?;
        let insert = pg.prepare_cached(INSERT).await?;
        let placed = &order.placed;
        let inserted = pg
            .execute(
                &insert,
                &[
                    &order.id,
                    &key.as_str(),
                    &fingerprint.0.as_slice(),
                    &placed.customer_id,
                    &placed.currency,
                    &Json(&placed.items),
                    &placed.comment,
                    &placed.total_amount,
                    &order.created_at.timestamp_millis(),
                    &client.as_str(),
                ],
            )
            .await?;
        if inserted == 1 {
            (KeyRecord { fingerprint, answer: Answer::of(order) }, true)
        } else {
            let select = pg.prepare_cached(SELECT).await?;
            (read_record(&pg.query_one(&select, &[&client.as_str(), &key.as_str()]).await?)?, false)
        }
    };
    let _: Result<(), _> = stores.redis.set_ex(&name, record.encode(&client, key), RETENTION_SECONDS).await;
    Ok((record.fingerprint == fingerprint).then_some((record.answer, !placed)))
}

fn read_record(row: &tokio_postgres::Row) -> Result<KeyRecord> {
    let Json(items): Json<Vec<Item>> = row.try_get(3)?;
    let created_at = chrono::DateTime::from_timestamp_millis(row.try_get(6)?).context("created_at is out of range")?;
    let placed = NewOrder {
        customer_id: row.try_get(1)?,
        currency: row.try_get(2)?,
        items,
        comment: row.try_get(4)?,
        total_amount: row.try_get(5)?,
    };
    let order = Order { id: row.try_get(0)?, created_at, placed, status: Status::Created, version: 1 };
    let fingerprint: &[u8] = row.try_get(9)?;
    let fingerprint = Fingerprint(fingerprint.try_into().map_err(|_| anyhow!("a fingerprint is not 32 bytes"))?);
    Ok(KeyRecord { fingerprint, answer: Answer::of(order) })
}

fn created(answer: Answer, replayed: bool) -> Response<Body> {
    Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::LOCATION, format!("/orders/{}", answer.order_id))
        .header(header::ETAG, "\"1\"")
        .header("idempotent-replayed", if replayed { "true" } else { "false" })
        .body(Body::from(answer.body))
        .unwrap_or_default()
}

/// The peer serves the hot path only; problems are the service's.
fn refused(status: StatusCode) -> Response<Body> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
