//! PostgreSQL connections. One is taken from the host's pool for a statement, and given back behind it.
//!
//! The host prepares each connection it hands out by a round trip of its own, which costs more processor time than
//! the insert. So a statement may join a connection that another request of the instance is using.
//! None is held while no statement runs on it: the pool waits without limit, and one kept idle can hang the service.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use spin_sdk::pg::{Connection, Error};

/// Statements on one connection at once. PostgreSQL runs them one after the other, commits included, so with more of
/// them a slow disk, or a statement that waits for a lock, holds up more requests than its own.
const AT_ONCE: usize = 2;
/// Statements on one connection before it goes back, so that instances that wait for one get their turn.
const IN_ALL: u32 = 16;
/// A statement joins where running the last one took at most so many times as long as taking a connection did.
/// Where commits are slow and connections quickly had, each statement takes its own, and commits share their flushes.
const WORTH_WAITING: u32 = 4;

thread_local! {
    /// Weak: the last statement that uses a connection gives it back. All are to one address, that of the settings.
    static IN_USE: RefCell<Vec<Weak<Shared>>> = const { RefCell::new(Vec::new()) };
    /// How long it last took to get a connection from the pool.
    static TAKING: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// How long the last statement that succeeded took, with its wait behind another one; at first nothing joins.
    static RUNNING: Cell<Duration> = const { Cell::new(Duration::MAX) };
}

struct Shared {
    connection: Connection,
    statements_left: Cell<u32>,
}

/// Retires the connection of a statement that failed or was abandoned: it may be broken, or busy for long.
struct Retire<'a>(&'a Shared);

impl Drop for Retire<'_> {
    fn drop(&mut self) {
        self.0.statements_left.set(0);
    }
}

/// Runs `statement` on a connection to `address`.
pub async fn run<T>(address: &str, statement: impl AsyncFnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
    let shared = match join() {
        Some(shared) => shared,
        None => take(address).await?,
    };
    let retire = Retire(&shared);
    let started = Instant::now();
    let value = statement(&shared.connection).await?;
    RUNNING.set(started.elapsed());
    std::mem::forget(retire);
    Ok(value)
}

fn join() -> Option<Rc<Shared>> {
    if TAKING.get() * WORTH_WAITING < RUNNING.get() {
        return None;
    }
    let shared = IN_USE.with_borrow(|in_use| {
        let free = in_use.iter().filter(|shared| shared.strong_count() < AT_ONCE);
        free.filter_map(Weak::upgrade).find(|shared| shared.statements_left.get() > 0)
    })?;
    shared.statements_left.set(shared.statements_left.get() - 1);
    Some(shared)
}

async fn take(address: &str) -> Result<Rc<Shared>, Error> {
    let started = Instant::now();
    let connection = Connection::open(address).await?;
    TAKING.set(started.elapsed());
    let shared = Rc::new(Shared { connection, statements_left: Cell::new(IN_ALL - 1) });
    IN_USE.with_borrow_mut(|in_use| {
        in_use.retain(|shared| shared.strong_count() > 0);
        in_use.push(Rc::downgrade(&shared));
    });
    Ok(shared)
}
