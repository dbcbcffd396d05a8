//! A pool of buffers, as its loop sees it.

use super::ring::BufferRing;
use super::{Chunk, Memory};
use crate::handle::Shared;
use std::io;
use std::sync::Arc;

/// There are no more bytes of incremental buffers in a ring than this. What has been received is then
/// still in the processor's second-level cache when it is used, and sent on, whereas the kernel would
/// fill a dozen buffers before anybody gets to see them.
const IN_RING: usize = 256 * 1024;

/// The mean length of pieces is that of about so many.
const RECENT: i32 = 8;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolSize {
    pub(crate) buffer_size: usize,
    /// A power of two.
    pub(crate) count: u16,
}

/// Where the buffers of a pool are that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In a ring that the kernel takes them from, to fill one with one piece of data after the
    /// other.
    Incremental,
    /// The same, for one piece each.
    Whole,
    /// In a list of ours.
    List,
}

impl PoolSize {
    /// The size nearest to what is asked for.
    pub(crate) fn new(count: u16, buffer_size: usize) -> PoolSize {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        PoolSize { buffer_size: buffer_size.clamp(1, 1 << 30), count }
    }

    /// 8 MiB, which is as many buffers as there can be pieces of data, but few where one takes many.
    pub(crate) fn usual(kind: Kind) -> PoolSize {
        match kind {
            Kind::Incremental => PoolSize { buffer_size: 64 * 1024, count: 128 },
            Kind::Whole | Kind::List => PoolSize { buffer_size: 16 * 1024, count: 512 },
        }
    }
}

/// Knows which buffers are free. With a ring, the kernel takes from those; without one, `fill`
/// does.
pub(crate) struct Pool {
    memory: Arc<Memory>,
    ring: Option<BufferRing>,
    /// Those not in the ring.
    free: Vec<u16>,
    in_ring: usize,
    /// There are no more than so many in the ring.
    most_in_ring: usize,
    /// The mean length of what was received lately.
    typical_piece: u32,
    /// How much of each buffer in the ring has been filled.
    filled: Box<[u32]>,
    kind: Kind,
    count: usize,
}

impl Pool {
    /// All buffers are free. `register` tells the kernel of a ring, unless it is to be a list.
    ///
    /// # Errors
    ///
    /// If there is no memory; those of `register`.
    pub(crate) fn new(
        size: PoolSize,
        kind: Kind,
        shared: Arc<Shared>,
        register: impl FnOnce(&BufferRing) -> io::Result<()>,
    ) -> io::Result<Pool> {
        let memory = Memory::new(size.buffer_size, size.count, shared)?;
        let count = usize::from(size.count);
        let most_in_ring = match kind {
            Kind::Incremental => (IN_RING / size.buffer_size).clamp(1, count),
            Kind::Whole => count,
            Kind::List => 0,
        };
        let mut pool = Pool {
            memory: Arc::new(memory),
            ring: None,
            free: (0..size.count).rev().collect(),
            in_ring: 0,
            most_in_ring,
            typical_piece: size.buffer_size as u32,
            filled: Box::default(),
            kind,
            count,
        };
        if kind != Kind::List {
            let ring = BufferRing::new(size.count)?;
            register(&ring)?;
            pool.ring = Some(ring);
            pool.filled = (0..size.count).map(|_| 0).collect();
            pool.provide();
        }
        Ok(pool)
    }

    pub(crate) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Whether a buffer named by a completion without data has left the ring. Of incremental ones,
    /// kernels have named some that had not.
    pub(crate) fn gives_up_unfilled(&self) -> bool {
        self.kind == Kind::Whole
    }

    /// Buffers that are free, and were not taken since `replenish`.
    pub(crate) fn available(&self) -> usize {
        self.in_ring + self.free.len()
    }

    /// How many pieces there is room for now, as long as they have been lately.
    pub(crate) fn room(&self) -> usize {
        match self.kind {
            Kind::Incremental => {
                let piece = self.typical_piece.max(1) as usize;
                // Rounded, as the mean is only nearly one.
                self.in_ring * ((self.memory.buffer_size() + piece / 2) / piece).max(1)
            }
            Kind::Whole | Kind::List => self.available(),
        }
    }

    /// More than half of the buffers are lent.
    pub(crate) fn is_scarce(&self) -> bool {
        2 * self.available() < self.count
    }

    /// Makes the buffers that have come back available again.
    #[inline]
    pub(crate) fn replenish(&mut self) {
        let free = &mut self.free;
        self.memory.collect(|buffer| free.push(buffer));
        if self.in_ring < self.most_in_ring && !self.free.is_empty() {
            self.provide();
        }
    }

    /// Fills the ring up.
    #[inline(never)]
    fn provide(&mut self) {
        let Pool { memory, ring: Some(ring), free, in_ring, most_in_ring, .. } = self else {
            return;
        };
        while *in_ring < *most_in_ring
            && let Some(buffer) = free.pop()
        {
            memory.lend(buffer);
            ring.push(buffer, memory.address(buffer), memory.buffer_size());
            *in_ring += 1;
        }
        ring.publish();
    }

    /// Sees to it that the loop does not sleep over a buffer that comes back. False if one has
    /// come back already.
    pub(crate) fn wait_for_returns(&self) -> bool {
        !self.memory.want()
    }

    /// The loop is awake, and asks again before it sleeps.
    pub(crate) fn stop_waiting(&self) {
        self.memory.unwant();
    }

    /// Whether a buffer has come back since `replenish`.
    pub(crate) fn has_returns(&self) -> bool {
        self.memory.has_returns()
    }

    /// The data that the kernel has put into a buffer of the ring. It goes on there if there
    /// `is_more` to come into it.
    ///
    /// # Safety
    ///
    /// The kernel has handed this buffer out in a completion that is new, with `length` bytes and
    /// this flag.
    #[inline]
    pub(crate) unsafe fn filled(&mut self, buffer: u16, length: usize, is_more: bool) -> Chunk {
        // It wraps around on the way to a smaller one.
        let change = (length as u32).wrapping_sub(self.typical_piece) as i32 / RECENT;
        self.typical_piece = self.typical_piece.wrapping_add_signed(change);
        let filled = &mut self.filled[usize::from(buffer)];
        let start = *filled as usize;
        let piece = start..start + length;
        if is_more {
            *filled += length as u32;
            self.memory.lend(buffer);
        } else {
            // What was lent to the kernel is lent to the chunk from now on.
            *filled = 0;
            self.in_ring -= 1;
        }
        // SAFETY: the kernel does not touch again what it has filled, before the buffer is pushed
        // again, which is after this chunk has given it back: the buffer was lent for it. What was
        // filled before is other chunks'.
        unsafe { Chunk::new(self.memory.clone(), buffer, piece) }
    }

    /// Lets `fill` write to a free buffer and say how much it wrote. Without a ring only.
    ///
    /// `None` if no buffer is free.
    pub(crate) fn fill(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Option<io::Result<Chunk>> {
        let buffer = self.free.pop()?;
        // SAFETY: a free buffer is lent to nobody, and the mapping is zeroed when it is made.
        let slice = unsafe {
            std::slice::from_raw_parts_mut(self.memory.address(buffer), self.memory.buffer_size())
        };
        match fill(slice) {
            Ok(length) => {
                self.memory.lend(buffer);
                // SAFETY: it has just left the free list, and all of it was written to at least
                // once.
                Some(Ok(unsafe { Chunk::new(self.memory.clone(), buffer, 0..length) }))
            }
            Err(error) => {
                self.free.push(buffer);
                Some(Err(error))
            }
        }
    }

    /// Never frees the memory, of which the kernel may not have let go.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}
