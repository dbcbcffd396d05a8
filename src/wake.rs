//! The wake protocol: how posts reach a loop that may be asleep.
//!
//! One atomic holds all there is to know. Whoever adds to the loop's queue turns it to `NOTIFIED`
//! *afterwards*, and writes to the eventfd if it was `ASLEEP`: of many posters, only the first. The
//! loop turns it from `AWAKE` to `ASLEEP` before it sleeps, which fails if it is `NOTIFIED`, and
//! from `NOTIFIED` to `AWAKE` *before* it looks into its queue. As all of them are read-modify-write
//! operations on one variable, each sees the one before it: no post is slept over.

use crate::fork::ForkGuard;
use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

/// Nothing was announced since the loop looked last.
const AWAKE: u8 = 0;
/// As `AWAKE`, and the loop sleeps, or is about to.
const ASLEEP: u8 = 1;
/// Something was announced since.
const NOTIFIED: u8 = 2;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Alarm {
    state: AtomicU8,
    /// Of the process that made it. A forked child has it, too, and does not touch it.
    eventfd: OwnedFd,
    fork: ForkGuard,
}

impl Alarm {
    pub(crate) fn new(fork: ForkGuard) -> io::Result<Alarm> {
        Ok(Alarm { state: AtomicU8::new(AWAKE), eventfd: sys::eventfd()?, fork })
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// On the loop's thread: whether it has been notified since it was asked last.
    #[inline]
    pub(crate) fn take_notice(&self) -> bool {
        self.state.load(Ordering::Relaxed) == NOTIFIED && {
            self.state.swap(AWAKE, Ordering::AcqRel);
            true
        }
    }

    /// On the loop's thread: false if it must not sleep. Else [`awake`](Self::awake) must follow.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.swap_state(AWAKE, ASLEEP)
    }

    /// On the loop's thread: posts need no wake-up from now on.
    #[inline]
    pub(crate) fn awake(&self) {
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.swap_state(ASLEEP, AWAKE);
        }
    }

    fn swap_state(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// On any thread, after the work has been queued. Async-signal-safe.
    pub(crate) fn notify(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            self.ring();
        }
    }

    /// Ends a sleep, whether or not there is a reason. Async-signal-safe: one `write(2)`.
    pub(crate) fn ring(&self) {
        if !self.fork.is_forked() {
            sys::eventfd_signal(&self.eventfd);
        }
    }
}
