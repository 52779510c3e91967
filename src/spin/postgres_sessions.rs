//! Sessions of PostgreSQL, taken from the host's pool.
//!
//! Taking a session costs a round trip, in which the host resets it. So an instance keeps one session for its next statements,
//! for a moment. The pool has a limit, and a take waits for a free session without a limit: a session that is kept for longer
//! could stop the service.

use std::cell::RefCell;
use std::time::{Duration, Instant};

// The interface itself: the SDK's wrapper reads a certificate from a file too, which is 24 KB of the component.
use spin_sdk::pg::wit::postgres::{Connection, ConnectionBuilder, DbValue, Error, ParameterValue, QueryError};
use spin_sdk::wasip3::wit_bindgen;

use super::deadlines::RequestClock;
use crate::settings::Settings;
use crate::stores::StoreError;

/// How long a session is kept, from its first statement on. A take of another instance waits no longer than this and the
/// statement that then still runs.
const KEPT: Duration = Duration::from_millis(50);

/// SQLSTATE of a write in a session that has become read-only: its server was demoted or set to read-only.
const READ_ONLY: &str = "25006";
/// SQLSTATE of a session that an administrator ended, here its own role.
const ENDED: &str = "57P01";

/// Makes the parameters of a statement, again for each session that it is sent to.
pub type Parameters<'a> = &'a dyn Fn() -> Vec<ParameterValue>;

/// The host's database, for one request. Only [`Database::within_deadline`] gives it out, so that no statement is without a
/// deadline.
pub struct Database<'a> {
    settings: &'a Settings,
    clock: &'a RequestClock,
}

/// Whether a statement may use the kept session, which may have been lost since its last statement. If it is lost while the
/// statement runs, the statement may have been committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Yes. If the session was lost, the statement is sent again on another one: it only reads.
    Resend,
    /// Yes. If the session was lost, the statement fails with `is_session_lost`, and the caller finds out what happened.
    Report,
    /// No. The statement uses a session that the pool has just checked.
    Avoid,
}

struct Session {
    connection: Connection,
    taken: Instant,
    /// How long the take took.
    waited: Duration,
    /// The end of its first statement, after which it was kept.
    kept_since: Option<Instant>,
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

impl Database<'_> {
    /// Runs `work`, which is one call to the store, within the deadline.
    pub async fn within_deadline<T>(
        settings: &Settings,
        clock: &RequestClock,
        work: impl AsyncFnOnce(&Database<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let database = Database { settings, clock };
        let result = clock.within(settings.pg_deadline, &clock.postgres, work(&database)).await;
        let late = || Error::Other(format!("no answer within {} ms", settings.pg_deadline.as_millis()));
        result.unwrap_or_else(|| Err(late().into()))
    }

    /// The result of a statement that can be tried in another way, or `None` after three quarters of the deadline, by when
    /// PostgreSQL has ended a wait for a lock. So a connection that has become silent costs no request.
    pub async fn while_time_is_left<T>(&self, statement: impl Future<Output = T>) -> Option<T> {
        self.clock.until(self.clock.read_at.get() + self.settings.pg_deadline * 3 / 4, statement).await
    }

    /// Runs a statement for its row count, which costs less than rows do.
    pub async fn execute(&self, kept: Kept, sql: &str, parameters: Parameters<'_>) -> Result<u64, Failure> {
        self.on_a_session(kept, async |connection| connection.execute_async(sql.to_owned(), parameters()).await).await
    }

    pub async fn query(&self, kept: Kept, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Vec<DbValue>>, Failure> {
        self.on_a_session(kept, async |connection| {
            let (_, mut stream, end) = connection.query_async(sql.to_owned(), parameters()).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await {
                rows.push(row);
            }
            // Only this shows whether these were all rows.
            end.await?;
            Ok(rows)
        })
        .await
    }

    /// Runs one statement. After a success its session is kept.
    ///
    /// If the session has become read-only, nothing was written: the session is ended, and the same statement goes to the next
    /// one. The pool runs out of such sessions, since a new one is opened only on a server that can write.
    async fn on_a_session<T>(
        &self,
        kept: Kept,
        statement: impl AsyncFn(&Connection) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut session = if kept == Kept::Avoid { None } else { SESSION.take() };
        loop {
            let was_kept = session.is_some();
            let taken = match session.take() {
                Some(session) => session,
                None => self.session().await?,
            };
            // On the heap: moved from one future into another, it would take several KB of the stack.
            let mut statement = Box::pin(statement(&taken.connection));
            let result = match was_kept {
                true => self.while_time_is_left(statement.as_mut()).await,
                false => Some(statement.as_mut().await),
            };
            drop(statement);
            match result.unwrap_or_else(|| Err(Error::Other("no answer on the kept session".into()))) {
                Ok(value) => {
                    // The clock was just read for a statement on the kept session.
                    taken.keep(if was_kept { self.clock.read_at.get() } else { Instant::now() });
                    return Ok(value);
                }
                Err(error) if sqlstate(&error) == Some(READ_ONLY) && end(taken.connection).await => {}
                Err(error) if was_kept && is_lost(&error) => {
                    if kept == Kept::Report {
                        return Err(Failure { error, is_session_lost: true });
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes a session. The host has a pool for each address and authority.
    async fn session(&self) -> Result<Session, Error> {
        let (asked, address) = (Instant::now(), &self.settings.pg_address);
        let connection = match &self.settings.pg_ca {
            None => Connection::open_async(address.clone()).await?,
            Some(pem) => {
                let builder = ConnectionBuilder::new(address);
                builder.set_ca_root(pem)?;
                builder.build_async().await?
            }
        };
        let taken = Instant::now();
        Ok(Session { connection, taken, waited: taken - asked, kept_since: None })
    }
}

impl Session {
    /// Keeps the session for the instance's next statement, unless its time is over, another one is kept or the pool is
    /// crowded. A free session takes one round trip and a statement at least two, so a longer take has waited for another
    /// instance, or for a new connection.
    fn keep(mut self, now: Instant) {
        let must_go = match self.kept_since {
            Some(since) => now - since >= KEPT,
            None => self.waited > now - self.taken,
        };
        if must_go || SESSION.with_borrow(Option::is_some) {
            return;
        }
        if self.kept_since.is_none() {
            self.kept_since = Some(now);
            wit_bindgen::spawn(async {
                // One host call. The instance's timer would need one as well, for an earlier ring.
                spin_sdk::time::sleep(KEPT).await;
                let now = Instant::now();
                SESSION.with_borrow_mut(|kept| {
                    kept.take_if(|session| session.kept_since.is_some_and(|since| now - since >= KEPT))
                });
            });
        }
        SESSION.set(Some(self));
    }
}

/// Whether a statement failed with its session, so that another session may run it.
fn is_lost(error: &Error) -> bool {
    sqlstate(error).is_none_or(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Ends the session, as a role may its own, so that the pool drops it: a component cannot close what the host has pooled.
/// `false` if PostgreSQL refuses, because the right to that function was revoked.
async fn end(connection: Connection) -> bool {
    let sql = "SELECT pg_terminate_backend(pg_backend_pid())".to_owned();
    let ended = connection.execute_async(sql, Vec::new()).await;
    ended.is_err_and(|error| sqlstate(&error).is_none_or(|code| code == ENDED))
}

/// PostgreSQL's SQLSTATE code, if it sent one.
fn sqlstate(error: &Error) -> Option<&str> {
    match error {
        Error::QueryFailed(QueryError::DbError(error)) => Some(&error.code),
        _ => None,
    }
}

/// A statement that gave no result.
pub struct Failure {
    error: Error,
    /// The kept session was lost, before the statement ran or while it did.
    pub is_session_lost: bool,
}

impl Failure {
    pub fn sqlstate(&self) -> Option<&str> {
        sqlstate(&self.error)
    }

    /// For the log. The host's own text of a database error may carry a backtrace, so it is left out.
    pub fn cause(&self) -> String {
        match &self.error {
            Error::QueryFailed(QueryError::DbError(error)) => format!("{} (SQLSTATE {})", error.message, error.code),
            // A backtrace follows the first line.
            Error::ConnectionFailed(text)
            | Error::BadParameter(text)
            | Error::QueryFailed(QueryError::Text(text))
            | Error::ValueConversionFailed(text)
            | Error::Other(text) => text.lines().next().unwrap_or_default().to_owned(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, is_session_lost: false }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match &failure.error {
            Error::BadParameter(_) | Error::ValueConversionFailed(_) => Self::Broken(failure.cause()),
            error => Self::of_sqlstate(sqlstate(error), failure.cause()),
        }
    }
}
