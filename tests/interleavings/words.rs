//! A schedule in words.

use std::fmt::Write;

use order::stores::Placement;

use crate::requests::short;
use crate::stores::{OnItsWay, Phase};
use crate::wire::{Call, Relation, Reply, Row};
use crate::world::{Event, Play, State, Step, World};

impl Play {
    /// Every step of a schedule, and what follows it until a rule is broken.
    pub fn steps(&mut self, start: &World, schedule: &[usize]) -> Vec<Step> {
        let (mut world, mut steps) = (start.clone(), Vec::new());
        for choice in schedule {
            let Some(event) = self.events(&world).get(*choice).copied() else { break };
            let after = self.after(&world, event);
            steps.push(Step { before: world, event, after: after.clone() });
            world = after;
        }
        self.afterwards = Some(Vec::new());
        let is_over = self.events(&world).iter().all(|event| event.is_trouble());
        let ends_well = !is_over || self.check_state(&world).is_err() || self.check_end(&world).is_ok();
        let afterwards = self.afterwards.take().filter(|_| !ends_well);
        steps.extend(afterwards.into_iter().flatten());
        steps
    }

    pub fn tell(&self, steps: &[Step]) -> String {
        let mut text = String::new();
        for (number, step) in steps.iter().enumerate() {
            writeln!(text, "{:3}. {}", number + 1, self.step(step)).unwrap();
        }
        text
    }

    fn step(&self, Step { before, event, after }: &Step) -> String {
        let calls = &before.stores.calls;
        let name = |call: usize| format!("{}: {}", self.who(before, calls[call].who), self.call(&calls[call]));
        let mut text = match *event {
            Event::TakesEffect { call } => format!("{} {}", name(call), self.effect(&calls[call], after)),
            Event::FindsNothingOverdue { call } => format!("{} finds nothing that is old enough", name(call)),
            Event::Commits { call } => format!("{} commits", name(call)),
            Event::TimesOut { call } => format!("{} has waited too long", name(call)),
            Event::Answers { call } => format!("{} is answered", name(call)),
            Event::GetsLost { call } => format!("{} never arrives at the store", name(call)),
            Event::AnswerGetsLost { call } => format!("{} gets no answer", name(call)),
            Event::Aborts { call } => format!("{} is rolled back, its session ended", name(call)),
            event => self.other(before, event),
        };
        for (who, answer) in self.answered(before, after) {
            write!(text, "; {} is answered {answer}", self.who(after, who)).unwrap();
        }
        text
    }

    /// In words, an event that does not concern a call.
    pub fn other(&self, before: &World, event: Event) -> String {
        let attempt = |at: usize| self.who(before, (before.attempts[at].client, before.attempts[at].number));
        match event {
            Event::Begins { client } => format!("{} begins", self.who(before, (client, 1))),
            Event::InstanceDies { attempt: at } => format!("{}: its instance dies", attempt(at)),
            Event::HostDies => "the host dies, with all instances".into(),
            Event::ClientLeaves { attempt: at } => format!("{}: its client leaves and asks again", attempt(at)),
            Event::RedisIsBack => "Redis is back".into(),
            Event::RedisForgetsARemoval { .. } => "Redis has lost the removal of a command".into(),
            Event::Expires { entry } => {
                format!("{} expires", self.values.entries.at(entry).0.name.as_str())
            }
            Event::RedisForgets { entry: None } => "Redis is flushed".into(),
            Event::RedisForgets { .. } => "Redis forgets an entry".into(),
            Event::RedisRecalls { .. } => "Redis has an old entry again".into(),
            Event::RedisGoes => "Redis is away".into(),
            Event::PostgresRestarts => "PostgreSQL restarts, and rolls back what was not committed".into(),
            Event::TimePasses => {
                let over = before.stores.entries.iter().filter(|entry| self.expires(**entry));
                let names: Vec<_> = over.map(|entry| self.values.entries.at(*entry).0.name.as_str()).collect();
                let names =
                    if names.is_empty() { String::new() } else { format!(", and {} has expired", names.join(", ")) };
                format!("time passes{names}")
            }
            Event::RedisIsFlushed => "time passes, and Redis is flushed".into(),
            Event::IsRepeated { client } if self.is_consumer(client) => format!("{} runs again", self.who_is(client)),
            Event::IsRepeated { client } => format!("{} is sent again", self.who_is(client)),
            event => unreachable!("{event:?} happens to a call"),
        }
    }

    /// The attempts that this step answered, and the answers.
    pub fn answered(&self, before: &World, after: &World) -> Vec<((u8, u8), String)> {
        let had = |who, state| {
            before.attempts.iter().any(|attempt| (attempt.client, attempt.number) == who && attempt.state == state)
        };
        let answers = after.attempts.iter().filter_map(|attempt| {
            let (who, State::Answered(seen)) = ((attempt.client, attempt.number), attempt.state) else { return None };
            (!had(who, attempt.state)).then(|| (who, self.requests.seen.at(seen).to_string()))
        });
        answers.collect()
    }

    pub fn who(&self, world: &World, (client, number): (u8, u8)) -> String {
        let tries = world.attempts.iter().filter(|attempt| attempt.client == client && attempt.number < number).count();
        let again = if tries == 0 { String::new() } else { format!(", try {}", tries + 1) };
        self.who_is(client) + &again
    }

    /// `request 2`, or `consumer` if there is one.
    pub fn who_is(&self, client: u8) -> String {
        let consumers = (0..self.roles.len() as u8).filter(|client| self.is_consumer(*client)).count();
        match (self.is_consumer(client), consumers) {
            (true, 1) => "consumer".into(),
            (true, _) => format!("consumer {}", client + 1),
            (false, _) => format!("request {}", client + 1),
        }
    }

    pub fn is_consumer(&self, client: u8) -> bool {
        self.roles[usize::from(client)].is_consumer()
    }

    pub fn call(&self, call: &OnItsWay) -> String {
        let order = |row: &Row| short(&row.order.id.to_string());
        match self.values.calls.at(call.call) {
            Call::Get(_) => "GET".into(),
            Call::Set(_, record) => format!("SET of order {}", short(&record.answer.order_id.to_string())),
            Call::Insert(row) => format!("INSERT of order {}", order(row)),
            Call::FindByKey(_) | Call::Select(Relation::Orders | Relation::UniqueOrders, _) => "SELECT by key".into(),
            Call::Find(..) => "SELECT by id".into(),
            Call::Update { status, .. } => format!("UPDATE to {}", status.as_str()),
            Call::Ping => "PING".into(),
            Call::List(..) => "SELECT of the list".into(),
            Call::Next => "XREADGROUP".into(),
            Call::Overdue(_) => "XPENDING".into(),
            Call::Claim(..) => "XCLAIM".into(),
            Call::AddResult(result) => {
                format!("XADD of {}", summary(&format!("{} {}", result.status, String::from_utf8_lossy(&result.body))))
            }
            Call::Remove(_) => "XDEL with XACK".into(),
            Call::GetText(key) => format!("GET {}", key.name.as_str()),
            Call::SetText { key, if_absent, expires, text } => {
                let [nx, ex] =
                    [(*if_absent, " NX"), (*expires, " EX 10")].map(|(has, word)| if has { word } else { "" });
                format!("SET {} {}{nx}{ex}", key.name.as_str(), summary(text))
            }
            Call::Del { key, only: None } => format!("DEL {}", key.name.as_str()),
            Call::Del { key, .. } => format!("DEL {} if it is mine", key.name.as_str()),
            Call::Write { to: Relation::Keys, .. } => "INSERT of the key".into(),
            Call::Write { to: Relation::Outbox, row, .. } => format!("INSERT of the event of order {}", order(row)),
            Call::Write { row, .. } => format!("INSERT of order {}", order(row)),
            Call::Commit { .. } => "COMMIT".into(),
            Call::Select(..) => "SELECT of the key".into(),
            Call::SelectAfter(last) => format!("SELECT of events after {last}"),
        }
    }

    /// The effect of the call.
    fn effect(&self, before: &OnItsWay, after: &World) -> String {
        match self.phase(before, after) {
            None if after.stores.is_redis_up => "is done, and its caller does not wait".into(),
            None => "finds no Redis".into(),
            Some(Phase::Waits) => "waits for one that is not committed".into(),
            Some(Phase::Holds(_)) => "writes, and is not committed yet".into(),
            Some(Phase::Done(reply)) => self.reply_in_words(reply),
            Some(Phase::Sent) => unreachable!("it took effect"),
        }
    }

    /// The phase of a call later. None: it has ended.
    pub fn phase(&self, before: &OnItsWay, after: &World) -> Option<Phase> {
        let mut calls = after.stores.calls.iter();
        calls.find(|call| (call.who, call.number) == (before.who, before.number)).map(|call| call.phase)
    }

    pub fn reply_in_words(&self, reply: u16) -> String {
        let order = |id: String| format!("finds order {}", short(&id));
        match self.values.replies.at(reply) {
            Reply::Entry(None) | Reply::Command(None) | Reply::Text(None) | Reply::Row(None) => "finds nothing".into(),
            Reply::Order(None) => "finds no order that it is for".into(),
            Reply::Failed(_) => "fails".into(),
            Reply::Inserted(Placement::KeyTaken) | Reply::Did(false) => "finds the key taken".into(),
            Reply::Entry(Some(record)) | Reply::Record(record) => order(record.answer.order_id.to_string()),
            Reply::Row(Some(row)) => order(row.order.id.to_string()),
            Reply::Text(Some(text)) => format!("finds {}", summary(text)),
            Reply::Order(Some(order)) => format!("finds version {}", order.version),
            Reply::Page(page) => format!("finds {} orders", page.orders.len()),
            Reply::Overdue(overdue) => format!("finds {} overdue", overdue.len()),
            Reply::Command(Some(_)) => "takes a command".into(),
            Reply::Numbered(rows) if rows.is_empty() => "finds nothing".into(),
            Reply::Numbered(rows) => {
                let event =
                    |(number, row): &(u8, Row)| format!("{number} (order {})", short(&row.order.id.to_string()));
                format!("finds {}", rows.iter().map(event).collect::<Vec<_>>().join(", "))
            }
            Reply::Done | Reply::Did(true) | Reply::Inserted(Placement::Placed) => "is done".into(),
        }
    }
}

/// What a design keeps in Redis, in short.
fn summary(text: &str) -> String {
    let id = text.split_once("orderId\":\"").map_or(text, |(_, rest)| rest.split('"').next().unwrap_or(rest));
    match text.split_once(' ') {
        Some((status, body)) if body.starts_with('{') => format!("{status}, order {}", short(id)),
        // A token is the id of an order.
        _ if text.len() == 36 && text.starts_with("00000000-") => format!("token {}", short(id)),
        _ => text.trim().into(),
    }
}
