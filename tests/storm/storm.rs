//! The storm itself: the clients, the troubles, and the judgement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::clients::{Clients, NAMES, setting_of_clients, token};
use crate::feed::Consumer;
use crate::history::{Answer, Variant, judge};
use crate::queue::Intake;
use crate::service::{Host, Stores, is_spin, owner, redis, setting, superuser};

const CLIENTS: usize = 24;
/// Short, so that many things can go wrong in little time.
const DEADLINES: [(&str, &str); 2] =
    [("SPIN_VARIABLE_REDIS_DEADLINE_MS", "100"), ("SPIN_VARIABLE_PG_DEADLINE_MS", "1000")];
/// Keys in play at one time: few, so that requests meet at the same key.
const HOT_KEYS: usize = 9;

/// One client: mostly the newest keys, which the others use too, sometimes an old one, sometimes the list.
async fn client(clients: &Clients, mut random: fastrand::Rng, newest: &AtomicUsize, ends: Instant) {
    while Instant::now() < ends {
        let url = &clients.urls[random.usize(..clients.urls.len())];
        let last = newest.load(Ordering::SeqCst);
        let key = if random.u8(..4) > 0 { last + random.usize(..HOT_KEYS) } else { random.usize(..last + 1) };
        match random.u8(..20) {
            0 => drop(clients.list(url, key).await),
            1 => drop(newest.fetch_add(1, Ordering::SeqCst)),
            2 => clients.command(key, if random.bool() { Variant::A } else { Variant::B }, random.usize(1..3)).await,
            other => {
                let variant = if other % 2 == 0 { Variant::A } else { Variant::B };
                if clients.place(url, key, variant).await == Answer::Maybe {
                    // A host that is gone refuses at once, and its clients would only retry it.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

const TROUBLES: [&str; 8] = [
    "Redis flushed",
    "Redis stopped",
    "Redis killed",
    "Redis killed and restarted",
    "PostgreSQL killed and restarted",
    "PostgreSQL's connections terminated",
    "the table locked",
    "a host killed",
];

/// Breaks one thing after another. Every kind of trouble occurs once before any occurs again.
async fn break_things(
    stores: &Stores,
    hosts: &mut [Host],
    mut random: fastrand::Rng,
    ends: Instant,
) -> BTreeMap<&'static str, usize> {
    let mut done = BTreeMap::new();
    let mut deck = Vec::new();
    let pause = async |ms: u64| tokio::time::sleep(Duration::from_millis(ms)).await;
    while Instant::now() < ends {
        if deck.is_empty() {
            deck = TROUBLES.to_vec();
            random.shuffle(&mut deck);
        }
        let trouble = deck.pop().unwrap();
        println!("storm: {trouble}");
        match trouble {
            "Redis flushed" => {
                let () = redis::cmd("FLUSHDB").query_async(&mut redis().await).await.unwrap();
            }
            "Redis stopped" => {
                stores.stop_redis();
                pause(random.u64(200..1200)).await;
                stores.continue_redis();
            }
            "Redis killed" => {
                stores.kill_redis();
                pause(random.u64(200..1200)).await;
                stores.restart().await;
            }
            "Redis killed and restarted" => {
                stores.kill_redis();
                stores.restart().await;
            }
            "PostgreSQL killed and restarted" => {
                stores.kill_postgres();
                stores.restart().await;
            }
            "PostgreSQL's connections terminated" => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orders_service'";
                superuser().await.query(sql, &[]).await.unwrap();
            }
            "the table locked" => {
                let owner = owner().await;
                owner.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
                pause(random.u64(200..1500)).await;
                owner.batch_execute("ROLLBACK").await.unwrap();
            }
            _ => hosts[random.usize(..hosts.len())].crash().await,
        }
        *done.entry(trouble).or_default() += 1;
        pause(random.u64(100..500)).await;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn no_storm_makes_a_duplicate_or_loses_an_acknowledged_order() {
    let seconds = setting("STORM_SECONDS", 25);
    let seed = setting("STORM_SEED", fastrand::u64(..1_000_000));
    println!("storm: seed {seed}, {seconds} s (STORM_SEED and STORM_SECONDS give others)");
    let stores = Stores::find();
    // All draws come from this one stream, so that seeds next to each other have nothing in common.
    let mut random = fastrand::Rng::with_seed(seed);
    let mut hosts = Vec::new();
    let names: &str = setting_of_clients().leak();
    for host in ["host-1", "host-2"] {
        let variables = [&DEADLINES[..], &[("SPIN_VARIABLE_CLIENTS", names)]].concat();
        hosts.push(Host::start(host, Some(random.fork()), &variables).await);
    }
    let ends = Instant::now() + Duration::from_secs(seconds);
    let storm = Arc::new(Clients::new(format!("storm-{seed}-{}", fastrand::u32(..)), &hosts));
    let variables = [&DEADLINES[..], &[("SPIN_VARIABLE_CLIENTS", names)]].concat();
    let intake = Intake::start(random.fork(), variables);
    let newest = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (storm, newest, random) = (storm.clone(), newest.clone(), random.fork());
            tokio::spawn(async move { client(&storm, random, &newest, ends).await })
        })
        .collect();
    let consumers = NAMES.map(|name| {
        let consumer = Consumer::new(storm.http.clone(), storm.urls.clone(), name, token(name));
        tokio::spawn(consumer.consume(random.fork(), move || Instant::now() >= ends))
    });
    let troubles = break_things(&stores, &mut hosts, random.fork(), ends).await;
    for client in clients {
        client.await.unwrap();
    }

    let tried = storm.keys();
    let in_the_storm = storm.events.lock().unwrap().clone();
    println!("storm: over; settling {} keys", tried.len());
    storm.settle(&tried).await;
    let starts = intake.finish().await;
    let results = storm.results().await;
    println!(
        "storm: the intake was started {starts} times; {} results of orders are kept, nothing is pending",
        results.len()
    );
    storm.events.lock().unwrap().extend(results);
    for consumer in consumers {
        let (events, orders) = consumer.await.unwrap().finish(&owner().await).await;
        println!(
            "storm: a consumer was shown {events} events of {orders} orders, and has them all at their last version"
        );
    }
    let rows = storm.rows(&owner().await).await;
    let events = storm.events.lock().unwrap().clone();
    let (verdict, broken) = judge(&events, &rows);
    let answers = |kind: fn(&Answer) -> bool| in_the_storm.iter().filter(|event| kind(&event.answer)).count();
    let faults: usize = hosts.iter().map(Host::faults).sum();
    let kinds = [
        ("placed", answers(|answer| matches!(answer, Answer::Order { replayed: false, .. }))),
        ("replayed", answers(|answer| matches!(answer, Answer::Order { replayed: true, .. }))),
        ("key reused", answers(|answer| *answer == Answer::KeyReused)),
        ("maybe", answers(|answer| *answer == Answer::Maybe)),
        ("listed", answers(|answer| matches!(answer, Answer::Listed(_)))),
        ("key in use", answers(|answer| *answer == Answer::KeyInUse)),
    ];
    println!("storm: troubles {troubles:?}");
    println!("storm: answers during the storm: {kinds:?}");
    println!(
        "storm: seed {seed}: {} requests, {} keys, {} orders, {faults} faults injected, {} troubles; {verdict}",
        storm.requests.load(Ordering::SeqCst),
        tried.len(),
        rows.len(),
        troubles.values().sum::<usize>(),
    );
    assert!(broken.is_empty(), "{verdict}{broken}");
    assert_eq!(rows.len(), tried.len());
    let traps: Vec<_> = hosts.iter().flat_map(Host::traps).collect();
    assert!(traps.is_empty(), "{traps:#?}");
    // A storm without wind proves nothing. Only `409` may be absent.
    assert!(
        (faults > 0 || is_spin()) && troubles.len() >= TROUBLES.len().min(seconds as usize / 4),
        "{faults} {troubles:?}"
    );
    assert!(kinds[..5].iter().all(|(_, count)| *count > 0), "{kinds:?}");
}
