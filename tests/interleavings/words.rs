//! A schedule in words.

use std::fmt::Write;

use crate::requests::short;
use crate::stores::{OnItsWay, Phase};
use crate::wire::{Call, Reply};
use crate::world::{Event, Play, State, World};

impl Play {
    /// Every step of a schedule.
    pub fn tell(&mut self, start: &World, schedule: &[usize]) -> String {
        let (mut world, mut text) = (start.clone(), String::new());
        for (step, choice) in schedule.iter().enumerate() {
            let Some(event) = self.events(&world).get(*choice).copied() else { break };
            let after = self.after(&world, event);
            writeln!(text, "{:3}. {}", step + 1, self.step(&world, event, &after)).unwrap();
            world = after;
        }
        text
    }

    fn step(&self, before: &World, event: Event, after: &World) -> String {
        let calls = &before.stores.calls;
        let name = |call: usize| format!("{}: {}", self.who(before, calls[call].who), self.call(&calls[call]));
        let attempt = |at: usize| self.who(before, (before.attempts[at].client, before.attempts[at].number));
        let mut text = match event {
            Event::Begins { client } => format!("{} begins", self.who(before, (client, 1))),
            Event::TakesEffect { call } => format!("{} {}", name(call), self.effect(&calls[call], after)),
            Event::FindsNothingOverdue { call } => format!("{} finds nothing that is old enough", name(call)),
            Event::Commits { call } => format!("{} commits", name(call)),
            Event::TimesOut { call } => format!("{} has waited too long", name(call)),
            Event::Answers { call } => format!("{} is answered", name(call)),
            Event::GetsLost { call } => format!("{} never comes to the store", name(call)),
            Event::RedisIsBack => "Redis is back".into(),
            Event::AnswerGetsLost { call } => format!("{} gets no answer", name(call)),
            Event::Aborts { call } => format!("{} is rolled back, its session ended", name(call)),
            Event::InstanceDies { attempt: at } => format!("{}: its instance dies", attempt(at)),
            Event::HostDies => "the host dies, with all instances".into(),
            Event::RedisForgetsARemoval { .. } => "Redis has lost the removal of a command".into(),
            Event::ClientLeaves { attempt: at } => format!("{}: its client leaves and asks again", attempt(at)),
            Event::RedisForgets { entry: None } => "Redis is flushed".into(),
            Event::RedisForgets { .. } => "Redis forgets an entry".into(),
            Event::RedisRecalls { .. } => "Redis has an old entry again".into(),
            Event::RedisGoes => "Redis is away".into(),
            Event::PostgresRestarts => "PostgreSQL restarts, and rolls back what was not committed".into(),
        };
        for attempt in after.attempts.iter().filter(|attempt| !before.attempts.contains(attempt)) {
            if let State::Answered(seen) = attempt.state {
                let who = self.who(after, (attempt.client, attempt.number));
                write!(text, "; {who} is answered {}", self.requests.seen.at(seen)).unwrap();
            }
        }
        text
    }

    fn who(&self, world: &World, (client, number): (u8, u8)) -> String {
        let tries = world.attempts.iter().filter(|attempt| attempt.client == client && attempt.number < number).count();
        let again = if tries == 0 { String::new() } else { format!(", try {}", tries + 1) };
        format!("request {}{again}", client + 1)
    }

    fn call(&self, call: &OnItsWay) -> String {
        let order = |id: String| short(&id);
        match self.values.calls.at(call.call) {
            Call::Get(_) => "GET".into(),
            Call::Set(_, record) => format!("SET of order {}", order(record.answer.order_id.to_string())),
            Call::Insert(row) => format!("INSERT of order {}", order(row.order.id.to_string())),
            Call::FindByKey(_) => "SELECT by key".into(),
            Call::Find(..) => "SELECT by id".into(),
            Call::Update { status, .. } => format!("UPDATE to {}", status.as_str()),
            Call::Ping => "PING".into(),
            Call::List(..) => "SELECT of the list".into(),
            Call::Next => "XREADGROUP".into(),
            Call::Overdue(_) => "XPENDING".into(),
            Call::Claim(..) => "XCLAIM".into(),
            Call::AddResult(_) => "XADD of a result".into(),
            Call::Remove(_) => "XDEL with XACK".into(),
        }
    }

    /// What the call came to.
    fn effect(&self, before: &OnItsWay, after: &World) -> String {
        let mut calls = after.stores.calls.iter();
        let Some(call) = calls.find(|call| (call.who, call.number) == (before.who, before.number)) else {
            return if after.stores.is_redis_up { "is done, and nobody waits for it" } else { "finds no Redis" }.into();
        };
        match call.phase {
            Phase::Waits => "waits for one that is not committed".into(),
            Phase::Holds(_) => "writes, and is not committed yet".into(),
            Phase::Done(reply) => match self.values.replies.at(reply) {
                Reply::Entry(None) | Reply::Command(None) => "finds nothing".into(),
                Reply::Order(None) => "finds no order that it is for".into(),
                Reply::Failed(_) => "fails".into(),
                Reply::Inserted(_) => "finds the key taken".into(),
                Reply::Entry(Some(record)) | Reply::Record(record) => {
                    format!("finds order {}", short(&record.answer.order_id.to_string()))
                }
                Reply::Order(Some(order)) => format!("finds version {}", order.version),
                Reply::Page(page) => format!("finds {} orders", page.orders.len()),
                Reply::Overdue(overdue) => format!("finds {} overdue", overdue.len()),
                Reply::Command(Some(_)) => "takes a command".into(),
                Reply::Done => "is done".into(),
            },
            Phase::Sent => unreachable!("it took effect"),
        }
    }
}
