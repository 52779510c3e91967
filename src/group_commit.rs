//! Group commit: concurrent writes of one instance go to the store as a batch, in one statement.
//!
//! One batch is in flight at a time. Later requests queue; the first in the queue leads the next batch, which takes the whole
//! queue, and passes each request its own result. If no batch is in flight, a request is sent immediately, alone. If the last
//! batch had several requests, more may be about to arrive, so the leader waits for them a moment.
//!
//! No request depends on a leader. A leader that takes too long steps aside, and the next one leads. A leader that is
//! cancelled, for example by its own deadline, reports to its batch that the statement failed. Its outcome is then unknown, and
//! each request continues alone, which idempotency makes safe.

use std::cell::RefCell;
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
    stage: RefCell<Stage<R>>,
}

enum Stage<R> {
    /// Until it has a result or is first in the queue; the waker for then.
    Waits(Option<Waker>),
    Settled(Written<R>),
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
        let mut batch = Batch::led_by(self, &request.seat);
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
        for (seat, result) in batch.seats.iter().zip(results.await.into_iter().flatten()) {
            seat.settle(Written::Done(result));
        }
        drop(batch);
        request.result()
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
        if let Stage::Waits(waker) = &mut *self.stage.borrow_mut()
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    fn settle(&self, written: Written<R>) {
        if let Stage::Waits(Some(waker)) = self.stage.replace(Stage::Settled(written)) {
            waker.wake();
        }
    }

    fn is_settled(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Settled(_))
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
        let seat = Rc::new(Seat { item, stage: RefCell::new(Stage::Waits(None)) });
        queue.waiting.push_back(seat.clone());
        Some(Self { commit, seat })
    }

    /// Its result, or `None` when it is its turn to lead.
    fn poll_turn(&self, context: &Context<'_>) -> Poll<Option<Written<R>>> {
        if self.seat.is_settled() {
            return Poll::Ready(Some(self.result()));
        }
        let queue = self.commit.0.borrow();
        if queue.leader.is_none() && queue.waiting.front().is_some_and(|first| Rc::ptr_eq(first, &self.seat)) {
            return Poll::Ready(None);
        }
        self.seat.stage.replace(Stage::Waits(Some(context.waker().clone())));
        Poll::Pending
    }

    fn result(&self) -> Written<R> {
        match self.seat.stage.replace(Stage::Waits(None)) {
            Stage::Settled(written) => written,
            Stage::Waits(_) => Written::Unknown,
        }
    }
}

impl<T: Groupable, R> Drop for Writer<'_, T, R> {
    fn drop(&mut self) {
        self.commit.0.borrow_mut().waiting.retain(|seat| !Rc::ptr_eq(seat, &self.seat));
        // It may have been woken to lead, so it wakes the next one.
        self.commit.wake_next();
    }
}

/// A batch, the leader first. When it is dropped, every request without a result is told that the batch failed.
struct Batch<'a, T: Groupable, R> {
    commit: &'a GroupCommit<T, R>,
    leader: Rc<Seat<T, R>>,
    seats: Vec<Rc<Seat<T, R>>>,
}

impl<'a, T: Groupable, R> Batch<'a, T, R> {
    fn led_by(commit: &'a GroupCommit<T, R>, leader: &Rc<Seat<T, R>>) -> Self {
        commit.0.borrow_mut().leader = Some(leader.clone());
        Self { commit, leader: leader.clone(), seats: Vec::new() }
    }

    fn take_the_queue(&mut self) {
        let mut queue = self.commit.0.borrow_mut();
        self.seats = queue.waiting.drain(..).collect();
        queue.in_flight.extend_from_slice(&self.seats);
        queue.is_busy = self.seats.len() > 1;
    }

    fn is_own(&self, seat: &Rc<Seat<T, R>>) -> bool {
        self.seats.iter().any(|own| Rc::ptr_eq(own, seat))
    }

    /// Lets the next request lead while this batch is still in flight.
    fn step_aside(&self) {
        self.commit.0.borrow_mut().leader.take_if(|leader| Rc::ptr_eq(leader, &self.leader));
        self.commit.wake_next();
    }
}

impl<T: Groupable, R> Drop for Batch<'_, T, R> {
    fn drop(&mut self) {
        for seat in self.seats.iter().filter(|seat| !seat.is_settled()) {
            seat.settle(Written::Unknown);
        }
        self.commit.0.borrow_mut().in_flight.retain(|seat| !self.is_own(seat));
        self.step_aside();
    }
}
