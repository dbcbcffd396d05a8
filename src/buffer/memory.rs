//! The memory of a pool: equal buffers in one mapping, each lent in one piece or several.

use super::returns::Returns;
use crate::handle::Shared;
use crate::sys::Mapping;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lent out to [`Chunk`](super::Chunk)s, on whichever thread, and to the kernel. It goes when the
/// last of them has let go of it.
pub(crate) struct Memory {
    mapping: Mapping,
    buffer_size: usize,
    /// How many pieces of each buffer are lent. To the kernel, it is lent as a whole.
    lent: Box<[AtomicU32]>,
    returns: Returns,
    shared: Arc<Shared>,
}

impl Memory {
    pub(super) fn new(buffer_size: usize, count: u16, shared: Arc<Shared>) -> io::Result<Memory> {
        Ok(Memory {
            mapping: Mapping::new(buffer_size * usize::from(count))?,
            buffer_size,
            lent: (0..count).map(|_| AtomicU32::new(0)).collect(),
            returns: Returns::new(count),
            shared,
        })
    }

    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Whether there is such a buffer.
    pub(super) fn has(&self, buffer: u16) -> bool {
        usize::from(buffer) * self.buffer_size < self.mapping.len()
    }

    /// Where a buffer begins. It is `buffer_size` long, and whoever it is lent to may use it all.
    #[inline]
    pub(super) fn address(&self, buffer: u16) -> *mut u8 {
        debug_assert!(self.has(buffer), "buffer {buffer} is not of this pool");
        self.mapping.address().wrapping_add(usize::from(buffer) * self.buffer_size)
    }

    /// Lends a buffer, or another piece of one that is lent.
    #[inline]
    pub(super) fn lend(&self, buffer: u16) {
        self.lent[usize::from(buffer)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a buffer back, or a piece of one. On any thread.
    #[inline]
    pub(super) fn give_back(&self, buffer: u16) {
        // Whoever lends it next has done so after what its holders did with it.
        let is_last = self.lent[usize::from(buffer)].fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && self.returns.give_back(buffer) {
            self.shared.alarm.notify();
        }
    }

    /// Asks to be woken when a buffer comes back. True if one has come back already.
    pub(super) fn want(&self) -> bool {
        self.returns.want()
    }

    /// Takes that back: the loop asks again before it sleeps.
    pub(super) fn unwant(&self) {
        self.returns.unwant();
    }

    /// Whether a buffer has come back that was not collected.
    pub(super) fn has_returns(&self) -> bool {
        self.returns.have_any()
    }

    /// Calls `free` for each buffer that has come back.
    #[inline]
    pub(super) fn collect(&self, free: impl FnMut(u16)) {
        self.returns.collect(free);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("buffer_size", &self.buffer_size).finish_non_exhaustive()
    }
}
