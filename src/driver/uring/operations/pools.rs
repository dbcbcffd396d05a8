//! Pools of buffers, and the operations that wait for one.

use super::{By, Operations, State};
use crate::buffer::{BufferRing, Kind, Pool, PoolSize};
use crate::driver::operation::{Owner, PoolId};
use crate::driver::uring::ring::Ring;
use crate::features::KernelFeatures as Features;
use crate::handle::Shared;
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Two turns take what has come, and give its buffer back; twice as many are allowed.
pub(super) const PATIENCE: u8 = 4;

/// Fewer are not looked through for those that are gone.
const FEW_KEEPERS: usize = 64;

pub(super) struct BufferPool {
    pub(super) pool: Pool,
    /// Those that found it empty, in order.
    pub(super) parked: VecDeque<u32>,
    /// So many of them have found it empty again.
    again: usize,
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
        self.pools.push(BufferPool { pool, parked: VecDeque::new(), again: 0 });
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

    pub(super) fn are_buffers_scarce(&self) -> bool {
        self.pools.iter().any(|buffers| buffers.pool.is_scarce())
    }

    /// Has the streams copy what they keep, if some have waited for a buffer for long enough. True if
    /// that was of use.
    ///
    /// Where buffers come back by themselves, nobody has to.
    #[inline]
    pub(in crate::driver::uring) fn reclaim(&mut self) -> bool {
        self.starved_pools().next().is_some() && self.reclaim_in_time()
    }

    #[cold]
    fn reclaim_in_time(&mut self) -> bool {
        if self.patience == 1 {
            self.patience = 0;
            self.reclaim_all();
            return self.has_returns();
        }
        // After that nobody is given a buffer who could keep it, before one comes back.
        self.patience = self.patience.saturating_sub(1);
        false
    }

    /// Somebody waits for a buffer, and it is not known yet whether one comes back by itself.
    pub(in crate::driver::uring) fn is_patient(&self) -> bool {
        self.patience > 0 && self.starved_pools().next().is_some()
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
    }

    pub(super) fn park(&mut self, slot: u32, pool: PoolId) {
        let entry = &mut self.slots[slot as usize];
        let has_waited = entry.state == State::Fed;
        entry.state = State::Parked;
        if self.patience == 0 {
            self.patience = PATIENCE;
        }
        let buffers = &mut self.pools[usize::from(pool.0)];
        self.buffers_exhausted += u64::from(buffers.pool.available() == 0);
        buffers.park(slot, has_waited);
    }
}

impl BufferPool {
    /// Makes buffers that came back available, and lets those that wait for them go on.
    #[inline]
    pub(super) fn replenish(&mut self, to_arm: &mut Vec<(u32, By)>) {
        self.pool.replenish();
        if !self.parked.is_empty() {
            self.unpark(to_arm);
        }
    }

    /// One that `has_waited` is before those that have not been let go on since.
    fn park(&mut self, slot: u32, has_waited: bool) {
        if has_waited {
            // Some may have been cancelled meanwhile.
            let place = self.again.min(self.parked.len());
            self.parked.insert(place, slot);
            self.again = place + 1;
        } else {
            self.parked.push_back(slot);
        }
    }

    /// Lets as many go on as there is room for. Who goes on may find that there is not, or that it
    /// does not need any.
    #[cold]
    fn unpark(&mut self, to_arm: &mut Vec<(u32, By)>) {
        loop {
            let fed = self.pool.room().min(self.parked.len());
            to_arm.extend(self.parked.drain(..fed).map(|slot| (slot, By::Request)));
            self.again = 0;
            if fed > 0 || self.pool.wait_for_returns() {
                return;
            }
            self.pool.replenish();
        }
    }

    /// Some wait, and there are buffers: those who went on before them may not need them.
    pub(super) fn is_hungry(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() > 0
    }
}
