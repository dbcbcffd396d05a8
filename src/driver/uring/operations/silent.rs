//! Requests that complete only if something is left to do.
//!
//! A send that does not wait is over when the enter that submitted it returns. If no completion has
//! come by then, it has done everything.

use super::{Effort, Operations, SILENT};
use crate::driver::operation::{Operation, StreamKind};

/// More than this many bytes are not sent silently: until the loop hears of something else, they
/// would take up memory.
const LONGEST_SILENT: usize = 64 * 1024;

impl Operations {
    /// How to make the first request of an operation.
    pub(super) fn effort(&self, operation: &Operation) -> Effort {
        match operation {
            Operation::Send { kind: StreamKind::Socket, data, .. }
                if self.features.contains(SILENT) && data.len() <= LONGEST_SILENT =>
            {
                Effort::Silent
            }
            _ => Effort::Patient,
        }
    }

    /// Ends what was to be done silently, and was not heard of: it is done. Only after an enter that
    /// has taken in all requests, and all completions of which have been.
    #[inline]
    pub(in crate::driver::uring) fn settle(&mut self) {
        if !self.silent.is_empty() {
            self.settle_all();
        }
    }

    /// It could not be told yet what is done.
    #[cold]
    pub(in crate::driver::uring) fn settle_soon(&mut self) {
        self.awaited = !self.silent.is_empty();
    }

    fn settle_all(&mut self) {
        let mut silent = std::mem::take(&mut self.silent);
        for (slot, stamp) in silent.drain(..) {
            let Some(entry) = self.slots.get_mut(slot as usize) else { continue };
            // One that was heard of has ended, or is done patiently.
            if entry.stamp == stamp
                && entry.effort == Effort::Silent
                && let Operation::Send { data, sent, .. } = &mut entry.operation
            {
                *sent = data.len();
                self.end(slot, Ok(()));
            }
        }
        self.silent = silent;
        self.awaited = false;
    }

    /// Nobody would hear of the end of a silent request, and somebody waits for it, or for what it
    /// keeps.
    pub(super) fn is_awaited(&self) -> bool {
        !self.silent.is_empty()
            && (self.awaited || self.pools.iter().any(|pool| !pool.parked.is_empty()))
    }
}
