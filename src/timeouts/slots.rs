//! The slots of timeouts: they never move, and come and go in segments.
//!
//! A timeout that stays keeps its segment. One that is put off goes where others are, so that those
//! left over by a crowd come together again.

use std::ops::{Index, IndexMut};

/// Slots of a segment. They are all that an insertion may have to move, as the segment grows.
const SEGMENT: usize = 1024;

/// The neighbours of a timeout or of a head in a chain.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) previous: u32,
    pub(super) next: u32,
}

pub(super) struct Slot<T> {
    value: Option<T>,
    pub(super) deadline: u64,
    /// The timeout's number, also after it is gone.
    pub(super) seq: u64,
    /// In a free slot, `next` is the place of another one, or of the first that was never used.
    pub(super) link: Link,
}

struct Segment<T> {
    slots: Vec<Slot<T>>,
    /// Place of the slot that was freed last.
    free: u32,
    used: u32,
    /// Where the segment is in `open`, if it is there.
    position: u32,
}

pub(super) struct Slots<T> {
    segments: Vec<Segment<T>>,
    /// The segments that have room. The last one is used first: a slot of it was freed a moment
    /// ago, and is in the cache.
    open: Vec<u32>,
    /// The segments that have no memory.
    vacant: Vec<u32>,
    /// How often a slot was used, for tests.
    #[cfg(all(test, debug_assertions))]
    pub(super) uses: std::cell::Cell<usize>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots {
            segments: Vec::new(),
            open: Vec::new(),
            vacant: Vec::new(),
            #[cfg(all(test, debug_assertions))]
            uses: std::cell::Cell::default(),
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, value: T, deadline: u64, seq: u64, link: Link) -> u32 {
        self.count_use();
        let number = match self.open.last() {
            Some(&number) => number,
            None => self.open_segment(),
        };
        let segment = &mut self.segments[number as usize];
        let place = segment.free;
        let slot = Slot { value: Some(value), deadline, seq, link };
        if let Some(free) = segment.slots.get_mut(place as usize) {
            segment.free = free.link.next;
            *free = slot;
        } else {
            segment.slots.push(slot);
            segment.free += 1;
        }
        segment.used += 1;
        if segment.used as usize == SEGMENT {
            self.filled();
        }
        number * SEGMENT as u32 + place
    }

    /// Takes the timeout of number `seq` out, if it is in that slot. Also tells its deadline and
    /// its neighbours, which stay as they are.
    #[inline]
    pub(super) fn remove(&mut self, at: u32, seq: u64) -> Option<(T, u64, Link)> {
        self.count_use();
        let (number, place) = (at / SEGMENT as u32, at % SEGMENT as u32);
        let segment = self.segments.get_mut(number as usize)?;
        let slot = segment.slots.get_mut(place as usize).filter(|slot| slot.seq == seq)?;
        let (value, deadline, link) = (slot.value.take()?, slot.deadline, slot.link);
        slot.link.next = segment.free;
        segment.free = place;
        segment.used -= 1;
        if segment.used as usize == SEGMENT - 1 || segment.used == 0 && self.open.len() > 1 {
            self.freed(number);
        }
        Some((value, deadline, link))
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        let slots = self.segments.into_iter().flat_map(|segment| segment.slots);
        slots.filter_map(|slot| slot.value)
    }

    #[inline]
    fn count_use(&self) {
        #[cfg(all(test, debug_assertions))]
        self.uses.set(self.uses.get() + 1);
    }

    #[cold]
    fn open_segment(&mut self) -> u32 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            let number = self.segments.len();
            assert!(number < u32::MAX as usize / SEGMENT, "fewer than 2^32 timeouts");
            self.segments.push(Segment { slots: Vec::new(), free: 0, used: 0, position: 0 });
            number as u32
        });
        self.segments[number as usize].position = self.open.len() as u32;
        self.open.push(number);
        number
    }

    #[cold]
    fn filled(&mut self) {
        self.open.pop();
    }

    /// Notes that a segment has room now, or that it is empty and another one has room.
    #[cold]
    fn freed(&mut self, number: u32) {
        let segment = &mut self.segments[number as usize];
        if segment.used > 0 {
            segment.position = self.open.len() as u32;
            self.open.push(number);
        } else {
            (segment.slots, segment.free) = (Vec::new(), 0);
            let position = segment.position as usize;
            self.vacant.push(number);
            self.close(position);
        }
    }

    /// Takes a segment out of `open`. The last one stays the last, to be filled on.
    fn close(&mut self, position: usize) {
        let before_last = self.open.len().saturating_sub(2);
        let hole = position.max(before_last);
        self.open.swap(position, hole);
        self.open.swap_remove(hole);
        for moved in [position, hole] {
            if let Some(&number) = self.open.get(moved) {
                self.segments[number as usize].position = moved as u32;
            }
        }
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = Slot<T>;

    #[inline]
    fn index(&self, at: u32) -> &Slot<T> {
        self.count_use();
        &self.segments[at as usize / SEGMENT].slots[at as usize % SEGMENT]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut Slot<T> {
        self.count_use();
        &mut self.segments[at as usize / SEGMENT].slots[at as usize % SEGMENT]
    }
}

#[cfg(test)]
impl<T> Slots<T> {
    pub(super) fn capacity(&self) -> usize {
        self.segments.iter().map(|segment| segment.slots.capacity()).sum()
    }

    /// Segments there are, with memory or without.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }
}
