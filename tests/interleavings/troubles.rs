//! What may go wrong, at any moment, and how it ends the calls in flight.

use order::stores::StoreError;

use crate::stores::{OnItsWay, Phase};
use crate::wire::{Call, Reply};
use crate::world::{Event, Play, State, World};

impl Play {
    /// What may go wrong next.
    pub fn troubles(&self, world: &World, events: &mut Vec<Event>) {
        let stores = &world.stores;
        for (at, attempt) in world.attempts.iter().enumerate() {
            if matches!(attempt.state, State::Runs(_)) {
                events.push(Event::InstanceDies { attempt: at });
                if self.may_retry(world, *attempt) {
                    events.push(Event::ClientLeaves { attempt: at });
                }
            }
        }
        for (call, on_its_way) in stores.calls.iter().enumerate() {
            if on_its_way.is_heard {
                events.push(Event::AnswerGetsLost { call });
            }
            if self.is_unfinished_statement(on_its_way) {
                events.push(Event::Aborts { call });
            }
        }
        events.extend((world.running().len() > 1).then_some(Event::HostDies));
        let passing = stores.entries.iter().filter(|entry| self.expires(**entry));
        events.extend(passing.map(|entry| Event::Expires { entry: *entry }));
        events.extend(stores.is_redis_up.then_some(Event::RedisGoes));
        // The other designs rely on what Redis has acknowledged.
        if stores.is_redis_up && self.design().is_none() {
            let is_pending = |at: &usize| stores.pending.iter().any(|(pending, _)| pending == at);
            let removed = (0..stores.given).filter(|at| !is_pending(at));
            events.extend(removed.map(|command| Event::RedisForgetsARemoval { command }));
            events.extend((!stores.entries.is_empty()).then_some(Event::RedisForgets { entry: None }));
            if stores.entries.len() > 1 {
                events.extend(stores.entries.iter().map(|entry| Event::RedisForgets { entry: Some(*entry) }));
            }
            let gone = stores.had.iter().filter(|entry| !stores.entries.contains(entry));
            events.extend(gone.map(|entry| Event::RedisRecalls { entry: *entry }));
        }
        if !stores.open.is_empty() || stores.calls.iter().any(|call| self.is_unfinished_statement(call)) {
            events.push(Event::PostgresRestarts);
        }
    }

    /// The caller gives up. A statement goes on without it.
    pub fn lose_answer(&mut self, world: &mut World, at: usize) {
        let call = world.stores.calls.remove(at);
        if self.goes_on_alone(&call) {
            world.stores.send(OnItsWay { is_heard: false, ..call });
        }
        let failure = self.values.calls.at(call.call).failure();
        let failure = self.values.replies.id(failure);
        self.reply(world, call, failure);
    }

    /// Every session ends: what was not committed is gone, and what was committed is not reported.
    pub fn restart_postgres(&mut self, world: &mut World) {
        world.stores.open.clear();
        // From the end, since a call without a listener is dropped.
        for at in (0..world.stores.calls.len()).rev() {
            let call = self.values.calls.at(world.stores.calls[at].call);
            if call.is_statement() {
                let failure = call.failure();
                world.stores.abort(&mut self.values, at, failure);
            }
        }
    }

    pub fn abort(&mut self, world: &mut World, at: usize) {
        let failure = Reply::Failed(StoreError::Unavailable("no answer".into()));
        world.stores.roll_back(world.stores.calls[at].who);
        world.stores.abort(&mut self.values, at, failure);
    }

    /// What the instance has sent may still reach the stores, but its replies are lost.
    pub fn die(&mut self, world: &mut World, attempt: usize) {
        let died = &mut world.attempts[attempt];
        died.state = State::Died;
        let died = *died;
        let (own, mut others): (Vec<_>, Vec<_>) =
            world.stores.calls.iter().partition(|call| call.who == (died.client, died.number));
        others.extend(
            own.into_iter().filter(|call| self.goes_on_alone(call)).map(|call| OnItsWay { is_heard: false, ..call }),
        );
        others.sort_unstable();
        world.stores.calls = others;
        self.close_session(world, (died.client, died.number));
        if self.may_retry(world, died) {
            self.begin(world, died.client, died.number + 1);
        }
    }

    /// An open transaction is rolled back, unless its commit has been sent.
    pub fn close_session(&self, world: &mut World, who: (u8, u8)) {
        let commits = |call: &OnItsWay| matches!(self.values.calls.at(call.call), Call::Commit { .. });
        if !world.stores.calls.iter().any(|call| call.who == who && commits(call)) {
            world.stores.roll_back(who);
        }
    }

    pub fn is_unfinished_statement(&self, call: &OnItsWay) -> bool {
        self.values.calls.at(call.call).is_statement() && !matches!(call.phase, Phase::Done(_))
    }

    fn goes_on_alone(&self, call: &OnItsWay) -> bool {
        self.values.calls.at(call.call).writes() && !matches!(call.phase, Phase::Done(_))
    }
}
