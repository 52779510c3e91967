//! The timer of an instance: it watches the deadlines of all its requests. Pure: `spin::deadlines` does the sleeping.
//!
//! A sleep is a host call, started and cancelled; one per request would cost more than anything else that the component
//! does. So all requests share one: it rings when the first call is due, after a quarter of a second at the latest, and
//! again until no call is waiting.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The longest time between two rings.
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);

/// The calls that are waiting, and the time of the next ring.
pub struct Timer {
    /// Calls that have ended are removed at the next ring.
    calls: RefCell<Vec<Weak<TimedCall>>>,
    next_ring: Cell<Option<Instant>>,
}

/// A call with a deadline. It is watched until it is dropped.
pub struct TimedCall {
    due: Instant,
    is_late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl TimedCall {
    /// Ready once the timer has rung and the call was due.
    pub fn poll_late(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_late.get() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Timer {
    /// Without calls.
    #[expect(clippy::new_without_default, reason = "for a static")]
    pub const fn new() -> Self {
        Self { calls: RefCell::new(Vec::new()), next_ring: Cell::new(None) }
    }

    /// Watches a call that is due at `due`.
    pub fn watch(&self, due: Instant) -> Rc<TimedCall> {
        let call = Rc::new(TimedCall { due, is_late: Cell::new(false), waker: RefCell::new(None) });
        self.calls.borrow_mut().push(Rc::downgrade(&call));
        call
    }

    /// Whether a request sleeps until a ring by `due`. A ring before `now` never comes: the request that slept was cut off.
    pub fn rings_by(&self, due: Instant, now: Instant) -> bool {
        self.next_ring.get().is_some_and(|ring| (now.min(due)..=due).contains(&ring))
    }

    /// Sets the next ring: when the first call is due, after [`LONGEST_INTERVAL`] at the latest. A request that sleeps until
    /// another ring need not ring any more.
    ///
    /// It covers all calls: some may rely on the ring that it replaces, which counts as cut as soon as it is past, even if its
    /// request was only not polled yet.
    pub fn set(&self, now: Instant) -> Instant {
        let first_due = self.calls.borrow().iter().filter_map(Weak::upgrade).map(|call| call.due).min();
        let latest = now + LONGEST_INTERVAL;
        let ring = first_due.map_or(latest, |due| due.min(latest));
        self.next_ring.set(Some(ring));
        ring
    }

    /// Notifies each late call, once. Returns the next ring if calls are waiting and `ring` is the ring that was set.
    pub fn ring(&self, ring: Instant, now: Instant) -> Option<Instant> {
        let mut calls = self.calls.take();
        calls.retain(|call| {
            let Some(call) = call.upgrade() else { return false };
            call.is_late.set(call.due <= now);
            if call.is_late.get() {
                call.waker.take().into_iter().for_each(Waker::wake);
            }
            call.due > now
        });
        let is_waiting = !calls.is_empty();
        self.calls.replace(calls);
        if self.next_ring.get() != Some(ring) {
            return None;
        }
        self.next_ring.set(None);
        is_waiting.then(|| self.set(now))
    }
}
