//! The standard library's binary heap; what is cancelled stays in it until a sweep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use super::{Queue, Value};

pub struct StdHeap {
    slots: Slab<(u64, Value)>,
    /// Deadline, number, slot.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    next: u64,
}

impl StdHeap {
    fn first(&mut self) -> Option<(u64, u32)> {
        while let Some(&Reverse((deadline, number, slot))) = self.heap.peek() {
            if self.slots.get(slot as usize).is_some_and(|slot| slot.0 == number) {
                return Some((deadline, slot));
            }
            self.heap.pop();
        }
        None
    }
}

impl Queue for StdHeap {
    type Key = (u32, u64);

    const NAME: &'static str = "std BinaryHeap, lazy cancel";

    fn new() -> Self {
        StdHeap { slots: Slab::new(), heap: BinaryHeap::new(), next: 0 }
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        self.next += 1;
        let slot = self.slots.insert((self.next, value)) as u32;
        self.heap.push(Reverse((deadline, self.next, slot)));
        (slot, self.next)
    }

    fn cancel(&mut self, (slot, number): Self::Key) -> Option<Value> {
        self.slots.get(slot as usize).filter(|slot| slot.0 == number)?;
        let (_, value) = self.slots.remove(slot as usize);
        if self.heap.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            let live = |number, slot| slots.get(slot).is_some_and(|slot| slot.0 == number);
            self.heap.retain(|&Reverse((_, number, slot))| live(number, slot as usize));
        }
        Some(value)
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.first().map(|first| first.0)
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        while let Some((deadline, slot)) = self.first()
            && deadline <= now
        {
            self.heap.pop();
            fired.push(self.slots.remove(slot as usize).1);
        }
    }
}
