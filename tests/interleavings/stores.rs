//! The model of PostgreSQL and Redis: what they hold, the calls in flight, and each step that a call can take.
//!
//! A statement reads at one moment, and writes at one moment that may come later: in between it holds its key or its row.
//! That is PostgreSQL's read committed. Redis does a command at one moment, and may forget or recall anything.

mod others;
mod streams;

use order::idempotency::{Answer, KeyRecord};
use order::intake::{Command, CommandResult};
use order::order::Order;
use order::stores::{Placement, StoreError};

use crate::in_memory::page;
use crate::wire::{Call, Entry, Key, Relation, Reply, Row};

/// Stands for a value, so that states are small and quick to compare.
pub type Id = u16;

/// Values by their numbers.
#[derive(Debug)]
pub struct Table<T>(Vec<T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Table<T> {
    pub fn id(&mut self, value: T) -> Id {
        let at = self.0.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        });
        at.try_into().unwrap()
    }

    pub fn at(&self, id: Id) -> &T {
        &self.0[usize::from(id)]
    }
}

/// All values that the stores' states name.
#[derive(Debug, Default)]
pub struct Values {
    pub calls: Table<Call>,
    pub replies: Table<Reply>,
    pub rows: Table<Row>,
    pub entries: Table<(Key, Entry)>,
    pub results: Table<CommandResult>,
    /// The stream.
    pub commands: Vec<Command>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Sent,
    /// For another statement that holds what it wants.
    Waits,
    /// It has written this row, and it may still be rolled back. Statements that want its key or its row wait.
    Holds(Id),
    /// It is done, or has failed. The reply is in flight.
    Done(Id),
}

/// A call that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OnItsWay {
    /// Client, and which of its attempts.
    pub who: (u8, u8),
    /// Which of its calls.
    pub number: u8,
    pub call: Id,
    pub phase: Phase,
    /// Whether its caller still listens. No caller listens to a `SET`.
    pub is_heard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stores {
    pub is_redis_up: bool,
    /// What Redis has, sorted.
    pub entries: Vec<Id>,
    /// What it ever had: an old copy may come back.
    pub had: Vec<Id>,
    /// What PostgreSQL has committed, sorted.
    pub rows: Vec<Id>,
    /// What it has committed to other tables than that of the orders, sorted, with the row's number (0: none).
    pub others: Vec<(Relation, u8, Id)>,
    /// What open transactions have written.
    pub open: Vec<((u8, u8), Relation, u8, Id)>,
    /// The last number that the sequence gave.
    pub sequence: u8,
    /// How many commands were given to a consumer.
    pub given: usize,
    /// Commands that were given and not removed: which, and how often each was given.
    pub pending: Vec<(usize, i64)>,
    /// Sorted, each as often as it was added.
    pub results: Vec<Id>,
    /// Sorted.
    pub calls: Vec<OnItsWay>,
}

impl Default for Stores {
    fn default() -> Self {
        let (entries, had, rows, others, open, pending, results, calls) = Default::default();
        let (sequence, given) = (0, 0);
        Self { is_redis_up: true, entries, had, rows, others, open, sequence, given, pending, results, calls }
    }
}

fn insert(sorted: &mut Vec<Id>, id: Id) {
    if let Err(at) = sorted.binary_search(&id) {
        sorted.insert(at, id);
    }
}

/// What a statement comes to when its turn is there.
enum Turn {
    Waits,
    Holds(Row),
    /// In a transaction that stays open.
    Wrote(Relation, Row),
    Done(Reply),
}

impl Stores {
    pub fn send(&mut self, call: OnItsWay) {
        let at = self.calls.partition_point(|other| *other < call);
        self.calls.insert(at, call);
    }

    /// Keeps the calls sorted, and drops one that is done and has no listener.
    fn update(&mut self, at: usize, phase: Phase) {
        let call = OnItsWay { phase, ..self.calls.remove(at) };
        if call.is_heard || !matches!(phase, Phase::Done(_)) {
            self.send(call);
        }
    }

    /// The call is carried out as far as it can be.
    pub fn take_effect(&mut self, values: &mut Values, at: usize) {
        let call = values.calls.at(self.calls[at].call).clone();
        let reply = match call {
            Call::Get(key) => Reply::Entry(self.entry(values, &key).and_then(Entry::record).cloned()),
            Call::Set(key, record) => {
                self.calls.remove(at);
                return self.set(values, key, Some(Entry::Record(record)));
            }
            Call::Commit { written } => self.commit_all(values, self.calls[at].who, written),
            call if call.is_statement() => match self.turn(values, &call, at) {
                Turn::Waits => return self.update(at, Phase::Waits),
                Turn::Holds(row) => {
                    let row = values.rows.id(row);
                    return self.update(at, Phase::Holds(row));
                }
                Turn::Wrote(to, row) => {
                    self.sequence += u8::from(to == Relation::Outbox);
                    let number = if to == Relation::Outbox { self.sequence } else { 0 };
                    self.open.push((self.calls[at].who, to, number, values.rows.id(row)));
                    Reply::Did(true)
                }
                Turn::Done(reply) => reply,
            },
            call if !self.is_redis_up => call.failure(),
            Call::Ping => Reply::Done,
            Call::GetText(_) | Call::SetText { .. } | Call::Del { .. } => self.text(values, call),
            call => self.stream(values, call),
        };
        let reply = values.replies.id(reply);
        self.update(at, Phase::Done(reply));
    }

    pub fn entry<'a>(&self, values: &'a Values, key: &Key) -> Option<&'a Entry> {
        let mut entries = self.entries.iter().filter(|_| self.is_redis_up).map(|id| values.entries.at(*id));
        entries.find(|(of, _)| of == key).map(|(_, entry)| entry)
    }

    /// `None` deletes it.
    pub fn set(&mut self, values: &mut Values, key: Key, entry: Option<Entry>) {
        if self.is_redis_up {
            self.entries.retain(|id| values.entries.at(*id).0 != key);
            let Some(entry) = entry else { return };
            let entry = values.entries.id((key, entry));
            insert(&mut self.entries, entry);
            insert(&mut self.had, entry);
        }
    }

    /// The row that a statement writes is there when it commits, and not before.
    fn turn(&self, values: &Values, call: &Call, at: usize) -> Turn {
        let rows = || self.rows.iter().map(|id| values.rows.at(*id));
        let mut held = self.calls.iter().enumerate().filter(|(other, _)| *other != at).filter_map(|(_, call)| {
            let Phase::Holds(row) = call.phase else { return None };
            Some((values.calls.at(call.call).relation(), values.rows.at(row)))
        });
        let who = self.calls[at].who;
        let by_key = |key: &Key| rows().find(|row| row.key == *key);
        let by_id = |client, id| rows().find(|row| row.key.client == client && row.order.id == id);
        match call {
            // Also for one that changes the key's row.
            Call::Insert(row) if held.any(|(_, held)| held.key == row.key) => Turn::Waits,
            Call::Insert(row) if by_key(&row.key).is_some() => Turn::Done(Reply::Inserted(Placement::KeyTaken)),
            Call::Insert(row) => Turn::Holds(row.clone()),
            Call::Update { client, id, versions, status } => {
                let found = by_id(client.clone(), *id).filter(|row| {
                    versions.contains(&row.order.version) && status.sources().contains(&row.order.status)
                });
                match found {
                    None => Turn::Done(Reply::Order(None)),
                    Some(_) if held.any(|(_, held)| held.order.id == *id) => Turn::Waits,
                    Some(row) => {
                        let order = Order { status: *status, version: row.order.version + 1, ..row.order.clone() };
                        Turn::Holds(Row { order, ..row.clone() })
                    }
                }
            }
            Call::FindByKey(key) => Turn::Done(match by_key(key) {
                Some(row) => Reply::Record(row.record()),
                None => Reply::Failed(StoreError::Unavailable("the row that held the key is gone".into())),
            }),
            Call::Find(client, id) => Turn::Done(Reply::Order(by_id(client.clone(), *id).map(|row| row.order.clone()))),
            Call::List(client, filter, limit) => {
                let own = rows().filter(|row| row.key.client == *client);
                Turn::Done(Reply::Page(page(own.map(|row| (row.key.name.as_str(), &row.order)), filter, *limit)))
            }
            call => self.turn_of_another(values, call, who, &mut held),
        }
    }

    /// Whether the statement would wait on.
    pub fn waits_on(&self, values: &Values, at: usize) -> bool {
        matches!(self.turn(values, values.calls.at(self.calls[at].call), at), Turn::Waits)
    }

    /// A statement that holds a row ends its transaction.
    pub fn commit(&mut self, values: &mut Values, at: usize) {
        let Phase::Holds(id) = self.calls[at].phase else { unreachable!("it holds nothing") };
        let row = values.rows.at(id).clone();
        let call = values.calls.at(self.calls[at].call);
        let reply = match call {
            Call::Insert(_) => Reply::Inserted(Placement::Placed),
            Call::Write { .. } => Reply::Did(true),
            _ => Reply::Order(Some(row.order.clone())),
        };
        self.add(values, call.relation(), 0, id);
        let reply = values.replies.id(reply);
        self.update(at, Phase::Done(reply));
    }

    /// The server ends the statement: what it wrote is gone, and its caller hears of a failure.
    pub fn abort(&mut self, values: &mut Values, at: usize, failure: Reply) {
        let reply = values.replies.id(failure);
        self.update(at, Phase::Done(reply));
    }

    /// The wait for a lock was too long.
    pub fn time_out(&mut self, values: &mut Values, at: usize) {
        let error = match values.calls.at(self.calls[at].call) {
            Call::Insert(_) => StoreError::KeyInUse("another insert of the key goes on".into()),
            _ => StoreError::Unavailable("another change of the order goes on".into()),
        };
        self.abort(values, at, Reply::Failed(error));
    }
}

impl Row {
    /// As `find_by_key` reads it: what never changes of the order.
    pub fn record(&self) -> KeyRecord {
        KeyRecord { fingerprint: self.fingerprint, answer: Answer::of(self.order.clone()) }
    }
}

impl Entry {
    pub fn record(&self) -> Option<&KeyRecord> {
        if let Self::Record(record) = self { Some(record) } else { None }
    }
}

impl Call {
    /// Where its row goes.
    fn relation(&self) -> Relation {
        if let Self::Write { to, .. } = self { *to } else { Relation::UniqueOrders }
    }
}
