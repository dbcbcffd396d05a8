//! A pool of buffers, as its loop sees it.

use super::ring::BufferRing;
use super::{Chunk, Memory};
use crate::handle::Shared;
use std::io;
use std::sync::Arc;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolSize {
    pub(crate) buffer_size: usize,
    /// A power of two.
    pub(crate) count: u16,
}

impl PoolSize {
    /// The size nearest to what is asked for.
    pub(crate) fn new(count: u16, buffer_size: usize) -> PoolSize {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        PoolSize { buffer_size: buffer_size.clamp(1, 1 << 30), count }
    }
}

/// Knows which buffers are free. With a ring, the kernel takes from those; without one, `claim`
/// does.
pub(crate) struct Pool {
    memory: Arc<Memory>,
    ring: Option<BufferRing>,
    /// Those not in the ring.
    free: Vec<u16>,
    available: usize,
    count: usize,
}

impl Pool {
    /// All buffers are free.
    pub(crate) fn new(size: PoolSize, shared: Arc<Shared>) -> io::Result<Pool> {
        let memory = Memory::new(size.buffer_size, size.count, shared)?;
        let available = usize::from(size.count);
        let free = (0..size.count).rev().collect();
        Ok(Pool { memory: Arc::new(memory), ring: None, free, available, count: available })
    }

    /// Makes a ring for the kernel to take buffers from, which `register` tells it of.
    ///
    /// # Errors
    ///
    /// Those of `register`: then the pool has no ring.
    pub(crate) fn make_ring(
        &mut self,
        register: impl FnOnce(&BufferRing) -> io::Result<()>,
    ) -> io::Result<()> {
        let ring = BufferRing::new(self.free.len() as u16)?;
        register(&ring)?;
        let mut ring = ring;
        while let Some(buffer) = self.free.pop() {
            ring.push(buffer, self.memory.address(buffer), self.memory.buffer_size());
        }
        ring.publish();
        self.ring = Some(ring);
        Ok(())
    }

    pub(crate) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Buffers that are free, and were not taken since `replenish`.
    pub(crate) fn available(&self) -> usize {
        self.available
    }

    /// More than half of the buffers are lent.
    pub(crate) fn is_scarce(&self) -> bool {
        2 * self.available < self.count
    }

    /// Makes the buffers that have come back available again.
    #[inline]
    pub(crate) fn replenish(&mut self) {
        let Pool { memory, ring, free, available, .. } = self;
        let before = *available;
        memory.collect(|buffer| {
            *available += 1;
            match ring {
                Some(ring) => ring.push(buffer, memory.address(buffer), memory.buffer_size()),
                None => free.push(buffer),
            }
        });
        if let Some(ring) = ring
            && *available > before
        {
            ring.publish();
        }
    }

    /// Sees to it that the loop does not sleep over a buffer that comes back. False if one has
    /// come back already.
    pub(crate) fn wait_for_returns(&self) -> bool {
        !self.memory.want()
    }

    /// The data that the kernel has put into a buffer of the ring.
    ///
    /// # Safety
    ///
    /// The kernel has handed this buffer out in a completion that is new, with `length` bytes.
    pub(crate) unsafe fn filled(&mut self, buffer: u16, length: usize) -> Chunk {
        self.available -= 1;
        // SAFETY: a buffer in a completion has left the ring, so the kernel does not touch it
        // before it is pushed again; that happens after this chunk has given it back.
        unsafe { Chunk::new(self.memory.clone(), buffer, length) }
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
                self.available -= 1;
                // SAFETY: it has just left the free list, and all of it was written to at least
                // once.
                Some(Ok(unsafe { Chunk::new(self.memory.clone(), buffer, length) }))
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
