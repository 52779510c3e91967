//! Streams in memory, beside a service.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use order::api::Backing;
use order::intake::{Command, CommandId, CommandResult, Commands, Overdue, PAGE, answer, drain};
use order::order::Timestamp;
use order::stores::StoreError;
use serde_json::Value;
use uuid::Uuid;

use crate::in_memory::TestApp;

/// Both streams and the consumer group, beside a service.
#[derive(Default)]
pub struct Queue {
    pub app: TestApp,
    pub entries: RefCell<Vec<Command>>,
    pub given: Cell<usize>,
    /// Delivered and not acknowledged: how often.
    pub pending: RefCell<BTreeMap<CommandId, i64>>,
    pub results: RefCell<Vec<CommandResult>>,
    /// What was written, and where: `order`, `result` or `acknowledgement`.
    pub writes: RefCell<Vec<&'static str>>,
    pub trimmed: Cell<Option<CommandId>>,
    pub reports: RefCell<Vec<String>>,
    pub calls: Cell<usize>,
    /// The call from which on all of them fail.
    pub fails_from: Cell<usize>,
    /// Its claim fails, as that of one which is too large to be read in time.
    pub unreadable: Cell<Option<CommandId>>,
    /// Commands being answered, now and at most.
    in_work: Cell<usize>,
    pub most_in_work: Cell<usize>,
}

impl Queue {
    pub fn new() -> Self {
        Self { fails_from: Cell::new(usize::MAX), ..Self::default() }
    }

    pub fn add(&self, fields: &[(&str, &[u8])]) -> CommandId {
        let mut entries = self.entries.borrow_mut();
        let id = CommandId::parse(format!("1795435200123-{}", entries.len()).as_bytes()).unwrap();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        entries.push(Command { id, fields, deliveries: 1 });
        id
    }

    pub fn place(&self, key: &str, order: &str) -> CommandId {
        self.add(&[("key", key.as_bytes()), ("order", order.as_bytes())])
    }

    pub async fn ring(&self) {
        self.trimmed.set(None);
        drain(self, async |command| self.answer(command).await).await;
    }

    async fn answer(&self, command: &Command) -> Response<Bytes> {
        let app = &self.app;
        self.in_work.update(|count| count + 1);
        self.most_in_work.set(self.most_in_work.get().max(self.in_work.get()));
        tokio::task::yield_now().await;
        let (before, clients) = (app.order_count(), app.clients.borrow().clone());
        app.requests.set(app.requests.get() + 1);
        let own = (Uuid::from_u128(app.requests.get()), Timestamp::default());
        let (order_id, at) = app.fixed.get().unwrap_or(own);
        let backing = Backing { clients: &clients, keys: &app.keys, orders: &app.orders };
        let response = answer(&backing, command, at, order_id).await;
        if app.order_count() > before {
            self.writes.borrow_mut().push("order");
        }
        self.in_work.update(|count| count - 1);
        response
    }

    fn call(&self) -> Result<(), StoreError> {
        self.calls.update(|calls| calls + 1);
        let fails = self.calls.get() >= self.fails_from.get();
        if fails { Err(StoreError::Unavailable("no streams".into())) } else { Ok(()) }
    }

    pub fn is_settled(&self) -> bool {
        self.given.get() == self.entries.borrow().len() && self.pending.borrow().is_empty()
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
        self.call()?;
        let next = self.entries.borrow().get(self.given.get()).cloned();
        if let Some(command) = &next {
            self.given.update(|given| given + 1);
            self.pending.borrow_mut().insert(command.id, 1);
        }
        Ok(next)
    }

    async fn overdue(&self) -> Result<Vec<Overdue>, StoreError> {
        self.call()?;
        let pending = self.pending.borrow();
        Ok(pending.iter().take(PAGE).map(|(id, deliveries)| Overdue { id: *id, deliveries: *deliveries }).collect())
    }

    async fn claim(&self, overdue: Overdue) -> Result<Option<Command>, StoreError> {
        self.call()?;
        let deliveries = overdue.deliveries + 1;
        self.pending.borrow_mut().insert(overdue.id, deliveries);
        if self.unreadable.get() == Some(overdue.id) {
            return Err(StoreError::Unavailable("no answer".into()));
        }
        let entries = self.entries.borrow();
        let found = entries.iter().find(|command| command.id == overdue.id);
        if found.is_none() {
            self.pending.borrow_mut().remove(&overdue.id);
        }
        Ok(found.map(|command| Command { deliveries, ..command.clone() }))
    }

    async fn add_result(&self, result: &CommandResult) -> Result<(), StoreError> {
        self.call()?;
        self.results.borrow_mut().push(result.clone());
        self.writes.borrow_mut().push("result");
        Ok(())
    }

    async fn acknowledge(&self, id: CommandId) -> Result<(), StoreError> {
        self.call()?;
        self.pending.borrow_mut().remove(&id);
        self.writes.borrow_mut().push("acknowledgement");
        Ok(())
    }

    async fn trim(&self, last: CommandId) -> Result<(), StoreError> {
        self.call()?;
        assert!(self.entries.borrow().iter().any(|command| command.id == last), "{last} is no command");
        self.trimmed.set(Some(last));
        Ok(())
    }

    fn report(&self, event: &str, cause: &str) {
        self.reports.borrow_mut().push(format!("{event}: {cause}"));
    }
}
