//! The one connection of an instance to Redis.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use super::deadlines::RequestClock;
use super::redis_replies::keeps_connection;
use crate::settings::Settings;

thread_local! {
    /// Multiplexed, so requests share it. A request that finds none opens one, and the later one is kept.
    static CONNECTION: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
}

pub enum NoReply {
    Late,
    Unreachable(String),
    /// The connection broke, or Redis refused the command.
    Failed(String),
}

/// Runs `command` within the deadline, which includes opening the connection.
///
/// It has no type of reply of its own, so that the caller decides what an unexpected one means.
pub async fn execute(
    settings: &Settings,
    clock: &RequestClock,
    command: &str,
    arguments: Vec<RedisParameter>,
) -> Result<Vec<RedisResult>, NoReply> {
    let used = Cell::new(None);
    let running = async {
        let connection = connection(settings).await?;
        used.set(Some(connection.clone()));
        connection.execute(command, arguments).await
    };
    let result = clock.within(settings.redis_deadline, &clock.redis, running).await;
    match (result, used.take()) {
        (Some(Ok(reply)), _) => Ok(reply),
        (Some(Err(error)), None) => Err(NoReply::Unreachable(cause(error))),
        (Some(Err(error)), Some(connection)) => {
            let cause = cause(error);
            if !keeps_connection(&cause) {
                forget(connection);
            }
            Err(NoReply::Failed(cause))
        }
        (None, connection) => {
            connection.into_iter().for_each(forget);
            Err(NoReply::Late)
        }
    }
}

async fn connection(settings: &Settings) -> Result<Rc<Connection>, Error> {
    if let Some(connection) = CONNECTION.with_borrow(Clone::clone) {
        return Ok(connection);
    }
    let connection = Rc::new(Connection::open(&settings.redis_url).await?);
    CONNECTION.replace(Some(connection.clone()));
    Ok(connection)
}

/// Drops the connection unless another request has already replaced it.
fn forget(connection: Rc<Connection>) {
    CONNECTION.with_borrow_mut(|kept| _ = kept.take_if(|current| Rc::ptr_eq(current, &connection)));
}

/// In the words of Redis, if the error has any.
fn cause(error: Error) -> String {
    if let Error::Other(text) = error { text } else { error.to_string() }
}

pub fn text(value: &str) -> RedisParameter {
    RedisParameter::Binary(value.as_bytes().to_vec())
}
