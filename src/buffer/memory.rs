//! The memory of a pool: equal buffers in one mapping, each lent in one piece or several.

use super::returns::Returns;
use crate::handle::Shared;
use crate::sys::Mapping;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The kernel's share of a buffer that it may still fill; more than pieces can ever add up to.
const KERNEL: u32 = 1 << 31;

/// Lent out to [`Chunk`](super::Chunk)s, on whichever thread, and to the kernel. It goes when the
/// last chunk has let go of it.
pub(crate) struct Memory {
    /// All buffers, one after the other.
    mapping: Mapping,
    buffer_size: usize,
    lent: Box<[Lent]>,
    returns: Returns,
    shared: Arc<Shared>,
}

/// A buffer: all that its pieces have to know, so that they are small.
struct Lent {
    /// The memory this belongs to, which lives in an `Arc`.
    memory: *const Memory,
    address: *mut u8,
    /// Pieces out. While the kernel has the buffer: `KERNEL` minus those that have come back; the
    /// pool counts those lent (`Filled::pieces`), and `take_from_kernel` combines the two.
    pieces: AtomicU32,
    number: u16,
}

// SAFETY: the pointers lead to memory that is, but for them, `Send` and `Sync`; who may touch the
// bytes is decided by who holds pieces.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Memory {
    pub(super) fn new(
        buffer_size: usize,
        count: u16,
        shared: Arc<Shared>,
    ) -> io::Result<Arc<Memory>> {
        let mapping = Mapping::new(buffer_size * usize::from(count))?;
        let begin = mapping.address();
        let buffer = |memory, number| Lent {
            memory,
            address: begin.wrapping_add(usize::from(number) * buffer_size),
            pieces: AtomicU32::new(0),
            number,
        };
        Ok(Arc::new_cyclic(|memory| Memory {
            buffer_size,
            lent: (0..count).map(|number| buffer(memory.as_ptr(), number)).collect(),
            mapping,
            returns: Returns::new(count),
            shared,
        }))
    }

    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Where a buffer begins. It is `buffer_size` long, and whoever it is lent to may use it all.
    #[inline]
    pub(super) fn address(&self, buffer: u16) -> *mut u8 {
        self.lent[usize::from(buffer)].address
    }

    /// Has the first few buffers in memory before they are used.
    pub(super) fn populate(&self, count: usize) {
        self.mapping.populate(count * self.buffer_size);
    }

    /// Lends a free buffer to the kernel.
    pub(super) fn lend_to_kernel(&self, buffer: u16) {
        self.lent[usize::from(buffer)].pieces.store(KERNEL, Ordering::Relaxed);
    }

    /// Lends a free buffer in one piece.
    pub(super) fn lend(self: &Arc<Memory>, buffer: u16) -> Share {
        self.lent[usize::from(buffer)].pieces.store(1, Ordering::Relaxed);
        self.share(buffer, true)
    }

    /// Lends a piece of a buffer that the kernel has, perhaps the first since the kernel got it.
    #[inline]
    pub(super) fn share(self: &Arc<Memory>, buffer: u16, is_first: bool) -> Share {
        if is_first {
            // One reference for all pieces, which whoever is the last to come back gives up.
            std::mem::forget(self.clone());
        }
        Share(NonNull::from(&self.lent[usize::from(buffer)]))
    }

    /// The kernel lets go of a buffer, of which so many pieces have been lent meanwhile: one at
    /// least.
    pub(super) fn take_from_kernel(&self, buffer: u16, pieces: u32) {
        // SAFETY: a piece has been lent, and `share` has left a reference for what the kernel had.
        unsafe { take_back(&self.lent[usize::from(buffer)], KERNEL - pieces) };
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

/// Takes back some of what is lent of a buffer.
///
/// # Safety
///
/// That much is lent, and whoever gives it back does not use it any more, nor this: it may be gone.
#[inline]
unsafe fn take_back(buffer: *const Lent, count: u32) {
    // Whoever lends it next has done so after what its holders did with it.
    // SAFETY: the buffer is there as long as something of it is lent.
    let before = unsafe { (*buffer).pieces.fetch_sub(count, Ordering::AcqRel) };
    if before == count {
        // SAFETY: that was the last of it, so that the reference that `Memory::share` has left is
        // there, for this one alone to give up.
        unsafe { came_back(buffer) };
    }
}

/// All of a buffer has come back.
///
/// # Safety
///
/// There is a reference to the memory for that buffer, which is given up.
#[inline(never)]
unsafe fn came_back(buffer: *const Lent) {
    // SAFETY: as long as there is that reference, the buffer is there, too. It comes from an `Arc`.
    let (memory, number) = unsafe { (Arc::from_raw((*buffer).memory), (*buffer).number) };
    if memory.returns.give_back(number) {
        memory.shared.alarm.notify();
    }
}

/// A piece of a buffer, which comes back when this is dropped, on any thread. The memory is there
/// until then.
pub(super) struct Share(NonNull<Lent>);

// SAFETY: it stands for a reference to memory that is `Send` and `Sync`, with a number.
unsafe impl Send for Share where Arc<Memory>: Send {}
// SAFETY: as above.
unsafe impl Sync for Share where Arc<Memory>: Sync {}

impl Share {
    #[inline]
    fn lent(&self) -> &Lent {
        // SAFETY: it is in the memory for which `Memory::share` has left a reference, which is given
        // up when the last share of this buffer is dropped: not before this one.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn buffer_size(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.lent().memory).buffer_size }
    }

    /// Whether its buffer is of a pool of this loop's.
    #[inline]
    pub(super) fn is_of(&self, own: &Shared) -> bool {
        // SAFETY: as above.
        let shared = unsafe { &(*self.lent().memory).shared };
        std::ptr::eq(Arc::as_ptr(shared), own)
    }

    /// Where its buffer begins.
    #[inline]
    pub(super) fn address(&self) -> *mut u8 {
        self.lent().address
    }
}

impl Drop for Share {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this piece is lent, and not used any more.
        unsafe { take_back(self.0.as_ptr(), 1) };
    }
}
