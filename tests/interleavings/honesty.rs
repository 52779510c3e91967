//! The model as stores that can be called, so that it is held to the same laws as Redis and PostgreSQL (`tests/laws/stores/`).
//!
//! Where the model does more than the real ones: a statement may wait for ever, Redis may recall an entry that it lost, and a
//! statement whose caller is gone may reach PostgreSQL at any later time. Where it does less: it has no feed, which no
//! case reads; no entry that cannot be read, which to the service is the same as none; and of a statement for several orders
//! only the row of one. The streams have no laws. Nor have the calls of the other designs only: `designs/real.rs` compares
//! them with the real stores, in the schedules that break the designs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use order::client::ClientName;
use order::idempotency::{IdempotencyKey, KeyRecord};
use order::stores::{AnswerCache, OrderStore, StoreError};

use crate::laws::{self, SharedStores, Write, record_of};
use crate::stores::{OnItsWay, Phase, Stores, Values};
use crate::wire::{Call, Entry, Key, Reply, Row, Wire};

/// Both models, and how far their calls have come.
#[derive(Default)]
struct Both {
    stores: RefCell<Stores>,
    values: RefCell<Values>,
    /// How many calls were sent on.
    sent: Cell<usize>,
    is_cut_off: Cell<bool>,
}

/// Whenever one of its calls is looked at, all of them go on.
pub struct Model {
    wire: Wire,
    both: Rc<Both>,
}

/// The client of the transactions that another session has open.
const ANOTHER_SESSION: u8 = 255;

impl Both {
    /// Every call goes as far as it can.
    fn go_on(&self, wire: &Wire) {
        let (mut stores, mut values) = (self.stores.borrow_mut(), self.values.borrow_mut());
        for (number, call) in wire.calls().into_iter().enumerate().skip(self.sent.get()) {
            if self.is_cut_off.get() {
                wire.reply(number, call.failure());
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
                Phase::Holds(_) if call.who.0 != ANOTHER_SESSION => stores.commit(&mut values, at),
                Phase::Done(reply) => {
                    stores.calls.remove(at);
                    wire.reply(number_of(&call), values.replies.at(reply).clone());
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

    /// The place of another session's call.
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

impl laws::Stores for Model {
    fn answers(&self) -> &impl AnswerCache {
        &self.wire
    }

    fn orders(&self) -> &impl OrderStore {
        &self.wire
    }

    async fn entry(&self, client: &ClientName, key: &IdempotencyKey) -> Option<Vec<u8>> {
        self.both.go_on(&self.wire);
        let record = self.both.stores.borrow().entry(&self.both.values.borrow(), &Key::new(client, key)).cloned();
        record?.record().map(|record| record.encode(client, key))
    }

    async fn set_entry(&self, client: &ClientName, key: &IdempotencyKey, entry: Option<&[u8]>) {
        self.both.go_on(&self.wire);
        let record = entry.and_then(|entry| KeyRecord::decode(client, key, entry));
        let (mut stores, mut values) = (self.both.stores.borrow_mut(), self.both.values.borrow_mut());
        stores.set(&mut values, Key::new(client, key), record.map(Entry::Record));
    }

    fn set_reachable(&self, is_reachable: bool) {
        self.both.is_cut_off.set(!is_reachable);
        let (mut stores, values) = (self.both.stores.borrow_mut(), self.both.values.borrow());
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
            let call = self.both.values.borrow_mut().calls.id(call);
            let held = on_its_way(self.both.sent.get(), call, false);
            let held = OnItsWay { who: (ANOTHER_SESSION, call as u8), ..held };
            self.both.stores.borrow_mut().send(held);
            let at = self.both.at(held);
            self.both.stores.borrow_mut().take_effect(&mut self.both.values.borrow_mut(), at);
            assert!(matches!(self.both.stores.borrow().calls[at].phase, Phase::Holds(_)), "it waits");
            held
        });
        begun.collect()
    }

    async fn commit(&self, held: Self::Held) {
        for at in held.into_iter().map(|held| self.both.at(held)) {
            self.both.stores.borrow_mut().commit(&mut self.both.values.borrow_mut(), at);
        }
    }

    async fn abort(&self, held: Self::Held) {
        for at in held.into_iter().map(|held| self.both.at(held)) {
            let failure = Reply::Failed(StoreError::Unavailable("rolled back".into()));
            self.both.stores.borrow_mut().abort(&mut self.both.values.borrow_mut(), at, failure);
        }
    }

    async fn pass_lock_timeout(&self) {
        let (mut stores, mut values) = (self.both.stores.borrow_mut(), self.both.values.borrow_mut());
        // From the end, since a call without a listener is dropped.
        for at in (0..stores.calls.len()).rev() {
            if stores.calls[at].phase == Phase::Waits {
                stores.time_out(&mut values, at);
            }
        }
    }
}

async fn stores() -> Model {
    let (wire, both) = (Wire::default(), Rc::new(Both::default()));
    let (asked, answers) = (wire.clone(), both.clone());
    Model { wire: wire.with_look(move || answers.go_on(&asked)), both }
}

laws!(keys, stores);
laws!(orders, stores);
laws!(lists, stores);
laws!(meanwhile, stores);
