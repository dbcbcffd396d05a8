//! No queue at all: what the benchmark takes itself.

use super::{Queue, Value};

pub struct Nothing;

impl Queue for Nothing {
    type Key = (u32, u64);

    const NAME: &'static str = "(the benchmark itself)";

    fn new() -> Self {
        Nothing
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        (value.len() as u32, deadline)
    }

    fn cancel(&mut self, (id, _): Self::Key) -> Option<Value> {
        Some(super::value(id as usize))
    }

    fn next_deadline(&mut self) -> Option<u64> {
        None
    }

    fn fire(&mut self, _: u64, _: &mut Vec<Value>) {}
}
