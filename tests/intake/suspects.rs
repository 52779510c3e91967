//! Commands that fail, that end their instance or that cannot be read, and the other commands.

use std::collections::BTreeSet;

use order::intake::{CommandId, PAGE};
use order::stores::StoreError;

use crate::ORDER;
use crate::queue::Queue;

fn broken() -> StoreError {
    StoreError::Broken("a value out of range".into())
}

fn commands_of(queue: &Queue) -> Vec<CommandId> {
    queue.results.borrow().iter().map(|result| result.command).collect()
}

#[tokio::test]
async fn a_cause_outside_the_command_never_settles_it() {
    let outside = [
        StoreError::Unavailable("42501: permission denied for table orders".into()),
        StoreError::KeyInUse("held".into()),
        // No order at all is placed, so the command is not the cause: for example, a later schema has another required column.
        broken(),
    ];
    for cause in outside {
        let queue = Queue::new();
        (0..40).for_each(|at| _ = queue.place(&format!("k-{at}"), ORDER));
        queue.app.orders.failure.replace(Some(cause.clone()));
        for _ in 0..20 {
            queue.ring().await;
        }
        // A refusal before PostgreSQL is called shows nothing about PostgreSQL.
        queue.place("k", "{}");
        queue.ring().await;
        assert!(queue.statuses().iter().all(|status| *status == 422), "{cause}: {:?}", queue.statuses());
        assert_eq!((queue.left().len() >= 40, queue.reports.borrow().len()), (true, 0), "{cause}");
        queue.app.orders.failure.replace(None);
        queue.ring().await;
        assert_eq!((queue.is_settled(), queue.app.order_count()), (true, 40), "{cause}");
    }
}

#[tokio::test]
async fn a_command_that_fails_alone_is_given_up_at_its_fifth_delivery() {
    let queue = Queue::new();
    let id = queue.place("bad", ORDER);
    queue.failing.borrow_mut().insert(id, broken());
    for at in 0..4 {
        queue.place(&format!("good-{at}"), ORDER);
        queue.ring().await;
        assert_eq!((queue.left(), queue.reports.borrow().len()), (vec![id], 0));
    }
    // Alone it proves nothing, and neither does a replay, which inserts nothing.
    queue.ring().await;
    queue.place("good-0", ORDER);
    queue.ring().await;
    assert_eq!(queue.left(), [id]);
    queue.place("good-4", ORDER);
    queue.ring().await;
    assert_eq!((queue.is_settled(), queue.slug().as_str()), (true, "internal"));
    assert_eq!(*queue.reports.borrow(), [format!("command given up: {id}, delivery 7")]);
    assert!(!String::from_utf8_lossy(&queue.results.borrow().last().unwrap().body).contains("range"));
}

#[tokio::test]
async fn a_command_that_ends_its_instance_comes_after_all_others_and_ends_it_alone() {
    let queue = Queue::new();
    let (killer, tried) = (queue.place_overdue("killer", ORDER, 9), queue.place_overdue("tried twice", ORDER, 2));
    let once = queue.place_overdue("taken once", ORDER, 1);
    let new: Vec<_> = (0..3).map(|at| queue.place(&format!("new-{at}"), ORDER)).collect();
    queue.killer.set(Some(killer));
    queue.ring().await;
    assert_eq!(commands_of(&queue)[4], tried);
    let others = BTreeSet::from_iter(new.into_iter().chain([once, tried]));
    assert_eq!(BTreeSet::from_iter(commands_of(&queue)), others);
    assert_eq!((queue.left(), queue.pending.borrow().len()), (vec![killer], 1));
}

/// Whatever the position of the killer among the commands that it takes down, each of them is finally settled.
#[tokio::test]
async fn a_command_that_ends_its_instance_delays_no_other_one_forever() {
    for place in [0, 1, 7, 15, 19] {
        let queue = Queue::new();
        let ids: Vec<_> = (0..20).map(|at| queue.place(&format!("k-{at}"), ORDER)).collect();
        queue.killer.set(Some(ids[place]));
        for _ in 0..10 {
            queue.ring().await;
        }
        assert_eq!((queue.left(), queue.app.order_count()), (vec![ids[place]], 19), "{place}");
    }
}

#[tokio::test]
async fn what_was_delivered_most_often_is_answered_alone() {
    let queue = Queue::new();
    let ids: Vec<_> = (0..6).map(|at| queue.place_overdue(&format!("k-{at}"), ORDER, 6)).collect();
    (0..40).for_each(|at| _ = queue.place(&format!("new-{at}"), ORDER));
    queue.ring().await;
    assert!(queue.is_settled());
    let alone = queue.alone.borrow();
    assert!(ids.iter().all(|id| alone.contains(id)), "{alone:?}");
}

#[tokio::test]
async fn suspects_get_a_share_of_a_stream_that_never_ends() {
    let queue = Queue::new();
    let suspects: Vec<_> = [2, 4, 5, 50].map(|deliveries| queue.place_overdue("k", ORDER, deliveries)).into();
    queue.place("first", ORDER);
    queue.coming.set(1500);
    queue.ring().await;
    let results = commands_of(&queue);
    for suspect in suspects {
        let at = results.iter().position(|id| *id == suspect).unwrap();
        assert!((1000..1010).contains(&at), "{at} of {}", results.len());
    }
    assert!(queue.is_settled());
}

/// Each wait for a key in use takes seconds.
#[tokio::test]
async fn new_commands_get_a_share_among_many_that_fail() {
    let queue = Queue::new();
    for at in 0..PAGE {
        let id = queue.place_overdue(&format!("held-{at}"), ORDER, 9);
        queue.failing.borrow_mut().insert(id, StoreError::KeyInUse("held".into()));
    }
    queue.comes_at_answer.set(10);
    queue.ring().await;
    assert_eq!(queue.answers.borrow()[..17].iter().filter(|status| **status == 201).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_in_the_stream() {
    let queue = Queue::new();
    let ids: Vec<_> = (0..3005).map(|at| queue.place(&format!("k-{at}"), ORDER)).collect();
    let large = [0, 1, 2, 30, 31].map(|at: usize| ids[at]).to_vec();
    queue.unreadable.borrow_mut().extend(large.iter().copied());
    for _ in 0..10 {
        queue.ring().await;
        assert_eq!((queue.left(), queue.app.order_count()), (large.clone(), 3000));
        assert!(queue.pending.borrow().keys().eq(&large));
        assert_eq!(
            queue.reports.borrow_mut().drain(..).collect::<Vec<_>>(),
            ["commands left for later: store unavailable: no answer"]
        );
    }
}

#[tokio::test]
async fn a_group_that_is_set_back_loses_no_command() {
    let queue = Queue::new();
    (0..3).for_each(|at| _ = queue.place(&format!("k-{at}"), ORDER));
    queue.ring().await;
    let (held, key_of_it) = (queue.place("held", ORDER), StoreError::KeyInUse("held".into()));
    queue.failing.borrow_mut().insert(held, key_of_it);
    queue.place("k-3", ORDER);
    queue.ring().await;
    assert_eq!(queue.left(), [held]);
    // By hand, which forgets the pending entries.
    queue.last_given.set(None);
    queue.pending.borrow_mut().clear();
    queue.failing.borrow_mut().clear();
    queue.ring().await;
    assert_eq!((queue.is_settled(), queue.app.order_count(), queue.statuses().len()), (true, 5, 5));
}

#[tokio::test]
async fn more_is_overdue_than_a_page_has() {
    for deliveries in [1, 4, 9] {
        let queue = Queue::new();
        let count = 3 * PAGE + 1;
        let ids: Vec<_> = (0..count).map(|at| queue.place_overdue(&format!("k-{at}"), ORDER, deliveries)).collect();
        // Deleted by hand: these are forgotten.
        ids[..PAGE].iter().for_each(|id| _ = queue.entries.borrow_mut().remove(id));
        queue.ring().await;
        assert_eq!((queue.is_settled(), queue.app.order_count()), (true, count - PAGE), "{deliveries}");
    }
}

/// Stuck entries at the beginning of the list hide no later ones.
#[tokio::test]
async fn a_page_of_keys_in_use_does_not_hide_the_next_page() {
    let queue = Queue::new();
    for at in 0..PAGE {
        let id = queue.place_overdue(&format!("held-{at}"), ORDER, 9);
        queue.failing.borrow_mut().insert(id, StoreError::KeyInUse("held".into()));
    }
    queue.place_overdue("k", ORDER, 1);
    queue.ring().await;
    assert_eq!((queue.statuses(), queue.left().len()), (vec![201], PAGE));
}

#[tokio::test]
async fn an_instance_that_dies_after_any_call_leaves_nothing_unsettled() {
    let commands = |queue: &Queue| {
        (0..20).for_each(|at| _ = queue.place(&format!("k-{}", at % 15), ORDER));
    };
    let dry = Queue::new();
    commands(&dry);
    dry.ring().await;
    for after in 1..=dry.calls.get() {
        let queue = Queue::new();
        commands(&queue);
        queue.dies_after.set(after);
        queue.ring().await;
        queue.ring().await;
        assert!(queue.is_settled(), "after {after}: {:?} {:?}", queue.left(), queue.pending);
        assert_eq!((queue.app.order_count(), queue.reports.borrow().len()), (15, 0), "after {after}");
        let told = BTreeSet::from_iter(commands_of(&queue));
        assert_eq!(told.len(), 20, "after {after}");
    }
}
