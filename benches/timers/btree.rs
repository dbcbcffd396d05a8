//! A B-tree by deadline and number. The simplest that is right.

use std::collections::BTreeMap;

use super::{Queue, Value};

pub struct Tree {
    map: BTreeMap<(u64, u64), Value>,
    next: u64,
}

impl Queue for Tree {
    type Key = (u64, u64);

    const NAME: &'static str = "BTreeMap";

    fn new() -> Self {
        Tree { map: BTreeMap::new(), next: 0 }
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        self.next += 1;
        self.map.insert((deadline, self.next), value);
        (deadline, self.next)
    }

    fn cancel(&mut self, key: Self::Key) -> Option<Value> {
        self.map.remove(&key)
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.map.first_key_value().map(|(key, _)| key.0)
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        while let Some(first) = self.map.first_entry()
            && first.key().0 <= now
        {
            fired.push(first.remove());
        }
    }
}
