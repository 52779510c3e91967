//! What every client saw, judged as a whole: the service's promise as rules over a history.
//!
//! An answer that was lost, or a 5xx, means "maybe" and proves nothing. All other answers are evidence.

use std::collections::{BTreeMap, BTreeSet};

/// Two orders are sent under each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    A,
    B,
}

/// What a client learned from one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `201`.
    Order { replayed: bool, id: String, body: String },
    /// `422 idempotency-key-reused`.
    KeyReused,
    /// `409 idempotency-key-in-use`.
    KeyInUse,
    /// `503`, the host's own `500`, or a broken connection.
    Maybe,
    /// `200` of a list filtered by key: the orders in it.
    Listed(Vec<String>),
    /// Any other answer.
    Unexpected(String),
}

/// One request and its answer. Times are ticks of one clock, shared by all clients.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: usize,
    /// The order that was sent; without meaning for a list.
    pub variant: Variant,
    pub sent: u64,
    pub answered: u64,
    pub answer: Answer,
}

/// A row of PostgreSQL after the storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: usize,
    pub variant: Variant,
    pub id: String,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// More than one row for a key, or more than one answer that claims to be the first.
    Duplicate(usize),
    /// An acknowledged order that is not in PostgreSQL, or that a later list did not show.
    Lost(usize),
    /// Two answers of one key that differ, or one that is not about the row.
    WrongReplay(usize),
    /// A `201` for an order that the key does not belong to, or a refusal of the one that it belongs to.
    WrongOwner(usize),
    /// A key that was tried but did not settle.
    Unsettled(usize),
    /// An answer outside the contract, or none within the client's limit.
    Unexpected(usize, String),
}

impl Violation {
    pub fn key(&self) -> usize {
        match self {
            Self::Duplicate(key)
            | Self::Lost(key)
            | Self::WrongReplay(key)
            | Self::WrongOwner(key)
            | Self::Unsettled(key)
            | Self::Unexpected(key, _) => *key,
        }
    }
}

/// Every broken promise in `events`, given the `rows` after the storm.
pub fn check(events: &[Event], rows: &[Row]) -> BTreeSet<Violation> {
    let mut broken = BTreeSet::new();
    let mut by_key: BTreeMap<usize, (Vec<&Event>, Vec<&Row>)> = BTreeMap::new();
    for event in events {
        by_key.entry(event.key).or_default().0.push(event);
    }
    for row in rows {
        by_key.entry(row.key).or_default().1.push(row);
    }
    for (key, (events, rows)) in by_key {
        check_key(key, &events, &rows, &mut broken);
    }
    broken
}

/// The same as counts in text, and each broken promise with all events of its key; empty if none is.
pub fn judge(events: &[Event], rows: &[Row]) -> (String, String) {
    let violations = check(events, rows);
    let mut history = String::new();
    for violation in &violations {
        let events = events.iter().filter(|event| event.key == violation.key()).map(|event| format!("\n  {event:?}"));
        let rows = rows.iter().filter(|row| row.key == violation.key()).map(|row| format!("\n  {row:?}"));
        history.extend([format!("\n{violation:?}")].into_iter().chain(events).chain(rows));
    }
    let [mut duplicates, mut lost, mut wrong, mut other] = [0; 4];
    for violation in &violations {
        *match violation {
            Violation::Duplicate(_) => &mut duplicates,
            Violation::Lost(_) => &mut lost,
            Violation::WrongReplay(_) | Violation::WrongOwner(_) => &mut wrong,
            Violation::Unsettled(_) | Violation::Unexpected(..) => &mut other,
        } += 1;
    }
    let counts = format!(
        "{duplicates} duplicates, {lost} lost acknowledged orders, {wrong} wrong replays, {other} other violations"
    );
    (counts, history)
}

fn check_key(key: usize, events: &[&Event], rows: &[&Row], broken: &mut BTreeSet<Violation>) {
    if rows.len() > 1 {
        broken.insert(Violation::Duplicate(key));
    }
    let row = rows.first();
    if row.is_none() {
        broken.insert(Violation::Unsettled(key));
    }
    let acknowledged: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.answer {
            Answer::Order { replayed, id, body } => Some((*event, *replayed, id, body)),
            _ => None,
        })
        .collect();
    if acknowledged.iter().filter(|(_, replayed, ..)| !replayed).count() > 1 {
        broken.insert(Violation::Duplicate(key));
    }
    for (event, _, id, body) in &acknowledged {
        match row {
            None => drop(broken.insert(Violation::Lost(key))),
            Some(row) if row.id != **id => drop(broken.insert(Violation::WrongReplay(key))),
            Some(row) if row.variant != event.variant => drop(broken.insert(Violation::WrongOwner(key))),
            Some(_) => {}
        }
        if (id, body) != (&acknowledged[0].2, &acknowledged[0].3) {
            broken.insert(Violation::WrongReplay(key));
        }
    }
    for event in events {
        match &event.answer {
            Answer::KeyReused => {
                // The key belongs to the other order, which must have been sent by then.
                let is_other =
                    |other: &Event| other.variant != event.variant && !matches!(other.answer, Answer::Listed(_));
                let is_others = events.iter().any(|other| is_other(other) && other.sent < event.answered);
                if !is_others || row.is_some_and(|row| row.variant == event.variant) {
                    broken.insert(Violation::WrongOwner(key));
                }
            }
            Answer::Listed(ids) => {
                let mut earlier = events.iter().filter(|earlier| earlier.answered < event.sent);
                if earlier.any(|earlier| !known_ids(&earlier.answer).iter().all(|id| ids.contains(id))) {
                    broken.insert(Violation::Lost(key));
                }
                if ids.len() > 1 {
                    broken.insert(Violation::Duplicate(key));
                }
                if ids.iter().any(|id| row.is_some_and(|row| row.id != *id)) {
                    broken.insert(Violation::WrongReplay(key));
                }
            }
            Answer::Unexpected(what) => {
                broken.insert(Violation::Unexpected(key, what.clone()));
            }
            Answer::Order { .. } | Answer::KeyInUse | Answer::Maybe => {}
        }
    }
}

/// Orders that an answer shows to exist.
fn known_ids(answer: &Answer) -> &[String] {
    match answer {
        Answer::Order { id, .. } => std::slice::from_ref(id),
        Answer::Listed(ids) => ids,
        Answer::KeyReused | Answer::KeyInUse | Answer::Maybe | Answer::Unexpected(_) => &[],
    }
}

#[test]
fn the_checker_accepts_a_good_history_and_names_what_is_wrong_with_a_bad_one() {
    use Answer::*;
    use Variant::*;
    let event = |at: u64, variant, answer| Event { key: 1, variant, sent: at * 10, answered: at * 10 + 5, answer };
    let order = |replayed, id: &str| Order { replayed, id: id.into(), body: format!("body of {id}") };
    let row = |variant, id: &str| Row { key: 1, variant, id: id.into() };
    let one = [row(A, "x")];

    let good = [
        event(1, B, Maybe),
        event(2, A, order(false, "x")),
        event(2, A, Listed(vec![])),
        event(3, B, KeyReused),
        event(4, A, KeyInUse),
        event(5, A, order(true, "x")),
        event(6, A, Listed(vec!["x".into()])),
    ];
    assert_eq!(check(&good, &one), BTreeSet::new());

    let bad: [(&[Event], &[Row], Violation); 14] = [
        (&good, &[row(A, "x"), row(A, "y")], Violation::Duplicate(1)),
        (&[event(1, A, order(false, "x")), event(2, A, order(false, "x"))], &one, Violation::Duplicate(1)),
        (&[event(1, A, Listed(vec!["x".into(), "y".into()]))], &one, Violation::Duplicate(1)),
        (&[event(1, A, order(false, "x"))], &[], Violation::Lost(1)),
        (&[event(1, A, order(false, "x")), event(2, A, Listed(vec![]))], &one, Violation::Lost(1)),
        (&[event(1, A, Listed(vec!["x".into()])), event(2, A, Listed(vec![]))], &one, Violation::Lost(1)),
        (&[event(1, A, order(false, "y"))], &one, Violation::WrongReplay(1)),
        (&[event(1, A, Listed(vec!["y".into()]))], &one, Violation::WrongReplay(1)),
        (
            &[
                event(1, A, order(false, "x")),
                event(2, A, Order { replayed: true, id: "x".into(), body: "another".into() }),
            ],
            &one,
            Violation::WrongReplay(1),
        ),
        (&[event(1, B, order(true, "x"))], &one, Violation::WrongOwner(1)),
        (&[event(1, B, Maybe), event(2, A, KeyReused)], &one, Violation::WrongOwner(1)),
        (&[event(1, B, KeyReused), event(2, A, order(false, "x"))], &one, Violation::WrongOwner(1)),
        (&[event(1, A, Maybe)], &[], Violation::Unsettled(1)),
        (&[event(1, A, Unexpected("418".into()))], &one, Violation::Unexpected(1, "418".into())),
    ];
    // An answer of another client that uses the same key.
    let crossed = [Event { key: 2, ..event(1, A, order(true, "x")) }, event(1, A, order(false, "x"))];
    let rows = [row(A, "x"), Row { key: 2, ..row(A, "y") }];
    assert_eq!(check(&crossed, &rows), [Violation::WrongReplay(2)].into());

    for (events, rows, violation) in bad {
        assert!(check(events, rows).contains(&violation), "{violation:?} in {events:?}");
    }
}
