//! Drains the stream of commands: what it takes, in which order, and when it ends.

use std::cell::Cell;
use std::pin::pin;
use std::vec;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::{Response, StatusCode};

use super::{Command, Commands, Overdue, PAGE};
use crate::stores::StoreError;

/// Concurrent commands: as many as an instance has requests.
const WORKERS: usize = 16;
/// New commands that a round takes before it checks for overdue ones again.
const ROUND: usize = 1000;
/// A command with this many deliveries is a suspect: it may have ended the instances that took it. A round takes suspects last.
const SUSPECT_DELIVERIES: i64 = 2;
/// A suspect with this many deliveries is taken alone, so that it affects no other command, and may be given up.
const DELIVERIES: i64 = 5;
/// Commands taken alone before new ones are taken again, which must not wait for long either.
const ALONE: usize = 16;

/// Answers waiting commands with `answer` until there are none: new ones, and those that other drains did not finish.
///
/// Each round takes some of each kind, so that no kind waits until another one is exhausted. Each failure of a store costs the
/// drain one of its workers, and without workers it ends: so an outage does not make the whole stream overdue, and an
/// unreadable command, such as one of 100 MB, does not hold up the others.
pub async fn drain<C: Commands>(commands: &C, answer: impl AsyncFn(&Command) -> Response<Bytes>) {
    let drain = Drain { commands, answer, has_placed: Cell::new(false) };
    if let Err(error) = drain.run().await {
        commands.report("commands left for later", &error.to_string());
    }
}

struct Drain<'a, C, A> {
    commands: &'a C,
    answer: A,
    /// Whether this drain committed a new order: then PostgreSQL, its schema and the rights are in order.
    has_placed: Cell<bool>,
}

/// What is left of a drain after its failures.
struct Left {
    workers: usize,
    /// The first failure of the streams.
    failure: Option<StoreError>,
}

/// The commands to take next.
struct Source {
    overdue: vec::IntoIter<Overdue>,
    /// At most this many new ones.
    new: usize,
    /// There are no new ones.
    is_empty: bool,
}

impl<C: Commands, A: AsyncFn(&Command) -> Response<Bytes>> Drain<'_, C, A> {
    async fn run(&self) -> Result<(), StoreError> {
        let mut left = Left { workers: WORKERS, failure: None };
        let mut after = None;
        loop {
            // One page per round, so that commands stuck at the beginning of the list do not hide the rest.
            let mut page = self.commands.overdue(after).await?;
            after = page.last().filter(|_| page.len() >= PAGE).map(|last| last.id);

            // The one with the most deliveries is the last.
            page.sort_by_key(|overdue| overdue.deliveries);
            let alone = page.split_off(page.partition_point(|overdue| overdue.deliveries < DELIVERIES));
            let suspects = page.split_off(page.partition_point(|overdue| overdue.deliveries < SUSPECT_DELIVERIES));

            let mut may_be_more = self.work(page, ROUND, WORKERS, &mut left).await;
            self.work(suspects, 0, WORKERS, &mut left).await;
            for some in alone.chunks(ALONE) {
                self.work(some.to_vec(), 0, 1, &mut left).await;
                may_be_more = self.work(Vec::new(), ROUND, WORKERS, &mut left).await;
            }
            if left.workers == 0 || (after.is_none() && !may_be_more) {
                return left.failure.map_or(Ok(()), Err);
            }
        }
    }

    /// Processes `overdue`, then up to `new` new ones, `at_once` of them concurrently. Returns whether there may be more new
    /// ones.
    ///
    /// After a failure it takes no more until the running ones are done, and continues with one worker less.
    async fn work(&self, overdue: Vec<Overdue>, new: usize, at_once: usize, left: &mut Left) -> bool {
        let mut source = Source { overdue: overdue.into_iter(), new, is_empty: false };
        while left.workers > 0 {
            let has_failed = Cell::new(false);
            let taken = stream::unfold(&mut source, async |source| {
                if has_failed.get() {
                    return None;
                }
                let command = source.take(self.commands).await.transpose()?;
                has_failed.set(has_failed.get() || command.is_err());
                Some((command, source))
            });
            let settled = taken.map(|command| Box::pin(async { self.settle(command?).await }));
            let mut settled = pin!(settled.buffer_unordered(at_once.min(left.workers)));
            while let Some(settled) = settled.next().await {
                if !matches!(settled, Ok(true)) {
                    has_failed.set(true);
                    left.workers = left.workers.saturating_sub(1);
                    left.failure = left.failure.take().or(settled.err());
                }
            }
            if !has_failed.get() {
                break;
            }
        }
        !source.is_empty
    }

    /// `false` if PostgreSQL failed.
    async fn settle(&self, command: Command) -> Result<bool, StoreError> {
        let answer = (self.answer)(&command).await;
        match answer.status() {
            // Unknown outcome, or another request holds the key: a later attempt claims the command and settles it.
            StatusCode::SERVICE_UNAVAILABLE => return Ok(false),
            StatusCode::CONFLICT => return Ok(true),
            StatusCode::INTERNAL_SERVER_ERROR if !self.is_itself_the_cause(&command) => return Ok(true),
            StatusCode::INTERNAL_SERVER_ERROR => {
                self.commands.report("command given up", &format!("{}, delivery {}", command.id, command.deliveries));
            }
            _ => {}
        }
        let result = command.result(answer);
        let is_placed = result.status == StatusCode::CREATED && !result.is_replay;
        self.has_placed.set(self.has_placed.get() || is_placed);
        self.commands.add_result(&result).await?;
        self.commands.remove(command.id).await?;
        Ok(true)
    }

    /// Whether the command itself causes its failures: it fails repeatedly while the same drain places another command's order.
    fn is_itself_the_cause(&self, command: &Command) -> bool {
        command.deliveries >= DELIVERIES && self.has_placed.get()
    }
}

impl Source {
    async fn take(&mut self, commands: &impl Commands) -> Result<Option<Command>, StoreError> {
        for overdue in self.overdue.by_ref() {
            if let Some(command) = commands.claim(overdue).await? {
                return Ok(Some(command));
            }
        }
        if self.new == 0 || self.is_empty {
            return Ok(None);
        }
        self.new -= 1;
        let command = commands.next().await?;
        self.is_empty = command.is_none();
        Ok(command)
    }
}
