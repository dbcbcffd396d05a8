//! The memory of a pool: equal buffers in one mapping, each lent in one piece or several.

use super::returns::Returns;
use crate::handle::Shared;
use crate::sys::Mapping;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the kernel counts for, as long as it may fill more of a buffer: more than there are pieces.
const KERNEL: u32 = 1 << 31;

/// Lent out to [`Chunk`](super::Chunk)s, on whichever thread, and to the kernel. It goes when the
/// last chunk has let go of it.
pub(crate) struct Memory {
    mapping: Mapping,
    buffer_size: usize,
    /// How many pieces of each buffer are lent. While the kernel has it, `KERNEL` without those
    /// that have come back: which pieces were lent is counted by the pool until then.
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

    /// Lends a free buffer to the kernel.
    pub(super) fn lend_to_kernel(&self, buffer: u16) {
        self.lent[usize::from(buffer)].store(KERNEL, Ordering::Relaxed);
    }

    /// Lends a free buffer in one piece.
    pub(super) fn lend(self: &Arc<Memory>, buffer: u16) -> Share {
        self.lent[usize::from(buffer)].store(1, Ordering::Relaxed);
        self.share(buffer, true)
    }

    /// Lends a piece of a buffer that the kernel has, perhaps the first since the kernel got it.
    #[inline]
    pub(super) fn share(self: &Arc<Memory>, buffer: u16, is_first: bool) -> Share {
        if is_first {
            // One reference for all pieces, which whoever is the last to come back gives up.
            std::mem::forget(self.clone());
        }
        Share { memory: Arc::as_ptr(self), buffer }
    }

    /// The kernel lets go of a buffer, of which so many pieces have been lent meanwhile: one at
    /// least.
    pub(super) fn take_from_kernel(self: &Arc<Memory>, buffer: u16, pieces: u32) {
        if self.take_back(buffer, KERNEL - pieces) {
            // SAFETY: `share` has left a reference, which is given up by the last one alone.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(self)) };
        }
    }

    /// True if that was the last of what was lent of a buffer.
    #[inline]
    fn take_back(&self, buffer: u16, count: u32) -> bool {
        // Whoever lends it next has done so after what its holders did with it.
        let before = self.lent[usize::from(buffer)].fetch_sub(count, Ordering::AcqRel);
        let is_last = before == count;
        if is_last {
            self.came_back(buffer);
        }
        is_last
    }

    #[inline(never)]
    fn came_back(&self, buffer: u16) {
        if self.returns.give_back(buffer) {
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

/// A piece of a buffer, which comes back when this is dropped, on any thread. The memory is there
/// until then.
pub(super) struct Share {
    /// Of an `Arc`.
    memory: *const Memory,
    buffer: u16,
}

// SAFETY: it stands for a reference to memory that is `Send` and `Sync`, with a number.
unsafe impl Send for Share where Arc<Memory>: Send {}
// SAFETY: as above.
unsafe impl Sync for Share where Arc<Memory>: Sync {}

impl Share {
    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        // SAFETY: `Memory::share` has left a reference for this buffer, which is given up when the
        // last share of it is dropped: not before this one.
        unsafe { &*self.memory }
    }

    /// Where its buffer begins.
    #[inline]
    pub(super) fn address(&self) -> *mut u8 {
        self.memory().address(self.buffer)
    }
}

impl Drop for Share {
    #[inline]
    fn drop(&mut self) {
        if self.memory().take_back(self.buffer, 1) {
            // SAFETY: `Memory::share` has left a reference, which is given up by the last share
            // alone. This one does not use it any more.
            unsafe { Arc::decrement_strong_count(self.memory) };
        }
    }
}
