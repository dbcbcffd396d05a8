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

/// How many pieces, roughly, the running mean looks back on.
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
pub(crate) enum PoolKind {
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

    /// 8 MiB: many buffers where each takes one piece, few where one takes many.
    pub(crate) fn usual(kind: PoolKind) -> PoolSize {
        match kind {
            PoolKind::Incremental => PoolSize { buffer_size: 64 * 1024, count: 128 },
            PoolKind::Whole | PoolKind::List => PoolSize { buffer_size: 16 * 1024, count: 512 },
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
    /// What the kernel has done with each buffer in the ring.
    filled: Box<[Filled]>,
    kind: PoolKind,
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Filled {
    bytes: u32,
    pieces: u32,
}

impl Pool {
    /// All buffers are free. `register` tells the kernel of a ring, unless it is to be a list.
    ///
    /// # Errors
    ///
    /// If there is no memory; those of `register`.
    pub(crate) fn new(
        size: PoolSize,
        kind: PoolKind,
        shared: Arc<Shared>,
        register: impl FnOnce(&BufferRing) -> io::Result<()>,
    ) -> io::Result<Pool> {
        let memory = Memory::new(size.buffer_size, size.count, shared)?;
        let count = usize::from(size.count);
        let most_in_ring = match kind {
            PoolKind::Incremental => (IN_RING / size.buffer_size).clamp(1, count),
            PoolKind::Whole => count,
            PoolKind::List => 0,
        };
        let mut pool = Pool {
            memory,
            ring: None,
            free: (0..size.count).rev().collect(),
            in_ring: 0,
            most_in_ring,
            typical_piece: size.buffer_size as u32,
            filled: Box::default(),
            kind,
            count,
        };
        if kind != PoolKind::List {
            let ring = BufferRing::new(size.count)?;
            register(&ring)?;
            pool.ring = Some(ring);
            pool.filled = (0..size.count).map(|_| Filled::default()).collect();
            pool.provide();
        }
        if kind == PoolKind::Incremental && size.buffer_size <= IN_RING {
            // One more than are in the ring: a buffer is full before it comes back.
            pool.memory.populate((most_in_ring + 1).min(count));
        }
        Ok(pool)
    }

    pub(crate) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Whether a buffer named by a completion without data has left the ring. Of incremental ones,
    /// kernels have named some that had not.
    pub(crate) fn gives_up_unfilled(&self) -> bool {
        self.kind == PoolKind::Whole
    }

    /// Buffers that are free, and were not taken since `replenish`.
    pub(crate) fn available(&self) -> usize {
        self.in_ring + self.free.len()
    }

    /// How many pieces there is room for now, as long as they have been lately.
    pub(crate) fn room(&self) -> usize {
        match self.kind {
            PoolKind::Incremental => {
                let piece = self.typical_piece.max(1) as usize;
                // Rounded, as the mean may be slightly off.
                self.in_ring * ((self.memory.buffer_size() + piece / 2) / piece).max(1)
            }
            PoolKind::Whole | PoolKind::List => self.available(),
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
            memory.lend_to_kernel(buffer);
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
        let start = filled.bytes as usize;
        filled.bytes += length as u32;
        filled.pieces += 1;
        let share = self.memory.share(buffer, filled.pieces == 1);
        if !is_more {
            self.memory.take_from_kernel(buffer, filled.pieces);
            *filled = Filled::default();
            self.in_ring -= 1;
        }
        // SAFETY: the kernel does not touch again what it has filled, before the buffer is pushed
        // again, which is after this share has come back. What was filled before is other chunks'.
        unsafe { Chunk::new(share, start..start + length) }
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
                let share = self.memory.lend(buffer);
                // SAFETY: it has just left the free list, and all of it was written to at least
                // once.
                Some(Ok(unsafe { Chunk::new(share, 0..length) }))
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

/// Only once the kernel has let go of everything; else `leak`.
impl Drop for Pool {
    fn drop(&mut self) {
        for (buffer, filled) in (0..).zip(&self.filled) {
            if filled.pieces > 0 {
                self.memory.take_from_kernel(buffer, filled.pieces);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::ForkGuard;
    use std::sync::Weak;

    const COUNT: u16 = 4;
    const SIZE: usize = 100;

    /// A pool whose kernel is the test.
    fn pool() -> (Pool, Weak<Memory>) {
        let pool = new_pool(PoolSize { buffer_size: SIZE, count: COUNT }, PoolKind::Incremental);
        let memory = Arc::downgrade(&pool.memory);
        (pool, memory)
    }

    fn new_pool(size: PoolSize, kind: PoolKind) -> Pool {
        let shared = Arc::new(Shared::new(ForkGuard::new().unwrap()).unwrap());
        Pool::new(size, kind, shared, |_| Ok(())).unwrap()
    }

    /// How many of a pool's bytes are in memory.
    #[cfg(not(miri))]
    fn resident(pool: &Pool) -> usize {
        // SAFETY: no memory is passed; every system knows this.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let length = pool.count * pool.memory.buffer_size();
        let mut pages = vec![0; length.div_ceil(page)];
        let address = pool.memory.address(0).cast();
        // SAFETY: the range is the pool's mapping, and there is a byte for each of its pages.
        let result = unsafe { libc::mincore(address, length, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|&&page| page & 1 != 0).count() * page
    }

    fn piece(pool: &mut Pool, buffer: u16, is_more: bool) -> Chunk {
        // SAFETY: no kernel knows of the buffers, which are zeroed, and long enough for what the
        // tests take of them.
        unsafe { pool.filled(buffer, 10, is_more) }
    }

    fn lent(pool: &mut Pool) -> usize {
        pool.replenish();
        usize::from(COUNT) - pool.available()
    }

    #[test]
    fn a_loop_that_waits_for_a_buffer_is_told_when_one_comes_back() {
        let shared = Arc::new(Shared::new(ForkGuard::new().unwrap()).unwrap());
        let size = PoolSize { buffer_size: SIZE, count: COUNT };
        let mut pool = Pool::new(size, PoolKind::Whole, shared.clone(), |_| Ok(())).unwrap();
        let [first, second, third] = [0, 1, 2].map(|buffer| piece(&mut pool, buffer, false));
        drop(first);
        assert!(!shared.alarm.is_notified(), "nobody waits");
        assert!(!pool.wait_for_returns(), "one has come back already");
        pool.replenish();
        assert!(pool.wait_for_returns());
        std::thread::spawn(move || drop(second)).join().unwrap();
        assert!(shared.alarm.take_notice());
        pool.stop_waiting();
        pool.replenish();
        drop(third);
        assert!(!shared.alarm.is_notified(), "nobody waits any more");
    }

    #[cfg(not(miri))]
    #[test]
    fn the_buffers_that_are_filled_first_are_in_memory_before_that() {
        let pool = new_pool(PoolSize::usual(PoolKind::Incremental), PoolKind::Incremental);
        // Pages may be huge.
        assert!(resident(&pool) >= IN_RING + pool.memory.buffer_size());
        let size = PoolSize { buffer_size: IN_RING, count: 1 };
        assert!(resident(&new_pool(size, PoolKind::Incremental)) >= IN_RING);
    }

    #[cfg(not(miri))]
    #[test]
    fn large_buffers_and_many_take_no_memory_before_they_are_used() {
        let large = PoolSize { buffer_size: 2 * IN_RING, count: 2 };
        assert_eq!(resident(&new_pool(large, PoolKind::Incremental)), 0);
        for kind in [PoolKind::Whole, PoolKind::List] {
            assert_eq!(resident(&new_pool(PoolSize::usual(kind), kind)), 0);
        }
    }

    #[test]
    fn a_buffer_comes_back_when_all_have_let_go_of_it_in_any_order() {
        let (mut pool, memory) = pool();
        let first = piece(&mut pool, 0, true);
        drop(piece(&mut pool, 0, true));
        assert_eq!(lent(&mut pool), 0, "the kernel has it still");
        let last = piece(&mut pool, 0, false);
        assert_eq!(lent(&mut pool), 1);
        drop(last);
        assert_eq!(lent(&mut pool), 1);
        drop(first);
        assert_eq!(lent(&mut pool), 0);
        drop(piece(&mut pool, 1, true));
        drop(piece(&mut pool, 1, false));
        assert_eq!(lent(&mut pool), 0);
        drop(pool);
        assert_eq!(memory.strong_count(), 0);
    }

    #[test]
    fn memory_goes_with_the_last_piece_or_with_the_pool() {
        let (mut pool, memory) = pool();
        let unfinished = [piece(&mut pool, 0, true), piece(&mut pool, 0, true)];
        let finished = piece(&mut pool, 1, false);
        // All pieces of this one have come back, and the kernel would fill more of it.
        drop(piece(&mut pool, 2, true));
        drop(pool);
        assert_eq!(memory.strong_count(), 2);
        assert_eq!(*finished, [0; 10]);
        drop(finished);
        assert_eq!(memory.strong_count(), 1);
        drop(unfinished);
        assert_eq!(memory.strong_count(), 0);
    }

    #[test]
    fn whatever_comes_and_goes_buffers_and_memory_are_accounted_for() {
        for seed in 0..if cfg!(miri) { 4 } else { 100 } {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut pool, memory) = pool();
            let mut used = [0; COUNT as usize];
            let mut held: Vec<(u16, Chunk)> = Vec::new();
            for _ in 0..200 {
                let buffer = random.u16(..COUNT);
                let is_lent = |held: &[(u16, Chunk)]| held.iter().any(|(held, _)| *held == buffer);
                let place = usize::from(buffer);
                if random.bool() && !held.is_empty() {
                    held.swap_remove(random.usize(..held.len()));
                } else if used[place] > 0 || !is_lent(&held) {
                    used[place] += 1;
                    let is_more = used[place] < 9 && random.u8(..4) > 0;
                    held.push((buffer, piece(&mut pool, buffer, is_more)));
                    used[place] *= usize::from(is_more);
                }
                let out = (0..COUNT).filter(|buffer| {
                    used[usize::from(*buffer)] == 0 && held.iter().any(|(held, _)| held == buffer)
                });
                assert_eq!(lent(&mut pool), out.count(), "seed {seed}");
            }
            drop(pool);
            assert_eq!(memory.strong_count() == 0, held.is_empty(), "seed {seed}");
            drop(held);
            assert_eq!(memory.strong_count(), 0, "seed {seed}");
        }
    }
}
