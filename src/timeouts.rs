//! The timer queue: timeouts in the order of their deadlines, equal ones in insertion order.
//!
//! Most timeouts are idle time-outs: cancelled, and added again, long before they are due. So
//! nothing is kept in order that may not be needed in order. A timeout is a slot with its value,
//! and an entry in a bucket that names the slot. Buckets are those of a hierarchical timer wheel,
//! but each is just a vector. To add is to push; to cancel is to empty the slot, which leaves the
//! entry behind as a tombstone, and a bucket is swept when the tombstones in it are many.
//! Either touches one or two cache lines, however many timeouts there are, and no sweep is longer
//! than a bucket.
//!
//! Time makes the order: a bucket reached by the clock is spread over finer ones; the earliest is
//! made a heap when the loop asks for the next deadline; the due ones are sorted exactly.

// By path, so that a benchmark can include this file as it is.
#[path = "timeouts/bucket.rs"]
mod bucket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;

use slab::Slab;

use bucket::{Bucket, Entry};

/// Log2 of the width of the finest buckets, in nanoseconds: 262 µs.
const TICK_BITS: u32 = 18;

/// Log2 of the number of buckets of a level.
const LEVEL_BITS: u32 = 6;

const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(LEVEL_BITS) as usize;

const BUCKETS: usize = LEVELS << LEVEL_BITS;

/// Names one timeout, and after it is gone, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeoutKey {
    slot: u32,
    /// Its number among all timeouts ever added. 64 bits do not wrap.
    seq: u64,
}

struct Slot<T> {
    value: T,
    deadline: u64,
    seq: u64,
}

struct Due {
    deadline: u64,
    key: TimeoutKey,
}

pub(crate) struct Timeouts<T> {
    slots: Slab<Slot<T>>,
    next_seq: u64,
    /// The tick of the latest `collect_due`. What is in which bucket depends on it.
    tick: u64,
    buckets: Box<[Bucket]>,
    /// For each level, the buckets that may have entries.
    occupied: [u64; LEVELS],
    /// Those of this turn that were not taken yet, in order.
    due: VecDeque<Due>,
}

impl<T> Timeouts<T> {
    pub(crate) fn new() -> Self {
        Timeouts {
            slots: Slab::new(),
            next_seq: 0,
            tick: 0,
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            occupied: [0; LEVELS],
            due: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> TimeoutKey {
        let seq = self.next_seq;
        self.next_seq += 1;
        let slot = self.slots.insert(Slot { value, deadline, seq });
        let slot = u32::try_from(slot).expect("fewer than 2^32 timeouts");
        self.file(Entry { deadline, slot, tag: seq as u32 });
        TimeoutKey { slot, seq }
    }

    /// Takes the timeout out, unless it was taken or cancelled before.
    pub(crate) fn cancel(&mut self, key: TimeoutKey) -> Option<T> {
        let Slot { value, deadline, .. } = self.remove(key)?;
        // One that was collected has no entry any more, and is counted for nothing. It only
        // makes the next sweep come earlier.
        let bucket = &mut self.buckets[bucket_at(self.tick, deadline)];
        bucket.bury(key.slot, key.seq as u32, &self.slots);
        Some(value)
    }

    /// The earliest deadline, also among those collected and not yet taken.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        while let Some(due) = self.due.front() {
            if self.is_pending(due.key) {
                return Some(due.deadline);
            }
            self.due.pop_front();
        }
        while let Some((level, digit)) = self.first_bucket() {
            let bucket = &mut self.buckets[level << LEVEL_BITS | digit];
            if let Some(first) = bucket.first(&self.slots) {
                return Some(first.deadline);
            }
            self.occupied[level] &= !(1 << digit);
        }
        None
    }

    /// Sets the timeouts due at `now` apart for `take_due`, and returns how many wait there.
    pub(crate) fn collect_due(&mut self, now: u64) -> usize {
        let before = self.due.len();
        self.advance(now);
        while let Some(entry) = self.buckets[0].first(&self.slots)
            && entry.deadline <= now
        {
            self.buckets[0].pop();
            self.collect(entry);
        }
        self.due.make_contiguous()[before..]
            .sort_unstable_by_key(|due| (due.deadline, due.key.seq));
        self.due.len()
    }

    /// The next of the timeouts collected that was not cancelled since.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        while let Some(due) = self.due.pop_front() {
            if let Some(slot) = self.remove(due.key) {
                return Some(slot.value);
            }
        }
        None
    }

    /// Takes all timeouts out, in no particular order.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.due.clear();
        self.occupied = [0; LEVELS];
        self.buckets.fill_with(Bucket::default);
        mem::take(&mut self.slots).into_iter().map(|(_, slot)| slot.value).collect()
    }

    fn is_pending(&self, key: TimeoutKey) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.seq == key.seq)
    }

    fn remove(&mut self, key: TimeoutKey) -> Option<Slot<T>> {
        self.is_pending(key).then(|| self.slots.remove(key.slot as usize))
    }

    fn file(&mut self, entry: Entry) {
        let at = bucket_at(self.tick, entry.deadline);
        self.occupied[at >> LEVEL_BITS] |= 1 << (at & ((1 << LEVEL_BITS) - 1));
        self.buckets[at].push(entry);
    }

    fn collect(&mut self, Entry { deadline, slot, .. }: Entry) {
        let seq = self.slots[slot as usize].seq;
        self.due.push_back(Due { deadline, key: TimeoutKey { slot, seq } });
    }

    /// Moves the wheel to `now`. Buckets that this reaches are emptied: what is due is collected,
    /// and the rest, all from the one bucket that holds `now`, is filed again.
    fn advance(&mut self, now: u64) {
        let tick = now >> TICK_BITS;
        if tick <= self.tick {
            return;
        }
        let top = level_of(self.tick ^ tick);
        self.tick = tick;
        for level in 0..=top {
            // Below the level that moved by a bucket or more, all buckets are behind `now`.
            let reached = if level < top { u64::MAX } else { u64::MAX >> (63 - digit(tick, top)) };
            let mut passed = self.occupied[level] & reached;
            self.occupied[level] &= !reached;
            while passed != 0 {
                self.spread(level << LEVEL_BITS | passed.trailing_zeros() as usize, now);
                passed &= passed - 1;
            }
        }
    }

    fn spread(&mut self, bucket: usize, now: u64) {
        let entries = self.buckets[bucket].take();
        for &entry in &entries {
            if !entry.is_live(&self.slots) {
                continue;
            }
            if entry.deadline <= now {
                self.collect(entry);
            } else {
                self.file(entry);
            }
        }
        self.buckets[bucket].reuse(entries);
    }

    /// Every entry of a level is later than all of the levels below it.
    fn first_bucket(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&buckets| buckets != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }
}

/// The bucket for `deadline` when the wheel stands at `now_tick`.
///
/// The level is the highest digit in which the two ticks differ. There the deadline has the
/// larger digit, so never 0, and bucket 0 is free for the present tick and the past.
fn bucket_at(now_tick: u64, deadline: u64) -> usize {
    let tick = deadline >> TICK_BITS;
    if tick <= now_tick {
        return 0;
    }
    let level = level_of(now_tick ^ tick);
    level << LEVEL_BITS | digit(tick, level)
}

/// The highest level with a digit that is not 0.
fn level_of(difference: u64) -> usize {
    (difference.ilog2() / LEVEL_BITS) as usize
}

fn digit(tick: u64, level: usize) -> usize {
    let digit = tick >> (level as u32 * LEVEL_BITS);
    (digit & ((1 << LEVEL_BITS) - 1)) as usize
}
