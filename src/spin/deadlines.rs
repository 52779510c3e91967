//! Deadlines of host calls, kept by the one timer of the instance.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use spin_sdk::wasip3::wit_bindgen;

use super::timestamp;
use crate::timer::{TimedCall, Timer};
use crate::trace::Measured;

thread_local! {
    static TIMER: Timer = const { Timer::new() };
}

/// The clock and the deadlines of one request.
pub struct RequestClock {
    started: Instant,
    /// When the clock was last read. Reading it is a host call too, so a call is taken to begin when the previous one ended.
    pub read_at: Cell<Instant>,
    /// How long the request has waited for Redis.
    pub redis: Cell<Duration>,
    /// How long it has waited for PostgreSQL.
    pub postgres: Cell<Duration>,
}

impl RequestClock {
    pub fn from(started: Instant) -> Self {
        Self { started, read_at: Cell::new(started), redis: Cell::default(), postgres: Cell::default() }
    }

    /// For the log of a request that arrived at `at`, since the beginning of 1970, and is answered now.
    pub fn measured(&self, at: Duration) -> Measured {
        Measured {
            at: timestamp(at),
            duration: self.started.elapsed(),
            redis: self.redis.get(),
            postgres: self.postgres.get(),
        }
    }

    /// The result of `work`, or `None` if it takes longer than `limit`. The time that it took is added to `waited`.
    ///
    /// Late `work` is dropped, which cancels its host call.
    pub async fn within<T>(
        &self,
        limit: Duration,
        waited: &Cell<Duration>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let started = self.read_at.get();
        let result = self.until(started + limit, work).await;
        waited.set(waited.get() + (self.read_at.get() - started));
        result
    }

    /// The result of `work`, or `None` if it is not done by `due`.
    pub async fn until<T>(&self, due: Instant, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut watched) = (pin!(work), None);
        let result = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => poll_late(&mut watched, due, self.read_at.get(), context).map(|()| None),
        })
        .await;
        self.read_at.set(Instant::now());
        result
    }
}

/// Ready once the timer has rung and the call is late. If no ring would come in time, this request keeps the timer.
fn poll_late(watched: &mut Option<Rc<TimedCall>>, due: Instant, now: Instant, context: &Context<'_>) -> Poll<()> {
    let late = watched.get_or_insert_with(|| TIMER.with(|timer| timer.watch(due))).poll_late(context);
    if late.is_pending() && !TIMER.with(|timer| timer.rings_by(due, now)) {
        keep_timer();
        // A spawned task starts at the next poll, and nothing else may cause one.
        context.waker().wake_by_ref();
    }
    late
}

/// Sleeps until the first ring, and again while calls are waiting.
///
/// An instance has no task of its own: every host call belongs to a request. So the request that needed the ring sleeps for
/// all, and stays with the host until the ring after its answer. Neither Spin nor the bundled host cancels a request and
/// keeps its instance. If one did, the next call after that ring would find the ring in the past and keep the timer.
fn keep_timer() {
    let mut now = Instant::now();
    let mut next = Some(TIMER.with(|timer| timer.set(now)));
    wit_bindgen::spawn(async move {
        while let Some(ring) = next {
            spin_sdk::time::sleep(ring.saturating_duration_since(now)).await;
            now = Instant::now();
            next = TIMER.with(|timer| timer.ring(ring, now));
        }
    });
}
