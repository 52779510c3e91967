//! Group commit: what several requests of one instance write at the same time goes to the store in one statement.
//!
//! One group is on its way at a time. Who comes meanwhile waits, and the first of those who wait leads the next group: it
//! takes all of them along, and tells each one its own result. A request that finds nobody on the way goes at once, unless
//! the group before it had several: then more may be about to come, and it lingers for them a moment.
//!
//! Nobody depends on a leader. One that takes too long steps aside, and the next one leads. One that is cut, as by its own
//! deadline, tells those it took along that their group failed: what became of the statement is unknown then, and each goes
//! on alone, which idempotency makes safe.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What may go together.
pub trait Groupable: Clone {
    /// Whether one of the two decides about the other: then the later one goes alone.
    fn collides_with(&self, other: &Self) -> bool;
}

/// What came of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written<R> {
    /// The statement ran and gave this.
    Done(R),
    /// Its group failed: whether it was written is unknown.
    Unknown,
    /// Nothing was done, since it collides with one that is on its way or waits.
    NotTried,
}

/// The requests of one instance that write.
pub struct GroupCommit<T, R>(RefCell<Queue<T, R>>);

struct Queue<T, R> {
    waiting: VecDeque<Rc<Seat<T, R>>>,
    on_the_way: Vec<Rc<Seat<T, R>>>,
    /// The leader that those who wait are waiting for.
    leader: Option<Rc<Seat<T, R>>>,
    /// Whether the last group had more than one.
    is_busy: bool,
}

/// The place of a request.
struct Seat<T, R> {
    item: T,
    stage: RefCell<Stage<R>>,
}

enum Stage<R> {
    /// Until it is told something, or is first in line. Whom to wake then.
    Waits(Option<Waker>),
    Told(Written<R>),
}

impl<T, R> Default for GroupCommit<T, R> {
    fn default() -> Self {
        Self(RefCell::new(Queue { waiting: VecDeque::new(), on_the_way: Vec::new(), leader: None, is_busy: false }))
    }
}

impl<T: Groupable, R> GroupCommit<T, R> {
    /// Writes `item` by `statement`, alone or with others, whose results come in the order of the items.
    ///
    /// While there is company it begins after `linger`. Once `patience` is over, a statement that this request leads holds up
    /// no other one any longer.
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
        let mut group = Group::led_by(self, &request.seat);
        if self.0.borrow().is_busy {
            linger.await;
        }
        group.take_those_who_wait();
        let mut results = pin!(statement(group.seats.iter().map(|seat| seat.item.clone()).collect()));
        let mut patience = pin!(patience);
        let mut is_patient = true;
        let results = poll_fn(|context| {
            let poll = results.as_mut().poll(context);
            if poll.is_pending() && is_patient && patience.as_mut().poll(context).is_ready() {
                is_patient = false;
                group.step_aside();
            }
            poll
        });
        for (seat, result) in group.seats.iter().zip(results.await.into_iter().flatten()) {
            seat.tell(Written::Done(result));
        }
        drop(group);
        request.told()
    }

    /// The one that leads next may have left by the time it wakes: then it wakes the one behind it.
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

    fn tell(&self, written: Written<R>) {
        if let Stage::Waits(Some(waker)) = self.stage.replace(Stage::Told(written)) {
            waker.wake();
        }
    }

    fn is_told(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Told(_))
    }
}

/// A request that writes. It leaves the line when it is dropped.
struct Writer<'a, T: Groupable, R> {
    commit: &'a GroupCommit<T, R>,
    seat: Rc<Seat<T, R>>,
}

impl<'a, T: Groupable, R> Writer<'a, T, R> {
    fn enqueue(commit: &'a GroupCommit<T, R>, item: T) -> Option<Self> {
        let mut queue = commit.0.borrow_mut();
        if queue.waiting.iter().chain(&queue.on_the_way).any(|other| other.item.collides_with(&item)) {
            return None;
        }
        let seat = Rc::new(Seat { item, stage: RefCell::new(Stage::Waits(None)) });
        queue.waiting.push_back(seat.clone());
        Some(Self { commit, seat })
    }

    /// What it was told, or nothing when it is its turn to lead.
    fn poll_turn(&self, context: &Context<'_>) -> Poll<Option<Written<R>>> {
        if self.seat.is_told() {
            return Poll::Ready(Some(self.told()));
        }
        let queue = self.commit.0.borrow();
        if queue.leader.is_none() && queue.waiting.front().is_some_and(|first| Rc::ptr_eq(first, &self.seat)) {
            return Poll::Ready(None);
        }
        self.seat.stage.replace(Stage::Waits(Some(context.waker().clone())));
        Poll::Pending
    }

    fn told(&self) -> Written<R> {
        match self.seat.stage.replace(Stage::Waits(None)) {
            Stage::Told(written) => written,
            Stage::Waits(_) => Written::Unknown,
        }
    }
}

impl<T: Groupable, R> Drop for Writer<'_, T, R> {
    fn drop(&mut self) {
        self.commit.0.borrow_mut().waiting.retain(|seat| !Rc::ptr_eq(seat, &self.seat));
        // It may have been woken to lead.
        self.commit.wake_next();
    }
}

/// Those who go together, the leader first. When it is dropped, whoever was told nothing is told that it failed.
struct Group<'a, T: Groupable, R> {
    commit: &'a GroupCommit<T, R>,
    leader: Rc<Seat<T, R>>,
    seats: Vec<Rc<Seat<T, R>>>,
}

impl<'a, T: Groupable, R> Group<'a, T, R> {
    fn led_by(commit: &'a GroupCommit<T, R>, leader: &Rc<Seat<T, R>>) -> Self {
        commit.0.borrow_mut().leader = Some(leader.clone());
        Self { commit, leader: leader.clone(), seats: Vec::new() }
    }

    fn take_those_who_wait(&mut self) {
        let mut queue = self.commit.0.borrow_mut();
        self.seats = queue.waiting.drain(..).collect();
        queue.on_the_way.extend_from_slice(&self.seats);
        queue.is_busy = self.seats.len() > 1;
    }

    fn is_own(&self, seat: &Rc<Seat<T, R>>) -> bool {
        self.seats.iter().any(|own| Rc::ptr_eq(own, seat))
    }

    /// Lets the next one lead, while this one is still on its way.
    fn step_aside(&self) {
        self.commit.0.borrow_mut().leader.take_if(|leader| Rc::ptr_eq(leader, &self.leader));
        self.commit.wake_next();
    }
}

impl<T: Groupable, R> Drop for Group<'_, T, R> {
    fn drop(&mut self) {
        for seat in self.seats.iter().filter(|seat| !seat.is_told()) {
            seat.tell(Written::Unknown);
        }
        self.commit.0.borrow_mut().on_the_way.retain(|seat| !self.is_own(seat));
        self.step_aside();
    }
}
