//! The loop's own queue: the very file.

use super::{Queue, Value};
use std::iter;

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

    const NAME: &'static str = "ringloop: wheel of 1 ns, spread in steps";

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
        loop {
            self.turn(now, fired);
            if self.0.next_deadline().is_none_or(|next| next > now) {
                return;
            }
        }
    }

    fn turn(&mut self, now: u64, fired: &mut Vec<Value>) {
        self.0.collect_due(now);
        fired.extend(iter::from_fn(|| self.0.take_due()));
    }
}
