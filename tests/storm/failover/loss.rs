//! With an asynchronous standby acknowledged orders are lost. The test counts them, and follows the runbook of
//! docs/operations.md, after which the service shows none of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::history::{Violation, check};
use crate::service::redis;

/// Orders that the load does not touch, so that their outcome is certain.
const OWN_KEYS: usize = 3_000_000;

/// What the asynchronous standby lacked when it was promoted.
struct Loss {
    /// Keys with an answer that is no longer true.
    keys: BTreeSet<usize>,
    /// When the last host that could show a lost order was gone.
    until: u64,
}

/// The orders that clients were shown and that have no row: the id of each, and its key.
fn lost_orders<'a>(events: &'a [Event], rows: &[Row]) -> BTreeMap<&'a str, usize> {
    let kept: BTreeSet<_> = rows.iter().map(|row| &*row.id).collect();
    let told = events.iter().filter_map(|event| match &event.answer {
        Answer::Order { id, .. } => Some((&**id, event.key)),
        _ => None,
    });
    told.filter(|(id, _)| !kept.contains(id)).collect()
}

/// The lost orders themselves, and orders that were refused because of a lost one.
fn keys_with_a_loss(events: &[Event], rows: &[Row]) -> BTreeSet<usize> {
    let kept: BTreeSet<_> = rows.iter().map(|row| (row.key, row.variant)).collect();
    let refused = events.iter().filter(|event| {
        let other = if event.variant == Variant::A { Variant::B } else { Variant::A };
        event.answer == Answer::KeyReused && !kept.contains(&(event.key, other))
    });
    lost_orders(events, rows).into_values().chain(refused.map(|event| event.key)).collect()
}

/// Answers about lost orders from before `until` prove nothing about later ones.
fn without(losses: &[Loss], mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        let is_of_a_loss = losses.iter().any(|loss| loss.keys.contains(&event.key) && event.sent < loss.until);
        if is_of_a_loss && !matches!(event.answer, Answer::Unexpected(_)) {
            event.answer = Answer::Maybe;
        }
    }
    events
}

impl Failovers {
    /// Places an order of the first client that no other request places, and waits until Redis has it.
    async fn place_own(&self, key: usize) -> String {
        let clients = &self.load.clients;
        let entry = format!("{}-{}:{}:{}", clients.name, self.promotions.len(), NAMES[0], clients.key(key));
        let started = Instant::now();
        loop {
            let answer = clients.place(&clients.urls[0], key, Variant::A).await;
            let is_kept = redis::cmd("EXISTS").arg(&entry).query_async::<bool>(&mut redis().await).await.unwrap();
            match answer {
                Answer::Order { id, .. } if is_kept => return id,
                answer => assert!(started.elapsed() < LONGEST, "Redis does not get {entry}: {answer:?}"),
            }
        }
    }

    /// The path of the feed after its first event.
    async fn cursor(&self) -> String {
        let page = self.get("/events?limit=1").await;
        page.headers()["link"].to_str().unwrap().strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned()
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    /// "Restore, and a failover with loss" in docs/operations.md, while the load continues.
    async fn follow_the_runbook(&mut self) {
        let prefix = format!("{}-{}", self.load.clients.name, self.promotions.len()).leak();
        for host in &mut self.hosts {
            host.restart_with(PREFIX, prefix).await;
        }
        let expire = "UPDATE feed_life SET life = DEFAULT";
        self.pair.owner().await.batch_execute(expire).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_asynchronous_standby_loses_is_counted_and_hidden_by_a_new_prefix() {
    let mut storm = Failovers::start("asynchronous").await;
    let (mut losses, mut lost, mut ghosts) = (Vec::<Loss>::new(), Vec::new(), 0);
    for number in 0..setting("FAILOVERS", 2) as usize {
        storm.pause(LIFE_MS).await;
        let cursor = storm.cursor().await;
        storm.pair.stall_replication();
        storm.pause(STALL_MS).await;
        let own_key = OWN_KEYS + NAMES.len() * number;
        let own = storm.place_own(own_key).await;
        let promoted = storm.load.clients.tick();
        let killed = storm.fail_over().await;

        // With the old prefix the answer names an order that is gone, and a consumer would miss new ones.
        for url in &storm.load.clients.urls {
            let answer = storm.load.clients.place(url, own_key, Variant::A).await;
            assert!(matches!(&answer, Answer::Order { replayed: true, id, .. } if *id == own), "{answer:?}");
        }
        assert_eq!(storm.status(&format!("/orders/{own}")).await, 404);
        assert_eq!(storm.status(&cursor).await, 200);

        storm.follow_the_runbook().await;
        let until = storm.load.clients.tick();
        assert_eq!(storm.status(&cursor).await, 410);
        let placed_again = storm.place_own(own_key).await;
        assert_eq!((placed_again != own, storm.status(&format!("/orders/{placed_again}")).await), (true, 200));

        // An answer from before may still be in flight.
        storm.load.clients.have_answers_before(until).await;
        let events = without(&losses, storm.load.events());
        let rows = storm.load.clients.rows(&storm.pair.owner().await).await;
        let gone = lost_orders(&events, &rows);
        assert!(gone.contains_key(&*own));
        lost.push(gone.len());
        let is_ghost = |event: &&Event| {
            let id = if let Answer::Order { id, replayed: true, .. } = &event.answer { id } else { return false };
            event.sent > promoted && gone.contains_key(&**id)
        };
        ghosts += events.iter().filter(is_ghost).count();
        // By the rules for a synchronous standby each of them is a violation.
        let broken: BTreeSet<_> = check(&events, &rows).iter().map(Violation::key).collect();
        assert!(gone.values().all(|key| broken.contains(key)), "{gone:?} {broken:?}");
        losses.push(Loss { keys: keys_with_a_loss(&events, &rows), until });
        storm.replace_standby(killed).await;
    }
    let rows = storm.settle().await;
    let events = without(&losses, storm.load.events());
    let (verdict, broken) = judge(&events, &rows);
    storm.report(&rows, &format!("after the runbook {verdict}"));
    println!(
        "failover: {}: {} acknowledged orders lost, {} to {} by each; {ghosts} answers told of one of them before the hosts had \
         the new prefix, {} afterwards",
        storm.kind,
        lost.iter().sum::<usize>(),
        lost.iter().min().unwrap(),
        lost.iter().max().unwrap(),
        lost_orders(&events, &rows).len()
    );
    assert!(broken.is_empty(), "{verdict}{broken}");
}
