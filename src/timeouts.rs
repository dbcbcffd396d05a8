//! The timer queue: timeouts in the order of their deadlines, equal ones in insertion order.
//!
//! A hierarchical timer wheel of nanoseconds. A timeout is on the level of the highest digit (of
//! six bits) in which its deadline differs from the time at which the wheel stands, there in the
//! bucket of its own digit. So all of a level is later than all of the levels below, and the first
//! bucket that is not empty has the earliest. When time reaches that bucket, the wheel moves on,
//! and the bucket is spread: what is due is collected, the rest goes to levels below.
//!
//! Buckets are chains through the slots of the timeouts, and so is what was collected. To add is to
//! link, to cancel is to unlink, and neither leaves anything behind.
//!
//! No call takes long, however many timeouts there are. A bucket with few is sorted. One with many
//! is spread over the levels below in steps, of which `collect_due` takes a limited number; the
//! wheel then stands where the bucket begins, and none that may be later is collected before the
//! bucket is empty. Chains are first in, first out, and equal deadlines are in one chain at any
//! time, so no step needs more than the front of one to keep their order.

// By path, so that a benchmark can include this file as it is.
#[path = "timeouts/chains.rs"]
mod chains;
#[path = "timeouts/slots.rs"]
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;

use chains::Chains;

/// Bits of a digit. A level has a bucket for each of the 64 digits.
const DIGIT: u32 = 6;

const LEVELS: u32 = u64::BITS.div_ceil(DIGIT);

/// The chain after the buckets: what was collected and not taken yet.
const DUE: u32 = LEVELS << DIGIT;

/// The chain of those added with a deadline that the wheel had passed.
const LATE: u32 = DUE + 1;

/// How many timeouts are few enough to be sorted at once. `collect_due` moves no more than twice as
/// many.
const FEW: usize = 1024;

/// Room to sort in that is kept, in timeouts.
const KEPT: usize = 64;

/// How many timeouts of a bucket are looked at to find the earliest.
const LOOKED_AT: usize = 8;

/// Names one timeout, and after it is gone, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeoutKey {
    slot: u32,
    /// Its number among all timeouts ever added. 64 bits do not wrap.
    seq: u64,
}

pub(crate) struct Timeouts<T> {
    chains: Chains<T>,
    next_seq: u64,
    /// Where the wheel stands. What is in it is later, but for what `spreading` says.
    time: u64,
    /// The bucket that begins at `time` and is being spread.
    spreading: Option<u32>,
    /// The order of those in `LATE`.
    late: BTreeMap<(u64, u64), u32>,
    /// Deadline, number and slot of those being sorted. Empty but for its room.
    sorted: Vec<(u64, u64, u32)>,
}

impl<T> Timeouts<T> {
    pub(crate) fn new() -> Self {
        Timeouts {
            chains: Chains::new(),
            next_seq: 0,
            time: 0,
            spreading: None,
            late: BTreeMap::new(),
            sorted: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.chains.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> TimeoutKey {
        let seq = self.next_seq;
        self.next_seq += 1;
        if deadline <= self.time || self.spreading.is_some() {
            return self.insert_around(deadline, seq, value);
        }
        let slot = self.chains.insert(value, deadline, seq, bucket_at(self.time, deadline));
        TimeoutKey { slot, seq }
    }

    /// Takes the timeout out, unless it was taken or cancelled before.
    #[inline]
    pub(crate) fn cancel(&mut self, key: TimeoutKey) -> Option<T> {
        let (value, deadline) = self.chains.remove(key.slot, key.seq)?;
        if !self.late.is_empty() {
            self.late.remove(&(deadline, key.seq));
        }
        Some(value)
    }

    /// The earliest deadline, also among those collected and not yet taken. Where many are close
    /// together, a time before it at which `collect_due` will find out more.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        if let Some((_, due)) = self.chains.first(DUE) {
            return Some(due.deadline);
        }
        if let Some((&(deadline, _), _)) = self.late.first_key_value() {
            return Some(deadline);
        }
        let bucket = self.chains.first_chain(DUE)?;
        if self.spreading.is_some() {
            return Some(self.time);
        }
        let mut deadlines = self.chains.iter(bucket).map(|(_, timeout)| timeout.deadline);
        let earliest = deadlines.by_ref().take(LOOKED_AT).min();
        if deadlines.next().is_none() { earliest } else { Some(self.start(bucket)) }
    }

    /// As `next_deadline`, but exact, and as slow as there are timeouts close together.
    pub(crate) fn earliest(&self) -> Option<u64> {
        let estimate = self.next_deadline()?;
        let bucket = self.chains.first_chain(DUE);
        let is_exact = self.chains.first(DUE).is_some() || !self.late.is_empty();
        match bucket {
            Some(bucket) if !is_exact && self.spreading.is_none() => {
                self.chains.iter(bucket).map(|(_, timeout)| timeout.deadline).min()
            }
            _ => Some(estimate),
        }
    }

    /// Sets the timeouts due at `now` apart for `take_due`, and returns whether any wait there. If
    /// there are many, only some are, and `next_deadline` is not after `now`.
    pub(crate) fn collect_due(&mut self, now: u64) -> bool {
        self.collect(now, FEW);
        self.chains.first(DUE).is_some()
    }

    /// The next of the timeouts collected that was not cancelled since.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        let (slot, timeout) = self.chains.first(DUE)?;
        let (value, _) = self.chains.remove(slot, timeout.seq)?;
        Some(value)
    }

    /// Takes all timeouts out, in no particular order.
    pub(crate) fn take(&mut self) -> Vec<T> {
        let emptied = Timeouts { next_seq: self.next_seq, time: self.time, ..Timeouts::new() };
        mem::replace(self, emptied).chains.into_values().collect()
    }

    /// Inserts what the wheel has passed, or while a bucket is being spread.
    #[cold]
    fn insert_around(&mut self, deadline: u64, seq: u64, value: T) -> TimeoutKey {
        let chain = if deadline <= self.time {
            LATE
        } else {
            let bucket = bucket_at(self.time, deadline);
            // Behind those of its kind: all that belongs into the bucket is on levels below.
            self.spreading.filter(|&spreading| bucket < spreading).unwrap_or(bucket)
        };
        let slot = self.chains.insert(value, deadline, seq, chain);
        if chain == LATE {
            self.late.insert((deadline, seq), slot);
        } else if let Some(bucket) = self.spreading {
            // Two out for one in, so that the bucket will be empty some time.
            for _ in 0..2 {
                let first = self.chains.first(bucket);
                if first.is_some_and(|(_, first)| first.deadline > self.time) {
                    self.spread(bucket);
                }
            }
        }
        TimeoutKey { slot, seq }
    }

    fn collect(&mut self, now: u64, few: usize) {
        let mut moved = 0;
        while moved < few
            && let Some(more) = self.step(now, few)
        {
            moved += more;
        }
    }

    /// Does what comes first at `now`, and returns how many timeouts that moved. `None` if there is
    /// nothing to do.
    fn step(&mut self, now: u64, few: usize) -> Option<usize> {
        if let Some(late) = self.late.first_entry()
            && late.key().0 <= now
            // One due at `time` was added after those in the bucket that begins there.
            && (late.key().0 < self.time || self.spreading.is_none())
        {
            self.chains.append(late.remove(), DUE);
            return Some(1);
        }
        if let Some(bucket) = self.spreading {
            self.spread(bucket);
            return Some(1);
        }
        let bucket = self.chains.first_chain(DUE).filter(|&bucket| self.start(bucket) <= now);
        let Some(bucket) = bucket else {
            // All buckets are ahead, and are the same as seen from there.
            self.time = self.time.max(now);
            return None;
        };
        Some(self.reach(bucket, now, few))
    }

    /// Moves the wheel into a bucket, the first that is not empty. Sorts it, if it has few timeouts.
    fn reach(&mut self, bucket: u32, now: u64, few: usize) -> usize {
        let mut sorted = mem::take(&mut self.sorted);
        let timeouts = self.chains.iter(bucket).take(few + 1);
        sorted.extend(timeouts.map(|(slot, timeout)| (timeout.deadline, timeout.seq, slot)));
        let reached = sorted.len();
        if reached > few {
            self.time = self.start(bucket);
            self.spreading = Some(bucket);
        } else {
            self.time = now.min(self.end(bucket));
            sorted.sort_unstable();
            sorted.iter().for_each(|&(deadline, _, slot)| self.file(slot, deadline));
        }
        sorted.clear();
        sorted.shrink_to(KEPT);
        self.sorted = sorted;
        reached
    }

    /// Moves the first timeout out of the bucket that is being spread.
    fn spread(&mut self, bucket: u32) {
        match self.chains.first(bucket) {
            Some((slot, timeout)) => self.file(slot, timeout.deadline),
            None => self.spreading = None,
        }
    }

    fn file(&mut self, slot: u32, deadline: u64) {
        let due = deadline <= self.time;
        self.chains.append(slot, if due { DUE } else { bucket_at(self.time, deadline) });
    }

    /// The first time that belongs to a bucket in which something is.
    fn start(&self, bucket: u32) -> u64 {
        let (level, digit) = (bucket >> DIGIT, bucket % (1 << DIGIT));
        let shift = level * DIGIT;
        let above = self.time >> shift >> DIGIT << DIGIT;
        (above + u64::from(digit)) << shift
    }

    /// The last time that belongs to a bucket in which something is.
    fn end(&self, bucket: u32) -> u64 {
        self.start(bucket) | ((1 << ((bucket >> DIGIT) * DIGIT)) - 1)
    }
}

/// The bucket for `deadline` when the wheel stands at `time`, which is before.
#[inline]
fn bucket_at(time: u64, deadline: u64) -> u32 {
    let level = (time ^ deadline).ilog2() / DIGIT;
    let digit = deadline >> (level * DIGIT);
    (level << DIGIT) + digit as u32 % (1 << DIGIT)
}
