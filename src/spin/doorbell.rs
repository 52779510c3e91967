//! The other entry point: Spin's Redis trigger calls it for each message on its channel, one after another, each in a fresh
//! instance. A spawned task ends with the call, so nothing that matters is spawned.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Response};

use super::deadlines::RequestClock;
use super::postgres_orders::PostgresOrderStore;
use super::redis_answers::RedisAnswerCache;
use super::redis_commands::RedisCommands;
use super::{now, order_id, print, report, settings, timestamp};
use crate::api::Backends;
use crate::intake::{self, COMMANDS, Command};
use crate::settings::Settings;
use crate::trace;

/// The contents of the message do not matter.
#[spin_sdk::redis_subscriber]
async fn ring(_message: Vec<u8>) -> Result<(), Infallible> {
    match settings().await {
        Ok(settings) => {
            intake::drain(&RedisCommands(&settings), async |command| answer(&settings, command).await).await;
        }
        Err(invalid) => report("commands left for later", &invalid.to_string()),
    }
    Ok(())
}

async fn answer(settings: &Rc<Settings>, command: &Command) -> Response<Bytes> {
    let (clock, began) = (RequestClock::from(Instant::now()), now());
    let (answers, orders) = (RedisAnswerCache::new(settings, &clock), PostgresOrderStore { settings, clock: &clock });
    let backends = Backends { clients: &settings.clients, answers: &answers, orders: &orders };
    let response = intake::answer(&backends, command, timestamp(began), order_id(began)).await;
    print(trace::request_line(&Method::POST, COMMANDS, &response, &clock.measured(began)));
    response
}
