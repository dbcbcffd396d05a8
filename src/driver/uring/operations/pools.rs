//! Pools of buffers, and the operations that wait for one.

use super::{By, Operations, State};
use crate::buffer::{BufferRing, Kind, Pool, PoolSize};
use crate::driver::operation::{Operation, Owner, PoolId, StreamKind};
use crate::driver::uring::ring::Ring;
use crate::features::KernelFeatures as Features;
use crate::handle::Shared;
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Two turns take what has come, and give its buffer back; twice as many are allowed.
const PATIENCE: u8 = 4;

/// For so many turns, streams that have just been served may go on before those that wait: all that
/// they need is in the processor's cache.
const LONGEST_VISIT: u8 = 8;

/// Fewer are not looked through for those that are gone.
const FEW_KEEPERS: usize = 64;

pub(super) struct BufferPool {
    pub(super) pool: Pool,
    /// Those that found it empty, in order.
    pub(super) parked: VecDeque<u32>,
    /// So many of them, the first ones, have found it empty again.
    again: usize,
    /// For so many turns, others may have gone on before those that wait.
    visit: u8,
    /// While some wait and it is empty, those who keep buffers may still be about to use them, for so
    /// many turns.
    patience: u8,
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
                ring.register_buffers(id, buffers, kind == Kind::Incremental)
            };
            match Pool::new(size, kind, shared.clone(), register) {
                // A kernel that has no such rings says so here.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !feature.is_empty() => {
                    self.features -= feature;
                }
                made => break made?,
            }
        };
        self.pools.push(BufferPool {
            pool,
            parked: VecDeque::new(),
            again: 0,
            visit: 0,
            patience: PATIENCE,
        });
        Ok(PoolId(id))
    }

    /// The best kind of pool that this kernel has, as far as is known, and the feature it takes.
    fn kind_of_pool(&self) -> (Kind, Features) {
        if !self.features.contains(Features::BUFFER_RING) {
            (Kind::List, Features::empty())
        } else if self.features.contains(Features::INCREMENTAL) {
            (Kind::Incremental, Features::INCREMENTAL)
        } else {
            (Kind::Whole, Features::BUFFER_RING)
        }
    }

    pub(in crate::driver::uring) fn are_buffers_scarce(&self) -> bool {
        self.pools.iter().any(|buffers| buffers.pool.is_scarce())
    }

    /// Has the streams copy what they keep, if some have waited for a buffer for long enough. Once a
    /// turn.
    ///
    /// Where buffers come back by themselves, nobody has to.
    #[inline]
    pub(in crate::driver::uring) fn reclaim(&mut self) {
        if self.is_starved() {
            self.reclaim_in_time();
        }
    }

    #[cold]
    fn reclaim_in_time(&mut self) {
        let mut have_waited = false;
        for buffers in &mut self.pools {
            have_waited |= buffers.lose_patience();
        }
        if have_waited {
            self.reclaim_all();
        }
    }

    /// Somebody waits for a buffer, and it is not known yet whether one comes back by itself.
    pub(in crate::driver::uring) fn is_patient(&self) -> bool {
        self.starved_pools().any(|buffers| buffers.patience > 0)
    }

    /// There are buffers, and operations that wait for one.
    pub(super) fn is_hungry(&self) -> bool {
        self.pools.iter().any(BufferPool::is_hungry)
    }

    /// There are operations that wait for a buffer, and none.
    pub(super) fn is_starved(&self) -> bool {
        self.starved_pools().next().is_some()
    }

    /// Those that somebody waits for, and that are empty.
    pub(super) fn starved_pools(&self) -> impl Iterator<Item = &BufferPool> {
        self.pools.iter().filter(|buffers| buffers.is_starved())
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
                Some(pool).filter(|pool| self.pools[usize::from(pool.0)].is_visit_over())
            }
            _ => None,
        }
    }

    pub(super) fn park(&mut self, slot: u32, pool: PoolId) {
        let entry = &mut self.slots[slot as usize];
        let has_waited = entry.state == State::Fed;
        entry.state = State::Parked;
        let buffers = &mut self.pools[usize::from(pool.0)];
        self.buffers_exhausted += u64::from(buffers.pool.available() == 0);
        buffers.park(slot, has_waited);
    }

    /// The slot waits no more.
    pub(super) fn unpark(&mut self, slot: u32) {
        self.pools.iter_mut().for_each(|buffers| buffers.forget(slot));
    }
}

impl BufferPool {
    /// Makes buffers that came back available, and lets those that wait for them go on.
    #[inline]
    pub(super) fn replenish(&mut self, to_arm: &mut Vec<(u32, By)>) {
        self.pool.replenish();
        if !self.parked.is_empty() {
            self.feed(to_arm);
        }
    }

    /// One that `has_waited` was let go on and found nothing: it keeps its place before those not
    /// let go on since.
    fn park(&mut self, slot: u32, has_waited: bool) {
        if self.patience == 0 {
            self.patience = PATIENCE;
        }
        if has_waited {
            self.parked.insert(self.again, slot);
            self.again += 1;
        } else {
            self.parked.push_back(slot);
        }
    }

    fn forget(&mut self, slot: u32) {
        if let Some(place) = self.parked.iter().position(|&parked| parked == slot) {
            self.parked.remove(place);
            self.again -= usize::from(place < self.again);
        }
    }

    /// Lets as many go on as there is room for. Who goes on may find that there is not, or that it
    /// does not need any.
    #[cold]
    fn feed(&mut self, to_arm: &mut Vec<(u32, By)>) {
        loop {
            let fed = self.pool.room().min(self.parked.len());
            if fed > 0 {
                to_arm.extend(self.parked.drain(..fed).map(|slot| (slot, By::Request)));
                self.again = 0;
                self.patience = PATIENCE;
                self.visit = (self.visit + 1) % (LONGEST_VISIT + 1);
                return;
            }
            if self.pool.wait_for_returns() {
                return;
            }
            self.pool.replenish();
        }
    }

    /// Some wait, and nobody is to go on before them.
    fn is_visit_over(&self) -> bool {
        !self.parked.is_empty() && self.visit == LONGEST_VISIT
    }

    /// Some wait, and there are buffers: those who went on before them may not need them.
    fn is_hungry(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() > 0
    }

    /// Some wait, and there is none.
    fn is_starved(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() == 0
    }

    /// Counts a turn in which some wait and no buffer is free. True when the last one allowed is
    /// over: whoever keeps buffers is to copy now.
    fn lose_patience(&mut self) -> bool {
        if !self.is_starved() || self.patience == 0 {
            return false;
        }
        self.patience -= 1;
        self.patience == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::ForkGuard;

    #[test]
    fn those_that_find_none_again_keep_their_places_whoever_leaves() {
        let shared = Arc::new(Shared::new(ForkGuard::new().unwrap()).unwrap());
        let size = PoolSize { buffer_size: 1, count: 1 };
        let pool = Pool::new(size, Kind::List, shared, |_| Ok(())).unwrap();
        let mut buffers =
            BufferPool { pool, parked: VecDeque::new(), again: 0, visit: 0, patience: PATIENCE };
        [10, 11].into_iter().for_each(|slot| buffers.park(slot, false));
        [1, 2].into_iter().for_each(|slot| buffers.park(slot, true));
        buffers.forget(1);
        buffers.forget(10);
        buffers.park(3, true);
        buffers.park(12, false);
        assert_eq!(buffers.parked, [2, 3, 11, 12]);
        let mut to_arm = Vec::new();
        buffers.replenish(&mut to_arm);
        assert_eq!(to_arm, [(2, By::Request)]);
        buffers.park(2, true);
        assert_eq!(buffers.parked, [2, 3, 11, 12]);
    }
}
