//! Chains of timeouts: first in, first out, and any may be taken out of the middle.
//!
//! A chain is a ring of its timeouts and its head. So every timeout has two neighbours, and need
//! not know in which chain it is.

use std::iter;

use super::slots::{Link, Slot, Slots};

/// Chains come in groups of 64.
const GROUPS: usize = 16;

const CHAINS: usize = GROUPS * 64;

/// Neighbours from here on are not slots, but heads.
const HEADS: u32 = u32::MAX - (CHAINS as u32 - 1);

pub(super) struct Chains<T> {
    pub(super) slots: Slots<T>,
    len: usize,
    heads: Box<[Link; CHAINS]>,
    /// A bit for each chain that is not empty.
    occupied: [u64; GROUPS],
}

impl<T> Chains<T> {
    pub(super) fn new() -> Self {
        let head = |chain| Link { previous: HEADS + chain, next: HEADS + chain };
        let heads = Box::new(std::array::from_fn(|chain| head(chain as u32)));
        Chains { slots: Slots::new(), len: 0, heads, occupied: [0; GROUPS] }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a timeout at the end of a chain. Returns its slot.
    #[inline]
    pub(super) fn insert(&mut self, value: T, deadline: u64, seq: u64, chain: u32) -> u32 {
        let head = &mut self.heads[chain as usize % CHAINS];
        let link = Link { previous: head.previous, next: HEADS + chain };
        let at = self.slots.insert(value, deadline, seq, link);
        head.previous = at;
        self.link(link.previous).next = at;
        self.mark(chain);
        self.len += 1;
        at
    }

    /// Takes the timeout of number `seq` out, with its deadline, if it is in that slot.
    #[inline]
    pub(super) fn remove(&mut self, at: u32, seq: u64) -> Option<(T, u64)> {
        let (value, deadline, link) = self.slots.remove(at, seq)?;
        self.detach(link);
        self.len -= 1;
        Some((value, deadline))
    }

    /// Moves a timeout to the end of another chain.
    pub(super) fn append(&mut self, at: u32, chain: u32) {
        let last = std::mem::replace(&mut self.heads[chain as usize].previous, at);
        let link = Link { previous: last, next: HEADS + chain };
        let link = std::mem::replace(&mut self.slots[at].link, link);
        self.detach(link);
        self.link(last).next = at;
        self.mark(chain);
    }

    pub(super) fn first(&self, chain: u32) -> Option<(u32, &Slot<T>)> {
        self.slot(self.heads[chain as usize].next)
    }

    pub(super) fn iter(&self, chain: u32) -> impl Iterator<Item = (u32, &Slot<T>)> {
        iter::successors(self.first(chain), |(_, slot)| self.slot(slot.link.next))
    }

    /// The first chain below `end`, a multiple of 64, that is not empty.
    pub(super) fn first_chain(&self, end: u32) -> Option<u32> {
        let groups = &self.occupied[..end as usize / 64];
        let group = groups.iter().position(|&chains| chains != 0)?;
        Some(group as u32 * 64 + groups[group].trailing_zeros())
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_values()
    }

    fn slot(&self, neighbour: u32) -> Option<(u32, &Slot<T>)> {
        (neighbour < HEADS).then(|| (neighbour, &self.slots[neighbour]))
    }

    #[inline]
    fn link(&mut self, neighbour: u32) -> &mut Link {
        if neighbour < HEADS {
            &mut self.slots[neighbour].link
        } else {
            &mut self.heads[neighbour as usize % CHAINS]
        }
    }

    #[inline]
    fn detach(&mut self, Link { previous, next }: Link) {
        self.link(previous).next = next;
        self.link(next).previous = previous;
        if previous == next {
            // Only a head is its own neighbour.
            self.occupied[next as usize / 64 % GROUPS] &= !(1 << (next % 64));
        }
    }

    #[inline]
    fn mark(&mut self, chain: u32) {
        self.occupied[chain as usize / 64 % GROUPS] |= 1 << (chain % 64);
    }
}
