//! A d-ary heap; what is cancelled stays in it until a sweep.

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

pub struct LazyHeap<const ARITY: usize> {
    slots: Slab<(u64, Value)>,
    heap: Vec<Entry>,
    next: u64,
}

impl<const ARITY: usize> LazyHeap<ARITY> {
    fn is_live(slots: &Slab<(u64, Value)>, entry: Entry) -> bool {
        slots.get(entry.slot as usize).is_some_and(|slot| slot.0 == entry.number)
    }

    fn sweep(&mut self) {
        let mut kept = 0;
        for at in 0..self.heap.len() {
            let entry = self.heap[at];
            self.heap[kept] = entry;
            kept += usize::from(Self::is_live(&self.slots, entry));
        }
        self.heap.truncate(kept);
        for at in (0..kept.div_ceil(ARITY)).rev() {
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 && entry.order() < self.heap[(at - 1) / ARITY].order() {
            self.heap[at] = self.heap[(at - 1) / ARITY];
            at = (at - 1) / ARITY;
        }
        self.heap[at] = entry;
    }

    fn sift_down(&mut self, mut at: usize) {
        let Some(&entry) = self.heap.get(at) else { return };
        let children = |at, len: usize| at * ARITY + 1..len.min(at * ARITY + 1 + ARITY);
        while let Some(child) =
            children(at, self.heap.len()).min_by_key(|&child| self.heap[child].order())
            && self.heap[child].order() < entry.order()
        {
            self.heap[at] = self.heap[child];
            at = child;
        }
        self.heap[at] = entry;
    }

    fn pop(&mut self) {
        self.heap.swap_remove(0);
        self.sift_down(0);
    }

    fn first(&mut self) -> Option<Entry> {
        while let Some(&first) = self.heap.first() {
            if Self::is_live(&self.slots, first) {
                return Some(first);
            }
            self.pop();
        }
        None
    }
}

impl<const ARITY: usize> Queue for LazyHeap<ARITY> {
    type Key = (u32, u64);

    const NAME: &'static str = match ARITY {
        4 => "4-ary heap, lazy cancel",
        _ => "8-ary heap, lazy cancel",
    };

    fn new() -> Self {
        LazyHeap { slots: Slab::new(), heap: Vec::new(), next: 0 }
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        self.next += 1;
        let slot = self.slots.insert((self.next, value)) as u32;
        self.heap.push(Entry { deadline, number: self.next, slot });
        self.sift_up(self.heap.len() - 1);
        (slot, self.next)
    }

    fn cancel(&mut self, (slot, number): Self::Key) -> Option<Value> {
        self.slots.get(slot as usize).filter(|slot| slot.0 == number)?;
        let (_, value) = self.slots.remove(slot as usize);
        if self.heap.len() > 2 * self.slots.len() + 64 {
            self.sweep();
        }
        Some(value)
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.first().map(|first| first.deadline)
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        while let Some(first) = self.first()
            && first.deadline <= now
        {
            self.pop();
            fired.push(self.slots.remove(first.slot as usize).1);
        }
    }
}
