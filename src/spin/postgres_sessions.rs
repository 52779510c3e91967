//! Sessions of PostgreSQL: one is taken from the host's pool for one statement and given back behind it.

use std::cell::Cell;
use std::time::Duration;

// The interface itself: the SDK's wrapper reads a certificate from a file too, which is 24 KB of the component.
use spin_sdk::pg::wit::postgres::{Connection, ConnectionBuilder, DbValue, Error, ParameterValue, QueryError};

use super::deadlines::RequestClock;
use crate::settings::Settings;
use crate::stores::StoreError;

/// SQLSTATE of a write in a session that has become read-only: its server was demoted, or so it was set.
const READ_ONLY: &str = "25006";
/// SQLSTATE of a session that an administrator ended, here its own role.
const ENDED: &str = "57P01";

/// Makes the parameters of a statement, anew for each session that it is sent to.
pub type Parameters<'a> = &'a dyn Fn() -> Vec<ParameterValue>;

/// Runs the statements of one request, each call to the store under the deadline.
pub struct PostgresSessions<'a> {
    settings: &'a Settings,
    deadlines: &'a RequestClock,
    spent: Cell<Duration>,
}

/// The host's database. Only [`PostgresSessions::run`] gives it out, so that no statement is without a deadline.
pub struct Database<'a>(&'a Settings);

impl<'a> PostgresSessions<'a> {
    pub fn new(settings: &'a Settings, deadlines: &'a RequestClock) -> Self {
        Self { settings, deadlines, spent: Cell::new(Duration::ZERO) }
    }

    /// How long this request has waited for PostgreSQL.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    /// Runs `work`, which is one call to the store, within the deadline.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(&Database<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let (result, took) = self.deadlines.within(self.settings.pg_deadline, work(&Database(self.settings))).await;
        self.spent.set(self.spent.get() + took);
        result.unwrap_or(Err(Failure::Late(self.settings.pg_deadline.as_millis())))
    }
}

impl Database<'_> {
    /// Runs a statement for its row count, which costs less than rows do.
    pub async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Failure> {
        self.on_a_session(async |connection| connection.execute_async(sql.to_owned(), parameters()).await).await
    }

    /// Runs a statement for its rows.
    pub async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Vec<DbValue>>, Failure> {
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
        loop {
            let connection = self.connection().await.map_err(Failure::Host)?;
            let result = statement(&connection).await;
            let is_read_only = matches!(&result, Err(error) if sqlstate(error) == Some(READ_ONLY));
            if !is_read_only || !end(connection).await {
                return result.map_err(Failure::Host);
            }
        }
    }

    /// One session. The host has a pool for each address and authority.
    async fn connection(&self) -> Result<Connection, Error> {
        let address = &self.0.pg_address;
        let Some(pem) = &self.0.pg_ca else { return Connection::open_async(address.clone()).await };
        let builder = ConnectionBuilder::new(address);
        builder.set_ca_root(pem)?;
        builder.build_async().await
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
pub enum Failure {
    Host(Error),
    /// After so many milliseconds.
    Late(u128),
}

impl Failure {
    /// PostgreSQL's SQLSTATE code, where it sent one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Host(error) => sqlstate(error),
            Self::Late(_) => None,
        }
    }

    /// For the log. The host's own text of a database error may carry a backtrace, so it is left out.
    pub fn cause(&self) -> String {
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
        match &failure {
            Failure::Host(Error::BadParameter(_) | Error::ValueConversionFailed(_)) => Self::Broken(failure.cause()),
            other => Self::of_sqlstate(other.sqlstate(), failure.cause()),
        }
    }
}

/// What follows the first line of a host's error is its backtrace.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
