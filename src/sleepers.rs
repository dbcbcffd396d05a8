//! Timeouts that wake something up instead of calling back.

use crate::callbacks::Callback;
use slab::Slab;
use std::task::Waker;

/// What a timeout does when it is due.
///
/// No larger than a callback, which is why wakers are kept elsewhere.
pub(crate) enum Timer {
    Call(Box<dyn Callback>),
    Wake(Sleeper),
}

/// Names one that sleeps, until it is [removed](Sleepers::remove).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleeper(u32);

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
    pub(crate) fn rouse(&mut self, Sleeper(key): Sleeper) -> Option<Waker> {
        self.wakers.get_mut(key as usize)?.take()
    }

    /// Who is to be woken, unless the time has come.
    pub(crate) fn waker(&self, Sleeper(key): Sleeper) -> Option<&Waker> {
        self.wakers.get(key as usize)?.as_ref()
    }

    /// Puts a waker in the place of the one before, which the caller drops.
    pub(crate) fn replace(&mut self, Sleeper(key): Sleeper, waker: Waker) -> Option<Waker> {
        self.wakers.get_mut(key as usize)?.replace(waker)
    }

    /// The waker, for the caller to drop, if the time has not come.
    pub(crate) fn remove(&mut self, Sleeper(key): Sleeper) -> Option<Waker> {
        self.wakers.try_remove(key as usize)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_no_larger_than_a_callback() {
        assert_eq!(size_of::<Timer>(), size_of::<Box<dyn Callback>>());
    }
}
