//! Listeners that wait for a descriptor, and what frees one.

use super::{Core, add};
use crate::callbacks::{Deferred, Queued};
use std::panic::Location;
use std::rc::{Rc, Weak};

/// Waits for a descriptor.
pub(crate) trait Starved {
    /// There may be one.
    fn retry(self: Rc<Self>);
}

impl Core {
    /// Has `listener` told, once, when one of the loop's streams is gone.
    pub(crate) fn await_descriptor(&self, listener: Weak<dyn Starved>) {
        let mut starved = self.starved.borrow_mut();
        // A pause may have ended by itself, and another one begun.
        starved.retain(|other| other.strong_count() > 0 && !Weak::ptr_eq(other, &listener));
        starved.push(listener);
    }

    /// One of the loop's streams is about to be gone.
    #[inline]
    pub(crate) fn descriptor_freed(&self) {
        if !self.starved.borrow().is_empty() {
            self.feed();
        }
    }

    #[cold]
    fn feed(&self) {
        for listener in self.starved.take() {
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

    /// Runs something of the loop's own in the next turn.
    #[track_caller]
    pub(crate) fn defer(&self, callback: impl FnOnce() + 'static) {
        self.callbacks.push(Queued::Callback(Deferred::boxed(callback, Location::caller())));
    }
}
