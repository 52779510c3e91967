//! Requests, stores and troubles together: what can happen next, and the state after it.

use std::cell::RefCell;

use uuid::Uuid;

pub use crate::event::Event;
use crate::requests::{Requests, Role, Sent};
use crate::rules::Verdicts;
use crate::stores::{Id, OnItsWay, Phase, Stores, Values};
use crate::wire::{Call, Entry, Reply};

/// A request and each of its retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub client: u8,
    pub number: u8,
    pub state: State,
    /// Whether a statement of it has written and was committed.
    pub wrote: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// How far it has come.
    Runs(Id),
    Answered(Id),
    /// Its instance is gone.
    Died,
}

/// A state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub stores: Stores,
    /// Sorted.
    pub attempts: Vec<Attempt>,
    /// How many may still come.
    pub troubles: u8,
}

impl World {
    pub fn running(&self) -> Vec<Attempt> {
        self.attempts.iter().filter(|attempt| matches!(attempt.state, State::Runs(_))).copied().collect()
    }
}

/// The code, the values and the roles.
pub struct Play {
    pub roles: Vec<Role>,
    /// How often each of them tries before the end.
    pub attempts: u8,
    pub requests: Requests,
    pub values: Values,
    pub judged: RefCell<Verdicts>,
    /// The steps after a schedule, if they are recorded.
    pub afterwards: Option<Vec<Step>>,
}

/// One step, and the states before and after it.
pub struct Step {
    pub before: World,
    pub event: Event,
    pub after: World,
}

impl Play {
    pub fn new(roles: &[Role], attempts: u8, values: Values) -> Self {
        let (requests, judged) = Default::default();
        Self { roles: roles.to_vec(), attempts, requests, values, judged, afterwards: None }
    }

    /// What can happen. If that is only troubles, the schedule may end here.
    pub fn events(&self, world: &World) -> Vec<Event> {
        let mut events = Vec::new();
        let begins = |client: &u8| {
            let is_there = world.attempts.iter().any(|attempt| attempt.client == *client);
            !is_there && self.order_of(world, *client).is_some()
        };
        let clients = 0..self.roles.len() as u8;
        events.extend(clients.filter(begins).map(|client| Event::Begins { client }));
        for (at, call) in world.stores.calls.iter().enumerate() {
            self.events_of(world, at, call, &mut events);
        }
        if !world.stores.is_redis_up {
            events.push(Event::RedisIsBack);
        }
        if world.troubles > 0 {
            self.troubles(world, &mut events);
        }
        events
    }

    fn events_of(&self, world: &World, at: usize, call: &OnItsWay, events: &mut Vec<Event>) {
        match call.phase {
            Phase::Sent => {
                events.push(Event::TakesEffect { call: at });
                let looks = matches!(self.values.calls.at(call.call), Call::Overdue(_) | Call::Claim(..));
                if looks && !world.stores.pending.is_empty() && world.stores.is_redis_up {
                    events.push(Event::FindsNothingOverdue { call: at });
                }
                if !call.is_heard {
                    events.push(Event::GetsLost { call: at });
                }
            }
            Phase::Waits => {
                if !world.stores.waits_on(&self.values, at) {
                    events.push(Event::TakesEffect { call: at });
                }
                // The other designs leave PostgreSQL's default: a statement waits as long as it has to.
                if self.design().is_none() {
                    events.push(Event::TimesOut { call: at });
                }
            }
            Phase::Holds(_) => events.push(Event::Commits { call: at }),
            Phase::Done(_) => events.push(Event::Answers { call: at }),
        }
    }

    /// Whether the client of an attempt may send the same again: it has not done so, nor too often.
    pub fn may_retry(&self, world: &World, attempt: Attempt) -> bool {
        let has_retried =
            world.attempts.iter().any(|other| other.client == attempt.client && other.number > attempt.number);
        !has_retried && attempt.number < self.attempts
    }

    /// The order that a client changes, once it is there.
    fn order_of(&self, world: &World, client: u8) -> Option<Uuid> {
        let is_change = matches!(self.roles[usize::from(client)], Role::Changes { .. });
        world.stores.rows.first().filter(|_| is_change).map(|row| self.values.rows.at(*row).order.id)
    }

    /// The state after `event`.
    pub fn after(&mut self, world: &World, event: Event) -> World {
        let mut world = world.clone();
        world.troubles -= u8::from(event.is_trouble());
        let stores = &mut world.stores;
        match event {
            Event::Begins { client } => self.begin(&mut world, client, 1),
            Event::TakesEffect { call } => {
                let (who, open) = (stores.calls[call].who, stores.open.len());
                stores.take_effect(&mut self.values, call);
                if stores.open.len() < open {
                    wrote(&mut world, who);
                }
            }
            Event::FindsNothingOverdue { call } => {
                let nothing = match self.values.calls.at(stores.calls[call].call) {
                    Call::Overdue(_) => Reply::Overdue(Vec::new()),
                    _ => Reply::Command(None),
                };
                stores.abort(&mut self.values, call, nothing);
            }
            Event::Commits { call } => {
                let who = stores.calls[call].who;
                stores.commit(&mut self.values, call);
                wrote(&mut world, who);
            }
            Event::TimesOut { call } => stores.time_out(&mut self.values, call),
            Event::Answers { call } => {
                let call = stores.calls.remove(call);
                let Phase::Done(reply) = call.phase else { unreachable!("it has no answer yet") };
                self.reply(&mut world, call, reply);
            }
            Event::GetsLost { call } => {
                let call = stores.calls.remove(call);
                stores.roll_back(call.who);
            }
            Event::RedisIsBack => stores.is_redis_up = true,
            Event::AnswerGetsLost { call } => self.lose_answer(&mut world, call),
            Event::Aborts { call } => self.abort(&mut world, call),
            Event::InstanceDies { attempt } => self.die(&mut world, attempt),
            Event::HostDies => {
                for attempt in world.running() {
                    let at = world.attempts.iter().position(|other| *other == attempt);
                    self.die(&mut world, at.unwrap());
                }
            }
            Event::ClientLeaves { attempt } => {
                let Attempt { client, number, .. } = world.attempts[attempt];
                self.begin(&mut world, client, number + 1);
            }
            Event::RedisForgets { entry: None } | Event::RedisIsFlushed => stores.entries.clear(),
            Event::Expires { entry } | Event::RedisForgets { entry: Some(entry) } => {
                stores.entries.retain(|other| *other != entry)
            }
            Event::RedisRecalls { entry } => {
                let (key, entry) = self.values.entries.at(entry).clone();
                stores.set(&mut self.values, key, Some(entry));
            }
            Event::RedisGoes => stores.is_redis_up = false,
            Event::RedisForgetsARemoval { command } => {
                stores.pending.push((command, 1));
                stores.pending.sort_unstable();
            }
            Event::PostgresRestarts => self.restart_postgres(&mut world),
            Event::TimePasses => stores.entries.retain(|entry| !self.expires(*entry)),
            Event::IsRepeated { client } => {
                let numbers = world.attempts.iter().filter(|attempt| attempt.client == client);
                let last = numbers.map(|attempt| attempt.number).max().unwrap_or(0).max(self.attempts);
                self.begin(&mut world, client, last + 1);
            }
        }
        world
    }

    /// The design that all follow, if that is not ours.
    pub fn design(&self) -> Option<&'static str> {
        self.roles[0].design()
    }

    pub fn expires(&self, entry: Id) -> bool {
        matches!(self.values.entries.at(entry).1, Entry::Text { expires: true, .. })
    }

    /// As `after`, for what happens when a schedule is over.
    pub fn then(&mut self, before: World, event: Event) -> World {
        let after = self.after(&before, event);
        if let Some(steps) = &mut self.afterwards {
            steps.push(Step { before, event, after: after.clone() });
        }
        after
    }

    /// Goes on, without troubles, until no call is in flight.
    pub fn run_out(&mut self, mut world: World) -> World {
        while let Some(event) = self.events(&world).into_iter().find(|event| !matches!(event, Event::Begins { .. })) {
            world = self.then(world, event);
        }
        world
    }

    /// A request is sent, and its code runs up to its first call.
    pub fn begin(&mut self, world: &mut World, client: u8, number: u8) {
        let sent = Sent {
            role: self.roles[usize::from(client)],
            client,
            attempt: number,
            order: self.order_of(world, client),
        };
        let course = self.requests.begin(&mut self.values, sent);
        world.attempts.push(Attempt { client, number, state: State::Runs(course), wrote: false });
        world.attempts.sort_unstable();
        self.send(world, client, number, course, 0);
    }

    /// Sends the calls of a course, except the first `known`.
    fn send(&self, world: &mut World, client: u8, number: u8, course: Id, known: usize) {
        for (at, call) in self.requests.calls(course).iter().enumerate().skip(known) {
            let is_heard = !matches!(self.values.calls.at(*call), Call::Set(..));
            let (who, call_number) = ((client, number), at as u8);
            world.stores.send(OnItsWay { who, number: call_number, call: *call, phase: Phase::Sent, is_heard });
        }
    }

    /// A reply comes to its request, whose code goes on.
    pub fn reply(&mut self, world: &mut World, call: OnItsWay, reply: Id) {
        let (client, number) = call.who;
        let mut attempts = world.attempts.iter_mut();
        let attempt = attempts.find(|attempt| (attempt.client, attempt.number) == call.who).unwrap();
        let State::Runs(before) = attempt.state else { unreachable!("it is answered already") };
        let course = self.requests.go_on(&mut self.values, before, call.number, reply);
        let answer = self.requests.answer(course);
        attempt.state = answer.map_or(State::Runs(course), State::Answered);
        let attempt = *attempt;
        if answer.is_some() {
            self.close_session(world, call.who);
        }
        self.send(world, client, number, course, self.requests.calls(before).len());
        let retries = answer.is_some_and(|answer| self.requests.seen.at(answer).is_to_be_retried());
        if retries && self.may_retry(world, attempt) {
            self.begin(world, client, number + 1);
        }
    }
}

fn wrote(world: &mut World, who: (u8, u8)) {
    let mut attempts = world.attempts.iter_mut();
    attempts.find(|attempt| (attempt.client, attempt.number) == who).unwrap().wrote = true;
}
