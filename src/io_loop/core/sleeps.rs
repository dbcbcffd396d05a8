//! Sleeps: timeouts that wake somebody up.

use super::Core;
use crate::clock::{Deadline, END_OF_TIME};
use crate::error::LoopError;
use crate::report::Origin;
use crate::sleepers::Sleeper;
use crate::timeouts::TimeoutKey;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Names a sleep that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SleepKey {
    sleeper: Sleeper,
    timeout: TimeoutKey,
}

impl Core {
    /// Wakes one whose time has come.
    pub(crate) fn wake_sleeper(&self, sleeper: Sleeper) {
        let waker = self.sleepers.borrow_mut().take_waker(sleeper);
        if let Some(waker) = waker {
            // Wakers of other executors are user code.
            self.watch.run(Origin::waker, || waker.wake());
        }
    }

    /// Without a time, it lasts for as long as the loop.
    ///
    /// # Errors
    ///
    /// [`LoopError::Closed`], [`LoopError::Forked`].
    pub(crate) fn begin_sleep(
        &self,
        until: Option<Instant>,
        waker: &Waker,
    ) -> Result<SleepKey, LoopError> {
        // User code, which may close the loop.
        let waker = waker.clone();
        self.check_usable()?;
        let deadline = until.map_or(END_OF_TIME, |until| self.clock.nanos(Deadline::At(until)));
        let sleeper = self.sleepers.borrow_mut().insert(waker);
        let timeout = self.timeouts.borrow_mut().insert(deadline, sleeper.callback());
        Ok(SleepKey { sleeper, timeout })
    }

    /// Ready if the time has come.
    ///
    /// # Errors
    ///
    /// As for [`begin_sleep`](Self::begin_sleep): the time will not come.
    pub(crate) fn poll_sleep(
        &self,
        sleep: SleepKey,
        context: &Context<'_>,
    ) -> Result<Poll<()>, LoopError> {
        self.check_usable()?;
        let waker = context.waker();
        let is_known =
            self.sleepers.borrow().waker(sleep.sleeper).map(|known| known.will_wake(waker));
        match is_known {
            None => Ok(Poll::Ready(())),
            Some(true) => Ok(Poll::Pending),
            Some(false) => self.replace_waker(sleep, waker),
        }
    }

    #[cold]
    fn replace_waker(&self, sleep: SleepKey, waker: &Waker) -> Result<Poll<()>, LoopError> {
        // Cloned and dropped with nothing borrowed: either may be user code, and run the loop, or
        // close it.
        let waker = waker.clone();
        let replaced = self.sleepers.borrow_mut().replace(sleep.sleeper, waker);
        drop(replaced);
        self.check_usable()?;
        let is_over = self.sleepers.borrow().waker(sleep.sleeper).is_none();
        Ok(if is_over { Poll::Ready(()) } else { Poll::Pending })
    }

    pub(crate) fn end_sleep(&self, SleepKey { sleeper, timeout }: SleepKey) {
        let waker = self.sleepers.borrow_mut().remove(sleeper);
        if waker.is_some() {
            let callback = self.timeouts.borrow_mut().cancel(timeout);
            drop(callback);
        }
    }
}
