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

struct Timer {
    rings_at: Instant,
    ring: Pin<Box<dyn Future<Output = ()>>>,
}

impl Deadlines {
    /// `work` unless it takes longer than `limit`; what is late is dropped, which cancels the host call.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let due = Instant::now() + limit;
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_until(due, context).map(|()| None),
        })
        .await
    }

    fn poll_until(&self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut running = self.0.borrow_mut();
        loop {
            // One that would ring too late is replaced.
            running.take_if(|timer| timer.rings_at > due);
            let timer = running.get_or_insert_with(|| Timer {
                rings_at: due,
                ring: Box::pin(spin_sdk::time::sleep(due.saturating_duration_since(Instant::now()))),
            });
            ready!(timer.ring.as_mut().poll(context));
            let rang_at = timer.rings_at;
            *running = None;
            if rang_at >= due {
                return Poll::Ready(());
            }
        }
    }
}
