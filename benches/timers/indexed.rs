//! A d-ary heap in which each timeout knows its place, so that a cancel takes it out at once.

use slab::Slab;

use super::{Queue, Value};

#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    number: u64,
    slot: u32,
}

impl Entry {
    fn order(&self) -> (u64, u64) {
        (self.deadline, self.number)
    }
}

struct Slot {
    value: Value,
    number: u64,
    place: u32,
}

pub struct IndexedHeap<const ARITY: usize> {
    slots: Slab<Slot>,
    heap: Vec<Entry>,
    next: u64,
}

impl<const ARITY: usize> IndexedHeap<ARITY> {
    fn put(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.slots[entry.slot as usize].place = at as u32;
    }

    fn sift_up(&mut self, mut at: usize, entry: Entry) {
        while at > 0 && entry.order() < self.heap[(at - 1) / ARITY].order() {
            self.put(at, self.heap[(at - 1) / ARITY]);
            at = (at - 1) / ARITY;
        }
        self.put(at, entry);
    }

    fn sift_down(&mut self, mut at: usize, entry: Entry) {
        let children = |at, len: usize| at * ARITY + 1..len.min(at * ARITY + 1 + ARITY);
        while let Some(child) =
            children(at, self.heap.len()).min_by_key(|&child| self.heap[child].order())
            && self.heap[child].order() < entry.order()
        {
            self.put(at, self.heap[child]);
            at = child;
        }
        self.put(at, entry);
    }

    fn remove(&mut self, slot: usize) -> Value {
        let Slot { value, place, .. } = self.slots.remove(slot);
        let at = place as usize;
        let last = self.heap.pop().expect("an entry for each slot");
        if at < self.heap.len() {
            if at > 0 && last.order() < self.heap[(at - 1) / ARITY].order() {
                self.sift_up(at, last);
            } else {
                self.sift_down(at, last);
            }
        }
        value
    }
}

impl<const ARITY: usize> Queue for IndexedHeap<ARITY> {
    type Key = (u32, u64);

    const NAME: &'static str = match ARITY {
        2 => "indexed binary heap",
        _ => "indexed 4-ary heap",
    };

    fn new() -> Self {
        IndexedHeap { slots: Slab::new(), heap: Vec::new(), next: 0 }
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        self.next += 1;
        let slot = self.slots.insert(Slot { value, number: self.next, place: 0 }) as u32;
        let entry = Entry { deadline, number: self.next, slot };
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
        (slot, self.next)
    }

    fn cancel(&mut self, (slot, number): Self::Key) -> Option<Value> {
        self.slots.get(slot as usize).filter(|slot| slot.number == number)?;
        Some(self.remove(slot as usize))
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.heap.first().map(|first| first.deadline)
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        while let Some(&first) = self.heap.first()
            && first.deadline <= now
        {
            fired.push(self.remove(first.slot as usize));
        }
    }
}
