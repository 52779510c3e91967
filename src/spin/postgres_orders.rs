//! Orders in PostgreSQL: each method is one statement, except placing, which may be batched or repeated.

use chrono::DateTime;
use spin_sdk::pg::wit::postgres::{DbValue, ParameterValue};
use uuid::Uuid;

use super::deadlines::RequestClock;
use super::postgres_inserts::{Row, place};
use super::postgres_sessions::{Database, Failure, Kept, Parameters};
use crate::client::ClientName;
use crate::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{Item, NewOrder, Order, Status, Timestamp};
use crate::settings::Settings;
use crate::stores::{
    Event, Events, Filter, OrderStore, PAGE_BYTES, PAGE_ROWS, Page, Placement, Position, Snapshot, StoreError, Sweep,
};

/// The newest migration that these statements need.
const SCHEMA: &str = "20261129000000_create_orders";

/// The `OrderStore` of one request.
pub struct PostgresOrderStore<'a> {
    pub settings: &'a Settings,
    pub clock: &'a RequestClock,
}

impl PostgresOrderStore<'_> {
    async fn run<T>(&self, work: impl AsyncFnOnce(&Database<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        Database::within_deadline(self.settings, self.clock, work).await
    }

    async fn query(&self, kept: Kept, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Vec<DbValue>>, Failure> {
        self.run(async |database| database.query(kept, sql, parameters).await).await
    }
}

impl OrderStore for PostgresOrderStore<'_> {
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        let row = Row { client: client.clone(), key: key.clone(), fingerprint, order: order.clone() };
        self.run(async |database| Ok(place(database, self.clock, row).await)).await?
    }

    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        let parameters = || vec![text(client.as_str()), text(key.as_str())];
        let mut rows = self.query(Kept::Resend, include_str!("sql/find_by_key.sql"), &parameters).await?;
        let mut row = rows.pop().ok_or_else(|| StoreError::Unavailable("the row that held the key is gone".into()))?;
        let fingerprint = match row.pop() {
            Some(DbValue::Binary(bytes)) => bytes.try_into().ok().map(Fingerprint),
            _ => None,
        };
        let fingerprint = fingerprint.ok_or_else(|| StoreError::Broken("a fingerprint is not 32 bytes".into()))?;
        Ok(KeyRecord { fingerprint, answer: Answer::of(order(row)?) })
    }

    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError> {
        let parameters = || vec![text(client.as_str()), uuid(id)];
        let mut rows = self.query(Kept::Resend, include_str!("sql/find_order.sql"), &parameters).await?;
        rows.pop().map(order).transpose()
    }

    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        let parameters = || {
            vec![
                uuid(id),
                ParameterValue::ArrayInt64(versions.iter().copied().map(Some).collect()),
                text(status.as_str()),
                ParameterValue::ArrayStr(status.sources().iter().map(|from| Some(from.as_str().to_owned())).collect()),
                ParameterValue::Int64(now.timestamp_millis()),
                text(client.as_str()),
            ]
        };
        // The statement returns the changed row: a SELECT after it could already see the next change.
        let mut rows = self.query(Kept::Avoid, include_str!("sql/change_order.sql"), &parameters).await?;
        rows.pop().map(order).transpose()
    }

    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        let or_null = |value: Option<&str>| value.map_or(ParameterValue::DbNull, text);
        let parameters = || {
            vec![
                or_null(filter.customer_id.as_deref()),
                or_null(filter.status.map(Status::as_str)),
                or_null(filter.idempotency_key.as_ref().map(IdempotencyKey::as_str)),
                uuid(filter.newest()),
                ParameterValue::Int64(limit.into()),
                ParameterValue::Int64(PAGE_BYTES as i64),
                text(client.as_str()),
                ParameterValue::Int64(PAGE_ROWS as i64),
            ]
        };
        let mut page = Page::default();
        for mut row in self.query(Kept::Resend, include_str!("sql/list_orders.sql"), &parameters).await? {
            // It belongs to the page, and is the same in every row.
            if let Some(DbValue::Uuid(next)) = row.pop() {
                page.next = Uuid::try_parse(&next).ok();
            }
            if !matches!(row.first(), Some(DbValue::DbNull)) {
                page.orders.push(order(row)?);
            }
        }
        Ok(page)
    }

    async fn events(&self, client: &ClientName, sweep: &Sweep, limit: u32) -> Result<Events, StoreError> {
        let (reading, position) = sweep.begun.as_ref().map_or((None, Position::default()), |(of, at)| (Some(of), *at));
        let parameters = || {
            vec![
                text(client.as_str()),
                text(&sweep.done.to_string()),
                reading.map_or(ParameterValue::DbNull, |reading| text(&reading.to_string())),
                text(&position.xid.to_string()),
                uuid(position.order_id),
                ParameterValue::Int64(limit.into()),
                ParameterValue::Int64(PAGE_BYTES as i64),
            ]
        };
        let rows = self.query(Kept::Resend, include_str!("sql/list_events.sql"), &parameters).await?;
        // These belong to the page, and are the same in every row.
        let Some([DbValue::Int64(epoch), DbValue::Str(now), ..]) = rows.first().map(Vec::as_slice) else {
            return Err(broken_feed());
        };
        let (epoch, now) = (*epoch, Snapshot::parse(now).ok_or_else(broken_feed)?);
        let (mut events, mut found) = (Vec::new(), 0);
        for row in rows {
            if let Some((count, event)) = event(row)? {
                found = count;
                events.push(event);
            }
        }
        Ok(Events { epoch, now, has_more: found > events.len() as i64, events })
    }

    async fn check(&self) -> Result<(), StoreError> {
        let parameters = || vec![text(SCHEMA)];
        let mut rows = self.query(Kept::Resend, include_str!("sql/check_schema.sql"), &parameters).await?;
        match rows.pop().as_deref() {
            Some([DbValue::Str(settings), _]) => {
                Err(StoreError::Unavailable(format!("a crash of PostgreSQL may lose acknowledged orders: {settings}")))
            }
            Some([_, DbValue::Str(client)]) => Err(StoreError::Unavailable(format!(
                "orders of client '{client}' have transaction ids of another server, so the feed hides them: run scripts/migrate.sh"
            ))),
            Some(_) => Ok(()),
            None => Err(StoreError::Unavailable(format!("migration {SCHEMA} is not applied"))),
        }
    }
}

fn text(value: &str) -> ParameterValue {
    ParameterValue::Str(value.to_owned())
}

fn uuid(value: Uuid) -> ParameterValue {
    ParameterValue::Uuid(value.to_string())
}

/// The event in a row of `list_events.sql`, and how many were found, including those that do not fit on the page. `None` in
/// the only row if there is none.
fn event(mut row: Vec<DbValue>) -> Result<Option<(i64, Event)>, StoreError> {
    let columns_of_order = row.split_off(row.len().min(5));
    match row.as_slice() {
        [_, _, DbValue::Int64(found), DbValue::Int64(at_ms), DbValue::Str(xid)] => {
            let at = DateTime::from_timestamp_millis(*at_ms).ok_or_else(broken_feed)?;
            let xid = xid.parse().map_err(|_| broken_feed())?;
            Ok(Some((*found, Event { order: order(columns_of_order)?, at, xid })))
        }
        [_, _, DbValue::DbNull, ..] => Ok(None),
        _ => Err(broken_feed()),
    }
}

fn broken_feed() -> StoreError {
    StoreError::Broken("the feed has other columns than the statement names".into())
}

/// Reads the columns that every `SELECT` begins with, in their order.
fn order(row: Vec<DbValue>) -> Result<Order, StoreError> {
    let columns: Result<[DbValue; 9], _> = row.try_into();
    let Ok(
        [
            DbValue::Uuid(id),
            DbValue::Str(customer_id),
            DbValue::Str(currency),
            DbValue::Jsonb(items),
            comment @ (DbValue::Str(_) | DbValue::DbNull),
            DbValue::Int64(total_amount),
            DbValue::Int64(created_at_ms),
            DbValue::Str(status),
            DbValue::Int64(version),
        ],
    ) = columns
    else {
        return Err(StoreError::Broken("a row has other columns than the statement names".into()));
    };
    let broken = |what: &str| StoreError::Broken(format!("order {id} has an unreadable {what}"));
    Ok(Order {
        id: Uuid::try_parse(&id).map_err(|_| broken("order_id"))?,
        created_at: DateTime::from_timestamp_millis(created_at_ms).ok_or_else(|| broken("created_at"))?,
        placed: NewOrder {
            customer_id,
            currency,
            items: read_items(&items).ok_or_else(|| broken("items"))?,
            comment: if let DbValue::Str(comment) = comment { Some(comment) } else { None },
            total_amount,
        },
        status: Status::parse(&status).ok_or_else(|| broken("status"))?,
        version,
    })
}

/// As text, so that the component contains serde_json's parser once.
fn read_items(json: &[u8]) -> Option<Vec<Item>> {
    serde_json::from_str(str::from_utf8(json).ok()?).ok()
}
