//! The memory of a pool: equal buffers in one mapping, each lent in one piece or several.

use crate::handle::Shared;
use crate::sys::Mapping;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Sixty-four buffers to a word.
const WORD: usize = u64::BITS as usize;

/// Lent out to [`Chunk`](super::Chunk)s, on whichever thread, and to the kernel. It goes when the
/// last of them has let go of it.
pub(crate) struct Memory {
    mapping: Mapping,
    buffer_size: usize,
    /// How many pieces of each buffer are lent. To the kernel, it is lent as a whole.
    lent: Box<[AtomicU32]>,
    /// One bit for each buffer that came back and was not collected yet.
    returned: Box<[AtomicU64]>,
    /// A bit of `returned` may be set.
    any_returned: AtomicBool,
    /// Somebody waits for a buffer, on a loop that may be asleep.
    wanted: AtomicBool,
    shared: Arc<Shared>,
}

impl Memory {
    pub(super) fn new(buffer_size: usize, count: u16, shared: Arc<Shared>) -> io::Result<Memory> {
        let words = usize::from(count).div_ceil(WORD);
        Ok(Memory {
            mapping: Mapping::new(buffer_size * usize::from(count))?,
            buffer_size,
            lent: (0..count).map(|_| AtomicU32::new(0)).collect(),
            returned: (0..words).map(|_| AtomicU64::new(0)).collect(),
            any_returned: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
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
        if self.lent[usize::from(buffer)].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.has_come_back(usize::from(buffer));
        }
    }

    fn has_come_back(&self, buffer: usize) {
        self.returned[buffer / WORD].fetch_or(1 << (buffer % WORD), Ordering::AcqRel);
        // The flag is set after the bit, and looked at before it is collected. Either the waiting
        // loop sees the flag, or this sees that the loop waits.
        self.any_returned.store(true, Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            self.shared.alarm.notify();
        }
    }

    /// Asks to be woken when a buffer comes back. True if one has come back already.
    pub(super) fn want(&self) -> bool {
        self.wanted.store(true, Ordering::SeqCst);
        self.any_returned.load(Ordering::SeqCst)
    }

    /// Calls `free` for each buffer that has come back.
    #[inline]
    pub(super) fn collect(&self, free: impl FnMut(u16)) {
        if self.any_returned.load(Ordering::Relaxed) {
            self.collect_returned(free);
        }
    }

    fn collect_returned(&self, mut free: impl FnMut(u16)) {
        self.any_returned.swap(false, Ordering::SeqCst);
        for (index, word) in self.returned.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                free((index * WORD) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("buffer_size", &self.buffer_size).finish_non_exhaustive()
    }
}
