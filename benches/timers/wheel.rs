//! A hierarchical wheel as tokio has it: six levels of 64 lists, ticks of a millisecond, and a
//! timeout is linked into its list. It rounds up to the tick, and orders within one when it fires.

use slab::Slab;

use super::{Queue, Value};

pub const TICK: u64 = 1_000_000;
const LEVELS: usize = 6;
const NIL: u32 = u32::MAX;

struct Node {
    value: Value,
    deadline: u64,
    number: u64,
    previous: u32,
    next: u32,
}

pub struct Wheel {
    nodes: Slab<Node>,
    heads: Vec<u32>,
    occupied: [u64; LEVELS],
    /// In ticks. All that is due at or before it has fired.
    now: u64,
    next: u64,
}

impl Wheel {
    fn list_of(&self, deadline: u64) -> usize {
        let tick = deadline.div_ceil(TICK).max(self.now + 1).min(self.now | ((1 << 36) - 1));
        let level = (tick ^ self.now).max(1).ilog2() as usize / 6;
        level * 64 + (tick >> (6 * level) & 63) as usize
    }

    fn link(&mut self, id: u32) {
        let list = self.list_of(self.nodes[id as usize].deadline);
        let head = std::mem::replace(&mut self.heads[list], id);
        self.occupied[list / 64] |= 1 << (list % 64);
        let node = &mut self.nodes[id as usize];
        (node.previous, node.next) = (NIL, head);
        if head != NIL {
            self.nodes[head as usize].previous = id;
        }
    }

    fn unlink(&mut self, node: &Node) {
        if node.next != NIL {
            self.nodes[node.next as usize].previous = node.previous;
        }
        if node.previous != NIL {
            self.nodes[node.previous as usize].next = node.next;
            return;
        }
        let list = self.list_of(node.deadline);
        self.heads[list] = node.next;
        if node.next == NIL {
            self.occupied[list / 64] &= !(1 << (list % 64));
        }
    }

    /// The first list that is not empty, and its first tick.
    fn first(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&lists| lists != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let above = self.now >> (6 * level + 6) << (6 * level + 6);
        Some((level * 64 + digit, above | (digit as u64) << (6 * level)))
    }
}

impl Queue for Wheel {
    type Key = (u32, u64);

    const NAME: &'static str = "linked wheel of 1 ms, as tokio";

    fn new() -> Self {
        Wheel {
            nodes: Slab::new(),
            heads: vec![NIL; LEVELS * 64],
            occupied: [0; LEVELS],
            now: 0,
            next: 0,
        }
    }

    fn add(&mut self, deadline: u64, value: Value) -> Self::Key {
        self.next += 1;
        let node = Node { value, deadline, number: self.next, previous: NIL, next: NIL };
        let id = self.nodes.insert(node) as u32;
        self.link(id);
        (id, self.next)
    }

    fn cancel(&mut self, (id, number): Self::Key) -> Option<Value> {
        self.nodes.get(id as usize).filter(|node| node.number == number)?;
        let node = self.nodes.remove(id as usize);
        self.unlink(&node);
        Some(node.value)
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.first().map(|(_, tick)| tick * TICK)
    }

    fn fire(&mut self, now: u64, fired: &mut Vec<Value>) {
        while let Some((list, tick)) = self.first()
            && tick <= now / TICK
        {
            self.now = tick;
            self.occupied[list / 64] &= !(1 << (list % 64));
            let mut due = Vec::new();
            let mut id = std::mem::replace(&mut self.heads[list], NIL);
            while id != NIL {
                let node = &self.nodes[id as usize];
                let (deadline, number, next) = (node.deadline, node.number, node.next);
                if deadline.div_ceil(TICK) <= tick {
                    due.push((deadline, number, id));
                } else {
                    self.link(id);
                }
                id = next;
            }
            due.sort_unstable();
            fired.extend(due.iter().map(|due| self.nodes.remove(due.2 as usize).value));
        }
        self.now = self.now.max(now / TICK);
    }
}
