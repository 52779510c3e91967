//! The model as stores that can be called, so that it is held to the same laws as Redis and PostgreSQL (`tests/laws/stores/`).
//!
//! Where the model does more than the real ones: a statement may wait for ever, Redis may recall an entry that it lost, and a
//! statement that nobody waits for may come to PostgreSQL as late as it likes. Where it does less: it has no feed, which no
//! case reads; no entry that cannot be read, which to the service is the same as none; and an order is placed by one
//! statement, where the component may place several by one and try again alone. The streams have no laws.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use order::client::ClientName;
use order::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{Order, Status, Timestamp};
use order::stores::{Events, Filter, KeyStore, OrderStore, Page, Placement, Position, StoreError};
use uuid::Uuid;

use crate::laws::{self, SharedStores, Write, record_of};
use crate::stores::{OnItsWay, Phase, Stores, Values};
use crate::wire::{Call, Key, Reply, Row, Wire};

#[derive(Default)]
pub struct Model {
    wire: Wire,
    stores: RefCell<Stores>,
    values: RefCell<Values>,
    /// How many calls were sent on.
    sent: Cell<usize>,
    is_cut_off: Cell<bool>,
}

/// The client of the transactions that somebody else has open.
const SOMEBODY_ELSE: u8 = 255;

impl Model {
    /// Every call goes as far as it can.
    fn go_on(&self) {
        let (mut stores, mut values) = (self.stores.borrow_mut(), self.values.borrow_mut());
        for (number, call) in self.wire.calls().into_iter().enumerate().skip(self.sent.get()) {
            if self.is_cut_off.get() {
                self.wire.reply(number, call.failure());
            } else {
                let is_heard = !matches!(call, Call::Set(..));
                stores.send(on_its_way(number, values.calls.id(call), is_heard));
            }
            self.sent.set(number + 1);
        }
        let mut at = 0;
        while let Some(call) = stores.calls.get(at).copied() {
            match call.phase {
                Phase::Sent => stores.take_effect(&mut values, at),
                Phase::Waits if !stores.waits_on(&values, at) => stores.take_effect(&mut values, at),
                Phase::Holds(_) if call.who.0 != SOMEBODY_ELSE => stores.commit(&mut values, at),
                Phase::Done(reply) => {
                    stores.calls.remove(at);
                    self.wire.reply(number_of(&call), values.replies.at(reply).clone());
                }
                Phase::Waits | Phase::Holds(_) => {
                    at += 1;
                    continue;
                }
            }
            // Others may have waited for this one.
            at = 0;
        }
    }

    /// The call's outcome. Whenever it is looked at, all calls go on.
    async fn outcome<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|context| {
            if let Poll::Ready(outcome) = call.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            self.go_on();
            context.waker().wake_by_ref();
            call.as_mut().poll(context)
        })
        .await
    }

    /// Where the call of somebody else is.
    fn at(&self, held: OnItsWay) -> usize {
        let same = |call: &OnItsWay| (call.who, call.number) == (held.who, held.number);
        self.stores.borrow().calls.iter().position(same).expect("it is held")
    }
}

fn on_its_way(number: usize, call: u16, is_heard: bool) -> OnItsWay {
    let [.., high, middle, low] = number.to_be_bytes();
    OnItsWay { who: (high, middle), number: low, call, phase: Phase::Sent, is_heard }
}

fn number_of(call: &OnItsWay) -> usize {
    usize::from_be_bytes([0, 0, 0, 0, 0, call.who.0, call.who.1, call.number])
}

impl KeyStore for Model {
    async fn find(&self, client: &ClientName, key: &IdempotencyKey) -> Option<KeyRecord> {
        self.outcome(KeyStore::find(&self.wire, client, key)).await
    }

    async fn remember(&self, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
        self.outcome(self.wire.remember(client, key, record)).await
    }

    async fn is_up(&self) -> bool {
        self.outcome(self.wire.is_up()).await
    }
}

impl OrderStore for Model {
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        self.outcome(self.wire.place(client, key, fingerprint, order)).await
    }

    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        self.outcome(self.wire.find_by_key(client, key)).await
    }

    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError> {
        self.outcome(OrderStore::find(&self.wire, client, id)).await
    }

    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        self.outcome(self.wire.change(client, id, versions, status, now)).await
    }

    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        self.outcome(self.wire.list(client, filter, limit)).await
    }

    async fn events(&self, _: &ClientName, _: Option<Position>, _: u32) -> Result<Option<Events>, StoreError> {
        unreachable!("the model has no feed")
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.outcome(self.wire.check()).await
    }
}

impl laws::Stores for Model {
    fn keys(&self) -> &impl KeyStore {
        self
    }

    fn orders(&self) -> &impl OrderStore {
        self
    }

    async fn entry(&self, client: &ClientName, key: &IdempotencyKey) -> Option<Vec<u8>> {
        self.go_on();
        let record = self.stores.borrow().entry(&self.values.borrow(), &Key::new(client, key)).cloned();
        record.map(|record| record.encode(client, key))
    }

    async fn set_entry(&self, client: &ClientName, key: &IdempotencyKey, entry: Option<&[u8]>) {
        self.go_on();
        let record = entry.and_then(|entry| KeyRecord::decode(client, key, entry));
        let (mut stores, mut values) = (self.stores.borrow_mut(), self.values.borrow_mut());
        stores.set(&mut values, Key::new(client, key), record);
    }

    fn set_reachable(&self, is_reachable: bool) {
        self.is_cut_off.set(!is_reachable);
        let (mut stores, values) = (self.stores.borrow_mut(), self.values.borrow());
        for call in stores.calls.iter_mut().filter(|call| call.is_heard && !is_reachable) {
            call.is_heard = false;
            self.wire.reply(number_of(call), values.calls.at(call.call).failure());
        }
    }
}

impl SharedStores for Model {
    type Held = Vec<OnItsWay>;

    async fn begin(&self, client: &ClientName, writes: &[Write<'_>]) -> Self::Held {
        let begun = writes.iter().map(|write| {
            let call = match write {
                Write::Place(key, order) => {
                    let fingerprint = record_of(order).fingerprint;
                    Call::Insert(Row { key: Key::new(client, key), fingerprint, order: (*order).clone() })
                }
                Write::Change(order, status) => Call::Update {
                    client: client.clone(),
                    id: order.id,
                    versions: vec![order.version],
                    status: *status,
                },
            };
            let call = self.values.borrow_mut().calls.id(call);
            let held = on_its_way(self.sent.get(), call, false);
            let held = OnItsWay { who: (SOMEBODY_ELSE, call as u8), ..held };
            self.stores.borrow_mut().send(held);
            let at = self.at(held);
            self.stores.borrow_mut().take_effect(&mut self.values.borrow_mut(), at);
            assert!(matches!(self.stores.borrow().calls[at].phase, Phase::Holds(_)), "it waits");
            held
        });
        begun.collect()
    }

    async fn commit(&self, held: Self::Held) {
        for at in held.into_iter().map(|held| self.at(held)) {
            self.stores.borrow_mut().commit(&mut self.values.borrow_mut(), at);
        }
    }

    async fn abort(&self, held: Self::Held) {
        for at in held.into_iter().map(|held| self.at(held)) {
            let failure = Reply::Failed(StoreError::Unavailable("rolled back".into()));
            self.stores.borrow_mut().abort(&mut self.values.borrow_mut(), at, failure);
        }
    }

    async fn pass_lock_timeout(&self) {
        let (mut stores, mut values) = (self.stores.borrow_mut(), self.values.borrow_mut());
        // From the end, since a call that nobody listens to is dropped.
        for at in (0..stores.calls.len()).rev() {
            if stores.calls[at].phase == Phase::Waits {
                stores.time_out(&mut values, at);
            }
        }
    }
}

async fn stores() -> Model {
    Model::default()
}

laws!(keys, stores);
laws!(orders, stores);
laws!(lists, stores);
laws!(meanwhile, stores);
