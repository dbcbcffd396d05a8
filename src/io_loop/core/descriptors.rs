//! Descriptors of streams, and listeners that wait for one.

use super::{Core, add};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::{Rc, Weak};

/// Waits for a descriptor.
pub(crate) trait DescriptorWaiter {
    /// There may be one.
    fn retry(self: Rc<Self>);
}

impl Core {
    /// A descriptor is a stream's from now on, until it is closed.
    pub(crate) fn adopt_descriptor(&self, fd: RawFd) {
        if let Ok(mut driver) = self.driver() {
            driver.adopt_descriptor(fd);
        }
    }

    /// Closes what was a stream's, no later than the next wait.
    pub(crate) fn close_descriptor(&self, fd: OwnedFd) {
        let Ok(mut driver) = self.driver() else { return };
        // Who waits for a descriptor is about to be told that there is one.
        let is_urgent = !self.running.get() || !self.descriptor_waiters.borrow().is_empty();
        if is_urgent {
            driver.close_descriptor_now(fd);
        } else {
            driver.close_descriptor(fd);
        }
    }

    /// Has `listener` told, once, when one of the loop's streams is gone.
    pub(crate) fn await_descriptor(&self, listener: Weak<dyn DescriptorWaiter>) {
        let mut waiters = self.descriptor_waiters.borrow_mut();
        // A pause may have ended by itself, and another one begun.
        waiters.retain(|other| other.strong_count() > 0 && !Weak::ptr_eq(other, &listener));
        waiters.push(listener);
    }

    /// One of the loop's streams is about to be gone.
    #[inline]
    pub(crate) fn descriptor_freed(&self) {
        if !self.descriptor_waiters.borrow().is_empty() {
            self.retry_descriptor_waiters();
        }
    }

    #[cold]
    fn retry_descriptor_waiters(&self) {
        for listener in self.descriptor_waiters.take() {
            self.defer(move || {
                if let Some(listener) = listener.upgrade() {
                    listener.retry();
                }
            });
        }
    }

    /// Accepting has failed for want of descriptors, or of memory.
    pub(crate) fn accept_paused(&self) {
        add(&self.counts.accept_pauses, 1);
    }
}
