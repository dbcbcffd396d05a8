//! A provided-buffer ring: the list of free buffers that the kernel takes from.

use crate::sys::Mapping;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The memory of a ring. Whoever registers it with the kernel keeps it until it is unregistered.
pub(crate) struct BufferRing {
    entries: Mapping,
    count: u16,
    /// Our copy of the ring's tail, ahead of it until `publish`.
    tail: u16,
}

impl BufferRing {
    /// `count` is a power of two.
    pub(super) fn new(count: u16) -> io::Result<BufferRing> {
        assert!(count.is_power_of_two(), "a buffer ring's size is a power of two");
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        Ok(BufferRing { entries, count, tail: 0 })
    }

    /// What the kernel is told when the ring is registered.
    pub(crate) fn address(&self) -> u64 {
        self.entries.address() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Adds a buffer. There are never more of them in the ring than it has entries.
    pub(super) fn push(&mut self, buffer: u16, address: *mut u8, size: usize) {
        let index = usize::from(self.tail & (self.count - 1));
        let entry = self.entries.address().cast::<BufRingEntry>().wrapping_add(index);
        // SAFETY: the index is below `count`, so the entry is in the mapping, which is aligned to
        // pages and zeroed, as entries may be. The kernel reads entries from its head up to the
        // published tail, and this one is not among them: with as many buffers as entries, a
        // buffer that comes back has left one. The setters leave alone the first entry's reserved
        // field, which is the ring's tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(size as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what has been pushed.
    pub(super) fn publish(&mut self) {
        let base = self.entries.address().cast::<BufRingEntry>();
        // SAFETY: `base` is the ring's first entry. The tail in it is aligned, in the mapping, and
        // touched by nothing else but atomically: the kernel only reads it.
        let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
