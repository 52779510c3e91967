//! Working a stream off: what is taken, in which order, and when it ends.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Response, StatusCode};

use super::{Command, CommandId, Commands, Overdue, PAGE};
use crate::stores::StoreError;

/// Commands in work at once: as many as an instance has requests.
const WORKERS: usize = 16;
/// Commands that a round takes. A drain that never ends would neither trim the stream nor look for what others left.
const ROUND: usize = 1000;
/// How often a command is delivered that the service fails over, before that is its result.
const DELIVERIES: i64 = 5;
/// From how many deliveries on a command comes behind all others: it may be what ended those who took it, being too large
/// to be read or whatever else, and then no other one waits for it.
const SUSPECT_DELIVERIES: i64 = 2;

/// Answers the commands that wait, by `answer`, until there are none: new ones, and those that somebody else left undone.
///
/// It ends early where the streams fail. A worker ends where PostgreSQL fails it, so that an outage does not make the whole
/// stream overdue.
pub async fn drain<C: Commands>(commands: &C, answer: impl AsyncFn(&Command) -> Response<Bytes>) {
    let drain = Drain {
        commands,
        answer,
        overdue: RefCell::default(),
        suspects: RefCell::default(),
        taken: Cell::new(0),
        last: Cell::new(None),
        is_over: Cell::new(false),
    };
    let ended = async {
        loop {
            while drain.round().await? {}
            if !drain.suspects().await? {
                return Ok(());
            }
        }
    };
    let ended: Result<(), StoreError> = ended.await;
    if let Err(error) = ended {
        commands.report("commands left for later", &error.to_string());
    }
}

/// What a future of a drain came to.
enum Step {
    Taken(Option<Command>),
    /// Whether its worker may take another one.
    Settled {
        goes_on: bool,
    },
}

struct Drain<'a, C, A> {
    commands: &'a C,
    answer: A,
    /// What this round still has to claim.
    overdue: RefCell<Vec<Overdue>>,
    /// What is claimed last of all.
    suspects: RefCell<Vec<Overdue>>,
    /// In this round.
    taken: Cell<usize>,
    /// The last one that was acknowledged.
    last: Cell<Option<CommandId>>,
    /// PostgreSQL failed each worker: this round is the last one.
    is_over: Cell<bool>,
}

impl<C: Commands, A: AsyncFn(&Command) -> Response<Bytes>> Drain<'_, C, A> {
    /// Whether there may be more.
    async fn round(&self) -> Result<bool, StoreError> {
        let overdue = self.commands.overdue().await?;
        let is_full = overdue.len() >= PAGE;
        let (suspects, mut overdue): (Vec<_>, Vec<_>) =
            overdue.into_iter().partition(|overdue| overdue.deliveries >= SUSPECT_DELIVERIES);
        let may_be_more = is_full && !overdue.is_empty();
        self.suspects.replace(suspects);
        // It is taken from the end.
        overdue.reverse();
        self.overdue.replace(overdue);
        self.taken.set(0);
        self.work_and_trim(true).await?;
        Ok(!self.is_over.get() && (may_be_more || self.taken.get() >= ROUND))
    }

    /// Whether one of them was settled: then there may be more than a page. The one that was delivered most often is the last.
    async fn suspects(&self) -> Result<bool, StoreError> {
        let mut suspects = self.suspects.take();
        if suspects.is_empty() || self.is_over.get() {
            return Ok(false);
        }
        suspects.sort_by_key(|suspect| Reverse(suspect.deliveries));
        self.overdue.replace(suspects);
        self.taken.set(0);
        self.work_and_trim(false).await
    }

    /// Whether a command was acknowledged. What was goes, also where a store failed: a full Redis gets room by it.
    async fn work_and_trim(&self, with_new: bool) -> Result<bool, StoreError> {
        let worked = self.work(with_new).await;
        let last = self.last.take();
        if let Some(last) = last {
            self.commands.trim(last).await?;
        }
        worked.map(|()| last.is_some())
    }

    /// Keeps as many commands in work as there are workers, and takes the next one meanwhile. They lie side by side: nested,
    /// they would not fit on the stack.
    async fn work(&self, with_new: bool) -> Result<(), StoreError> {
        let mut in_work = FuturesUnordered::<Pin<Box<dyn Future<Output = Result<Step, StoreError>>>>>::new();
        let (mut workers, mut is_taking, mut may_find, mut failure) = (WORKERS, false, true, Ok(()));
        loop {
            if may_find && !is_taking && in_work.len() < workers {
                is_taking = true;
                in_work.push(Box::pin(async { self.take(with_new).await.map(Step::Taken) }));
            }
            match in_work.next().await {
                Some(Ok(Step::Taken(taken))) => {
                    (is_taking, may_find) = (false, taken.is_some());
                    in_work.extend(taken.map(|command| -> Pin<Box<dyn Future<Output = _>>> {
                        Box::pin(async { self.settle(command).await.map(|goes_on| Step::Settled { goes_on }) })
                    }));
                }
                Some(Ok(Step::Settled { goes_on: true })) => may_find = true,
                Some(Ok(Step::Settled { goes_on: false })) => {
                    workers = workers.saturating_sub(1);
                    self.is_over.set(workers == 0);
                }
                // Those that are in work come to their end, and none is taken any more.
                Some(Err(error)) => (may_find, workers, failure) = (false, 0, failure.and(Err(error))),
                None => return failure,
            }
        }
    }

    async fn take(&self, with_new: bool) -> Result<Option<Command>, StoreError> {
        while self.taken.get() < ROUND {
            let overdue = self.overdue.borrow_mut().pop();
            let command = match overdue {
                Some(overdue) => self.commands.claim(overdue).await?,
                None if !with_new => return Ok(None),
                None => self.commands.next().await?,
            };
            self.taken.update(|taken| taken + 1);
            if command.is_some() || overdue.is_none() {
                return Ok(command);
            }
        }
        Ok(None)
    }

    /// Whether its worker may take another one.
    async fn settle(&self, command: Command) -> Result<bool, StoreError> {
        let answer = (self.answer)(&command).await;
        match answer.status() {
            // Whether there is an order is unknown, or for another attempt to tell: that one claims the command.
            StatusCode::SERVICE_UNAVAILABLE => return Ok(false),
            StatusCode::CONFLICT => return Ok(true),
            StatusCode::INTERNAL_SERVER_ERROR if command.deliveries < DELIVERIES => return Ok(true),
            StatusCode::INTERNAL_SERVER_ERROR => {
                self.commands.report("command given up", &format!("{}, delivery {}", command.id, command.deliveries));
            }
            _ => {}
        }
        let id = command.id;
        self.commands.add_result(&command.result(answer)).await?;
        self.commands.acknowledge(id).await?;
        self.last.set(self.last.get().max(Some(id)));
        Ok(true)
    }
}
