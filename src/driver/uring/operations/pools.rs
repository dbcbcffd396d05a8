//! Pools of buffers, and the operations that wait for one.

use super::{By, Operations, State};
use crate::buffer::{BufferRing, Pool, PoolKind, PoolSize};
use crate::driver::operation::{Operation, Owner, PoolId, StreamKind};
use crate::driver::uring::refusal::is_forbidden;
use crate::driver::uring::ring::Ring;
use crate::features::KernelFeatures as Features;
use crate::handle::Shared;
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Turns that a pool may be exhausted before buffers are reclaimed. Two take what has come, and give
/// its buffer back; twice as many are allowed.
const TURNS_BEFORE_RECLAIM: u8 = 4;

/// Turns in which streams that have just been served may overtake those that are parked: all that
/// they need is in the processor's cache. In the next one, they may not.
const TURNS_OF_OVERTAKING: u8 = 8;

/// Fewer are not looked through for those that are gone.
const FEW_KEEPERS: usize = 64;

/// A pool, and the operations that wait for one of its buffers.
pub(super) struct PoolQueue {
    pub(super) pool: Pool,
    /// Those that found it empty, in order.
    pub(super) parked: VecDeque<u32>,
    /// So many of them, the first ones, have found it empty again.
    parked_again: usize,
    /// Turns in which others may have overtaken those that are parked.
    turns_overtaken: u8,
    /// While it is exhausted, those who keep buffers may still be about to use them, for so many
    /// turns.
    turns_to_reclaim: u8,
}

impl Operations {
    /// # Errors
    ///
    /// If there is no memory for it, or there are too many.
    pub(in crate::driver::uring) fn add_pool(
        &mut self,
        size: Option<PoolSize>,
        shared: Arc<Shared>,
        ring: &mut Ring,
    ) -> io::Result<PoolId> {
        let id = u16::try_from(self.pools.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many buffer pools"))?;
        let pool = loop {
            let (kind, feature) = self.kind_of_pool();
            let size = size.unwrap_or(PoolSize::usual(kind));
            let register = |buffers: &BufferRing| {
                ring.register_buffers(id, buffers, kind == PoolKind::Incremental)
            };
            match Pool::new(size, kind, shared.clone(), register) {
                // A kernel that has no such rings says so here, as does a profile that forbids them.
                Err(error) if !feature.is_empty() && is_lacking(&error) => {
                    self.features -= feature;
                }
                made => break made?,
            }
        };
        self.pools.push(PoolQueue::new(pool));
        Ok(PoolId(id))
    }

    /// The best kind of pool that this kernel has, as far as is known, and the feature it takes.
    fn kind_of_pool(&self) -> (PoolKind, Features) {
        if !self.features.contains(Features::BUFFER_RING) {
            (PoolKind::List, Features::empty())
        } else if self.features.contains(Features::INCREMENTAL) {
            (PoolKind::Incremental, Features::INCREMENTAL)
        } else {
            (PoolKind::Whole, Features::BUFFER_RING)
        }
    }

    pub(in crate::driver::uring) fn are_buffers_scarce(&self) -> bool {
        self.pools.iter().any(|queue| queue.pool.is_scarce())
    }

    /// Has the streams copy what they keep, if some have waited for a buffer for long enough. Once a
    /// turn.
    ///
    /// Where buffers come back by themselves, nobody has to.
    #[inline]
    pub(in crate::driver::uring) fn reclaim(&mut self) {
        if self.has_exhausted_pool() {
            self.reclaim_if_due();
        }
    }

    #[cold]
    fn reclaim_if_due(&mut self) {
        let mut is_due = false;
        for queue in &mut self.pools {
            is_due |= queue.count_down_to_reclaim();
        }
        if is_due {
            self.reclaim_all();
        }
    }

    /// Somebody waits for a buffer, and it is not known yet whether one comes back by itself.
    pub(in crate::driver::uring) fn awaits_returns(&self) -> bool {
        self.exhausted_pools().any(|queue| queue.turns_to_reclaim > 0)
    }

    /// There are buffers, and operations that wait for one.
    pub(super) fn can_unpark(&self) -> bool {
        self.pools.iter().any(PoolQueue::can_unpark)
    }

    /// There are operations that wait for a buffer, and none.
    pub(super) fn has_exhausted_pool(&self) -> bool {
        self.exhausted_pools().next().is_some()
    }

    /// Those that somebody waits for, and that are empty.
    pub(super) fn exhausted_pools(&self) -> impl Iterator<Item = &PoolQueue> {
        self.pools.iter().filter(|queue| queue.is_exhausted())
    }

    fn reclaim_all(&mut self) {
        self.slots.iter().for_each(|(_, slot)| slot.owner.give_back());
        let keepers = self.keepers.drain(..).filter_map(|keeper| keeper.upgrade());
        keepers.for_each(|keeper| keeper.give_back());
    }

    /// Remembers one whose operation is over, if it keeps buffers.
    #[inline]
    pub(super) fn remember_keeper(&mut self, owner: &Rc<dyn Owner>) {
        if owner.keeps_buffers() {
            self.add_keeper(Rc::downgrade(owner));
        }
    }

    #[inline(never)]
    fn add_keeper(&mut self, keeper: Weak<dyn Owner>) {
        if self.keepers.len() == self.keepers.capacity().max(FEW_KEEPERS) {
            self.look_through_keepers();
        }
        self.keepers.push(keeper);
    }

    fn look_through_keepers(&mut self) {
        let is_keeper = |owner: Rc<dyn Owner>| owner.keeps_buffers();
        self.keepers.retain(|keeper| keeper.upgrade().is_some_and(is_keeper));
        // One that stops and goes on has come here more than once.
        self.keepers.sort_unstable_by_key(|keeper| keeper.as_ptr().addr());
        self.keepers.dedup_by_key(|keeper| keeper.as_ptr().addr());
        // The next time is not to come before as many again.
        self.keepers.reserve(self.keepers.len());
    }

    /// The pool that others wait for, whose turn it is before this slot's.
    pub(super) fn queue_for(&self, slot: u32) -> Option<PoolId> {
        match self.slots[slot as usize].operation {
            Operation::Receive { kind: StreamKind::PipeWriter, .. } => None,
            Operation::Receive { pool, .. } => {
                Some(pool).filter(|pool| self.pools[usize::from(pool.0)].are_parked_first())
            }
            _ => None,
        }
    }

    pub(super) fn park(&mut self, slot: u32, pool: PoolId) {
        let entry = &mut self.slots[slot as usize];
        let is_again = entry.state == State::Unparked;
        entry.state = State::Parked;
        let queue = &mut self.pools[usize::from(pool.0)];
        self.buffers_exhausted += u64::from(queue.pool.available() == 0);
        queue.park(slot, is_again);
    }

    /// The slot waits no more.
    pub(super) fn remove_parked(&mut self, slot: u32) {
        self.pools.iter_mut().for_each(|queue| queue.remove(slot));
    }
}

fn is_lacking(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL) || is_forbidden(error)
}

impl PoolQueue {
    fn new(pool: Pool) -> PoolQueue {
        PoolQueue {
            pool,
            parked: VecDeque::new(),
            parked_again: 0,
            turns_overtaken: 0,
            turns_to_reclaim: TURNS_BEFORE_RECLAIM,
        }
    }

    /// Makes buffers that came back available, and re-arms those that are parked.
    #[inline]
    pub(super) fn replenish(&mut self, to_arm: &mut Vec<(u32, By)>) {
        self.pool.replenish();
        if !self.parked.is_empty() {
            self.unpark(to_arm);
        }
    }

    /// One that `is_again` parked was unparked and found nothing: it keeps its place before those not
    /// unparked since.
    fn park(&mut self, slot: u32, is_again: bool) {
        if self.turns_to_reclaim == 0 {
            self.turns_to_reclaim = TURNS_BEFORE_RECLAIM;
        }
        if is_again {
            self.parked.insert(self.parked_again, slot);
            self.parked_again += 1;
        } else {
            self.parked.push_back(slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(place) = self.parked.iter().position(|&parked| parked == slot) {
            self.parked.remove(place);
            self.parked_again -= usize::from(place < self.parked_again);
        }
    }

    /// Re-arms as many as there is room for. Each may find that there is not, or that it does not need
    /// any.
    #[cold]
    fn unpark(&mut self, to_arm: &mut Vec<(u32, By)>) {
        loop {
            let count = self.pool.room().min(self.parked.len());
            if count > 0 {
                to_arm.extend(self.parked.drain(..count).map(|slot| (slot, By::Request)));
                self.parked_again = 0;
                self.turns_to_reclaim = TURNS_BEFORE_RECLAIM;
                self.turns_overtaken = (self.turns_overtaken + 1) % (TURNS_OF_OVERTAKING + 1);
                return;
            }
            if self.pool.wait_for_returns() {
                return;
            }
            self.pool.replenish();
        }
    }

    /// Some are parked, and nobody is to overtake them.
    fn are_parked_first(&self) -> bool {
        !self.parked.is_empty() && self.turns_overtaken == TURNS_OF_OVERTAKING
    }

    /// Some are parked, and there are buffers: those who were re-armed may not need them.
    fn can_unpark(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() > 0
    }

    /// Some are parked, and there is no buffer.
    fn is_exhausted(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() == 0
    }

    /// Counts a turn in which it is exhausted. True when the last one allowed is over: whoever keeps
    /// buffers is to copy now.
    fn count_down_to_reclaim(&mut self) -> bool {
        if !self.is_exhausted() || self.turns_to_reclaim == 0 {
            return false;
        }
        self.turns_to_reclaim -= 1;
        self.turns_to_reclaim == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::ForkGuard;

    #[test]
    fn a_pool_is_of_the_best_kind_that_the_kernel_has() {
        let (ring, both) = (Features::BUFFER_RING, Features::BUFFER_RING | Features::INCREMENTAL);
        for (features, kind, used) in [
            (Features::empty(), PoolKind::List, Features::empty()),
            (Features::INCREMENTAL, PoolKind::List, Features::empty()),
            (ring, PoolKind::Whole, ring),
            (both, PoolKind::Incremental, both),
        ] {
            let operations = Operations::new(features);
            assert_eq!((operations.kind_of_pool().0, operations.features()), (kind, used));
        }
    }

    #[test]
    fn those_that_find_none_again_keep_their_places_whoever_leaves() {
        let shared = Arc::new(Shared::new(ForkGuard::new().unwrap()).unwrap());
        let size = PoolSize { buffer_size: 1, count: 1 };
        let pool = Pool::new(size, PoolKind::List, shared, |_| Ok(())).unwrap();
        let mut queue = PoolQueue::new(pool);
        [10, 11].into_iter().for_each(|slot| queue.park(slot, false));
        [1, 2].into_iter().for_each(|slot| queue.park(slot, true));
        queue.remove(1);
        queue.remove(10);
        queue.park(3, true);
        queue.park(12, false);
        assert_eq!(queue.parked, [2, 3, 11, 12]);
        let mut to_arm = Vec::new();
        queue.replenish(&mut to_arm);
        assert_eq!(to_arm, [(2, By::Request)]);
        queue.park(2, true);
        assert_eq!(queue.parked, [2, 3, 11, 12]);
    }
}
