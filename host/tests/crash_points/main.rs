//! Every call that one `POST /orders` makes to a store, broken in each way of [`FAULTS`].
//!
//! A dry run counts the calls. Then each call goes wrong once, on instances and pools of its own, and the same
//! request is sent until it settles. Run through `make test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use futures::{StreamExt, stream};
use order_host::faults::{CALLS, Call, Rule};
use std::sync::Arc;
use world::{World, calls_without_sessions};

/// The delay is shorter than both deadlines; a hang stands for every longer one.
const FAULTS: [&str; 7] = ["fail", "delay=20", "hang", "hang-after", "lose-reply", "kill-before", "kill-after"];
const AT_ONCE: usize = 8;
/// On a slow machine two duplicates may miss each other; they are sent again with another key.
const MEETINGS: usize = 10;

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scenario {
    /// Nothing: it is the first with its key.
    First,
    /// The first request's answer, in Redis.
    ReplayFromRedis,
    /// The first request's row, and no entry in Redis.
    ReplayFromPostgres,
    /// The same request, at the same time.
    Duplicate,
    /// The row of another order.
    KeyReused,
    /// Nothing, just after another order: its instance keeps the session.
    NextOne,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario::First,
    Scenario::NextOne,
    Scenario::ReplayFromRedis,
    Scenario::ReplayFromPostgres,
    Scenario::Duplicate,
    Scenario::KeyReused,
];

impl Scenario {
    fn requests(self) -> usize {
        if self == Self::Duplicate { 2 } else { 1 }
    }

    /// The protocol's calls: an open and a call for Redis, a call for each statement, the write to Redis. A session may serve
    /// several quick statements, so the number of sessions depends on the machine.
    fn calls(self) -> u32 {
        match self {
            Self::First => 4,
            Self::ReplayFromRedis => 2,
            Self::ReplayFromPostgres | Self::KeyReused => 5,
            // The same instance's second order opens no Redis.
            Self::NextOne => 4 + 3,
            // Each opens Redis, reads and inserts; both write, and one of them selects.
            Self::Duplicate => 9,
        }
    }

    fn settled(self) -> u16 {
        if self == Self::KeyReused { 422 } else { 201 }
    }

    /// Both duplicates are past Redis before one of them inserts.
    fn delays(self) -> Vec<Rule> {
        let delays = ["pg.execute:1:delay=150", "pg.execute:2:delay=150"];
        delays.into_iter().filter(|_| self == Self::Duplicate).map(|rule| rule.parse().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_host_call_leaves_one_order_and_one_answer() {
    let world = Arc::new(World::new().await);
    let clean = Arc::new(world.serve(Vec::new()).await);
    let mut cases = Vec::new();
    for scenario in SCENARIOS {
        let mut meetings = 0;
        let counts = loop {
            let (counts, _) = world.run(scenario, &clean, None).await;
            if calls_without_sessions(&counts) == scenario.calls() {
                break counts;
            }
            meetings += 1;
            assert!(meetings < MEETINGS, "{scenario:?} makes other calls than the protocol has: {counts:?}");
        };
        let before = cases.len();
        for ((name, _), count) in CALLS.iter().zip(counts) {
            let faults = (1..=count).flat_map(|nth| FAULTS.map(|fault| format!("{name}:{nth}:{fault}")));
            cases.extend(faults.map(|rule| (scenario, rule.parse::<Rule>().unwrap())));
        }
        println!("crash points: {scenario:?}: {} host calls, {} cases", scenario.calls(), cases.len() - before);
    }
    let total = cases.len();
    let runs = cases.into_iter().map(|(scenario, rule)| {
        let (world, clean) = (world.clone(), clean.clone());
        async move {
            for _ in 0..MEETINGS {
                if world.run(scenario, &clean, Some(rule)).await.1 {
                    return;
                }
            }
            let is_another_session = rule.call == Call::PgOpen && rule.nth > 1;
            assert!(is_another_session, "{scenario:?}, {rule}: the fault never came to pass");
        }
    });
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    println!("crash points: {total} cases, each with one row and one answer");
}
