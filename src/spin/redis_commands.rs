//! The streams in Redis, over the instance's connection. Spin's host flattens nested replies, so entries are read one at a
//! time: their fields do not show where one of several ends.

use std::time::Instant;

use spin_sdk::redis::RedisResult;

use super::deadlines::RequestClock;
use super::redis_connection::{NoReply, execute, text};
use super::report;
use crate::intake::{
    COMMANDS, Command, CommandId, CommandResult, Commands, KEPT_RESULTS, OLDEST_REDIS, Overdue, PAGE, RESULTS,
    overdue_after,
};
use crate::settings::Settings;
use crate::stores::StoreError;

/// The consumer group and its only consumer, shared by all replicas: what is overdue is known by how long it is pending.
const GROUP: &str = "intake";

/// The `Commands` of one drain.
pub struct RedisCommands<'a>(pub &'a Settings);

impl RedisCommands<'_> {
    async fn call(&self, command: &str, arguments: &[&str]) -> Result<Vec<RedisResult>, StoreError> {
        let arguments = arguments.iter().map(|argument| text(argument)).collect();
        let cause = match execute(self.0, &RequestClock::from(Instant::now()), command, arguments).await {
            Ok(reply) => return Ok(reply),
            Err(NoReply::Late) => format!("no answer within {} ms", self.0.redis_deadline.as_millis()),
            Err(NoReply::Unreachable(cause) | NoReply::Failed(cause)) => cause,
        };
        Err(StoreError::Unavailable(format!("{command}: {cause}")))
    }

    /// For a command that needs the group, which it creates if it is missing: at first, and after Redis lost its data.
    async fn call_in_group(&self, command: &str, arguments: &[&str]) -> Result<Vec<RedisResult>, StoreError> {
        let reply = self.call(command, arguments).await;
        if !matches!(&reply, Err(StoreError::Unavailable(cause)) if cause.contains("NOGROUP")) {
            return reply;
        }
        // From the beginning of the stream, so that earlier entries are not lost.
        let group = ["CREATE", COMMANDS, GROUP, "0", "MKSTREAM"];
        match self.call("XGROUP", &group).await {
            // Another instance has created it meanwhile.
            Err(StoreError::Unavailable(cause)) if cause.contains("BUSYGROUP") => {}
            made => drop(made?),
        }
        self.call(command, arguments).await
    }
}

/// Deletes an entry and acknowledges it. In one step, since Redis may lose what it has not written to its disk: an entry that
/// is acknowledged and not deleted would stay in the stream, and no consumer would take it again.
const REMOVE: &str = "redis.call('XDEL', KEYS[1], ARGV[2]) return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])";

fn unreadable(command: &str) -> StoreError {
    StoreError::Broken(format!("{command} gave an unexpected reply"))
}

fn id(value: &RedisResult) -> Option<CommandId> {
    if let RedisResult::Binary(text) = value { CommandId::parse(text) } else { None }
}

/// An entry: its id, then names and values alternately.
fn entry(mut reply: impl Iterator<Item = RedisResult>, deliveries: i64) -> Option<Command> {
    let (id, mut fields) = (id(&reply.next()?)?, Vec::new());
    while let Some(name) = reply.next() {
        let (RedisResult::Binary(name), Some(RedisResult::Binary(value))) = (name, reply.next()) else { return None };
        fields.push((name, value));
    }
    Some(Command { id, fields, deliveries })
}

impl Commands for RedisCommands<'_> {
    async fn next(&self) -> Result<Option<Command>, StoreError> {
        let read = "XREADGROUP";
        let arguments = ["GROUP", GROUP, GROUP, "COUNT", "1", "STREAMS", COMMANDS, ">"];
        let reply = self.call_in_group(read, &arguments).await?;
        if matches!(reply.as_slice(), [RedisResult::Nil]) {
            return Ok(None);
        }
        // The stream's name comes first.
        entry(reply.into_iter().skip(1), 1).map(Some).ok_or_else(|| unreadable(read))
    }

    async fn overdue(&self, after: Option<CommandId>) -> Result<Vec<Overdue>, StoreError> {
        let idle = overdue_after(self.0).as_millis().to_string();
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let arguments = [COMMANDS, GROUP, "IDLE", &idle, &from, "+", &PAGE.to_string()];
        let reply = self.call_in_group("XPENDING", &arguments).await.map_err(|error| match error {
            // From an older Redis, for `IDLE`.
            StoreError::Unavailable(cause) if cause.contains("syntax error") => StoreError::Unavailable(format!(
                "the intake needs Redis {OLDEST_REDIS} or newer; this one says: {cause}"
            )),
            error => error,
        })?;
        let (pending, rest) = reply.as_chunks::<4>();
        let overdue = pending.iter().map(|[first, _consumer, _idle, deliveries]| match deliveries {
            RedisResult::Int64(deliveries) => Some(Overdue { id: id(first)?, deliveries: *deliveries }),
            _ => None,
        });
        let overdue = overdue.collect::<Option<_>>().filter(|_| rest.is_empty());
        overdue.ok_or_else(|| unreadable("XPENDING"))
    }

    async fn claim(&self, overdue: Overdue) -> Result<Option<Command>, StoreError> {
        let idle = overdue_after(self.0).as_millis().to_string();
        let arguments = [COMMANDS, GROUP, GROUP, &idle, &overdue.id.to_string()];
        let reply = self.call("XCLAIM", &arguments).await?;
        match reply.as_slice() {
            // Another consumer has it, or it was deleted: Redis 7 itself removes a deleted one.
            [] => Ok(None),
            // Redis 6.2 returns this for a deleted one and keeps it pending.
            [RedisResult::Nil] => self.remove(overdue.id).await.map(|()| None),
            _ => entry(reply.into_iter(), overdue.deliveries + 1).map(Some).ok_or_else(|| unreadable("XCLAIM")),
        }
    }

    async fn add_result(&self, result: &CommandResult) -> Result<(), StoreError> {
        let fields = result.fields();
        let limit = [RESULTS, "MAXLEN", "~", &KEPT_RESULTS.to_string(), "*"];
        let fields = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let arguments: Vec<_> = limit.into_iter().chain(fields).collect();
        self.call("XADD", &arguments).await.map(drop)
    }

    async fn remove(&self, id: CommandId) -> Result<(), StoreError> {
        self.call("EVAL", &[REMOVE, "1", COMMANDS, GROUP, &id.to_string()]).await.map(drop)
    }

    fn report(&self, event: &str, cause: &str) {
        report(event, cause);
    }
}
