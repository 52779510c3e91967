//! Every schedule. Two that lead to the same state go on alike, so each state is entered once, and the schedules from it are
//! counted once. An explorer that runs each schedule from its start, such as Shuttle, would need a thousand years for two
//! requests at a million schedules a second.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use xxhash_rust::xxh64::xxh64;

use crate::world::{Event, Play, World};

/// What a case came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub schedules: u128,
    /// How many of them break a rule. Each of them ends there.
    pub broken: u128,
    pub states: usize,
    pub longest: usize,
}

/// A schedule that breaks a rule: which of the possible events comes at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub schedule: Vec<usize>,
    pub rule: String,
}

/// A state in 128 bits. That two of ten million states share them has a chance of 1 in 10^24.
fn name(world: &World) -> u128 {
    struct Bytes(Vec<u8>);
    impl Hasher for Bytes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("the bytes are asked for")
        }
    }
    let mut bytes = Bytes(Vec::with_capacity(1024));
    world.hash(&mut bytes);
    u128::from(xxh64(&bytes.0, 1)) << 64 | u128::from(xxh64(&bytes.0, 2))
}

/// Whether a schedule may end here: a trouble may come, but it need not.
fn is_over(events: &[Event]) -> bool {
    events.iter().all(|event| event.is_trouble())
}

/// How many schedules there are from a state, how many of them break a rule, and how long the longest is.
type Count = (u128, u128, usize);
type Known = HashMap<u128, Count>;

impl Play {
    /// Counts all schedules from `start`, and gives the shortest one that breaks a rule.
    pub fn search(&mut self, start: &World) -> (Found, Option<Violation>) {
        let mut known = HashMap::new();
        let (schedules, broken, longest) = self.count(start, &mut known);
        let violation = (broken > 0).then(|| self.shortest_violation(start));
        (Found { schedules, broken, states: known.len(), longest }, violation)
    }

    fn count(&mut self, world: &World, known: &mut Known) -> Count {
        let name = name(world);
        if let Some(count) = known.get(&name) {
            return *count;
        }
        let count = match self.check(world) {
            Err(_) => (1, 1, 0),
            Ok(events) => {
                let mut count = (u128::from(is_over(&events)), 0, 0);
                for event in events {
                    let next = self.after(world, event);
                    let (schedules, broken, steps) = self.count(&next, known);
                    count.0 = schedules.checked_add(count.0).expect("a number of schedules that can be counted");
                    count = (count.0, count.1 + broken, count.2.max(steps + 1));
                }
                count
            }
        };
        known.insert(name, count);
        count
    }

    /// What can happen next, if no rule is broken.
    fn check(&mut self, world: &World) -> Result<Vec<Event>, String> {
        self.check_state(world)?;
        let events = self.events(world);
        if is_over(&events) {
            self.check_end(world)?;
        }
        Ok(events)
    }

    /// Breadth first: the first violation that is met is a shortest one.
    fn shortest_violation(&mut self, start: &World) -> Violation {
        let mut known = HashSet::from([name(start)]);
        let mut queue = VecDeque::from([(start.clone(), Vec::new())]);
        while let Some((world, schedule)) = queue.pop_front() {
            match self.check(&world) {
                Err(rule) => return Violation { schedule, rule },
                Ok(events) => {
                    for (at, event) in events.into_iter().enumerate() {
                        let next = self.after(&world, event);
                        if known.insert(name(&next)) {
                            queue.push_back((next, schedule.iter().copied().chain([at]).collect()));
                        }
                    }
                }
            }
        }
        unreachable!("it was met before")
    }

    /// Whether all states of a schedule keep the rules.
    pub fn judge(&mut self, start: &World, schedule: &[usize]) -> Result<(), String> {
        let mut world = start.clone();
        for choice in schedule {
            let event = *self.check(&world)?.get(*choice).ok_or("no such step is possible here")?;
            world = self.after(&world, event);
        }
        self.check(&world).map(drop)
    }

    /// Every schedule by itself, without a look at the states: for small cases, to check the search.
    pub fn explore_one_by_one(&mut self, world: &World) -> Result<u128, String> {
        let events = self.check(world)?;
        let mut schedules = u128::from(is_over(&events));
        for event in events {
            let next = self.after(world, event);
            schedules += self.explore_one_by_one(&next)?;
        }
        Ok(schedules)
    }
}
