//! The cursor: what a reader of the feed has already seen.

use std::fmt::{self, Write as _};

use uuid::Uuid;

use crate::stores::{Events, Position, Snapshot, Sweep};

/// Most open transactions that a cursor names, so that it fits into a URL. With more, changes from the next one on are left
/// to later pages, and some repeat.
pub const MAX_OPEN: usize = 1000;

/// A client's position in the feed. To the client it is opaque digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The life of the database that the transaction ids belong to.
    pub epoch: i64,
    /// What was read and what is being read.
    pub sweep: Sweep,
}

/// The sweep after the page; the next sweep if this was its last page.
pub(super) fn sweep_after(Sweep { done, begun }: Sweep, page: &Events) -> Sweep {
    let (reading, before) = match begun {
        // Nothing new, unless PostgreSQL crashed meanwhile: it may reuse the ids of transactions that left no trace.
        Some((reading, before)) => (reading.and(&page.now), Some(before)),
        None => (page.now.clone(), None),
    };
    let last = page.events.last().map(|event| event.position()).or(before);
    if let Some(last) = last.filter(|_| page.has_more) {
        return Sweep { done, begun: Some((named(reading), last)) };
    }
    // Not all that `reading` shows: after a crash, PostgreSQL reuses the ids after the last commit. It reuses none up to the
    // last change that was read, and after that there was nothing to read.
    let read = last.map_or(done.xmax, |last| done.xmax.max(after(last.xid)));
    Sweep { done: named(reading.up_to(read)), begun: None }
}

/// The next id. PostgreSQL skips those whose lower half is zero, and does not read them either.
fn after(xid: u64) -> u64 {
    let next = xid.saturating_add(1);
    if is_id(next) { next } else { next.saturating_add(1) }
}

fn is_id(xid: u64) -> bool {
    xid as u32 != 0
}

/// The snapshot with at most as many open transactions as a cursor names.
fn named(snapshot: Snapshot) -> Snapshot {
    match snapshot.open.get(MAX_OPEN).copied() {
        Some(first_too_many) => snapshot.up_to(first_too_many),
        None => snapshot,
    }
}

/// The first digit of a cursor: its form.
const FORM: &str = "s";
/// Safe in a URL, by their values. A number is written five bits at a time, the lowest first, and all of its digits but the
/// last are from the upper half. So a number below 32 has one digit, and one below 1024 two.
const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = vec![self.epoch.cast_unsigned()];
        let Sweep { done, begun } = &self.sweep;
        write_snapshot(&mut numbers, done);
        if let Some((reading, last)) = begun {
            write_snapshot(&mut numbers, reading);
            let (high, low) = last.order_id.as_u64_pair();
            numbers.extend([last.xid, high, low]);
        }
        f.write_str(FORM)?;
        let mut write = |digit: u64| f.write_char(DIGITS.get(digit as usize).copied().map_or('0', char::from));
        for mut number in numbers {
            while number > 31 {
                write((number & 31) | 32)?;
                number >>= 5;
            }
            write(number)?;
        }
        Ok(())
    }
}

/// Open transactions come last, each as the distance to the next higher number.
fn write_snapshot(numbers: &mut Vec<u64>, Snapshot { xmax, open }: &Snapshot) {
    numbers.extend([*xmax, open.len() as u64]);
    let mut above = *xmax;
    for xid in open.iter().rev() {
        numbers.push(above.abs_diff(*xid));
        above = *xid;
    }
}

impl Cursor {
    /// Parses a cursor's displayed form, and no other spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = text.strip_prefix(FORM)?.bytes();
        let epoch = read_number(&mut digits)?.cast_signed();
        let done = read_snapshot(&mut digits)?;
        let begun = if digits.len() == 0 {
            None
        } else {
            let reading = read_snapshot(&mut digits)?;
            let mut number = || read_number(&mut digits);
            let (xid, high, low) = (number()?, number()?, number()?);
            Some((reading, Position { xid, order_id: Uuid::from_u64_pair(high, low) }))
        };
        let cursor = Self { epoch, sweep: Sweep { done, begun } };
        (cursor.to_string() == text).then_some(cursor)
    }
}

// Unrolled in each of its callers it would be 9 KB of the component.
#[inline(never)]
fn read_number(digits: &mut std::str::Bytes<'_>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(5) {
        let byte = digits.next()?;
        let digit = DIGITS.iter().position(|digit| *digit == byte)? as u64;
        number |= (digit & 31) << shift;
        if digit < 32 {
            return Some(number);
        }
    }
    None
}

fn read_snapshot(digits: &mut std::str::Bytes<'_>) -> Option<Snapshot> {
    let xmax = read_number(digits).filter(|xid| is_id(*xid))?;
    let count = usize::try_from(read_number(digits)?).ok().filter(|count| *count <= MAX_OPEN)?;
    let mut open = Vec::new();
    let mut above = xmax;
    for _ in 0..count {
        let distance = read_number(digits).filter(|distance| *distance > 0)?;
        above = above.checked_sub(distance).filter(|xid| is_id(*xid))?;
        open.push(above);
    }
    open.reverse();
    Some(Snapshot { xmax, open })
}

/// Whether a cursor has the form of the release before: a counter of the database's lives, a transaction and an order, all in
/// hexadecimal digits. No database counts its lives any more, so it has expired.
pub fn is_of_an_earlier_release(text: &str) -> bool {
    text.len() >= 52 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
