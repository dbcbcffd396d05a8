//! [`Chunk`], a piece of received data.

use super::memory::Share;
use crate::handle::Shared;
use std::fmt;
use std::ops::{Deref, Range};

/// A piece of received data, where the kernel has put it: nothing is copied.
///
/// It borrows a buffer of the loop's pool, or part of one, and gives it back when it is dropped, on
/// whichever thread, also after its stream or its loop is gone. As long as it is held, its pool is
/// one buffer short; to keep data for long, copy it (`chunk.to_vec()`).
pub struct Chunk {
    share: Share,
    span: Span,
}

/// From where to where in the buffer. One word, so that a chunk is moved in two registers.
#[derive(Clone, Copy)]
struct Span(u64);

impl Span {
    #[inline]
    fn new(start: u32, end: u32) -> Span {
        Span(u64::from(end) << 32 | u64::from(start))
    }

    #[inline]
    fn start(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    fn end(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Chunk {
    /// A piece of a buffer, from its beginning on.
    ///
    /// # Safety
    ///
    /// The piece is lent to nobody else, the kernel included, and has been written to.
    #[inline]
    pub(super) unsafe fn new(share: Share, piece: Range<usize>) -> Chunk {
        let fits = piece.start <= piece.end && piece.end <= share.buffer_size();
        assert!(fits, "a piece of data is longer than its buffer");
        Chunk { share, span: Span::new(piece.start as u32, piece.end as u32) }
    }

    /// Whether its buffer is of a pool of this loop's.
    #[inline]
    pub(super) fn is_of(&self, own: &Shared) -> bool {
        self.share.is_of(own)
    }

    /// Forgets the first `count` bytes, or all if there are fewer.
    pub fn advance(&mut self, count: usize) {
        let start = self.span.start() + count.min(self.len()) as u32;
        self.span = Span::new(start, self.span.end());
    }

    /// Forgets all but the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        let start = self.span.start();
        self.span = Span::new(start, start + length.min(self.len()) as u32);
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let (start, end) = (self.span.start(), self.span.end());
        let address = self.share.address().wrapping_add(start as usize);
        // SAFETY: the buffer is in the mapping, which `share` keeps; from `start` to `end` it is this
        // chunk's alone until that is dropped, and has been written to (`new` has checked the one,
        // and was promised the others); every method keeps to the piece that `new` was given.
        unsafe { std::slice::from_raw_parts(address, (end - start) as usize) }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({:?})", self.escape_ascii().to_string())
    }
}
