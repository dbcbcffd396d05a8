//! The candidates, each behind the same few methods.

pub mod btree;
pub mod indexed;
pub mod lazy;
pub mod none;
pub mod product;
pub mod std_heap;
pub mod wheel;

use std::fmt::Debug;

/// As large as the boxed callback the loop keeps, with a niche as that has, and without an
/// allocation of its own. Its length is its identity.
pub type Value = &'static [()];

static UNITS: [(); usize::MAX] = [(); usize::MAX];

pub fn value(id: usize) -> Value {
    &UNITS[..id]
}

/// A timer queue. Those with equal deadlines fire in insertion order.
pub trait Queue {
    type Key: Copy + Debug;

    const NAME: &'static str;

    fn new() -> Self;

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key;

    fn cancel(&mut self, key: Self::Key) -> Option<Value>;

    /// When the loop has to wake up.
    fn next_deadline(&mut self) -> Option<u64>;

    /// Takes all that is due, in order.
    fn fire(&mut self, now: u64, fired: &mut Vec<Value>);

    /// Takes what is due in order, and may leave some for the next turn.
    fn turn(&mut self, now: u64, fired: &mut Vec<Value>) {
        self.fire(now, fired);
    }
}
