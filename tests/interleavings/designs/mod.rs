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

/// A design, and the requests and consumers that follow it.
struct Design {
    name: &'static str,
    title: &'static str,
    code: &'static str,
    roles: &'static [Role],
    holds: bool,
    verdict: OnceLock<Verdict>,
}

/// How much takes part, and how much may go wrong.
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
    /// How many calls a new order takes, and how many its repeat.
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

/// By default two requests follow a design, and its code is in the file of its name.
macro_rules! designs {
    ($($name:ident: $holds:ident, $title:literal $(, $roles:expr)? $(=> $code:literal)?;)*) => {
        static DESIGNS: [Design; [$(stringify!($name)),*].len()] = [$(Design {
            name: stringify!($name),
            title: $title,
            code: include_str!(or!(concat!(stringify!($name), ".rs") $(, $code)?)),
            roles: &or!([tries(stringify!($name), ""); 2] $(, $roles)?),
            holds: $holds,
            verdict: OnceLock::new(),
        }),*];
        $(#[test] fn $name() {
            find(stringify!($name)).expect("a design").check();
        })*
    };
}

macro_rules! or {
    ($default:expr) => {
        $default
    };
    ($default:expr, $given:expr) => {
        $given
    };
}

const fn tries(design: &'static str, client: &'static str) -> Role {
    Role::Tries { design, client, order: ORDER }
}

const fn works(design: &'static str) -> Role {
    Role::Works { design }
}

const HOLDS: bool = true;
const FAILS: bool = false;

designs! {
    obvious: FAILS, "look into Redis, insert, save";
    check_first: FAILS, "look into PostgreSQL, insert";
    lock: FAILS, "a lock in Redis";
    careful_lock: FAILS, "a lock with a token";
    in_progress: FAILS, "a record \"in progress\"";
    cached_early: FAILS, "the answer cached before the commit";
    every_answer: FAILS, "every answer remembered";
    conflict: FAILS, "a unique constraint, then `409`";
    two_transactions: FAILS, "a table of keys, two transactions";
    key_table: HOLDS, "a table of keys, one transaction";
    ours: HOLDS, "ours", [ONE, ONE] => "../../../src/place_order.rs";
    acknowledged_first: FAILS, "acknowledge, then place", [works("acknowledged_first")];
    seen_ids: FAILS, "seen message ids in Redis", [works("seen_ids")];
    outbox: FAILS, "an outbox read by a sequence", [tries("outbox", "web"), tries("outbox", "shop"), works("outbox")];
    our_intake: HOLDS, "ours, through a stream", [Role::Drains] => "../../../src/intake/drain.rs";
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
        let before = if self.is_worked_off() { Before::Commands(1) } else { Before::Nothing };
        Case { name: self.name, roles: &self.roles[..requests], before, attempts: tries, troubles }
    }

    /// At most. One breaks every design that can be broken; two take minutes with a consumer of ours.
    fn troubles(&self) -> u8 {
        if self.is_worked_off() { 1 } else { 2 }
    }

    /// Whether only consumers take part.
    fn is_worked_off(&self) -> bool {
        self.roles.iter().all(Role::is_consumer)
    }

    fn verdict(&self) -> &Verdict {
        self.verdict.get_or_init(|| self.search())
    }

    /// With more and more troubles, until a size breaks a rule.
    fn search(&self) -> Verdict {
        let started = Instant::now();
        let sizes = |troubles| {
            // An outbox needs all roles: two that write into it, and one that reads it.
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
        let steps =
            |(at, (.., failure)): (usize, &(_, _, Option<Failure>))| Some((failure.as_ref()?.schedule.len(), at));
        let fewest = searched.iter().enumerate().filter_map(steps).min();
        let (size, found, failure) = searched.swap_remove(fewest.map_or(searched.len() - 1, |(_, at)| at));
        let calls = (!self.is_worked_off()).then(|| self.calls());
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

    /// Counted without troubles.
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
    let problem = ["in progress", "already exists"].into_iter().find(|problem| *problem == answer.body);
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
