//! Every interleaving of four transactions, a crash and a consumer's pages, over the stores in memory.

use std::collections::{BTreeMap, HashSet};

use order::client::ClientName;
use order::idempotency::Fingerprint;
use order::order::{Order, Status};
use uuid::Uuid;

use super::in_memory::{MemoryOrders, TestApp, at_once};
use super::laws::feed::Consumer;
use super::laws::{at, changed, orders};

/// How often the consumer reads before it polls until it is caught up.
const PAGES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    NotBegun,
    /// With the order that it changes, for its id.
    Open(u64),
    Over,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Writes(usize),
    Ends(usize, bool),
    Page,
    Crash,
}

#[derive(Clone)]
struct World {
    orders: MemoryOrders,
    /// The first two place an order each; the others change an existing one.
    transactions: [Phase; 4],
    consumer: Consumer,
    pages: u8,
    has_crashed: bool,
}

struct Search {
    new: [Order; 4],
    seen: HashSet<String>,
    steps: u64,
    steps_taken: Vec<Step>,
}

fn row(order: Order) -> (String, String, Fingerprint, Order) {
    (String::new(), order.id.to_string(), Fingerprint::of(&order.placed), order)
}

/// Runs a consumer over these orders.
fn with<T>(orders: &MemoryOrders, work: impl FnOnce(&TestApp) -> T) -> T {
    work(&TestApp { orders: orders.clone(), ..TestApp::default() })
}

impl World {
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_open = |phase: &Phase| matches!(phase, Phase::Open(_));
        let is_locked = self.transactions[2..].iter().any(is_open);
        for (number, phase) in self.transactions.iter().enumerate() {
            match phase {
                Phase::NotBegun if number < 2 || !is_locked => steps.push(Step::Writes(number)),
                Phase::Open(_) => steps.extend([Step::Ends(number, true), Step::Ends(number, false)]),
                Phase::NotBegun | Phase::Over => {}
            }
        }
        steps.extend((self.pages < PAGES).then_some(Step::Page));
        steps.extend((!self.has_crashed && self.orders.begun.get() > 1).then_some(Step::Crash));
        steps
    }

    fn take(&mut self, step: Step, new: &[Order; 4]) {
        match step {
            Step::Writes(number) => {
                let xid = self.orders.begin();
                let order = match number {
                    0 | 1 => new[number].clone(),
                    _ => {
                        let now = self.orders.rows.borrow().iter().find(|row| row.3.id == new[2].id).unwrap().3.clone();
                        changed(&now, if now.version == 1 { Status::Confirmed } else { Status::Cancelled })
                    }
                };
                self.orders.write(xid, row(order), at(0));
                self.transactions[number] = Phase::Open(xid);
            }
            Step::Ends(number, commits) => {
                let Phase::Open(xid) = self.transactions[number] else { unreachable!() };
                self.orders.end(xid, commits);
                self.transactions[number] = Phase::Over;
            }
            Step::Page => {
                with(&self.orders, |app| at_once(self.consumer.page(app, 1)));
                self.pages += 1;
            }
            Step::Crash => {
                self.orders.crash();
                self.has_crashed = true;
                for phase in &mut self.transactions {
                    if matches!(phase, Phase::Open(_)) {
                        *phase = Phase::Over;
                    }
                }
            }
        }
    }

    /// Whatever is open, a consumer that polls until it is caught up has what is committed.
    fn check(&self) -> Result<(), String> {
        let committed: BTreeMap<Uuid, i64> =
            self.orders.rows.borrow().iter().map(|(.., order)| (order.id, order.version)).collect();
        let mut consumer = self.consumer.clone();
        with(&self.orders, |app| at_once(consumer.poll(app, 1)));
        if consumer.table == committed { Ok(()) } else { Err(format!("{:?} is not {committed:?}", consumer.table)) }
    }

    /// The state that decides everything that follows.
    fn key(&self) -> String {
        let cursor = self.consumer.cursor.as_ref().map(ToString::to_string);
        let (orders, table) = (&self.orders, &self.consumer.table);
        let state = (&orders.changes, &orders.begun, &orders.ended);
        format!("{state:?} {:?} {cursor:?} {table:?} {} {}", self.transactions, self.pages, self.has_crashed)
    }
}

impl Search {
    fn run(&mut self, world: &World) {
        if !self.seen.insert(world.key()) {
            return;
        }
        if let Err(difference) = world.check() {
            panic!("{:?}: {difference}", self.steps_taken);
        }
        for step in world.steps() {
            let mut next = world.clone();
            next.take(step, &self.new);
            self.steps += 1;
            self.steps_taken.push(step);
            self.run(&next);
            self.steps_taken.pop();
        }
    }
}

#[test]
fn no_interleaving_of_four_transactions_and_a_crash_lets_a_consumer_miss_a_change() {
    let new = orders::<4>();
    let placed = MemoryOrders::default();
    // So the consumer's first sweep may have several pages.
    for order in &new[2..] {
        let xid = placed.begin();
        placed.write(xid, row(order.clone()), at(0));
        placed.end(xid, true);
    }
    let world = World {
        orders: placed,
        transactions: [Phase::NotBegun; 4],
        consumer: Consumer::new(&ClientName::default()),
        pages: 0,
        has_crashed: false,
    };
    let mut search = Search { new, seen: HashSet::new(), steps: 0, steps_taken: Vec::new() };
    search.run(&world);
    println!("{} states, {} steps", search.seen.len(), search.steps);
    assert!(search.seen.len() > 10_000);
}
