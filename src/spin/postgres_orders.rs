//! Orders in PostgreSQL. A connection is taken from the host's pool for one statement and given back behind it.

use std::cell::Cell;
use std::time::Duration;

use chrono::DateTime;
// The interface itself: the SDK's wrapper reads a certificate from a file too, which is 24 KB of the component.
use spin_sdk::pg::wit::postgres::{Connection, ConnectionBuilder, DbValue, Error, ParameterValue, QueryError};
use uuid::Uuid;

use super::deadlines::Deadlines;
use crate::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use crate::order::{Filter, NewOrder, Order, OrderStore, PAGE_BYTES, Page, Placement, Status, StoreError, Timestamp};
use crate::settings::Settings;

/// The newest of `migrations/` that these statements need.
const SCHEMA: &str = "20261123000000_create_orders";

/// SQLSTATE of a write in a session that has become read-only: its server was demoted, or so it was set.
const READ_ONLY: &str = "25006";
/// SQLSTATE of a session that an administrator ended, here its own role.
const ENDED: &str = "57P01";

/// Makes the parameters of a statement, anew for each session that it is sent to.
type Parameters<'a> = &'a dyn Fn() -> Vec<ParameterValue>;

/// The `OrderStore` of one request. The pool is the host's.
pub struct PostgresOrderStore<'a> {
    settings: &'a Settings,
    deadlines: &'a Deadlines,
    spent: Cell<Duration>,
}

impl<'a> PostgresOrderStore<'a> {
    pub fn new(settings: &'a Settings, deadlines: &'a Deadlines) -> Self {
        Self { settings, deadlines, spent: Cell::new(Duration::ZERO) }
    }

    /// How long this request has waited for PostgreSQL.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    /// Runs a statement for its row count, which costs less than rows do.
    async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Failure> {
        self.on_a_session(async |connection| connection.execute_async(sql.to_owned(), parameters()).await).await
    }

    async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Vec<DbValue>>, Failure> {
        self.on_a_session(async |connection| {
            let (_, mut stream, end) = connection.query_async(sql.to_owned(), parameters()).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await {
                rows.push(row);
            }
            // Only here is told whether these were all rows.
            end.await?;
            Ok(rows)
        })
        .await
    }

    /// Runs one statement. Where its session has become read-only, nothing was written: the session is ended, and the same
    /// statement goes to the next one. The pool runs out of such sessions, since a new one is opened only where it can write.
    async fn on_a_session<T>(&self, statement: impl AsyncFn(&Connection) -> Result<T, Error>) -> Result<T, Failure> {
        self.within_deadline(async {
            loop {
                let connection = self.connection().await?;
                let result = statement(&connection).await;
                let is_read_only = matches!(&result, Err(error) if sqlstate(error) == Some(READ_ONLY));
                if !is_read_only || !end(connection).await {
                    return result;
                }
            }
        })
        .await
    }

    /// One of the host's pool, which has a pool for each address and authority.
    async fn connection(&self) -> Result<Connection, Error> {
        let address = &self.settings.pg_address;
        let Some(pem) = &self.settings.pg_ca else { return Connection::open_async(address.clone()).await };
        let builder = ConnectionBuilder::new(address);
        builder.set_ca_root(pem)?;
        builder.build_async().await
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let (result, took) = self.deadlines.within(self.settings.pg_deadline, work).await;
        self.spent.set(self.spent.get() + took);
        match result {
            Some(result) => result.map_err(Failure::Host),
            None => Err(Failure::Late(self.settings.pg_deadline.as_millis())),
        }
    }
}

/// Ends the session, as a role may its own, so that the pool drops it: a component cannot close what the host has pooled.
/// `false` where PostgreSQL refuses, since the right to that function was taken away.
async fn end(connection: Connection) -> bool {
    let sql = "SELECT pg_terminate_backend(pg_backend_pid())".to_owned();
    match connection.execute_async(sql, Vec::new()).await {
        Err(error) => sqlstate(&error).is_none_or(|code| code == ENDED),
        Ok(_) => false,
    }
}

/// PostgreSQL's SQLSTATE code, where it sent one.
fn sqlstate(error: &Error) -> Option<&str> {
    match error {
        Error::QueryFailed(QueryError::DbError(error)) => Some(&error.code),
        _ => None,
    }
}

/// A statement that gave no result.
enum Failure {
    Host(Error),
    /// After so many milliseconds.
    Late(u128),
}

impl Failure {
    fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Host(error) => sqlstate(error),
            Self::Late(_) => None,
        }
    }

    /// For the log. The host's own text of a database error may carry a backtrace, so it is left out.
    fn cause(&self) -> String {
        match self {
            Self::Late(ms) => format!("no answer within {ms} ms"),
            Self::Host(Error::QueryFailed(QueryError::DbError(error))) => {
                format!("{} (SQLSTATE {})", error.message, error.code)
            }
            Self::Host(
                Error::ConnectionFailed(text)
                | Error::BadParameter(text)
                | Error::QueryFailed(QueryError::Text(text))
                | Error::ValueConversionFailed(text)
                | Error::Other(text),
            ) => first_line(text),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let is_defect = match &failure {
            Failure::Host(Error::BadParameter(_) | Error::ValueConversionFailed(_)) => true,
            // Bad data, a broken constraint, a missing table or right: no retry mends these.
            // 42P05 is a pooler's: the session that it lent had a statement of this name already.
            other => other
                .sqlstate()
                .is_some_and(|code| code != "42P05" && ["22", "23", "42"].iter().any(|class| code.starts_with(class))),
        };
        if is_defect { Self::Broken(failure.cause()) } else { Self::Unavailable(failure.cause()) }
    }
}

impl OrderStore for PostgresOrderStore<'_> {
    async fn place(
        &self,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        let items = serde_json::to_vec(&order.placed.items).map_err(|cause| StoreError::Broken(cause.to_string()))?;
        let parameters = || {
            vec![
                uuid(order.id),
                text(key.as_str()),
                ParameterValue::Binary(fingerprint.0.to_vec()),
                text(&order.placed.customer_id),
                text(&order.placed.currency),
                ParameterValue::Jsonb(items.clone()),
                order.placed.comment.as_deref().map_or(ParameterValue::DbNull, text),
                ParameterValue::Int64(order.placed.total_amount),
                ParameterValue::Int64(order.created_at.timestamp_millis()),
            ]
        };
        match self.execute(include_str!("sql/place_order.sql"), &parameters).await {
            Ok(0) => Ok(Placement::KeyTaken),
            Ok(_) => Ok(Placement::Placed),
            // Only here: elsewhere a lock timeout says nothing about a key.
            Err(failure) if failure.sqlstate() == Some("55P03") => Err(StoreError::KeyInUse(failure.cause())),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn find_by_key(&self, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        let mut rows = self.query(include_str!("sql/find_by_key.sql"), &|| vec![text(key.as_str())]).await?;
        let mut row = rows.pop().ok_or_else(|| StoreError::Unavailable("the row that held the key is gone".into()))?;
        let fingerprint = match row.pop() {
            Some(DbValue::Binary(bytes)) => bytes.try_into().ok().map(Fingerprint),
            _ => None,
        };
        let fingerprint = fingerprint.ok_or_else(|| StoreError::Broken("a fingerprint is not 32 bytes".into()))?;
        Ok(KeyRecord { fingerprint, answer: order(row)?.answer()? })
    }

    async fn find(&self, id: Uuid) -> Result<Option<Order>, StoreError> {
        let mut rows = self.query(include_str!("sql/find_order.sql"), &|| vec![uuid(id)]).await?;
        rows.pop().map(order).transpose()
    }

    async fn change(
        &self,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        let joined = |values: Vec<String>| ParameterValue::Str(values.join(","));
        let parameters = || {
            vec![
                uuid(id),
                joined(versions.iter().map(i64::to_string).collect()),
                text(status.as_str()),
                joined(status.sources().iter().map(|source| source.as_str().to_owned()).collect()),
                ParameterValue::Int64(now.timestamp_millis()),
            ]
        };
        // The row comes back with the change: a SELECT behind it could already see the next one.
        let mut rows = self.query(include_str!("sql/change_order.sql"), &parameters).await?;
        rows.pop().map(order).transpose()
    }

    async fn list(&self, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        let or_null = |value: Option<&str>| value.map_or(ParameterValue::DbNull, text);
        let parameters = || {
            vec![
                or_null(filter.customer_id.as_deref()),
                or_null(filter.status.map(Status::as_str)),
                or_null(filter.idempotency_key.as_ref().map(IdempotencyKey::as_str)),
                filter.before.map_or(ParameterValue::DbNull, uuid),
                ParameterValue::Int64(limit.into()),
                ParameterValue::Int64(PAGE_BYTES as i64),
            ]
        };
        let mut page = Page::default();
        for mut row in self.query(include_str!("sql/list_orders.sql"), &parameters).await? {
            // The same in every row: it is the page's.
            page.has_more = matches!(row.pop(), Some(DbValue::Boolean(true)));
            page.orders.push(order(row)?);
        }
        Ok(page)
    }

    async fn check(&self) -> Result<(), StoreError> {
        match self.execute(include_str!("sql/check_schema.sql"), &|| vec![text(SCHEMA)]).await? {
            1 => Ok(()),
            _ => Err(StoreError::Broken(format!("migration {SCHEMA} is not applied"))),
        }
    }
}

/// What follows the first line of a host's error is its backtrace.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn text(value: &str) -> ParameterValue {
    ParameterValue::Str(value.to_owned())
}

fn uuid(value: Uuid) -> ParameterValue {
    ParameterValue::Uuid(value.to_string())
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
        id: Uuid::parse_str(&id).map_err(|_| broken("order_id"))?,
        created_at: DateTime::from_timestamp_millis(created_at_ms).ok_or_else(|| broken("created_at"))?,
        placed: NewOrder {
            customer_id,
            currency,
            items: serde_json::from_slice(&items).map_err(|_| broken("items"))?,
            comment: if let DbValue::Str(comment) = comment { Some(comment) } else { None },
            total_amount,
        },
        status: Status::parse(&status).ok_or_else(|| broken("status"))?,
        version,
    })
}
