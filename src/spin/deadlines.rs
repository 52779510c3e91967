//! RequestClock of host calls, by the one timer of the instance.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use spin_sdk::wasip3::wit_bindgen;

use crate::timer::{TimedCall, Timer};

thread_local! {
    static TIMER: Timer = const { Timer::new() };
}

/// The deadlines of one request.
pub struct RequestClock {
    /// When the clock was read last, which is a host call as well: a call begins when the one before it ended.
    read_at: Cell<Instant>,
}

impl RequestClock {
    /// Of a request that began then.
    pub fn from(started: Instant) -> Self {
        Self { read_at: Cell::new(started) }
    }

    /// The time as it was read last.
    pub fn read_at(&self) -> Instant {
        self.read_at.get()
    }

    /// `work` unless it takes longer than `limit`, and how long it took.
    ///
    /// What is late is dropped, which cancels the host call.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> (Option<T>, Duration) {
        let started = self.read_at.get();
        (self.until(started + limit, work).await, self.read_at.get() - started)
    }

    /// `work` unless it is not done by then.
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

/// Ready once the timer has rung and the call is late. Where no ring comes in time, this request keeps the timer.
fn poll_late(watched: &mut Option<Rc<TimedCall>>, due: Instant, now: Instant, context: &Context<'_>) -> Poll<()> {
    let late = watched.get_or_insert_with(|| TIMER.with(|timer| timer.watch(due))).poll_late(context);
    if late.is_pending() && !TIMER.with(|timer| timer.rings_by(due, now)) {
        keep_timer(due);
        // What is spawned is begun at the next turn, and nothing else may bring that about.
        context.waker().wake_by_ref();
    }
    late
}

/// Sleeps until the first ring, and on while calls wait.
///
/// An instance has no task of its own: every host call is made within some request. So the request that needed the ring
/// sleeps for all, and stays with the host until the ring after its answer. Neither Spin nor the bundled host cuts a request
/// and keeps its instance. Where one did, the next call behind the ring would find it in the past, and keep the timer.
fn keep_timer(due: Instant) {
    let mut now = Instant::now();
    let mut next = Some(TIMER.with(|timer| timer.set(due, now)));
    wit_bindgen::spawn(async move {
        while let Some(ring) = next {
            spin_sdk::time::sleep(ring.saturating_duration_since(now)).await;
            now = Instant::now();
            next = TIMER.with(|timer| timer.ring(ring, now));
        }
    });
}
