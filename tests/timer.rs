//! The timer of an instance: which calls a ring wakes, when it rings next, and what replaces a ring that was cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use order::timer::{TimedCall, Timer};

fn is_late(call: &TimedCall) -> bool {
    call.poll_late(&Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_ring_wakes_late_calls_and_the_next_one_follows() {
    let (timer, start) = (Timer::new(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let [early, late] = [100, 600].map(|ms| timer.watch(at(ms)));
    assert!(!timer.rings_by(at(100), start));
    assert_eq!(timer.set(start), at(100));
    assert!(timer.rings_by(at(100), start) && timer.rings_by(at(600), start) && !timer.rings_by(at(99), start));
    assert_eq!(timer.ring(at(100), at(101)), Some(at(351)), "a quarter of a second later at the latest");
    assert_eq!((is_late(&early), is_late(&late)), (true, false));
    assert_eq!(timer.ring(at(351), at(351)), Some(at(600)));
    assert_eq!(timer.ring(at(600), at(600)), None, "no call waits");
    assert!(is_late(&late) && !timer.rings_by(at(900), at(601)));
}

#[test]
fn a_call_that_ended_is_not_waited_for() {
    let (timer, start) = (Timer::new(), Instant::now());
    drop(timer.watch(start));
    let ring = timer.set(start);
    assert_eq!((ring, timer.ring(ring, ring)), (start + Duration::from_millis(250), None));
}

#[test]
fn a_ring_that_was_set_again_is_left_to_the_later_one() {
    let (timer, start) = (Timer::new(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let first = timer.set(start);
    let call = timer.watch(at(50));
    let second = timer.set(start);
    assert_eq!((first, second), (at(250), at(50)));
    assert_eq!(timer.ring(first, at(60)), None);
    assert!(is_late(&call), "a ring wakes late calls, whichever call set it");
    assert_eq!(timer.ring(second, at(60)), None);
}

#[test]
fn a_ring_that_was_cut_is_replaced() {
    let (timer, start) = (Timer::new(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let stranded = timer.watch(at(100));
    timer.set(start);
    // The request that slept was cut. A later call finds its ring in the past, and sets another one for all.
    let _later = timer.watch(at(5000));
    assert!(timer.rings_by(at(5000), at(100)) && !timer.rings_by(at(5000), at(101)));
    let ring = timer.set(at(101));
    assert_eq!(timer.ring(ring, at(101)), Some(at(351)));
    assert!(is_late(&stranded));
}

/// A ring that has just passed looks like one that was cut until its request is polled.
#[test]
fn a_ring_that_replaces_a_past_one_comes_for_the_calls_that_relied_on_that() {
    let (timer, start) = (Timer::new(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let first = timer.watch(at(50));
    let past = timer.set(start);
    drop(first);
    let relying = timer.watch(at(52));
    assert!(timer.rings_by(at(52), at(49)));
    let _later = timer.watch(at(5000));
    assert!(!timer.rings_by(at(5000), at(51)));
    let ring = timer.set(at(51));
    assert_eq!((ring, timer.ring(past, at(51))), (at(52), None));
    assert_eq!(timer.ring(ring, at(52)), Some(at(302)));
    assert!(is_late(&relying));
}

#[test]
fn a_call_that_is_already_due_is_rung_for_once() {
    let (timer, start) = (Timer::new(), Instant::now());
    let now = start + Duration::from_millis(7);
    let call = timer.watch(start);
    let ring = timer.set(now);
    assert!(timer.rings_by(start, now));
    assert_eq!((timer.ring(ring, now), is_late(&call)), (None, true));
}
