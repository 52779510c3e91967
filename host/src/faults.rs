//! Faults at host calls, for tests: the n-th call of a kind fails, is late, never ends, loses its reply,
//! or ends its instance. Faults are either chosen one by one or drawn from a seed.
//!
//! A plan counts the calls of all instances. What happens to the n-th call of a kind depends on the plan alone.

use crate::bindings::spin::postgres::postgres::Error as PgError;
use crate::bindings::spin::redis::redis::Error as RedisError;
use anyhow::{Context, Result, bail};
use fastrand::Rng;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The host calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the interfaces")]
pub enum Call {
    RedisOpen,
    RedisGet,
    RedisExecute,
    PgOpen,
    PgExecute,
    PgQuery,
}

/// Every kind of call, in the order of [`Plan::counts`], with its name.
pub const CALLS: [(&str, Call); 6] = [
    ("redis.open", Call::RedisOpen),
    ("redis.get", Call::RedisGet),
    ("redis.execute", Call::RedisExecute),
    ("pg.open", Call::PgOpen),
    ("pg.execute", Call::PgExecute),
    ("pg.query", Call::PgQuery),
];

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and has no effect.
    Fail,
    /// The call is made after a delay.
    Delay(Duration),
    /// The call is not made and never returns.
    Hang,
    /// The call is made and never returns.
    HangAfter,
    /// The call is made, and its reply is lost: the component sees an error.
    LoseReply,
    /// The instance dies before the call is made.
    KillBefore,
    /// The call is made, and the instance dies before it sees the reply.
    KillAfter,
}

impl Fault {
    /// Whether the fault ends the instance.
    pub fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter)
    }
}

/// A fault at the n-th call of a kind, counted from 1. Written `pg.execute:1:kill-after` or `redis.get:2:delay=50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The kind of call.
    pub call: Call,
    /// Which of its calls.
    pub nth: u32,
    /// What happens to it.
    pub fault: Fault,
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ':');
        let (Some(call), Some(nth), Some(fault)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("{text:?} is not call:n:fault");
        };
        let call = CALLS.iter().find(|(name, _)| *name == call).map(|(_, call)| *call);
        let fault = match (fault, fault.strip_prefix("delay=")) {
            ("fail", _) => Fault::Fail,
            ("hang", _) => Fault::Hang,
            ("hang-after", _) => Fault::HangAfter,
            ("lose-reply", _) => Fault::LoseReply,
            ("kill-before", _) => Fault::KillBefore,
            ("kill-after", _) => Fault::KillAfter,
            (_, Some(ms)) => Fault::Delay(Duration::from_millis(ms.parse().context("the delay is not in whole ms")?)),
            _ => bail!("a fault is fail, delay=<ms>, hang, hang-after, lose-reply, kill-before or kill-after"),
        };
        Ok(Self {
            call: call.with_context(|| format!("a call is one of {}", CALLS.map(|(name, _)| name).join(", ")))?,
            nth: nth.parse().context("n is not a number")?,
            fault,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.call, self.nth, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Delay(delay) => write!(f, "delay={}", delay.as_millis()),
            Self::Hang => f.write_str("hang"),
            Self::HangAfter => f.write_str("hang-after"),
            Self::LoseReply => f.write_str("lose-reply"),
            Self::KillBefore => f.write_str("kill-before"),
            Self::KillAfter => f.write_str("kill-after"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = CALLS.iter().find(|(_, call)| call == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Faults drawn at random, the same ones for the same seed. Written `SEED:PER_MILLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    /// Chooses which calls go wrong, and how.
    pub seed: u64,
    /// How many of 1 000 calls.
    pub per_mille: u64,
}

impl FromStr for Random {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (seed, per_mille) = text.split_once(':').with_context(|| format!("{text:?} is not seed:per_mille"))?;
        let per_mille = per_mille.parse().context("per_mille is not a number")?;
        Ok(Self { seed: seed.parse().context("the seed is not a number")?, per_mille })
    }
}

impl Random {
    fn fault(self, call: Call, nth: u32) -> Option<Fault> {
        // Each kind of call has its own stream of numbers: calls of different instances come in no fixed order.
        let mut stream = Rng::with_seed(self.seed);
        let mut random = Rng::with_seed(stream.u64(..) ^ ((call as u64) << 32 | u64::from(nth)));
        let (lot, kind, delay) = (random.u64(..1000), random.u8(..7), random.u64(..100));
        (lot < self.per_mille).then_some(match kind {
            0 => Fault::Fail,
            1 => Fault::Delay(Duration::from_millis(delay)),
            2 => Fault::Hang,
            3 => Fault::HangAfter,
            4 => Fault::LoseReply,
            5 => Fault::KillBefore,
            _ => Fault::KillAfter,
        })
    }
}

/// Which calls go wrong. Empty and without effect by default.
#[derive(Debug, Default)]
pub struct Plan {
    rules: Vec<Rule>,
    random: Option<Random>,
    counts: [AtomicU32; CALLS.len()],
    injected: Mutex<Vec<Rule>>,
}

impl Plan {
    /// A plan of these rules; a call without a rule may get a random fault.
    pub fn new(rules: Vec<Rule>, random: Option<Random>) -> Self {
        Self { rules, random, ..Self::default() }
    }

    /// How often each of [`CALLS`] was made.
    pub fn counts(&self) -> [u32; CALLS.len()] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The faults injected so far.
    pub fn injected(&self) -> Vec<Rule> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next(&self, call: Call) -> Option<Fault> {
        let nth = self.counts.get(call as usize)?.fetch_add(1, Ordering::Relaxed) + 1;
        let rule = self.rules.iter().find(|rule| rule.call == call && rule.nth == nth);
        let fault = rule.map(|rule| rule.fault).or_else(|| self.random?.fault(call, nth))?;
        let injected = Rule { call, nth, fault };
        eprintln!("fault: {injected}");
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).push(injected);
        Some(fault)
    }

    /// Does `work`, with the fault that the plan has for this call. The outer error ends the instance.
    pub(crate) async fn run<T, E: Injected>(
        &self,
        call: Call,
        work: impl Future<Output = wasmtime::Result<Result<T, E>>>,
    ) -> wasmtime::Result<Result<T, E>> {
        match self.next(call) {
            None => work.await,
            Some(Fault::Fail) => Ok(Err(E::injected())),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                work.await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                let _ = work.await?;
                std::future::pending().await
            }
            Some(Fault::LoseReply) => {
                let _ = work.await?;
                Ok(Err(E::injected()))
            }
            Some(Fault::KillBefore) => Err(wasmtime::format_err!("killed before {call}")),
            Some(Fault::KillAfter) => {
                let _ = work.await?;
                Err(wasmtime::format_err!("killed after {call}"))
            }
        }
    }
}

/// The error that an interface has for a broken connection.
pub(crate) trait Injected {
    fn injected() -> Self;
}

impl Injected for RedisError {
    fn injected() -> Self {
        Self::Other("injected fault".to_owned())
    }
}

impl Injected for PgError {
    fn injected() -> Self {
        Self::ConnectionFailed("injected fault".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_or_its_error_names_the_cause() {
        let rule: Rule = "redis.get:2:delay=50".parse().unwrap();
        assert_eq!(rule, Rule { call: Call::RedisGet, nth: 2, fault: Fault::Delay(Duration::from_millis(50)) });
        for wrong in ["", "pg.execute", "pg.exec:1:fail", "pg.open:x:fail", "pg.open:1:die", "pg.open:1:delay=x"] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn only_the_nth_call_of_its_kind_goes_wrong() {
        let plan = Plan::new(vec!["pg.open:2:fail".parse().unwrap()], None);
        let ok = || async { Ok(Ok::<_, PgError>(())) };
        assert!(plan.run(Call::PgOpen, ok()).await.unwrap().is_ok());
        assert!(plan.run(Call::PgExecute, ok()).await.unwrap().is_ok());
        assert!(plan.run(Call::PgOpen, ok()).await.unwrap().is_err());
        assert!(plan.run(Call::PgOpen, ok()).await.unwrap().is_ok());
        assert_eq!((plan.counts(), plan.injected()), ([0, 0, 0, 3, 1, 0], vec!["pg.open:2:fail".parse().unwrap()]));
    }

    #[test]
    fn a_seed_draws_the_same_faults_each_time_as_often_as_asked() {
        let random: Random = "7:30".parse().unwrap();
        let drawn: Vec<_> = (1..=10_000).map(|nth| random.fault(Call::PgExecute, nth)).collect();
        let faults: Vec<_> = drawn.iter().flatten().collect();
        assert!((200..400).contains(&faults.len()), "{}", faults.len());
        for name in ["fail", "hang", "hang-after", "lose-reply", "kill-before", "kill-after"] {
            assert!(faults.iter().any(|fault| fault.to_string() == name), "{name}");
        }
        assert!(faults.iter().any(|fault| matches!(fault, Fault::Delay(_))));
        assert_eq!(drawn, (1..=10_000).map(|nth| random.fault(Call::PgExecute, nth)).collect::<Vec<_>>());
        assert_ne!(drawn, (1..=10_000).map(|nth| random.fault(Call::PgOpen, nth)).collect::<Vec<_>>());
        assert!("7".parse::<Random>().is_err());
    }
}
