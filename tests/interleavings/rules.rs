//! What must hold: in every state, and at the end of every schedule.

use std::collections::{BTreeSet, HashMap};

use order::idempotency::{Answer, Fingerprint};
use order::order::{NewOrder, Order, Status};
use order::trace::Outcome;
use serde_json::Value;

use crate::requests::{Role, Seen, short};
use crate::stores::Id;
use crate::wire::Row;
use crate::world::{Attempt, Event, Play, State, World};

/// Nothing, or what is broken, in words.
pub type Broken = Result<(), String>;

/// By client, answer and row.
pub type Verdicts = HashMap<(u8, Id, Option<Id>), Broken>;

fn hold(holds: bool, broken: impl FnOnce() -> String) -> Broken {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Play {
    /// A key has one row, what was acknowledged is there, and what was refused belongs to another order.
    pub fn check_state(&self, world: &World) -> Broken {
        let rows: Vec<&Row> = world.stores.rows.iter().map(|row| self.values.rows.at(*row)).collect();
        for (at, row) in rows.iter().enumerate() {
            hold(rows[..at].iter().all(|other| other.key != row.key), || "a key has two orders".into())?;
        }
        for (attempt, seen) in self.answers(world) {
            match self.role(attempt) {
                Role::Places { .. } | Role::Tries { .. } => self.check_placing(world, attempt)?,
                Role::Changes { if_match, to } => check_changing(rows.first().copied(), if_match, to, seen)?,
                Role::Lists | Role::Drains | Role::Works { .. } => {
                    hold(matches!(seen.status, 200 | 503), || format!("answered {seen}"))?
                }
            }
            let is_refused = (400..500).contains(&seen.status);
            hold(!(is_refused && attempt.wrote), || format!("request {} was refused and wrote", attempt.client + 1))?;
        }
        if self.design().is_some() { Ok(()) } else { self.check_results(world, &rows) }
    }

    /// A command that is removed has a result, and each result of a command is its order.
    fn check_results(&self, world: &World, rows: &[&Row]) -> Broken {
        let results: Vec<_> = world.stores.results.iter().map(|result| self.values.results.at(*result)).collect();
        for result in &results {
            let order = &rows.first().ok_or("a command has a result and no order")?.order;
            let is_right = result.status == 201 && result.body == Answer::of(order.clone()).body;
            hold(is_right, || format!("a command has the result {}, which is not its order", result.status))?;
        }
        for (at, command) in self.values.commands.iter().enumerate().take(world.stores.given) {
            let is_pending = world.stores.pending.iter().any(|(pending, _)| *pending == at);
            let has_result = results.iter().any(|result| result.command == command.id);
            hold(is_pending || has_result, || "a command is removed and has no result".into())?;
        }
        Ok(())
    }

    /// Every answer to a key is one answer, the retry that settles it included.
    pub fn check_end(&mut self, world: &World) -> Broken {
        self.check_answers(world)?;
        // No other design claims to work without Redis, but its locks have expired by now.
        let ends =
            if self.design().is_some() { &[Some(Event::TimePasses)][..] } else { &[None, Some(Event::RedisIsFlushed)] };
        for end in ends {
            if let Some(steps) = &mut self.afterwards {
                steps.clear();
            }
            let mut settled = World { troubles: 0, ..world.clone() };
            if let Some(end) = end {
                settled = self.then(settled, *end);
            }
            for client in 0..self.roles.len() as u8 {
                settled = self.settle(settled, client)?;
                self.check_state(&settled)?;
            }
            self.check_answers(&settled)?;
            self.check_lists(&settled)?;
            self.check_settled(&settled)?;
        }
        Ok(())
    }

    /// One more attempt, and no trouble.
    fn settle(&mut self, mut world: World, client: u8) -> Result<World, String> {
        world = self.then(world, Event::IsRepeated { client });
        world = self.run_out(world);
        let last = self.answers(&world).filter(|(attempt, _)| attempt.client == client);
        let (attempt, seen) = last.max_by_key(|(attempt, _)| attempt.number).ok_or("no answer")?;
        hold(attempt.number > self.attempts, || "no answer".into())?;
        let rows: Vec<&Row> = world.stores.rows.iter().map(|row| self.values.rows.at(*row)).collect();
        let is_settled = match self.role(attempt) {
            // `check_state` decides which of them is right.
            Role::Places { .. } | Role::Tries { .. } => matches!(seen.status, 201 | 422),
            Role::Changes { if_match, to } => seen.status == settled_change(&rows[0].order, if_match, to),
            Role::Lists => listed(seen).len() == rows.len(),
            Role::Drains | Role::Works { .. } => true,
        };
        hold(is_settled, || format!("request {} is sent again, and answered {seen}", client + 1))?;
        Ok(world)
    }

    fn role(&self, attempt: &Attempt) -> Role {
        self.roles[usize::from(attempt.client)]
    }

    fn answers<'a>(&'a self, world: &'a World) -> impl Iterator<Item = (&'a Attempt, &'a Seen)> {
        world.attempts.iter().filter_map(|attempt| match attempt.state {
            State::Answered(seen) => Some((attempt, self.requests.seen.at(seen))),
            _ => None,
        })
    }

    fn check_answers(&self, world: &World) -> Broken {
        let (mut first, mut made) = (Vec::new(), Vec::new());
        for (attempt, seen) in self.answers(world) {
            match self.role(attempt) {
                Role::Places { client, .. } if seen.is_replay == Some(false) => first.push(client),
                Role::Changes { .. } if seen.outcome == Some(Outcome::Changed) => made.push(&seen.etag),
                _ => {}
            }
        }
        let results = world.stores.results.iter().map(|result| self.values.results.at(*result));
        first.extend(results.filter(|result| result.status == 201 && !result.is_replay).map(|_| ""));
        for (at, client) in first.iter().enumerate().filter(|_| self.design().is_none()) {
            hold(!first[..at].contains(client), || "two answers say that they are the first".into())?;
        }
        for (at, etag) in made.iter().enumerate() {
            hold(!made[..at].contains(etag), || format!("two changes made version {etag}"))?;
        }
        for (at, (attempt, seen)) in self.answers(world).enumerate() {
            for (earlier, other) in self.answers(world).take(at) {
                let is_of_key = seen.status == 201 && other.status == 201;
                let is_one = !is_of_key || self.role(attempt).client() != self.role(earlier).client();
                hold(is_one || seen.body == other.body, || "two answers to one key differ".into())?;
                let is_of_version = seen.status == 200 && other.status == 200 && seen.etag == other.etag;
                let is_same = !is_of_version || seen.etag.is_empty() || seen.body == other.body;
                hold(is_same, || format!("version {} has two faces", seen.etag))?;
            }
        }
        Ok(())
    }

    fn check_settled(&self, world: &World) -> Broken {
        for (at, role) in self.roles.iter().enumerate() {
            let Some((client, _)) = role.places() else { continue };
            let rows = world.stores.rows.iter().map(|row| self.values.rows.at(*row));
            let own: Vec<_> = rows.filter(|row| row.key.client.as_str() == client).collect();
            hold(own.len() == 1, || format!("request {} is settled and has {} rows", at + 1, own.len()))?;
            if role.design().is_some() {
                continue;
            }
            let entries = world.stores.entries.iter().map(|entry| self.values.entries.at(*entry));
            let entry = entries.filter(|(key, _)| *key == own[0].key).filter_map(|(_, entry)| entry.record()).next();
            hold(entry == Some(&own[0].record()), || "Redis does not have the answer".into())?;
        }
        if self.roles.iter().any(|role| matches!(role, Role::Works { .. })) {
            self.check_worked_off(world)?;
        }
        if self.roles.contains(&Role::Drains) {
            hold(world.stores.pending.is_empty(), || "a command is pending for ever".into())?;
            hold(world.stores.given == self.values.commands.len(), || "a command was never taken".into())?;
        }
        Ok(())
    }

    /// Every command that was sent is an order, and every order in the outbox was published.
    fn check_worked_off(&self, world: &World) -> Broken {
        let is_placed = self.values.commands.is_empty() || !world.stores.rows.is_empty();
        hold(is_placed, || "a message was acknowledged, and its order was never placed".into())?;
        for row in world.stores.others.iter().map(|(.., row)| self.values.rows.at(*row)) {
            let body = row.record().answer.body;
            let is_published = world.stores.results.iter().any(|result| self.values.results.at(*result).body == body);
            hold(is_published, || format!("order {} was never published", short(&row.order.id.to_string())))?;
        }
        Ok(())
    }

    /// A list shows orders that are there, each once.
    fn check_lists(&self, world: &World) -> Broken {
        let rows = world.stores.rows.iter().map(|row| self.values.rows.at(*row).order.id.to_string());
        let ids: BTreeSet<String> = rows.collect();
        for (_, seen) in
            self.answers(world).filter(|(attempt, seen)| self.role(attempt) == Role::Lists && seen.status == 200)
        {
            let listed = listed(seen);
            let distinct: BTreeSet<_> = listed.iter().cloned().collect();
            hold(distinct.len() == listed.len(), || "a list shows an order twice".into())?;
            hold(distinct.is_subset(&ids), || "a list shows an order that is not there".into())?;
        }
        Ok(())
    }

    /// Judged once for each answer and row: most states have them in common.
    fn check_placing(&self, world: &World, attempt: &Attempt) -> Broken {
        let (State::Answered(answer), Some((client, order))) = (attempt.state, self.role(attempt).places()) else {
            return Ok(());
        };
        let mut rows = world.stores.rows.iter().copied();
        let own = rows.find(|row| self.values.rows.at(*row).key.client.as_str() == client);
        let judge = || placing(own.map(|row| self.values.rows.at(row)), order, self.requests.seen.at(answer));
        self.judged.borrow_mut().entry((attempt.client, answer, own)).or_insert_with(judge).clone()
    }
}

/// Whether the answer to an order is right if this is the key's row.
fn placing(row: Option<&Row>, order: &str, seen: &Seen) -> Broken {
    let is_own = row.is_some_and(|row| row.fingerprint == Fingerprint::of(&NewOrder::parse(order.as_bytes()).unwrap()));
    match seen.status {
        201 => {
            let row = row.ok_or("an order was acknowledged, and there is none")?;
            let answer = Answer::of(row.order.clone());
            hold(is_own, || "a request was acknowledged whose key belongs to another order".into())?;
            let location = format!("/orders/{}", answer.order_id);
            let is_same = (&seen.body, &seen.location, seen.etag.as_str()) == (&answer.body, &location, "\"1\"");
            hold(is_same, || format!("{} was answered, which is not {location} as it was placed", seen.location))
        }
        422 => hold(row.is_some() && !is_own, || "a request was refused whose key belongs to its order".into()),
        409 | 503 if seen.is_to_be_retried() => Ok(()),
        _ => Err(format!("answered {seen}")),
    }
}

/// A change that is answered `200` was made from a version that the request names, to the status that it asks for, and the
/// order has it, or a later one. A refusal names a version that the order has or had.
fn check_changing(row: Option<&Row>, if_match: &str, to: &str, seen: &Seen) -> Broken {
    let order = &row.ok_or("a change without an order")?.order;
    let version = seen.etag.trim_matches('"').parse::<i64>().unwrap_or(i64::MAX);
    match seen.status {
        200 => {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let is_asked = names(if_match, version - 1) && body["status"] == target(to).as_str();
            let is_there = version < order.version || seen.body == serde_json::to_vec(order).unwrap();
            hold(is_asked && is_there, || {
                format!("a change from {if_match} is answered with version {version}, {}", body["status"])
            })
        }
        412 => hold(version <= order.version, || format!("answered with version {version}, which never was")),
        409 | 503 => Ok(()),
        _ => Err(format!("answered {seen}")),
    }
}

/// The answer to a repeat of the change if it left `order`.
fn settled_change(order: &Order, if_match: &str, to: &str) -> u16 {
    let is_made = order.status == target(to) && names(if_match, order.version - 1);
    match (is_made, names(if_match, order.version)) {
        (true, _) => 200,
        (false, true) if !target(to).sources().contains(&order.status) => 409,
        (false, true) => 200,
        (false, false) => 412,
    }
}

fn names(if_match: &str, version: i64) -> bool {
    if_match.contains(&format!("\"{version}\""))
}

fn target(to: &str) -> Status {
    Status::parse_patch(to.as_bytes()).unwrap()
}

/// The ids that a list shows.
fn listed(seen: &Seen) -> Vec<String> {
    let list: Value = serde_json::from_slice(&seen.body).unwrap();
    let orders = list["orders"].as_array().unwrap().iter();
    orders.map(|order| order["orderId"].as_str().unwrap().to_owned()).collect()
}
