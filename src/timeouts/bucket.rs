//! A bucket of the timer queue: entries in no order, until somebody asks for the earliest.

use slab::Slab;

use super::Slot;

/// Tombstones a bucket may hold whatever its size, so that small ones are not swept all the time.
const TOMBSTONES: usize = 32;

/// Room a bucket keeps when it empties, in entries. More goes back to the allocator.
const KEPT: usize = 16;

/// Children of a node of the heap. Four entries are one cache line.
const ARITY: usize = 4;

/// Says that the timeout in `slot` is due at `deadline`: true only while the slot agrees.
///
/// Equal deadlines are put into insertion order when they fire; a bucket need not know it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) deadline: u64,
    pub(super) slot: u32,
    /// Low half of the timeout's sequence number. Numbers that share it also have to share the
    /// deadline to be mixed up, and then the entry is right about both.
    pub(super) tag: u32,
}

impl Entry {
    /// Whether the timeout is still pending. Without a branch on the outcome, which is as good
    /// as random where it matters: in `sweep`.
    pub(super) fn is_live<T>(self, slots: &Slab<Slot<T>>) -> bool {
        let Some(slot) = slots.get(self.slot as usize) else { return false };
        (slot.deadline == self.deadline) & (slot.seq as u32 == self.tag)
    }
}

#[derive(Default)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
    /// Entries whose timeout was cancelled, at most.
    tombstones: usize,
    /// Whether `entries` is a heap.
    ordered: bool,
}

impl Bucket {
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.ordered {
            self.sift_up(self.entries.len() - 1);
        }
    }

    /// Notes that the timeout of `entry`, which is in this bucket, was cancelled.
    pub(super) fn bury<T>(&mut self, slot: u32, tag: u32, slots: &Slab<Slot<T>>) {
        // What was added last is often cancelled first: an operation that made its time-out.
        if self.entries.pop_if(|last| last.slot == slot && last.tag == tag).is_some() {
            return;
        }
        self.tombstones += 1;
        if self.tombstones > self.entries.len() / 2 + TOMBSTONES {
            self.sweep(slots);
        }
    }

    /// The earliest live entry. Makes a heap of the bucket, and throws out what died on top.
    pub(super) fn first<T>(&mut self, slots: &Slab<Slot<T>>) -> Option<Entry> {
        if !self.ordered {
            self.order(slots);
        }
        while let Some(&first) = self.entries.first() {
            if first.is_live(slots) {
                return Some(first);
            }
            self.pop();
            self.tombstones = self.tombstones.saturating_sub(1);
        }
        self.ordered = false;
        None
    }

    /// Takes out the entry that `first` returned.
    pub(super) fn pop(&mut self) {
        self.entries.swap_remove(0);
        self.sift_down(0);
    }

    /// Empties the bucket into the returned vector.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.ordered = false;
        self.tombstones = 0;
        std::mem::take(&mut self.entries)
    }

    /// Gives the vector that `take` returned back for use, unless it is large.
    pub(super) fn reuse(&mut self, mut entries: Vec<Entry>) {
        if entries.capacity() <= KEPT && self.entries.capacity() == 0 {
            entries.clear();
            self.entries = entries;
        }
    }

    /// Throws out the tombstones.
    fn sweep<T>(&mut self, slots: &Slab<Slot<T>>) {
        let mut kept = 0;
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            self.entries[kept] = entry;
            kept += usize::from(entry.is_live(slots));
        }
        self.entries.truncate(kept);
        self.entries.shrink_to(4 * kept + KEPT);
        self.tombstones = 0;
        self.ordered = false;
    }

    fn order<T>(&mut self, slots: &Slab<Slot<T>>) {
        if self.tombstones > 0 {
            self.sweep(slots);
        }
        for at in (0..self.entries.len().div_ceil(ARITY)).rev() {
            self.sift_down(at);
        }
        self.ordered = true;
    }

    fn sift_up(&mut self, mut at: usize) {
        let entry = self.entries[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.entries[parent].deadline <= entry.deadline {
                break;
            }
            self.entries[at] = self.entries[parent];
            at = parent;
        }
        self.entries[at] = entry;
    }

    fn sift_down(&mut self, mut at: usize) {
        let Some(&entry) = self.entries.get(at) else { return };
        while let Some(child) = self.first_child(at) {
            if self.entries[child].deadline >= entry.deadline {
                break;
            }
            self.entries[at] = self.entries[child];
            at = child;
        }
        self.entries[at] = entry;
    }

    fn first_child(&self, at: usize) -> Option<usize> {
        let from = at * ARITY + 1;
        let until = self.entries.len().min(from + ARITY);
        (from..until).min_by_key(|&child| self.entries[child].deadline)
    }
}

#[cfg(test)]
impl Bucket {
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}
