//! The service's stores: each call waits until the search gives its reply.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use order::client::ClientName;
use order::group_commit::Written;
use order::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use order::insert_order::insert_order;
use order::intake::{Command, CommandId, CommandResult, Commands, Overdue};
use order::order::{Order, Status, Timestamp};
use order::stores::{AnswerCache, Events, Filter, OrderStore, Page, Placement, StoreError, Sweep};
use uuid::Uuid;

pub use crate::call::{Call, Entry, Key, Relation, Reply, Row};

/// What was asked and what was answered, by number.
#[derive(Default)]
struct Tape {
    calls: Vec<Call>,
    replies: Vec<(Option<Reply>, Option<Waker>)>,
}

/// All stores of one request.
#[derive(Clone, Default)]
pub struct Wire {
    tape: Rc<RefCell<Tape>>,
    /// Runs each time a call looks for its reply, if replies do not come from elsewhere.
    look: Option<Rc<dyn Fn()>>,
    /// Whether an order is placed together with others first, of whose statement only its own row matters here.
    in_groups: bool,
}

impl Wire {
    /// The same, with replies that `look` gives.
    pub fn with_look(&self, look: impl Fn() + 'static) -> Self {
        Self { look: Some(Rc::new(look)), ..self.clone() }
    }

    pub fn in_groups(self, in_groups: bool) -> Self {
        Self { in_groups, ..self }
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.tape.borrow().calls.clone()
    }

    pub fn reply(&self, call: usize, reply: Reply) {
        let waker = {
            let slot = &mut self.tape.borrow_mut().replies[call];
            slot.0 = Some(reply);
            slot.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn send(&self, call: Call) -> usize {
        let mut tape = self.tape.borrow_mut();
        tape.calls.push(call);
        tape.replies.push((None, None));
        tape.calls.len() - 1
    }

    async fn ask(&self, call: Call) -> Reply {
        let call = self.send(call);
        poll_fn(|context| {
            if let Some(look) = &self.look {
                look();
                context.waker().wake_by_ref();
            }
            let slot = &mut self.tape.borrow_mut().replies[call];
            slot.1 = Some(context.waker().clone());
            slot.0.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub async fn try_ask<T>(&self, call: Call, read: impl FnOnce(Reply) -> Option<T>) -> Result<T, StoreError> {
        match self.ask(call).await {
            Reply::Failed(error) => Err(error),
            reply => Ok(read(reply).expect("a reply to this call")),
        }
    }

    pub async fn tell(&self, call: Call) -> Result<(), StoreError> {
        self.try_ask(call, |reply| (reply == Reply::Done).then_some(())).await
    }
}

macro_rules! read {
    ($reply:ident) => {
        |reply| if let $crate::wire::Reply::$reply(value) = reply { Some(value) } else { None }
    };
}
pub(crate) use read;

impl AnswerCache for Wire {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        read!(Entry)(self.ask(Call::Get(Key::new(client, key))).await).expect("a reply to GET")
    }

    /// As in the component, the request does not wait for it.
    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        self.send(Call::Set(Key::new(client, key), record.clone()));
    }

    async fn is_up(&self) -> bool {
        self.tell(Call::Ping).await.is_ok()
    }
}

impl OrderStore for Wire {
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        let row = Row { key: Key::new(client, key), fingerprint, order: order.clone() };
        let insert = || self.try_ask(Call::Insert(row.clone()), read!(Inserted));
        if !self.in_groups {
            return insert().await;
        }
        let in_batch = match insert().await {
            Err(StoreError::KeyInUse(_)) => Written::Done(None),
            Err(_) => Written::Unknown,
            result => Written::Done(Some(result)),
        };
        let is_placed = async { Ok(OrderStore::find(self, client, order.id).await?.is_some()) };
        insert_order(in_batch, insert(), is_placed).await
    }

    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        self.try_ask(Call::FindByKey(Key::new(client, key)), read!(Record)).await
    }

    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError> {
        self.try_ask(Call::Find(client.clone(), id), read!(Order)).await
    }

    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        _now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        let call = Call::Update { client: client.clone(), id, versions: versions.to_vec(), status };
        self.try_ask(call, read!(Order)).await
    }

    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        self.try_ask(Call::List(client.clone(), filter.clone(), limit), read!(Page)).await
    }

    async fn events(&self, _: &ClientName, _: &Sweep, _: u32) -> Result<Events, StoreError> {
        unreachable!("no request here reads the feed")
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.tell(Call::Ping).await
    }
}

impl Commands for Wire {
    async fn next(&self) -> Result<Option<Command>, StoreError> {
        self.try_ask(Call::Next, read!(Command)).await
    }

    async fn overdue(&self, after: Option<CommandId>) -> Result<Vec<Overdue>, StoreError> {
        self.try_ask(Call::Overdue(after), read!(Overdue)).await
    }

    async fn claim(&self, overdue: Overdue) -> Result<Option<Command>, StoreError> {
        self.try_ask(Call::Claim(overdue.id, overdue.deliveries), read!(Command)).await
    }

    async fn add_result(&self, result: &CommandResult) -> Result<(), StoreError> {
        self.tell(Call::AddResult(result.clone())).await
    }

    async fn remove(&self, id: CommandId) -> Result<(), StoreError> {
        self.tell(Call::Remove(id)).await
    }

    fn report(&self, _event: &str, _cause: &str) {}
}
