//! Both stores in memory, and the API over them.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Poll, Waker};

use bytes::Bytes;
use chrono::DateTime;
use http::{Request, Response};
use order::api::{Backends, MISSPELT_KEYS, Received, headers_read, respond};
use order::client::{ClientName, Clients};
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{Order, Status, Timestamp};
use order::problem::Problem;
use order::settings::InvalidSetting;
use order::stores::{
    AnswerCache, Event, Events, Filter, OrderStore, PAGE_BYTES, PAGE_ROWS, Page, Placement, Position, Snapshot,
    StoreError, Sweep,
};
use uuid::Uuid;

pub const MERGE_PATCH: &str = "application/merge-patch+json";

#[derive(Default)]
pub struct MemoryAnswers {
    pub records: RefCell<BTreeMap<String, Vec<u8>>>,
    pub is_down: Cell<bool>,
}

/// The name under which Redis would keep it, without the prefix.
pub fn redis_key(client: &ClientName, key: &IdempotencyKey) -> String {
    format!("{}:{}", client.as_str(), key.as_str())
}

impl AnswerCache for MemoryAnswers {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        if self.is_down.get() {
            return None;
        }
        KeyRecord::decode(client, key, self.records.borrow().get(&redis_key(client, key))?)
    }

    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        if !self.is_down.get() {
            self.records.borrow_mut().insert(redis_key(client, key), record.encode(client, key));
        }
    }

    async fn is_up(&self) -> bool {
        !self.is_down.get()
    }
}

/// Client, key, fingerprint, order.
pub type MemoryRow = (String, String, Fingerprint, Order);

#[derive(Default, Clone)]
pub struct MemoryOrders {
    pub rows: RefCell<Vec<MemoryRow>>,
    /// The transaction that last changed an order, and when.
    pub changes: RefCell<BTreeMap<Uuid, (u64, Timestamp)>>,
    /// The writes of each open transaction: rows as they will be, and when.
    pub open: RefCell<BTreeMap<u64, Vec<(MemoryRow, Timestamp)>>>,
    /// The last transaction that has begun, and the last one that has ended.
    pub begun: Cell<u64>,
    pub ended: Cell<u64>,
    pub epoch: Cell<i64>,
    pub statements: Cell<u32>,
    pub failure: RefCell<Option<StoreError>>,
    /// A write commits, but its caller never learns of it.
    pub loses_replies: Cell<bool>,
}

/// Transactions, as the feed sees those of PostgreSQL. No two of them may write the same row.
impl MemoryOrders {
    /// Returns its id.
    pub fn begin(&self) -> u64 {
        self.begun.set(self.begun.get() + 1);
        self.open.borrow_mut().insert(self.begun.get(), Vec::new());
        self.begun.get()
    }

    pub fn write(&self, xid: u64, row: MemoryRow, at: Timestamp) {
        self.open.borrow_mut().get_mut(&xid).unwrap().push((row, at));
    }

    pub fn end(&self, xid: u64, commits: bool) {
        let written = self.open.borrow_mut().remove(&xid).unwrap();
        self.ended.set(self.ended.get().max(xid));
        for (row, at) in written.into_iter().filter(|_| commits) {
            self.changes.borrow_mut().insert(row.3.id, (xid, at));
            let mut rows = self.rows.borrow_mut();
            match rows.iter_mut().find(|(.., order)| order.id == row.3.id) {
                Some(before) => *before = row,
                None => rows.push(row),
            }
        }
    }

    /// Ends all open ones, and reuses the ids after the last change: none of those transactions was on the disk.
    pub fn crash(&self) {
        self.open.borrow_mut().clear();
        let last = self.changes.borrow().values().map(|(xid, _)| *xid).max().unwrap_or_default();
        self.begun.set(last);
        self.ended.set(last);
    }

    pub fn snapshot(&self) -> Snapshot {
        let xmax = self.ended.get() + 1;
        Snapshot { xmax, open: self.open.borrow().keys().copied().filter(|xid| *xid < xmax).collect() }
    }

    fn write_at_once(&self, row: MemoryRow, at: Timestamp) {
        let xid = self.begin();
        self.write(xid, row, at);
        self.end(xid, true);
    }

    fn statement(&self) -> Result<(), StoreError> {
        self.statements.set(self.statements.get() + 1);
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

/// A page of a client's orders, which are given with their keys.
pub fn page<'a>(own: impl Iterator<Item = (&'a str, &'a Order)>, filter: &Filter, limit: u32) -> Page {
    let by_index = own.filter(|(key, order)| {
        filter.customer_id.as_ref().is_none_or(|id| *id == order.placed.customer_id)
            && filter.idempotency_key.as_ref().is_none_or(|wanted| wanted.as_str() == *key)
            && filter.before.is_none_or(|before| order.id < before)
    });
    let mut orders: Vec<&Order> = by_index.map(|(_, order)| order).collect();
    orders.sort_by_key(|order| std::cmp::Reverse(order.id));
    let is_looked_through = filter.customer_id.is_some() && filter.status.is_some() && filter.idempotency_key.is_none();
    let last_looked_at = orders.get(PAGE_ROWS - 1).filter(|_| is_looked_through).map(|order| order.id);
    orders.retain(|order| {
        filter.status.is_none_or(|status| status == order.status) && last_looked_at.is_none_or(|last| order.id >= last)
    });
    let mut fits = until_full();
    let shown: Vec<Order> =
        orders.iter().take(limit as usize).take_while(|order| fits(order)).copied().cloned().collect();
    let last_shown = shown.last().filter(|_| shown.len() < orders.len()).map(|order| order.id);
    Page { orders: shown, next: last_shown.or(last_looked_at) }
}

impl OrderStore for MemoryOrders {
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        self.statement()?;
        let is_it = |(owner, taken, ..): &MemoryRow| owner == client.as_str() && taken == key.as_str();
        if self.rows.borrow().iter().any(is_it) {
            return Ok(Placement::KeyTaken);
        }
        let row = (client.as_str().to_owned(), key.as_str().to_owned(), fingerprint, order.clone());
        self.write_at_once(row, order.created_at);
        if self.loses_replies.get() {
            return Err(StoreError::Unavailable("the reply is lost".into()));
        }
        Ok(Placement::Placed)
    }

    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        self.statement()?;
        let rows = self.rows.borrow();
        let is_it = |(owner, taken, ..): &&(String, String, _, _)| owner == client.as_str() && taken == key.as_str();
        let row = rows.iter().find(is_it).ok_or_else(|| StoreError::Unavailable("the key has no row".into()))?;
        let (.., fingerprint, order) = row;
        Ok(KeyRecord { fingerprint: *fingerprint, answer: Answer::of(order.clone()) })
    }

    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError> {
        self.statement()?;
        let rows = self.rows.borrow();
        let found = rows.iter().find(|(owner, .., order)| owner == client.as_str() && order.id == id);
        Ok(found.map(|(.., order)| order.clone()))
    }

    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        self.statement()?;
        let matches = |(owner, .., order): &&MemoryRow| {
            owner == client.as_str()
                && order.id == id
                && versions.contains(&order.version)
                && status.sources().contains(&order.status)
        };
        let found = self.rows.borrow().iter().find(matches).cloned();
        let changed = found.map(|mut row| {
            row.3.status = status;
            row.3.version += 1;
            self.write_at_once(row.clone(), now);
            row.3
        });
        if self.loses_replies.get() {
            return Err(StoreError::Unavailable("the reply is lost".into()));
        }
        Ok(changed)
    }

    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        self.statement()?;
        let rows = self.rows.borrow();
        let own = rows.iter().filter(|(owner, ..)| owner == client.as_str());
        Ok(page(own.map(|(_, key, _, order)| (key.as_str(), order)), filter, limit))
    }

    async fn events(&self, client: &ClientName, sweep: &Sweep, limit: u32) -> Result<Events, StoreError> {
        self.statement()?;
        let now = self.snapshot();
        let (reading, position) = sweep.begun.as_ref().map_or((&now, Position::default()), |(of, at)| (of, *at));
        let (rows, changes) = (self.rows.borrow(), self.changes.borrow());
        let own = rows.iter().filter(|(owner, ..)| owner == client.as_str());
        let event = |order: &Order| Event { order: order.clone(), at: changes[&order.id].1, xid: changes[&order.id].0 };
        let unread =
            |event: &Event| !sweep.done.shows(event.xid) && reading.shows(event.xid) && event.position() > position;
        let mut events: Vec<Event> = own.map(|(.., order)| event(order)).filter(unread).collect();
        events.sort_by_key(Event::position);
        let count = events.len();
        let mut fits = until_full();
        let events: Vec<Event> =
            events.into_iter().take(limit as usize).take_while(|event| fits(&event.order)).collect();
        Ok(Events { epoch: self.epoch.get(), now, has_more: events.len() < count, events })
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.statement()
    }
}

/// Whether a page that has the orders before it can hold one more.
fn until_full() -> impl FnMut(&Order) -> bool {
    let mut bytes = 0;
    move |order| {
        let fits = bytes < PAGE_BYTES;
        bytes += serde_json::to_vec(&order.placed.items).unwrap().len();
        bytes += order.placed.comment.as_ref().map_or(0, String::len);
        fits
    }
}

#[derive(Default)]
pub struct TestApp {
    pub answers: MemoryAnswers,
    pub orders: MemoryOrders,
    pub requests: Cell<u128>,
    /// The id and the time of every later request; `None` gives each its own.
    pub fixed: Cell<Option<(Uuid, Timestamp)>>,
    /// The clients; if there are none, everyone may call.
    pub clients: RefCell<Clients>,
    /// The name of a variable that does not parse.
    pub invalid_setting: Cell<Option<&'static str>>,
}

impl TestApp {
    /// Only the headers that the entry point fetches.
    pub async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.send_head(request.map(Ok)).await
    }

    /// A request whose body may not arrive: `Err` is the outcome of reading it.
    pub async fn send_head(&self, mut request: Request<Result<Bytes, Problem>>) -> Response<Bytes> {
        let has_clients = !self.clients.borrow().is_open();
        let read = headers_read(request.method(), request.uri().path(), has_clients);
        let fetched: Vec<_> = read.chain(&MISSPELT_KEYS).collect();
        let others: Vec<_> = request.headers().keys().filter(|name| !fetched.contains(name)).cloned().collect();
        for name in others {
            request.headers_mut().remove(name);
        }
        self.requests.set(self.requests.get() + 1);
        let own_now = DateTime::from_timestamp_millis(1_763_899_200_123 + self.requests.get() as i64).unwrap();
        let (order_id, at) = self.fixed.get().unwrap_or((Uuid::from_u128(self.requests.get()), own_now));
        let (head, body) = request.into_parts();
        let received = async { Ok(Received { body: body?, at, order_id }) };
        let clients = self.clients.borrow().clone();
        respond(self.backends(&clients).as_ref(), &Request::from_parts(head, ()), received).await
    }

    fn backends<'a>(
        &'a self,
        clients: &'a Clients,
    ) -> Result<Backends<'a, MemoryAnswers, MemoryOrders>, InvalidSetting> {
        match self.invalid_setting.get() {
            None => Ok(Backends { clients, answers: &self.answers, orders: &self.orders }),
            Some(name) => Err(InvalidSetting { name, reason: "is wrong".to_owned() }),
        }
    }

    pub async fn get(&self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path).body(Bytes::new()).unwrap()).await
    }

    pub async fn place(&self, key: &str, order: &str) -> Response<Bytes> {
        let request =
            Request::post("/orders").header("Idempotency-Key", key).header("Content-Type", "application/json");
        self.send(request.body(Bytes::copy_from_slice(order.as_bytes())).unwrap()).await
    }

    pub async fn patch(&self, path: &str, if_match: &str, patch: &str) -> Response<Bytes> {
        let request = Request::patch(path).header("If-Match", if_match).header("Content-Type", MERGE_PATCH);
        self.send(request.body(Bytes::copy_from_slice(patch.as_bytes())).unwrap()).await
    }

    pub fn order_count(&self) -> usize {
        self.orders.rows.borrow().len()
    }
}

/// The value of a future that never waits, such as one over stores in memory.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a store in memory has nothing to wait for"),
    }
}
