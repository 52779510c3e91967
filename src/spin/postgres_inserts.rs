//! Inserts orders into PostgreSQL: alone, or in a batch with orders of concurrent requests to this instance.

use std::future::pending;
use std::rc::Rc;
use std::slice;
use std::time::{Duration, Instant};

use base16ct::HexDisplay;
use serde::Serialize;
use spin_sdk::pg::wit::postgres::{DbValue, ParameterValue};
use uuid::Uuid;

use super::deadlines::RequestClock;
use super::postgres_sessions::{Database, Failure, Kept};
use super::warn;
use crate::client::ClientName;
use crate::group_commit::{GroupCommit, Groupable};
use crate::idempotency::{Fingerprint, IdempotencyKey};
use crate::insert_order::{BatchResult, insert_order};
use crate::order::{Item, Order, to_json};
use crate::stores::{Placement, StoreError};

pub struct Row {
    pub client: ClientName,
    pub key: IdempotencyKey,
    pub fingerprint: Fingerprint,
    pub order: Order,
}

impl Groupable for Rc<Row> {
    /// A duplicate key may have to wait for a lock, and its batch with it.
    fn collides_with(&self, other: &Self) -> bool {
        self.key == other.key && self.client == other.client
    }
}

thread_local! {
    static WRITERS: Rc<GroupCommit<Rc<Row>, BatchResult>> = Rc::default();
}

/// SQLSTATE of a row whose id exists already: only an earlier attempt of the same request has that id.
const ID_TAKEN: &str = "23505";
/// SQLSTATE of a lock timeout. The statement wrote nothing.
const LOCK_TIMEOUT: &str = "55P03";

/// How long a statement may hold up the next one, because it waits for a key that another transaction holds or PostgreSQL does
/// not answer.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a statement waits for more orders if the last one had several. Spin gives an instance its requests in close
/// succession, so a time shorter than a statement pays off.
const LINGER: Duration = Duration::from_millis(2);

/// Places `row`, if its key is free.
pub async fn place(database: &Database<'_>, clock: &RequestClock, row: Row) -> Result<Placement, StoreError> {
    let (writers, row) = (WRITERS.with(Rc::clone), Rc::new(row));
    let statement = async |rows: Vec<_>| place_together(database, &rows).await;
    let pause = async |time| _ = clock.until(Instant::now() + time, pending::<()>()).await;
    let in_batch = writers.write(row.clone(), pause(LINGER), statement, pause(PATIENCE)).await;
    let is_placed = async {
        let placements = are_placed(database, slice::from_ref(&row)).await?;
        Ok(placements == [Placement::Placed])
    };
    insert_order(in_batch, async { placement(insert(database, Kept::Avoid, &row).await) }, is_placed).await
}

/// Places all `rows` with one statement. `None` if it failed and may have written them.
async fn place_together(database: &Database<'_>, rows: &[Rc<Row>]) -> Option<Vec<BatchResult>> {
    if let [row] = rows {
        let inserted = insert(database, Kept::Report, row).await;
        // A statement whose session was lost may have been committed.
        let is_known = !matches!(inserted, Err(Failure { is_session_lost: true, .. }));
        return is_known.then(|| vec![Some(placement(inserted))]);
    }
    let warn_of = |cause: &str| {
        warn("orders not placed together", &format!("{cause}; its {} orders go one by one", rows.len()));
    };
    let json = to_json(&rows.iter().map(|row| JsonRow::of(row)).collect::<Vec<_>>());
    let parameters = || vec![ParameterValue::Jsonb(json.clone())];
    let inserted = Box::pin(database.execute(Kept::Report, include_str!("sql/place_orders.sql"), &parameters));
    let Some(inserted) = database.while_time_is_left(inserted).await else {
        warn_of("no answer in time");
        return None;
    };
    let wrote_nothing = matches!(&inserted, Err(failure) if failure.sqlstate() == Some(LOCK_TIMEOUT));
    let placements = match inserted {
        Ok(count) if count == rows.len() as u64 => Ok(vec![Placement::Placed; rows.len()]),
        // The count does not show which keys were taken, and RETURNING would slow down every batch.
        Ok(_) => are_placed(database, rows).await,
        Err(failure) => Err(failure),
    };
    match placements {
        Ok(placements) => Some(placements.into_iter().map(|placement| Some(Ok(placement))).collect()),
        Err(failure) => {
            warn_of(&failure.cause());
            wrote_nothing.then(|| vec![None; rows.len()])
        }
    }
}

/// Inserts one row, if its key is free. Returns how many rows were inserted.
async fn insert(database: &Database<'_>, kept: Kept, row: &Row) -> Result<u64, Failure> {
    let (order, placed) = (&row.order, &row.order.placed);
    let items = to_json(&placed.items);
    let text = |value: &str| ParameterValue::Str(value.to_owned());
    let parameters = || {
        vec![
            ParameterValue::Uuid(order.id.to_string()),
            text(row.key.as_str()),
            ParameterValue::Binary(row.fingerprint.0.to_vec()),
            text(&placed.customer_id),
            text(&placed.currency),
            ParameterValue::Jsonb(items.clone()),
            placed.comment.as_deref().map_or(ParameterValue::DbNull, text),
            ParameterValue::Int64(placed.total_amount),
            ParameterValue::Int64(order.created_at.timestamp_millis()),
            text(row.client.as_str()),
        ]
    };
    database.execute(kept, include_str!("sql/place_order.sql"), &parameters).await
}

fn placement(inserted: Result<u64, Failure>) -> Result<Placement, StoreError> {
    match inserted {
        Ok(0) => Ok(Placement::KeyTaken),
        Ok(_) => Ok(Placement::Placed),
        Err(failure) => match failure.sqlstate() {
            Some(ID_TAKEN) => Ok(Placement::KeyTaken),
            // Only for an insert: elsewhere a lock timeout is not about a key.
            Some(LOCK_TIMEOUT) => Err(StoreError::KeyInUse(failure.cause())),
            _ => Err(failure.into()),
        },
    }
}

/// Looks up which of `rows` exist under their own ids. The keys of the others had been taken.
async fn are_placed(database: &Database<'_>, rows: &[Rc<Row>]) -> Result<Vec<Placement>, Failure> {
    let array = |value: fn(&Row) -> String| ParameterValue::ArrayStr(rows.iter().map(|row| Some(value(row))).collect());
    let parameters = || vec![array(|row| row.client.as_str().to_owned()), array(|row| row.order.id.to_string())];
    let found = database.query(Kept::Resend, include_str!("sql/find_placed.sql"), &parameters).await?;
    let is_found = |id: Uuid| {
        let id = id.to_string();
        found.iter().any(|columns| matches!(columns.first(), Some(DbValue::Uuid(found)) if *found == id))
    };
    let placement = |row: &Rc<Row>| if is_found(row.order.id) { Placement::Placed } else { Placement::KeyTaken };
    Ok(rows.iter().map(placement).collect())
}

/// A row as `jsonb_to_recordset` reads it.
#[derive(Serialize)]
struct JsonRow<'a> {
    order_id: Uuid,
    idempotency_key: &'a str,
    fingerprint: String,
    customer_id: &'a str,
    currency: &'a str,
    items: &'a [Item],
    comment: Option<&'a str>,
    total_amount: i64,
    created_at_ms: i64,
    client: &'a str,
}

impl<'a> JsonRow<'a> {
    fn of(row: &'a Row) -> Self {
        let placed = &row.order.placed;
        Self {
            order_id: row.order.id,
            idempotency_key: row.key.as_str(),
            // As PostgreSQL reads a bytea.
            fingerprint: format!("\\x{:x}", HexDisplay(&row.fingerprint.0)),
            customer_id: &placed.customer_id,
            currency: &placed.currency,
            items: &placed.items,
            comment: placed.comment.as_deref(),
            total_amount: placed.total_amount,
            created_at_ms: row.order.created_at.timestamp_millis(),
            client: row.client.as_str(),
        }
    }
}
