//! Other ways to place an order once, as they are found in the wild, under the same search, troubles and rules as ours.
//! `docs/designs.md` shows what the search finds; `scripts/interleavings.sh --designs --write` writes it there.

mod acknowledged_first;
mod cached_early;
mod careful_lock;
mod check_first;
mod conflict;
mod every_answer;
mod in_progress;
mod key_table;
mod kit;
mod lock;
mod obvious;
mod outbox;
mod page;
mod real;
mod seen_ids;
mod two_transactions;

use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;
use order::order::{NewOrder, Order, Timestamp};
use uuid::Uuid;

use self::kit::{Answer, App};
use crate::cases::{Before, Case, ONE, ORDER};
use crate::requests::{Role, Seen};
use crate::search::{Found, Violation};
use crate::wire::Wire;
use crate::world::{Event, Play, World};

/// How often a request is tried before the end.
const TRIES: u8 = 2;

/// A design and who follows it.
struct Design {
    name: &'static str,
    title: &'static str,
    code: &'static str,
    roles: &'static [Role],
    before: Before,
    holds: bool,
    verdict: OnceLock<Verdict>,
}

/// Who takes part, and how much may go wrong.
#[derive(Clone, Copy)]
struct Size {
    troubles: u8,
    requests: usize,
    /// Of each request, before the end.
    tries: u8,
}

/// What the search found: of the size with the shortest schedule that breaks a rule, or of the largest.
struct Verdict {
    size: Size,
    found: Found,
    seconds: f64,
    /// How many calls a request makes that places an order, and one that repeats it.
    calls: Option<(usize, usize)>,
    failure: Option<Failure>,
}

/// The shortest schedule that breaks a rule.
struct Failure {
    rule: String,
    schedule: Vec<usize>,
    told: String,
    diagram: String,
}

macro_rules! designs {
    ($($name:ident: $title:literal, $roles:expr, $before:expr, $holds:expr, $code:literal;)*) => {
        static DESIGNS: [Design; [$(stringify!($name)),*].len()] = [$(Design {
            name: stringify!($name), title: $title, code: include_str!($code), roles: &$roles,
            before: $before, holds: $holds, verdict: OnceLock::new(),
        }),*];
        $(#[test] fn $name() {
            find(stringify!($name)).expect("a design").check();
        })*
    };
}

const fn tries(design: &'static str, client: &'static str) -> Role {
    Role::Tries { design, client, order: ORDER }
}

const fn two(design: &'static str) -> [Role; 2] {
    [tries(design, ""); 2]
}

const HOLDS: bool = true;
const FAILS: bool = false;

designs! {
    obvious: "look into Redis, insert, save", two("obvious"),
        Before::Nothing, FAILS, "obvious.rs";
    check_first: "look into PostgreSQL, insert", two("check_first"),
        Before::Nothing, FAILS, "check_first.rs";
    lock: "a lock in Redis", two("lock"),
        Before::Nothing, FAILS, "lock.rs";
    careful_lock: "a lock with a token", two("careful_lock"),
        Before::Nothing, FAILS, "careful_lock.rs";
    in_progress: "a record \"in progress\"", two("in_progress"),
        Before::Nothing, FAILS, "in_progress.rs";
    cached_early: "the answer cached before the commit", two("cached_early"),
        Before::Nothing, FAILS, "cached_early.rs";
    every_answer: "every answer remembered", two("every_answer"),
        Before::Nothing, FAILS, "every_answer.rs";
    conflict: "a unique constraint, then `409`", two("conflict"),
        Before::Nothing, FAILS, "conflict.rs";
    two_transactions: "a table of keys, two transactions", two("two_transactions"),
        Before::Nothing, FAILS, "two_transactions.rs";
    key_table: "a table of keys, one transaction", two("key_table"),
        Before::Nothing, HOLDS, "key_table.rs";
    ours: "ours", [ONE, ONE],
        Before::Nothing, HOLDS, "../../../src/place_order.rs";
    acknowledged_first: "acknowledge, then place", [Role::Works { design: "acknowledged_first" }],
        Before::Commands(1), FAILS, "acknowledged_first.rs";
    seen_ids: "seen message ids in Redis", [Role::Works { design: "seen_ids" }],
        Before::Commands(1), FAILS, "seen_ids.rs";
    outbox: "an outbox read by a sequence",
        [tries("outbox", "web"), tries("outbox", "shop"), Role::Works { design: "outbox" }], Before::Nothing, FAILS, "outbox.rs";
    our_intake: "ours, through a stream", [Role::Drains],
        Before::Commands(1), HOLDS, "../../../src/intake/drain.rs";
}

fn find(name: &str) -> Option<&'static Design> {
    DESIGNS.iter().find(|design| design.name == name)
}

/// `lock_2_1`: two requests by the design `lock`, each with one try before the end.
pub fn case(name: &str) -> Option<Case> {
    let mut parts = name.rsplitn(3, '_');
    let (tries, requests, design) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, find(parts.next()?)?);
    (1..=design.roles.len())
        .contains(&requests)
        .then(|| design.case(Size { troubles: design.troubles(), requests, tries }))
}

impl Design {
    fn case(&self, Size { requests, tries, troubles }: Size) -> Case {
        Case { name: self.name, roles: &self.roles[..requests], before: self.before, attempts: tries, troubles }
    }

    /// How many may come: one breaks every design that can be broken.
    fn troubles(&self) -> u8 {
        if self.is_worked_off() { 1 } else { 2 }
    }

    /// Whether consumers take part, and nobody else.
    fn is_worked_off(&self) -> bool {
        matches!(self.before, Before::Commands(_))
    }

    fn verdict(&self) -> &Verdict {
        self.verdict.get_or_init(|| self.search())
    }

    /// With ever more troubles, until some size breaks a rule.
    fn search(&self) -> Verdict {
        let started = Instant::now();
        let sizes = |troubles| {
            // An outbox needs all of them: those that write into it, and the one that reads it.
            let least = if self.roles.len() > 2 { self.roles.len() } else { 1 };
            let requests = least..=self.roles.len();
            requests.flat_map(move |requests| (1..=TRIES).map(move |tries| Size { troubles, requests, tries }))
        };
        let mut searched = Vec::new();
        for troubles in 0..=self.troubles() {
            searched = sizes(troubles).map(|size| self.search_size(size)).collect();
            if searched.iter().any(|(.., failure)| failure.is_some()) {
                break;
            }
        }
        let steps = |failure: &Option<Failure>| failure.as_ref().map_or(usize::MAX, |failure| failure.schedule.len());
        let least = searched.iter().map(|(.., failure)| steps(failure)).min().expect("a size");
        let holds = least == usize::MAX;
        let at = searched.iter().position(|(.., failure)| steps(failure) == least && !holds);
        let (size, found, failure) = searched.swap_remove(at.unwrap_or(searched.len() - 1));
        let calls = (self.before == Before::Nothing).then(|| self.calls());
        Verdict { size, found, failure, calls, seconds: started.elapsed().as_secs_f64() }
    }

    fn search_size(&self, size: Size) -> (Size, Found, Option<Failure>) {
        let (mut play, start) = self.case(size).play();
        let (found, violation) = play.search(&start);
        let failure = violation.map(|Violation { schedule, rule }| {
            let steps = play.steps(&start, &schedule);
            let (told, diagram) = (play.tell(&steps), play.draw(&steps, Some(&rule)));
            Failure { rule, schedule, told, diagram }
        });
        (size, found, failure)
    }

    /// Counted where nothing goes wrong.
    fn calls(&self) -> (usize, usize) {
        let (mut play, start) = self.case(Size { troubles: 0, requests: 1, tries: 1 }).play();
        let world = play.run_out(start);
        let first = play.calls(&world);
        let world = play.after(&world, Event::IsRepeated { client: 0 });
        let world = play.run_out(world);
        (first, play.calls(&world) - first)
    }

    fn check(&self) {
        let verdict = self.verdict();
        if let Some(failure) = &verdict.failure {
            println!("designs: {}:\n{}     {}", self.name, failure.told, failure.rule);
            println!("     replay: scripts/interleavings.sh --replay {}", self.replay(failure));
            if std::env::var_os("INTERLEAVINGS_MERMAID").is_some() {
                println!("{}", failure.diagram);
            }
        }
        assert_eq!(verdict.failure.is_none(), self.holds, "{}: whether it holds", self.name);
    }

    fn replay(&self, failure: &Failure) -> String {
        let schedule: Vec<_> = failure.schedule.iter().map(usize::to_string).collect();
        let Size { requests, tries, .. } = self.verdict().size;
        format!("{}_{requests}_{tries}:{}", self.name, schedule.join("."))
    }
}

impl Play {
    /// How many calls to the stores all requests have made.
    fn calls(&self, world: &World) -> usize {
        let courses = world.attempts.iter().filter_map(|attempt| self.requests.of_answer(attempt));
        courses.map(|course| self.requests.calls(course).len()).sum()
    }
}

/// The service, if it were built by this design.
pub async fn serve(design: &str, role: Role, wire: Wire, id: Uuid, now: Timestamp) -> Seen {
    let app = App::new(&wire, role.client(), id, now);
    if let Role::Works { .. } = role {
        let done = match design {
            "acknowledged_first" => acknowledged_first::consume(&app).await,
            "seen_ids" => seen_ids::consume(&app).await,
            "outbox" => outbox::relay(&app).await,
            _ => unreachable!("{design} works nothing off"),
        };
        return seen(&Answer { status: if done.is_ok() { 200 } else { 503 }, body: String::new() });
    }
    let (_, order) = role.places().unwrap();
    let order = Order::new(id, now, NewOrder::parse(order.as_bytes()).unwrap());
    let answer = match design {
        "obvious" => obvious::place(&app, "k", &order).await,
        "check_first" => check_first::place(&app, "k", &order).await,
        "lock" => lock::place(&app, "k", &order).await,
        "careful_lock" => careful_lock::place(&app, "k", &order).await,
        "in_progress" => in_progress::place(&app, "k", &order).await,
        "cached_early" => cached_early::place(&app, "k", &order).await,
        "every_answer" => every_answer::place(&app, "k", &order).await,
        "conflict" => conflict::place(&app, "k", &order).await,
        "two_transactions" => two_transactions::place(&app, "k", &order).await,
        "key_table" => key_table::place(&app, "k", &order).await,
        "outbox" => outbox::place(&app, "k", &order).await,
        _ => unreachable!("{design} places nothing"),
    };
    seen(&answer.unwrap_or_else(|_| Answer::unavailable()))
}

/// As a client sees it.
fn seen(answer: &Answer) -> Seen {
    let order: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let location = order["orderId"].as_str().map_or(String::new(), |id| format!("/orders/{id}"));
    let problem = match answer.body.as_str() {
        "in progress" => Some("in progress"),
        "already exists" => Some("already exists"),
        _ => None,
    };
    Seen {
        status: answer.status,
        is_replay: None,
        etag: if answer.status == 201 { "\"1\"".into() } else { String::new() },
        location,
        outcome: None,
        problem,
        body: Bytes::from(answer.body.clone()),
    }
}
