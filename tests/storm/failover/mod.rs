//! Failovers under load: the primary is killed, its standby takes over, and a new standby is made, again and again.
//! With a synchronous standby nothing is lost. `loss` shows what an asynchronous one loses.

mod loss;
mod pair;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::clients::{Clients, NAMES, setting_of_clients, token};
use crate::feed::Consumer;
use crate::history::{Answer, Event, Row, Variant, judge};
use crate::service::{Host, setting};
use pair::Pair;

const SYNCHRONOUS: &str = "synchronous";
const PREFIX: &str = "SPIN_VARIABLE_REDIS_KEY_PREFIX";
const CLIENTS: usize = 16;
/// Keys in play at one time: few, so that requests meet at the same key.
const HOT_KEYS: usize = 9;
/// How long the primary runs; in the last part of it the changes for the standby stall.
const LIFE_MS: Range<u64> = 300..1500;
const STALL_MS: Range<u64> = 50..300;
/// The limit from the kill to the first new order.
const LONGEST: Duration = Duration::from_secs(60);

/// The clients of both hosts, which continue through all failovers.
struct Load {
    clients: Clients,
    newest: AtomicUsize,
    is_over: AtomicBool,
    /// The kill of the primary, until an order that was sent after it is placed.
    killed: Mutex<Option<Instant>>,
    /// The time from each kill to that order.
    silences: Mutex<Vec<Duration>>,
}

impl Load {
    fn new(name: String, hosts: &[Host]) -> Arc<Self> {
        Arc::new(Self {
            clients: Clients::new(name, hosts),
            newest: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            killed: Mutex::default(),
            silences: Mutex::default(),
        })
    }

    /// Most requests use keys that others send too; every sixth starts a new one.
    async fn client(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.is_over.load(Ordering::SeqCst) {
            let url = &self.clients.urls[random.usize(..self.clients.urls.len())];
            let newest = self.newest.fetch_add(usize::from(random.u8(..6) == 0), Ordering::SeqCst);
            let key = if random.u8(..4) > 0 { newest + random.usize(..HOT_KEYS) } else { random.usize(..=newest) };
            let variant = if random.u8(..4) > 0 { Variant::A } else { Variant::B };
            let sent = Instant::now();
            if let Answer::Order { replayed: false, .. } = self.clients.place(url, key, variant).await {
                self.placed(sent);
            }
            tokio::time::sleep(Duration::from_millis(random.u64(20..100))).await;
        }
    }

    fn placed(&self, sent: Instant) {
        let killed = self.killed.lock().unwrap().take_if(|killed| sent > *killed);
        self.silences.lock().unwrap().extend(killed.map(|killed| killed.elapsed()));
    }

    async fn wait_for_the_first_order(&self) {
        loop {
            let Some(killed) = *self.killed.lock().unwrap() else { return };
            assert!(killed.elapsed() < LONGEST, "no new order within {LONGEST:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn events(&self) -> Vec<Event> {
        self.clients.events.lock().unwrap().clone()
    }
}

/// The draws of the seed, and how long each failover took.
struct Failovers {
    kind: &'static str,
    seed: u64,
    random: fastrand::Rng,
    hosts: Vec<Host>,
    pair: Pair,
    load: Arc<Load>,
    clients: Vec<JoinHandle<()>>,
    promotions: Vec<Duration>,
    /// The time from each kill until there was a complete standby again.
    alone: Vec<Duration>,
}

impl Failovers {
    async fn start(kind: &'static str) -> Self {
        let seed = setting("STORM_SEED", fastrand::u64(..1_000_000));
        let mut random = fastrand::Rng::with_seed(seed);
        let pair = Pair::start(kind == SYNCHRONOUS).await;
        let name = format!("{kind}-{seed}-{}", fastrand::u32(..));
        let variables = [
            ("SPIN_VARIABLE_PG_ADDRESS", format!("postgres://127.0.0.1:{}", pair.address.port)),
            ("SPIN_VARIABLE_CLIENTS", setting_of_clients()),
            (PREFIX, format!("{name}-0")),
            // On a busy machine it is chance whether Redis answers, and only Redis could name a lost order.
            ("SPIN_VARIABLE_REDIS_DEADLINE_MS", "5000".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name, &*value.leak()));
        let mut hosts = Vec::new();
        for host in ["failover-1", "failover-2"] {
            hosts.push(Host::start(host, None, &variables).await);
        }
        let load = Load::new(name, &hosts);
        let clients = (0..CLIENTS).map(|_| tokio::spawn(load.clone().client(random.fork()))).collect();
        Self { kind, seed, random, hosts, pair, load, clients, promotions: Vec::new(), alone: Vec::new() }
    }

    async fn pause(&mut self, range: Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(range))).await;
    }

    /// Waits until the new primary has placed an order. Returns the moment of the kill.
    async fn fail_over(&mut self) -> Instant {
        let killed = Instant::now();
        *self.load.killed.lock().unwrap() = Some(killed);
        self.pair.kill_primary();
        self.pair.promote().await;
        self.promotions.push(killed.elapsed());
        self.load.wait_for_the_first_order().await;
        killed
    }

    async fn replace_standby(&mut self, killed: Instant) {
        self.pair.replace_standby().await;
        self.alone.push(killed.elapsed());
    }

    /// Ends the load and settles every key, so that Redis has given every answer that it has.
    async fn settle(&mut self) -> Vec<Row> {
        self.load.is_over.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
        self.load.clients.settle(&self.load.clients.keys()).await;
        self.load.clients.rows(&self.pair.owner().await).await
    }

    fn report(&self, rows: &[Row], verdict: &str) {
        let (kind, clients) = (self.kind, &self.load.clients);
        println!(
            "failover: {kind}: seed {}, {} failovers: {} requests, {} keys, {} orders; {verdict}",
            self.seed,
            self.promotions.len(),
            clients.requests.load(Ordering::SeqCst),
            clients.keys().len(),
            rows.len()
        );
        let silences = self.load.silences.lock().unwrap().clone();
        println!(
            "failover: {kind}: from the kill to the first new order {}, of which the promotion {}; to a standby with everything {}",
            median_and_worst(&silences),
            median_and_worst(&self.promotions),
            median_and_worst(&self.alone)
        );
        assert_eq!(silences.len(), self.promotions.len());
        assert_eq!(rows.len(), clients.keys().len());
        assert!(self.hosts.iter().all(|host| host.traps().is_empty()));
    }

    /// A path of the first client on the first host that needs PostgreSQL.
    async fn get(&self, path: &str) -> reqwest::Response {
        let clients = &self.load.clients;
        loop {
            let request = clients.http.get(format!("{}{path}", clients.urls[0])).bearer_auth(token(NAMES[0]));
            let answer = request.send().await.unwrap();
            if answer.status() != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn median_and_worst(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    format!("{:.2} s (worst {:.2} s)", times[times.len() / 2].as_secs_f64(), times[times.len() - 1].as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_takes_over_and_nothing_is_lost() {
    let mut storm = Failovers::start(SYNCHRONOUS).await;
    let consumers = NAMES.map(|name| {
        let (load, clients) = (storm.load.clone(), &storm.load.clients);
        let consumer = Consumer::new(clients.http.clone(), clients.urls.clone(), name, token(name));
        tokio::spawn(consumer.consume(storm.random.fork(), move || load.is_over.load(Ordering::SeqCst)))
    });
    for number in 0..setting("FAILOVERS", 2) {
        storm.pause(LIFE_MS).await;
        // Every other time it dies while its commits wait for the standby.
        if number % 2 == 1 {
            storm.pair.stall_replication();
            storm.pause(STALL_MS).await;
        }
        let killed = storm.fail_over().await;
        storm.replace_standby(killed).await;
    }
    let rows = storm.settle().await;
    let (verdict, broken) = judge(&storm.load.events(), &rows);
    storm.report(&rows, &verdict);
    assert!(broken.is_empty(), "{verdict}{broken}");
    for consumer in consumers {
        let (events, orders) = consumer.await.unwrap().finish(&storm.pair.owner().await).await;
        println!("failover: synchronous: a consumer was shown {events} events of {orders} orders, and has them all");
    }
}
