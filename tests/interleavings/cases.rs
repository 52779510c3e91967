//! The cases: which requests and drains take part, and how many troubles may come.

use std::time::Instant;

use order::intake::{Command, CommandId};

use crate::designs;
use crate::requests::Role;
use crate::stores::{Stores, Values};
use crate::world::{Play, World};

macro_rules! order {
    ($sku:literal) => {
        concat!(r#"{"customerId":"c","currency":"RUB","items":[{"sku":""#, $sku, r#"","quantity":1,"unitAmount":1}]}"#)
    };
}

pub const ORDER: &str = order!("one");
pub const ONE: Role = Role::Places { client: "", order: ORDER, in_group: false };
const WEB: Role = Role::Places { client: "web", order: order!("one"), in_group: false };
const SHOP: Role = Role::Places { client: "shop", order: order!("one"), in_group: false };
const TILL: Role = Role::Places { client: "till", order: order!("other"), in_group: false };
const OTHER: Role = Role::Places { client: "", order: order!("other"), in_group: false };
const ONE_IN_GROUP: Role = Role::Places { client: "", order: order!("one"), in_group: true };
const OTHER_IN_GROUP: Role = Role::Places { client: "", order: order!("other"), in_group: true };
const CONFIRM: Role = Role::Changes { if_match: "\"1\"", to: r#"{"status":"confirmed"}"# };
const CANCEL: Role = Role::Changes { if_match: "\"1\"", to: r#"{"status":"cancelled"}"# };
const CONFIRM_EITHER: Role = Role::Changes { if_match: "\"1\", \"2\"", to: r#"{"status":"confirmed"}"# };
const CANCEL_EITHER: Role = Role::Changes { if_match: "\"1\", \"2\"", to: r#"{"status":"cancelled"}"# };

/// What is there when the schedules begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The first role has placed its order.
    Placed,
    /// And Redis has lost the answer.
    Forgotten,
    /// So many commands are in the stream, all the same.
    Commands(usize),
}

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub roles: &'static [Role],
    pub before: Before,
    /// Of each request, up to the end of a schedule.
    pub attempts: u8,
    pub troubles: u8,
}

impl Case {
    pub fn play(&self) -> (Play, World) {
        let count = if let Before::Commands(count) = self.before { count } else { 0 };
        let command = |number: usize| Command {
            id: CommandId::parse(format!("1-{number}").as_bytes()).unwrap(),
            // The same key in two spellings, so that a result shows whose it is.
            fields: vec![(b"key".to_vec(), ["k", "\"k\""][number].into()), (b"order".to_vec(), order!("one").into())],
            deliveries: 1,
        };
        let values = Values { commands: (0..count).map(command).collect(), ..Values::default() };
        let mut play = Play::new(self.roles, self.attempts, values);
        let mut world = World { stores: Stores::default(), attempts: Vec::new(), troubles: 0 };
        if matches!(self.before, Before::Placed | Before::Forgotten) {
            play.begin(&mut world, 0, 0);
            world = play.run_out(world);
        }
        if self.before == Before::Forgotten {
            world.stores.entries.clear();
        }
        world.troubles = self.troubles;
        for (client, role) in (0..).zip(self.roles) {
            if !matches!(role, Role::Changes { .. }) {
                play.begin(&mut world, client, 1);
            }
        }
        (play, world)
    }

    fn run(&self) {
        let started = Instant::now();
        let (mut play, start) = self.play();
        match play.search(&start) {
            (found, None) => {
                let (schedules, states, longest) =
                    (grouped(found.schedules), grouped(found.states as u128), found.longest);
                let (name, troubles, seconds) = (self.name, self.troubles, started.elapsed().as_secs_f64());
                println!(
                    "interleavings: {name}, {troubles} troubles: {schedules} schedules of up to {longest} steps, {states} states, 0 violations, {seconds:.1} s"
                );
            }
            (_, Some(violation)) => {
                let steps = play.steps(&start, &violation.schedule);
                let told = play.tell(&steps);
                let schedule: Vec<_> = violation.schedule.iter().map(usize::to_string).collect();
                panic!(
                    "violated:\n{told}     {}\nreplay: scripts/interleavings.sh --replay {}:{}",
                    violation.rule,
                    self.name,
                    schedule.join(".")
                );
            }
        }
    }
}

/// Digits in threes; what is too long to read as a power of ten.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    if digits.len() > 15 {
        return format!("{}.{}e{}", &digits[..1], &digits[1..2], digits.len() - 1);
    }
    let threes: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|three| str::from_utf8(three).unwrap()).collect();
    threes.join(" ")
}

macro_rules! cases {
    ($($(#[$deep:meta])? $name:ident: $roles:expr, $before:expr, $attempts:literal attempts, $troubles:literal troubles;)*) => {
        const CASES: &[Case] = &[$(Case {
            name: stringify!($name), roles: &$roles, before: $before, attempts: $attempts, troubles: $troubles,
        }),*];
        $(#[test] $(#[$deep])? fn $name() {
            case(stringify!($name)).run();
        })*
    };
}

cases! {
    one_request: [ONE], Before::Nothing, 3 attempts, 2 troubles;
    two_requests: [ONE, ONE], Before::Nothing, 2 attempts, 2 troubles;
    two_orders: [ONE, OTHER], Before::Nothing, 2 attempts, 2 troubles;
    three_requests: [ONE, ONE, ONE], Before::Nothing, 2 attempts, 0 troubles;
    one_request_in_a_group: [ONE_IN_GROUP], Before::Nothing, 2 attempts, 2 troubles;
    two_requests_in_groups: [ONE_IN_GROUP, ONE], Before::Nothing, 2 attempts, 1 troubles;
    two_orders_in_groups: [ONE_IN_GROUP, OTHER_IN_GROUP], Before::Nothing, 2 attempts, 1 troubles;
    three_clients: [WEB, SHOP, TILL], Before::Nothing, 1 attempts, 1 troubles;
    list_and_two_orders: [ONE, OTHER, Role::Lists], Before::Nothing, 2 attempts, 1 troubles;
    list_and_change: [ONE, CONFIRM, Role::Lists], Before::Placed, 2 attempts, 1 troubles;
    change_of_a_new_order: [ONE, ONE, CONFIRM], Before::Nothing, 2 attempts, 1 troubles;
    change_and_replay: [ONE, CONFIRM], Before::Placed, 2 attempts, 2 troubles;
    change_and_retry: [ONE, CONFIRM], Before::Forgotten, 2 attempts, 2 troubles;
    change_and_other_order: [ONE, OTHER, CONFIRM], Before::Forgotten, 2 attempts, 1 troubles;
    change_and_its_repeat: [ONE, CONFIRM, CONFIRM], Before::Placed, 2 attempts, 1 troubles;
    change_against_change: [ONE, CONFIRM, CANCEL], Before::Placed, 2 attempts, 1 troubles;
    change_upon_change: [ONE, CONFIRM, CANCEL_EITHER], Before::Placed, 2 attempts, 1 troubles;
    change_that_is_not_allowed: [ONE, CANCEL, CONFIRM_EITHER], Before::Placed, 2 attempts, 1 troubles;
    three_changes: [ONE, CONFIRM, CANCEL, CANCEL_EITHER], Before::Placed, 1 attempts, 0 troubles;
    a_command: [Role::Drains], Before::Commands(1), 2 attempts, 1 troubles;
    two_drains: [Role::Drains, Role::Drains], Before::Commands(1), 1 attempts, 0 troubles;
    a_command_and_a_request: [Role::Drains, ONE], Before::Commands(1), 1 attempts, 0 troubles;
    #[ignore = "takes minutes"]
    two_requests_in_more_trouble: [ONE, ONE], Before::Nothing, 3 attempts, 3 troubles;
    #[ignore = "takes minutes"]
    three_requests_in_more_trouble: [ONE, ONE, ONE], Before::Nothing, 2 attempts, 2 troubles;
    #[ignore = "takes minutes"]
    three_orders: [ONE, ONE, OTHER], Before::Nothing, 2 attempts, 2 troubles;
    #[ignore = "takes minutes"]
    changes_in_more_trouble: [ONE, CONFIRM, CANCEL], Before::Forgotten, 2 attempts, 2 troubles;
    #[ignore = "takes minutes"]
    two_drains_in_trouble: [Role::Drains, Role::Drains], Before::Commands(1), 1 attempts, 1 troubles;
    #[ignore = "takes minutes"]
    a_command_in_more_trouble: [Role::Drains], Before::Commands(1), 2 attempts, 2 troubles;
    #[ignore = "takes minutes"]
    a_command_twice: [Role::Drains], Before::Commands(2), 1 attempts, 0 troubles;
    #[ignore = "takes minutes"]
    a_command_and_a_request_in_trouble: [Role::Drains, ONE], Before::Commands(1), 2 attempts, 1 troubles;
}

fn case(name: &str) -> Case {
    let known = CASES.iter().find(|case| case.name == name).copied();
    known.or_else(|| designs::case(name)).unwrap_or_else(|| panic!("no case is called {name}"))
}

/// What merging states saves must cost nothing: one by one, the schedules of a small case are as many.
#[test]
fn the_search_leaves_no_schedule_out() {
    for (name, troubles) in [("one_request", 1), ("two_requests", 0), ("change_against_change", 0)] {
        let (mut play, mut start) = case(name).play();
        start.troubles = troubles;
        let (found, violation) = play.search(&start);
        assert_eq!(violation, None);
        println!("interleavings: one by one: {name}, {troubles} troubles: {} schedules", grouped(found.schedules));
        assert_eq!(play.explore_one_by_one(&start).unwrap(), found.schedules, "{name}");
    }
}

/// The schedule that a case printed: `INTERLEAVINGS_REPLAY=two_requests:2.0.11`, or `scripts/interleavings.sh --replay`.
#[test]
#[ignore = "for a schedule that is given"]
fn given_schedule() {
    let given = std::env::var("INTERLEAVINGS_REPLAY").expect("INTERLEAVINGS_REPLAY names a case and a schedule");
    let (name, schedule) = given.split_once(':').expect("a case, a colon, a schedule");
    let schedule: Vec<usize> =
        schedule.split('.').filter(|step| !step.is_empty()).map(|step| step.parse().unwrap()).collect();
    let (mut play, start) = case(name).play();
    let verdict = play.judge(&start, &schedule);
    let steps = play.steps(&start, &schedule);
    let is_drawn = std::env::var_os("INTERLEAVINGS_MERMAID").is_some();
    println!("{}", if is_drawn { play.draw(&steps, verdict.as_ref().err()) } else { play.tell(&steps) });
    assert_eq!(verdict, Ok(()), "violated");
}
