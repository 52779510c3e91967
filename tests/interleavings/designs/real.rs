//! The schedules that break the designs, on a real Redis and PostgreSQL: each step is sent when the schedule names it, and each
//! reply has to be the one that the model gave.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use order::idempotency::Answer;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};
use tokio_postgres::{Client, NoTls};

use super::{DESIGNS, Design};
use crate::stores::Phase;
use crate::wire::{Call, Key, Relation, Reply, Row};
use crate::world::{Event, Play, Step};

/// Enough for the steps before a lock expires.
const SECONDS_OF_A_LOCK: u64 = 3;
/// Deletes a key only if it has this text.
const DELETE_IF: &str = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0";

#[tokio::test]
#[ignore = "needs the stores: scripts/interleavings.sh --designs --real"]
async fn what_breaks_a_design_happens_on_the_real_stores() {
    let fails = |design: &&Design| !design.holds && !design.is_worked_off();
    let replays = join_all(DESIGNS.iter().filter(fails).map(replay)).await;
    assert!(replays.len() > 8);
}

/// The stores as one design uses them.
struct Real {
    redis: MultiplexedConnection,
    /// A schema of PostgreSQL, and the beginning of each key in Redis.
    space: String,
    /// One for each try of a request. If the try dies, what it has not committed is rolled back.
    sessions: HashMap<(u8, u8), Client>,
}

async fn replay(design: &Design) {
    let verdict = design.verdict();
    let failure = verdict.failure.as_ref().expect("a schedule that breaks a rule");
    let (mut play, start) = design.case(verdict.size).play();
    let steps = play.steps(&start, &failure.schedule);
    let mut real = Real::new(design.name).await;
    for (number, step) in steps.iter().enumerate() {
        real.take(&play, step).await.unwrap_or_else(|found| panic!("{}, step {}: {found}", design.name, number + 1));
    }
    // Open transactions are rolled back.
    real.sessions.clear();
    let session = real.new_session().await;
    let rows =
        session.query_one("SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM unique_orders)", &[]).await;
    let orders: i64 = rows.unwrap().get(0);
    let modelled = steps[steps.len() - 1].after.stores.rows.len();
    assert_eq!(orders, modelled as i64, "{}: orders", design.name);
    println!("designs: {} on the real stores: {} steps, orders: {orders}, {}", design.name, steps.len(), failure.rule);
    session.batch_execute(&format!("DROP SCHEMA {} CASCADE", real.space)).await.unwrap();
}

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: scripts/interleavings.sh --designs --real"))
}

impl Real {
    async fn new(design: &str) -> Self {
        let redis = redis::Client::open(environment("REDIS_URL")).unwrap();
        let redis = redis.get_multiplexed_async_connection().await.unwrap();
        let space = format!("design_{design}_{}", std::process::id());
        let real = Self { redis, space, sessions: HashMap::new() };
        let tables = format!(
            "CREATE SCHEMA {0}; SET search_path = {0};
             CREATE TABLE orders (key text, body text);
             CREATE TABLE unique_orders (key text UNIQUE, body text);
             CREATE TABLE keys (key text UNIQUE, body text);
             CREATE TABLE outbox (number serial, key text, body text)",
            real.space
        );
        real.new_session().await.batch_execute(&tables).await.unwrap();
        real
    }

    async fn new_session(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&environment("DATABASE_URL"), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("SET search_path = {}; SET lock_timeout = '10s'", self.space)).await.unwrap();
        client
    }

    async fn session(&mut self, who: (u8, u8)) -> &Client {
        if !self.sessions.contains_key(&who) {
            let session = self.new_session().await;
            self.sessions.insert(who, session);
        }
        &self.sessions[&who]
    }

    /// Takes one step. An error shows how the real stores differ from the model.
    async fn take(&mut self, play: &Play, Step { before, event, after }: &Step) -> Result<(), String> {
        match *event {
            Event::TakesEffect { call } => {
                let call = &before.stores.calls[call];
                let asked = play.values.calls.at(call.call);
                let found = self.ask(call.who, asked).await;
                let modelled = match play.phase(call, after) {
                    Some(Phase::Holds(_)) => Reply::Did(true),
                    Some(Phase::Done(reply)) => play.values.replies.at(reply).clone(),
                    phase => unreachable!("{asked:?} is {phase:?}"),
                };
                let is_same = found == texts(&modelled);
                if is_same { Ok(()) } else { Err(format!("{asked:?}: {found:?}, and the model has {modelled:?}")) }
            }
            Event::Commits { call } => {
                self.session(before.stores.calls[call].who).await.batch_execute("COMMIT").await.unwrap();
                Ok(())
            }
            Event::InstanceDies { attempt } => {
                let attempt = before.attempts[attempt];
                self.sessions.remove(&(attempt.client, attempt.number));
                Ok(())
            }
            Event::Expires { entry } => self.wait_for_end_of(&play.values.entries.at(entry).0).await,
            Event::TimePasses => {
                for entry in before.stores.entries.iter().filter(|entry| play.expires(**entry)) {
                    self.wait_for_end_of(&play.values.entries.at(*entry).0).await?;
                }
                Ok(())
            }
            // No store is involved.
            Event::Answers { .. }
            | Event::AnswerGetsLost { .. }
            | Event::GetsLost { .. }
            | Event::IsRepeated { .. } => Ok(()),
            event => unreachable!("{event:?} breaks no design in the fewest steps"),
        }
    }

    fn name(&self, key: &Key) -> String {
        format!("{}:{}", self.space, key.name.as_str())
    }

    async fn redis<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> T {
        command.query_async(&mut self.redis).await.unwrap()
    }

    /// Waits until the key has expired.
    async fn wait_for_end_of(&mut self, key: &Key) -> Result<(), String> {
        let (name, started) = (self.name(key), Instant::now());
        while self.redis::<bool>(cmd("EXISTS").arg(&name)).await {
            if started.elapsed() > Duration::from_secs(2 * SECONDS_OF_A_LOCK) {
                return Err(format!("{name} does not expire"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn ask(&mut self, who: (u8, u8), call: &Call) -> Vec<String> {
        match call {
            Call::GetText(key) => {
                self.redis::<Option<String>>(cmd("GET").arg(self.name(key))).await.into_iter().collect()
            }
            Call::SetText { key, text, expires, if_absent } => {
                let mut command = cmd("SET");
                command.arg(self.name(key)).arg(text).arg("EX");
                command.arg(if *expires { SECONDS_OF_A_LOCK } else { 60 }).arg(if_absent.then_some("NX"));
                let is_set = self.redis::<Option<String>>(&command).await.is_some();
                vec![is_set.to_string()]
            }
            Call::Del { key, only: None } => {
                self.redis::<()>(cmd("DEL").arg(self.name(key))).await;
                vec![true.to_string()]
            }
            Call::Del { key, only: Some(text) } => {
                let is_deleted: bool =
                    self.redis(cmd("EVAL").arg(DELETE_IF).arg(1).arg(self.name(key)).arg(text)).await;
                vec![is_deleted.to_string()]
            }
            Call::AddResult(result) => {
                let name = format!("{}:published", self.space);
                self.redis::<()>(cmd("XADD").arg(name).arg("*").arg("body").arg(&result.body[..])).await;
                Vec::new()
            }
            Call::Write { to, row, transaction } => {
                let insert = format!("INSERT INTO {} (key, body) VALUES ($1, $2) ON CONFLICT DO NOTHING", table(*to));
                let session = self.session(who).await;
                if matches!(transaction, None | Some(0)) {
                    session.batch_execute("BEGIN").await.unwrap();
                }
                let inserted = session.execute(&insert, &[&name_of(&row.key), &body_of(row)]).await.unwrap();
                if inserted == 0 {
                    session.batch_execute("ROLLBACK").await.unwrap();
                }
                vec![(inserted == 1).to_string()]
            }
            Call::Commit { .. } => {
                self.session(who).await.batch_execute("COMMIT").await.unwrap();
                Vec::new()
            }
            Call::Select(from, key) => {
                let select = format!("SELECT body FROM {} WHERE key = $1 LIMIT 1", table(*from));
                let rows = self.session(who).await.query(&select, &[&name_of(key)]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Call::SelectAfter(last) => {
                let select = "SELECT number || ' ' || body FROM outbox WHERE number > $1 ORDER BY number";
                let rows = self.session(who).await.query(select, &[&i32::from(*last)]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            call => unreachable!("{call:?} is no call of these designs"),
        }
    }
}

fn table(relation: Relation) -> &'static str {
    match relation {
        Relation::Orders => "orders",
        Relation::UniqueOrders => "unique_orders",
        Relation::Keys => "keys",
        Relation::Outbox => "outbox",
    }
}

fn name_of(key: &Key) -> String {
    format!("{}:{}", key.client.as_str(), key.name.as_str())
}

fn body_of(row: &Row) -> String {
    String::from_utf8(Answer::of(row.order.clone()).body.to_vec()).unwrap()
}

/// A reply of the model as the real stores give it.
fn texts(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Text(text) => text.iter().cloned().collect(),
        Reply::Did(did) => vec![did.to_string()],
        Reply::Row(row) => row.iter().map(body_of).collect(),
        Reply::Numbered(rows) => rows.iter().map(|(number, row)| format!("{number} {}", body_of(row))).collect(),
        Reply::Done => Vec::new(),
        reply => unreachable!("{reply:?} is no reply to these designs"),
    }
}
