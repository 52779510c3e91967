//! Deadlines of host calls: one timer for all those of a request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Keeps the deadlines of one request, whose calls come one after the other.
///
/// A timer is a host call too, started and cancelled, and a create makes three calls that need one.
/// So a timer that is running is left to run, and when it rings the call at hand may still have time.
#[derive(Default)]
pub struct Deadlines(RefCell<Option<Timer>>);

/// The longest that a timer runs, which is the shortest deadline by default: so the one that was set while the body came
/// serves the stores too.
const LONGEST_TIMER: Duration = Duration::from_millis(250);

struct Timer {
    rings_at: Instant,
    ring: Pin<Box<dyn Future<Output = ()>>>,
}

impl Deadlines {
    /// `work` unless it takes longer than `limit`, and how long it took.
    ///
    /// What is late is dropped, which cancels the host call.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> (Option<T>, Duration) {
        let started = Instant::now();
        let mut work = pin!(work);
        // The timer counts from the start of the work: to read the clock once more is a host call.
        let result = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_until(started, started + limit, context).map(|()| None),
        })
        .await;
        (result, started.elapsed())
    }

    /// `work` unless it is not done when `limit` has passed since `started`, which may be a while ago.
    pub async fn since<T>(&self, started: Instant, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_until(Instant::now(), started + limit, context).map(|()| None),
        })
        .await
    }

    fn poll_until(&self, mut now: Instant, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut running = self.0.borrow_mut();
        loop {
            // One that would ring too late is replaced.
            running.take_if(|timer| timer.rings_at > due);
            let timer = running.get_or_insert_with(|| {
                let rings_after = due.saturating_duration_since(now).min(LONGEST_TIMER);
                Timer { rings_at: now + rings_after, ring: Box::pin(spin_sdk::time::sleep(rings_after)) }
            });
            ready!(timer.ring.as_mut().poll(context));
            *running = None;
            now = Instant::now();
            if now >= due {
                return Poll::Ready(());
            }
        }
    }
}
