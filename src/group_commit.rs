//! Group commit: concurrent writes of one instance go to the store as a batch, in one statement.
//!
//! One batch is in flight at a time. Later requests queue; the first in the queue leads the next batch, which takes the whole
//! queue, and passes each request its own result. If no batch is in flight, a request is sent immediately, alone. If the last
//! batch had several requests, more may be about to arrive, so the leader waits for them a moment.
//!
//! No request depends on a leader. A leader that takes too long steps aside, and the next one leads. A leader that is
//! cancelled, for example by its own deadline, reports to its batch that the statement failed. Its outcome is then unknown, and
//! each request continues alone, which idempotency makes safe.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// An item that can be batched.
pub trait Groupable: Clone {
    /// Whether one of the two decides the other's result: the later one is then not batched.
    fn collides_with(&self, other: &Self) -> bool;
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written<R> {
    /// The statement ran and gave this.
    Done(R),
    /// The batch failed: whether the item was written is unknown.
    Unknown,
    /// Nothing was sent: the item collides with one in flight or in the queue.
    NotTried,
}

/// The writes of one instance.
pub struct GroupCommit<T, R>(RefCell<Queue<T, R>>);

struct Queue<T, R> {
    waiting: VecDeque<Rc<Seat<T, R>>>,
    in_flight: Vec<Rc<Seat<T, R>>>,
    /// The leader that the queue waits for.
    leader: Option<Rc<Seat<T, R>>>,
    /// Whether the last batch had more than one item.
    is_busy: bool,
}

/// A request's place in the queue or in a batch.
struct Seat<T, R> {
    item: T,
    /// Wakes the request when it has a result or is first in the queue.
    waker: Cell<Option<Waker>>,
    written: Cell<Option<Written<R>>>,
}

impl<T, R> Default for GroupCommit<T, R> {
    fn default() -> Self {
        Self(RefCell::new(Queue { waiting: VecDeque::new(), in_flight: Vec::new(), leader: None, is_busy: false }))
    }
}

impl<T: Groupable, R> GroupCommit<T, R> {
    /// Writes `item` with `statement`, alone or in a batch. `statement` returns the results in the order of its items.
    ///
    /// If the last batch had several items, a leader first waits for `linger`. Once `patience` is over, the statement that this
    /// request leads no longer holds up the next one.
    pub async fn write(
        &self,
        item: T,
        linger: impl Future<Output = ()>,
        statement: impl AsyncFnOnce(Vec<T>) -> Option<Vec<R>>,
        patience: impl Future<Output = ()>,
    ) -> Written<R> {
        let Some(request) = Writer::enqueue(self, item) else { return Written::NotTried };
        if let Some(written) = poll_fn(|context| request.poll_turn(context)).await {
            return written;
        }
        self.0.borrow_mut().leader = Some(request.seat.clone());
        let mut batch = Batch { leader: &request, seats: Vec::new(), results: Vec::new() };
        if self.0.borrow().is_busy {
            linger.await;
        }
        batch.take_the_queue();
        let mut results = pin!(statement(batch.seats.iter().map(|seat| seat.item.clone()).collect()));
        let mut patience = pin!(patience);
        let mut is_patient = true;
        let results = poll_fn(|context| {
            let poll = results.as_mut().poll(context);
            if poll.is_pending() && is_patient && patience.as_mut().poll(context).is_ready() {
                is_patient = false;
                batch.step_aside();
            }
            poll
        });
        batch.results = results.await.unwrap_or_default();
        drop(batch);
        request.seat.written.take().unwrap_or(Written::Unknown)
    }

    /// The next leader may have left by the time it wakes; leaving, it wakes the one after it.
    fn wake_next(&self) {
        let queue = self.0.borrow();
        if queue.leader.is_none()
            && let Some(next) = queue.waiting.front()
        {
            next.wake();
        }
    }
}

impl<T, R> Seat<T, R> {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A request that writes. It leaves the queue when it is dropped.
struct Writer<'a, T: Groupable, R> {
    commit: &'a GroupCommit<T, R>,
    seat: Rc<Seat<T, R>>,
}

impl<'a, T: Groupable, R> Writer<'a, T, R> {
    fn enqueue(commit: &'a GroupCommit<T, R>, item: T) -> Option<Self> {
        let mut queue = commit.0.borrow_mut();
        if queue.waiting.iter().chain(&queue.in_flight).any(|other| other.item.collides_with(&item)) {
            return None;
        }
        let seat = Rc::new(Seat { item, waker: Cell::default(), written: Cell::default() });
        queue.waiting.push_back(seat.clone());
        Some(Self { commit, seat })
    }

    /// Its result, or `None` when it is its turn to lead.
    fn poll_turn(&self, context: &Context<'_>) -> Poll<Option<Written<R>>> {
        if let Some(written) = self.seat.written.take() {
            return Poll::Ready(Some(written));
        }
        let queue = self.commit.0.borrow();
        if queue.leader.is_none() && queue.waiting.front().is_some_and(|first| Rc::ptr_eq(first, &self.seat)) {
            return Poll::Ready(None);
        }
        self.seat.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T: Groupable, R> Drop for Writer<'_, T, R> {
    fn drop(&mut self) {
        self.commit.0.borrow_mut().waiting.retain(|seat| !Rc::ptr_eq(seat, &self.seat));
        // It may have been woken to lead, so it wakes the next one.
        self.commit.wake_next();
    }
}

/// A batch, the leader first. When it is dropped, every request gets its result, or is told that the batch failed.
struct Batch<'a, T: Groupable, R> {
    leader: &'a Writer<'a, T, R>,
    seats: Vec<Rc<Seat<T, R>>>,
    results: Vec<R>,
}

impl<T: Groupable, R> Batch<'_, T, R> {
    fn take_the_queue(&mut self) {
        let mut queue = self.leader.commit.0.borrow_mut();
        self.seats = queue.waiting.drain(..).collect();
        queue.in_flight.extend_from_slice(&self.seats);
        queue.is_busy = self.seats.len() > 1;
    }

    /// Lets the next request lead while this batch is still in flight.
    fn step_aside(&self) {
        let Writer { commit, seat } = self.leader;
        commit.0.borrow_mut().leader.take_if(|leader| Rc::ptr_eq(leader, seat));
        commit.wake_next();
    }
}

impl<T: Groupable, R> Drop for Batch<'_, T, R> {
    fn drop(&mut self) {
        let mut results = std::mem::take(&mut self.results).into_iter();
        for seat in &self.seats {
            seat.written.set(Some(results.next().map_or(Written::Unknown, Written::Done)));
            seat.wake();
        }
        let mut queue = self.leader.commit.0.borrow_mut();
        queue.in_flight.retain(|seat| !self.seats.iter().any(|own| Rc::ptr_eq(own, seat)));
        drop(queue);
        self.step_aside();
    }
}
