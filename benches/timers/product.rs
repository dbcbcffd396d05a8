//! The loop's own queue: the very file.

use super::{Queue, Value};

// A folder, and not the file, so that the file finds its own modules where the library does.
#[allow(unused, unreachable_pub)]
#[path = "../../src"]
mod library {
    pub mod timeouts;
}

use library::timeouts::{TimeoutKey, Timeouts};

pub(crate) struct Product(Timeouts<Value>);

impl Queue for Product {
    type Key = TimeoutKey;

    const NAME: &'static str = "ringloop: unordered wheel";

    fn new() -> Self {
        Product(Timeouts::new())
    }

    fn add(&mut self, deadline: u64, value: Value) -> TimeoutKey {
        self.0.insert(deadline, value)
    }

    fn cancel(&mut self, key: TimeoutKey) -> Option<Value> {
        self.0.cancel(key)
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.0.next_deadline()
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        self.0.collect_due(now);
        while let Some(value) = self.0.take_due() {
            fired.push(value);
        }
    }
}
