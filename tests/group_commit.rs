//! Group commit in every order of events: up to four requests, a pause of the leader, and up to a given number of faults (a
//! request is cut, a statement fails, a leader loses patience). A request is polled only after it was woken, so a lost wake-up
//! leaves it unanswered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use order::group_commit::{GroupCommit, Groupable, Written};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    key: char,
    request: usize,
}

impl Groupable for Item {
    fn collides_with(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The events that a request of the world waits for: a statement's results, or the end of its patience.
struct Slot<V> {
    value: Option<V>,
    waker: Option<Waker>,
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self { value: None, waker: None }
    }
}

impl<V> Slot<V> {
    fn fill(slot: &RefCell<Self>, value: V) {
        slot.borrow_mut().value = Some(value);
        let waker = slot.borrow_mut().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    async fn filled(slot: &RefCell<Self>) -> V {
        poll_fn(|context| {
            let mut slot = slot.borrow_mut();
            slot.waker = Some(context.waker().clone());
            slot.value.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A statement that a leader has sent.
struct Statement {
    leader: usize,
    items: Vec<Item>,
    results: Rc<RefCell<Slot<Option<Vec<usize>>>>>,
    is_over: bool,
}

type Statements = Rc<RefCell<Vec<Statement>>>;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Request {
    future: Option<Pin<Box<dyn Future<Output = Written<usize>>>>>,
    woken: Arc<Woken>,
    /// Whether the pause was requested, and whether it is over.
    linger: Rc<Cell<(bool, bool)>>,
    linger_ends: Rc<RefCell<Slot<()>>>,
    patience: Rc<RefCell<Slot<()>>>,
    is_patient: bool,
    written: Option<Written<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Poll(usize),
    Cut(usize),
    LingerEnds(usize),
    PatienceEnds(usize),
    Succeeds(usize),
    Fails(usize),
}

struct World {
    requests: Vec<Request>,
    statements: Statements,
    /// The faults that may still happen.
    faults: usize,
}

impl World {
    fn new(keys: &str, faults: usize, is_busy: bool) -> Self {
        let (commit, statements) = (Rc::new(GroupCommit::default()), Statements::default());
        if is_busy {
            keep_busy(&commit);
        }
        let request = |(number, key)| {
            let patience = Rc::new(RefCell::new(Slot::default()));
            let (linger, linger_ends) = (Rc::new(Cell::new((false, false))), Rc::new(RefCell::new(Slot::default())));
            let (commit, statements, end) = (commit.clone(), statements.clone(), patience.clone());
            let (lingers, linger_end) = (linger.clone(), linger_ends.clone());
            let future = async move {
                let lingering = async {
                    lingers.set((true, false));
                    Slot::filled(&linger_end).await
                };
                let statement = async |items: Vec<Item>| {
                    let results = Rc::new(RefCell::new(Slot::default()));
                    statements.borrow_mut().push(Statement {
                        leader: number,
                        items,
                        results: results.clone(),
                        is_over: false,
                    });
                    Slot::filled(&results).await
                };
                commit.write(Item { key, request: number }, lingering, statement, Slot::filled(&end)).await
            };
            let woken = Arc::new(Woken(AtomicBool::new(true)));
            Request {
                future: Some(Box::pin(future)),
                woken,
                linger,
                linger_ends,
                patience,
                is_patient: true,
                written: None,
            }
        };
        let requests = keys.chars().enumerate().map(request).collect();
        Self { requests, statements, faults }
    }

    fn possible(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, request) in self.requests.iter().enumerate().filter(|(_, request)| request.future.is_some()) {
            if request.woken.0.load(Ordering::Relaxed) {
                events.push(Event::Poll(number));
            }
            if request.linger.get() == (true, false) {
                events.push(Event::LingerEnds(number));
            }
            if self.faults > 0 {
                events.push(Event::Cut(number));
            }
        }
        for (number, statement) in
            self.statements.borrow().iter().enumerate().filter(|(_, statement)| !statement.is_over)
        {
            events.push(Event::Succeeds(number));
            if self.faults > 0 {
                events.push(Event::Fails(number));
                if self.requests[statement.leader].is_patient {
                    events.push(Event::PatienceEnds(statement.leader));
                }
            }
        }
        events
    }

    fn happen(&mut self, event: Event) {
        if !matches!(event, Event::Poll(_) | Event::LingerEnds(_) | Event::Succeeds(_)) {
            self.faults -= 1;
        }
        match event {
            Event::Poll(number) => {
                let request = &mut self.requests[number];
                request.woken.0.store(false, Ordering::Relaxed);
                let waker = request.woken.clone().into();
                let poll = request.future.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(written) = poll {
                    request.written = Some(written);
                    request.future = None;
                }
            }
            Event::Cut(number) => {
                self.requests[number].future = None;
                // Its statement continues, and no request learns its result.
                for statement in self.statements.borrow_mut().iter_mut().filter(|statement| statement.leader == number)
                {
                    statement.is_over = true;
                }
            }
            Event::LingerEnds(number) => {
                self.requests[number].linger.set((true, true));
                Slot::fill(&self.requests[number].linger_ends, ());
            }
            Event::PatienceEnds(number) => {
                self.requests[number].is_patient = false;
                Slot::fill(&self.requests[number].patience, ());
            }
            Event::Succeeds(number) | Event::Fails(number) => {
                let statement = &mut self.statements.borrow_mut()[number];
                statement.is_over = true;
                // Each item's result names its request.
                let results = || statement.items.iter().map(|item| item.request).collect();
                Slot::fill(&statement.results, matches!(event, Event::Succeeds(_)).then(results));
            }
        }
        self.check_statements();
    }

    fn check_statements(&self) {
        let statements = self.statements.borrow();
        // A statement is in flight until its leader has learned its result.
        let heard = |statement: &Statement| self.requests[statement.leader].future.is_none();
        let items = statements.iter().filter(|statement| !heard(statement)).flat_map(|statement| &statement.items);
        let mut keys: Vec<_> = items.map(|item| item.key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key is in flight twice");
        for statement in statements.iter() {
            assert_eq!(statement.items[0].request, statement.leader, "the leader is the first");
        }
        let holding_up = |statement: &&Statement| !statement.is_over && self.requests[statement.leader].is_patient;
        assert!(statements.iter().filter(holding_up).count() <= 1, "two groups are in flight");
        for number in 0..self.requests.len() {
            let tries = statements.iter().flat_map(|statement| &statement.items).filter(|item| item.request == number);
            assert!(tries.count() <= 1, "request {number} is written twice");
        }
    }

    /// When no event is left.
    fn check_end(&self, happened: &[Event]) {
        let statements = self.statements.borrow();
        for (number, request) in
            self.requests.iter().enumerate().filter(|(number, _)| !happened.contains(&Event::Cut(*number)))
        {
            let own = statements.iter().position(|statement| statement.items.iter().any(|item| item.request == number));
            // A leader that was cut passed no result on.
            let succeeded = own.is_some_and(|own| {
                happened.contains(&Event::Succeeds(own)) && !happened.contains(&Event::Cut(statements[own].leader))
            });
            match request.written.expect("request is answered") {
                Written::Done(result) => assert!(result == number && own.is_some(), "request {number} got {result}"),
                Written::Unknown => assert!(own.is_some() && !succeeded, "request {number} has a result"),
                Written::NotTried => assert!(own.is_none(), "request {number} was tried"),
            }
        }
    }
}

/// Three requests; the second and third are sent together, so the next leader was in a group of several.
fn keep_busy(commit: &GroupCommit<Item, usize>) {
    let first = RefCell::new(Slot::default());
    let others = async |_: Vec<Item>| Some(vec![1, 2]);
    let mut requests: Vec<Pin<Box<dyn Future<Output = Written<usize>>>>> = Vec::new();
    let item = |request| Item { key: char::from(b'0' + request as u8), request };
    requests.push(Box::pin(commit.write(item(0), ready(()), async |_| Slot::filled(&first).await, pending())));
    requests.push(Box::pin(commit.write(item(1), ready(()), others, pending())));
    requests.push(Box::pin(commit.write(item(2), ready(()), others, pending())));
    let mut poll = |at: usize| requests[at].as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!((0..3).all(|at| poll(at).is_pending()));
    Slot::fill(&first, Some(vec![0]));
    for at in 0..3 {
        assert_eq!(poll(at), Poll::Ready(Written::Done(at)));
    }
}

/// Runs every order of events once, and returns how many there are and how large the groups were.
fn explore(keys: &str, faults: usize, is_busy: bool) -> (usize, BTreeMap<usize, usize>) {
    let (mut orders, mut sizes) = (0, BTreeMap::new());
    // Which of the possible events is chosen at each step, and out of how many.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    loop {
        let (mut world, mut happened) = (World::new(keys, faults, is_busy), Vec::new());
        loop {
            let possible = world.possible();
            // A request may be cut, but need not be.
            if possible.iter().all(|event| matches!(event, Event::Cut(_))) {
                break;
            }
            if happened.len() == choices.len() {
                choices.push((0, possible.len()));
            }
            let event = possible[choices[happened.len()].0];
            happened.push(event);
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.happen(event)));
            assert!(seen.is_ok(), "{happened:?}");
        }
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check_end(&happened)));
        assert!(seen.is_ok(), "{happened:?}");
        orders += 1;
        for statement in world.statements.borrow().iter() {
            *sizes.entry(statement.items.len()).or_default() += 1;
        }
        while choices.pop_if(|(chosen, of)| *chosen + 1 == *of).is_some() {}
        match choices.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return (orders, sizes),
        }
    }
}

#[test]
fn every_order_of_events_answers_each_request_with_its_own_result() {
    // Two are sent together only if a third is in flight, or if the leader lingers.
    for (keys, faults, is_busy, largest) in [
        ("a", 2, false, 1),
        ("ab", 3, false, 1),
        ("aa", 3, false, 1),
        ("abc", 2, false, 2),
        ("aab", 2, false, 2),
        ("aba", 2, false, 2),
        ("aaa", 1, false, 1),
        ("abcd", 0, false, 3),
        ("a", 2, true, 1),
        ("ab", 3, true, 2),
        ("aa", 3, true, 1),
        ("abc", 1, true, 3),
        ("aab", 1, true, 2),
    ] {
        let (orders, sizes) = explore(keys, faults, is_busy);
        let busy = if is_busy { ", lingering" } else { "" };
        println!("{keys}, {faults} faults{busy}: {orders} orders of events; groups by size: {sizes:?}");
        assert_eq!(sizes.keys().max(), Some(&largest), "{keys}");
    }
}
