//! Streams in memory, beside a service.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, poll_fn};
use std::ops::Bound;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use order::api::Backends;
use order::intake::{Command, CommandId, CommandResult, Commands, Overdue, PAGE, answer, drain};
use order::order::Timestamp;
use order::stores::StoreError;
use serde_json::Value;
use uuid::Uuid;

use crate::in_memory::TestApp;

/// Both streams and the consumer group, and the service.
#[derive(Default)]
pub struct Queue {
    pub app: TestApp,
    added: Cell<u64>,
    /// The entries of the stream.
    pub entries: RefCell<BTreeMap<CommandId, Command>>,
    /// The newest entry that was delivered. `None` sets the group back.
    pub last_given: Cell<Option<CommandId>>,
    /// How many were delivered for the first time.
    pub given: Cell<usize>,
    /// Entries that were delivered and not acknowledged, and how often.
    pub pending: RefCell<BTreeMap<CommandId, i64>>,
    pub results: RefCell<Vec<CommandResult>>,
    /// The writes, by kind: `order`, `result` or `removal`.
    pub writes: RefCell<Vec<&'static str>>,
    pub reports: RefCell<Vec<String>>,
    pub calls: Cell<usize>,
    /// The call from which on all calls fail.
    pub fails_from: Cell<usize>,
    /// The call after whose effect the instance dies.
    pub dies_after: Cell<usize>,
    has_died: Cell<bool>,
    /// Reading any of these gets no answer, as if it were too large to arrive in time.
    pub unreadable: RefCell<BTreeSet<CommandId>>,
    /// Each read of this one ends its instance.
    pub killer: Cell<Option<CommandId>>,
    /// The commands for which PostgreSQL fails.
    pub failing: RefCell<BTreeMap<CommandId, StoreError>>,
    /// How many more arrive: one whenever a new one is delivered.
    pub coming: Cell<usize>,
    /// At this answer one more arrives.
    pub comes_at_answer: Cell<usize>,
    /// The status of each answer so far, whether it settled its command or not.
    pub answers: RefCell<Vec<u16>>,
    /// Commands being answered, now and at most.
    in_work: RefCell<Vec<CommandId>>,
    pub most_in_work: Cell<usize>,
    /// The commands that were answered while no other one was in progress.
    pub alone: RefCell<Vec<CommandId>>,
}

impl Queue {
    pub fn new() -> Self {
        Self { fails_from: Cell::new(usize::MAX), ..Self::default() }
    }

    pub fn add(&self, fields: &[(&str, &[u8])]) -> CommandId {
        let id = CommandId::parse(format!("1795435200123-{}", self.added.replace(self.added.get() + 1)).as_bytes());
        let (id, fields) = (id.unwrap(), fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())));
        self.entries.borrow_mut().insert(id, Command { id, fields: fields.collect(), deliveries: 1 });
        id
    }

    pub fn place(&self, key: &str, order: &str) -> CommandId {
        self.add(&[("key", key.as_bytes()), ("order", order.as_bytes())])
    }

    /// Adds one that was delivered this often and not acknowledged.
    pub fn place_overdue(&self, key: &str, order: &str, deliveries: i64) -> CommandId {
        let id = self.place(key, order);
        self.last_given.set(Some(id));
        self.pending.borrow_mut().insert(id, deliveries);
        id
    }

    /// Runs until the drain ends or the instance dies.
    pub async fn ring(&self) {
        let mut drained = pin!(drain(self, async |command| self.answer(command).await));
        poll_fn(|context| match drained.as_mut().poll(context) {
            Poll::Pending if !self.has_died.get() => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
        self.has_died.set(false);
        self.in_work.borrow_mut().clear();
    }

    async fn answer(&self, command: &Command) -> Response<Bytes> {
        let app = &self.app;
        self.in_work.borrow_mut().push(command.id);
        self.most_in_work.set(self.most_in_work.get().max(self.in_work.borrow().len()));
        let mut is_alone = self.in_work.borrow().len() == 1;
        tokio::task::yield_now().await;
        is_alone &= self.in_work.borrow().len() == 1;
        let (before, clients) = (app.order_count(), app.clients.borrow().clone());
        app.requests.set(app.requests.get() + 1);
        let own = (Uuid::from_u128(app.requests.get()), Timestamp::default());
        let (order_id, at) = app.fixed.get().unwrap_or(own);
        let backends = Backends { clients: &clients, answers: &app.answers, orders: &app.orders };
        let outage = app.orders.failure.borrow().clone();
        app.orders.failure.replace(self.failing.borrow().get(&command.id).cloned().or(outage.clone()));
        let response = answer(&backends, command, at, order_id).await;
        app.orders.failure.replace(outage);
        if app.order_count() > before {
            self.writes.borrow_mut().push("order");
        }
        self.answers.borrow_mut().push(response.status().as_u16());
        if self.answers.borrow().len() == self.comes_at_answer.get() {
            self.place("came meanwhile", crate::ORDER);
        }
        self.in_work.borrow_mut().retain(|id| *id != command.id);
        self.alone.borrow_mut().extend(is_alone.then_some(command.id));
        response
    }

    /// One call, which has `effect` unless the streams fail.
    async fn call<T>(&self, effect: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.calls.update(|calls| calls + 1);
        if self.calls.get() >= self.fails_from.get() {
            return Err(StoreError::Unavailable("no streams".into()));
        }
        let value = effect();
        if self.calls.get() == self.dies_after.get() {
            self.die().await;
        }
        Ok(value)
    }

    async fn die(&self) {
        self.has_died.set(true);
        pending().await
    }

    async fn read(&self, command: Option<Command>) -> Result<Option<Command>, StoreError> {
        let id = command.as_ref().map(|command| command.id);
        if id.is_some() && id == self.killer.get() {
            self.die().await;
        }
        if id.is_some_and(|id| self.unreadable.borrow().contains(&id)) {
            return Err(StoreError::Unavailable("no answer".into()));
        }
        Ok(command)
    }

    pub fn is_settled(&self) -> bool {
        self.entries.borrow().is_empty() && self.pending.borrow().is_empty()
    }

    /// The entries of the stream, by position.
    pub fn left(&self) -> Vec<CommandId> {
        self.entries.borrow().keys().copied().collect()
    }

    pub fn statuses(&self) -> Vec<u16> {
        self.results.borrow().iter().map(|result| result.status).collect()
    }

    pub fn slug(&self) -> String {
        let body: Value = serde_json::from_slice(&self.results.borrow().last().unwrap().body).unwrap();
        body["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }
}

impl Commands for Queue {
    async fn next(&self) -> Result<Option<Command>, StoreError> {
        let next = self.call(|| {
            let entries = self.entries.borrow();
            let from = self.last_given.get().map_or(Bound::Unbounded, Bound::Excluded);
            let next = entries.range((from, Bound::Unbounded)).next().map(|(_, command)| command.clone());
            if let Some(command) = &next {
                self.last_given.set(Some(command.id));
                self.given.update(|given| given + 1);
                self.pending.borrow_mut().insert(command.id, 1);
            }
            next
        });
        let next = next.await?;
        if next.is_some() && self.coming.get() > 0 {
            self.coming.update(|coming| coming - 1);
            self.place(&format!("coming-{}", self.coming.get()), crate::ORDER);
        }
        self.read(next).await
    }

    async fn overdue(&self, after: Option<CommandId>) -> Result<Vec<Overdue>, StoreError> {
        self.call(|| {
            let pending = self.pending.borrow();
            let rest = pending.iter().filter(|(id, _)| Some(**id) > after);
            rest.take(PAGE).map(|(id, deliveries)| Overdue { id: *id, deliveries: *deliveries }).collect()
        })
        .await
    }

    async fn claim(&self, overdue: Overdue) -> Result<Option<Command>, StoreError> {
        let claimed = self.call(|| {
            let deliveries = overdue.deliveries + 1;
            let found = self.entries.borrow().get(&overdue.id).map(|command| Command { deliveries, ..command.clone() });
            match found {
                Some(_) => self.pending.borrow_mut().insert(overdue.id, deliveries),
                None => self.pending.borrow_mut().remove(&overdue.id),
            };
            found
        });
        let claimed = claimed.await?;
        self.read(claimed).await
    }

    async fn add_result(&self, result: &CommandResult) -> Result<(), StoreError> {
        self.call(|| {
            self.results.borrow_mut().push(result.clone());
            self.writes.borrow_mut().push("result");
        })
        .await
    }

    async fn remove(&self, id: CommandId) -> Result<(), StoreError> {
        self.call(|| {
            self.entries.borrow_mut().remove(&id);
            self.pending.borrow_mut().remove(&id);
            self.writes.borrow_mut().push("removal");
        })
        .await
    }

    fn report(&self, event: &str, cause: &str) {
        self.reports.borrow_mut().push(format!("{event}: {cause}"));
    }
}
