//! Memory that the kernel receives into. Every reception takes what it needs from the first buffer
//! that has room; a buffer is given back when all that was received into it has been sent.

use super::raw::RawRing;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The group that receptions name.
pub(crate) const GROUP: u16 = 0;

/// As large as a long message.
const SIZE: usize = 1 << 16;
/// No more than this are in the ring: what was received is to be in the cache when it is sent.
const IN_RING: u16 = 4;
/// All there are.
const COUNT: u16 = 128;

/// The kernel goes on in a buffer where the last reception has ended (`IOU_PBUF_RING_INC`).
const INCREMENTAL: u16 = 2;
const PAGE: usize = 4096;

/// A ring of buffers that is never taken down: the server lives as long as the process.
pub(crate) struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    used: [Use; COUNT as usize],
    /// Not in the ring, and nothing is in them.
    free: Vec<u16>,
    in_ring: u16,
    /// The mean length of what was received lately.
    typical: usize,
}

#[derive(Clone, Copy, Default)]
struct Use {
    /// Where the next reception begins.
    offset: usize,
    /// Receptions that have not been released.
    held: u32,
    /// The kernel will receive no more into it.
    full: bool,
}

/// Received bytes. They stay where they are until released.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) start: *const u8,
    pub(crate) length: usize,
    buffer: u16,
}

impl Buffers {
    pub(crate) fn new(ring: &RawRing) -> io::Result<Buffers> {
        let entries = zeroed(usize::from(COUNT) * size_of::<BufRingEntry>()).cast();
        let memory = zeroed(usize::from(COUNT) * SIZE);
        // Those that are filled first are in memory before that, without page faults in between.
        // SAFETY: there are more buffers than these.
        unsafe { memory.write_bytes(0, usize::from(IN_RING + 1) * SIZE) };
        // SAFETY: the entries are as many, aligned to a page, and never freed.
        unsafe {
            let submitter = ring.io.submitter();
            submitter.register_buf_ring_with_flags(entries as u64, COUNT, GROUP, INCREMENTAL)?;
        }
        let used = [Use::default(); COUNT as usize];
        let free = (0..COUNT).rev().collect();
        let mut buffers =
            Buffers { entries, memory, tail: 0, used, free, in_ring: 0, typical: SIZE };
        buffers.publish();
        Ok(buffers)
    }

    /// What a reception of some bytes has put into a buffer. `more`: it was not the last into it.
    #[inline]
    pub(crate) fn received(&mut self, buffer: u16, length: usize, more: bool) -> Piece {
        self.typical = (7 * self.typical + length) / 8;
        self.in_ring -= u16::from(!more);
        let used = &mut self.used[usize::from(buffer)];
        let start = self.memory.wrapping_add(usize::from(buffer) * SIZE + used.offset);
        used.offset += length;
        used.held += 1;
        used.full = !more;
        Piece { start, length, buffer }
    }

    /// Adds a piece to another if it follows it immediately. The two are released as one.
    #[inline]
    pub(crate) fn joined(&mut self, first: &mut Piece, second: &Piece) -> bool {
        let follows = first.buffer == second.buffer
            && std::ptr::eq(first.start.wrapping_add(first.length), second.start);
        if follows {
            first.length += second.length;
            self.used[usize::from(second.buffer)].held -= 1;
        }
        follows
    }

    #[inline]
    pub(crate) fn release(&mut self, piece: &Piece) {
        let used = &mut self.used[usize::from(piece.buffer)];
        used.held -= 1;
        if used.full && used.held == 0 {
            *used = Use::default();
            self.free.push(piece.buffer);
        }
    }

    fn push(&mut self, buffer: u16) {
        let place = usize::from(self.tail % COUNT);
        let memory = self.memory.wrapping_add(usize::from(buffer) * SIZE);
        // SAFETY: the place is inside the ring, and the kernel has taken what was there.
        let entry = unsafe { &mut *self.entries.add(place) };
        entry.set_addr(memory as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.in_ring += 1;
    }

    /// Lets the kernel have what is free, as far as it is to.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.in_ring == IN_RING || self.free.is_empty() {
            return;
        }
        while self.in_ring < IN_RING
            && let Some(buffer) = self.free.pop()
        {
            self.push(buffer);
        }
        // SAFETY: the tail is part of the entries, is aligned, and is the kernel's to read.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// How many receptions there is room for, if they are as long as those of late.
    pub(crate) fn room(&self) -> usize {
        let typical = self.typical.max(1);
        usize::from(self.in_ring) * ((SIZE + typical / 2) / typical).max(1)
    }
}

fn zeroed(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE).expect("it is a small size");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}
