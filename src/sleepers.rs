//! Timeouts that wake something up instead of calling back.

use crate::callbacks::Callback;
use crate::io_loop::Core;
use crate::report::{CallbackKind, Origin};
use crate::spare;
use slab::Slab;
use std::ptr;
use std::task::Waker;

/// Names one that sleeps, until it is [removed](Sleepers::remove).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleeper(u32);

impl Sleeper {
    /// A callback that wakes it. Nothing is allocated: a box of a type without size is but an
    /// address, and that says who it is.
    pub(crate) fn callback(self) -> Box<dyn Callback> {
        let address = ptr::without_provenance_mut::<WakeSleeper>(self.0 as usize + 1);
        // SAFETY: `WakeSleeper` has no size, so that a box of it may have any address that is not
        // null and aligned, and an alignment of one.
        unsafe { Box::from_raw(address) }
    }
}

/// See [`Sleeper::callback`].
struct WakeSleeper;

impl Callback for WakeSleeper {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        core.wake_sleeper(Sleeper((Box::into_raw(self).addr() - 1) as u32));
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        Origin::waker()
    }
}

/// The wakers of those that sleep. `None` when the time has come.
#[derive(Default)]
pub(crate) struct Sleepers {
    wakers: Slab<Option<Waker>>,
}

impl Sleepers {
    pub(crate) fn insert(&mut self, waker: Waker) -> Sleeper {
        let key = self.wakers.insert(Some(waker));
        Sleeper(u32::try_from(key).expect("fewer than 2^32 sleepers"))
    }

    /// The time has come: the waker, for the caller to wake.
    pub(crate) fn take_waker(&mut self, Sleeper(key): Sleeper) -> Option<Waker> {
        self.wakers.get_mut(key as usize)?.take()
    }

    /// Who is to be woken, unless the time has come.
    pub(crate) fn waker(&self, Sleeper(key): Sleeper) -> Option<&Waker> {
        self.wakers.get(key as usize)?.as_ref()
    }

    /// Puts a waker in the place of the one before, unless the time has come. The caller drops the
    /// one that is not needed.
    pub(crate) fn replace(&mut self, Sleeper(key): Sleeper, waker: Waker) -> Waker {
        match self.wakers.get_mut(key as usize) {
            Some(Some(known)) => std::mem::replace(known, waker),
            _ => waker,
        }
    }

    /// Gives back room that is not needed any more.
    pub(crate) fn trim(&mut self) {
        spare::trim_slab(&mut self.wakers);
    }

    /// The waker, for the caller to drop, if the time has not come.
    pub(crate) fn remove(&mut self, Sleeper(key): Sleeper) -> Option<Waker> {
        self.wakers.try_remove(key as usize)?
    }

    /// All that are not woken, for the caller to drop one by one.
    pub(crate) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.wakers.into_iter().filter_map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_takes_no_memory_and_can_be_dropped_uncalled() {
        for key in [0, 1, u32::MAX - 1] {
            let callback = Sleeper(key).callback();
            assert_eq!(size_of_val(&*callback), 0);
            drop(callback);
        }
    }
}
