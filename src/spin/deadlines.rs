//! Deadlines of host calls: one timer of an instance watches over the calls of all its requests.
//!
//! A timer is a host call too, started and cancelled, and one for each request would cost more than anything else that the
//! component does. So the first call that has to wait starts one for all that come. It rings when the first of them is due,
//! at the latest after a quarter of a second, and again, until none waits any more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use spin_sdk::wasip3::wit_bindgen;

/// The longest time between two rings. The request that started the timer stays with the host until the next one.
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);

/// The deadlines of one request.
pub struct Deadlines {
    /// When the clock was read last, which is a host call as well: a call begins when the one before it ended.
    read_at: Cell<Instant>,
}

impl Deadlines {
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
            Poll::Pending => watched.get_or_insert_with(|| Watched::until(due)).poll(context).map(|()| None),
        })
        .await;
        self.read_at.set(Instant::now());
        result
    }
}

thread_local! {
    /// The calls of this instance that wait.
    static CALLS: RefCell<Vec<Rc<Call>>> = const { RefCell::new(Vec::new()) };
    /// When the timer rings.
    static NEXT_RING: Cell<Option<Instant>> = const { Cell::new(None) };
}

struct Call {
    due: Instant,
    is_late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Call {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A call that is watched over until this is dropped.
struct Watched(Rc<Call>);

impl Watched {
    fn until(due: Instant) -> Self {
        let call = Rc::new(Call { due, is_late: Cell::new(false), waker: RefCell::new(None) });
        CALLS.with_borrow_mut(|calls| calls.push(call.clone()));
        Self(call)
    }

    /// Ready once the call is late.
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.0.is_late.get() {
            return Poll::Ready(());
        }
        self.0.waker.replace(Some(context.waker().clone()));
        if NEXT_RING.get().is_none_or(|ring| self.0.due < ring) {
            start_timer(self.0.due);
            // What is spawned is begun at the next turn, and nothing else may bring that about.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(|calls| calls.retain(|call| !Rc::ptr_eq(call, &self.0)));
    }
}

/// Rings by then, and again while calls wait, unless another timer is to ring earlier.
///
/// It runs within the request that started it, and longer than that one. The host must not cut a request and keep its
/// instance: later calls would take the timer for running. Neither Spin nor the bundled host does.
fn start_timer(first_due: Instant) {
    let mut now = Instant::now();
    let mut ring = first_due.min(now + LONGEST_INTERVAL);
    NEXT_RING.set(Some(ring));
    wit_bindgen::spawn(async move {
        while NEXT_RING.get() == Some(ring) {
            spin_sdk::time::sleep(ring.saturating_duration_since(now)).await;
            now = Instant::now();
            // Each is told once, and not waited for.
            let late: Vec<_> = CALLS.with_borrow_mut(|calls| calls.extract_if(.., |call| call.due <= now).collect());
            for call in late {
                call.is_late.set(true);
                call.wake();
            }
            if NEXT_RING.get() == Some(ring) {
                let next_due = CALLS.with_borrow(|calls| calls.iter().map(|call| call.due).min());
                let next = next_due.map(|due| due.min(now + LONGEST_INTERVAL));
                NEXT_RING.set(next);
                ring = next.unwrap_or(ring);
            }
        }
    });
}
