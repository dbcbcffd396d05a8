#![allow(missing_docs)]
use std::collections::{BTreeMap, HashMap, VecDeque};
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeoutKey(u64);
pub(crate) struct Timeouts<T> {
    next: u64,
    order: BTreeMap<(u64, u64), ()>,
    live: HashMap<u64, (u64, T)>,
    due: VecDeque<u64>,
}
impl<T> Timeouts<T> {
    pub(crate) fn new() -> Self {
        Timeouts { next: 0, order: BTreeMap::new(), live: HashMap::new(), due: VecDeque::new() }
    }
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> TimeoutKey {
        let id = self.next;
        self.next += 1;
        self.order.insert((deadline, id), ());
        self.live.insert(id, (deadline, value));
        TimeoutKey(id)
    }
    pub(crate) fn cancel(&mut self, key: TimeoutKey) -> Option<T> {
        let (d, v) = self.live.remove(&key.0)?;
        self.order.remove(&(d, key.0));
        Some(v)
    }
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        if self.due.iter().any(|id| self.live.contains_key(id)) {
            return Some(0);
        }
        self.order.keys().next().map(|k| k.0)
    }
    pub(crate) fn collect_due(&mut self, now: u64) -> usize {
        while let Some((&(d, id), _)) = self.order.iter().next() {
            if d > now {
                break;
            }
            self.order.remove(&(d, id));
            self.due.push_back(id);
        }
        self.due.len()
    }
    pub(crate) fn take_due(&mut self) -> Option<T> {
        while let Some(id) = self.due.pop_front() {
            if let Some((_, v)) = self.live.remove(&id) {
                return Some(v);
            }
        }
        None
    }
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.order.clear();
        self.due.clear();
        std::mem::take(&mut self.live).into_values().map(|v| v.1).collect()
    }
}
