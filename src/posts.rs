//! What other threads have posted and the loop has not collected yet.
//!
//! A vector under a lock that is held for a push, or for a swap of the whole. The `wakeups` benchmark
//! has it beside a lock-free list of blocks, which takes longer to post to, and up to twice as long
//! until the posts have run.

#[cfg(ringloop_loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(ringloop_loom))]
use std::sync::{Mutex, MutexGuard};
use std::sync::{PoisonError, TryLockError};

pub(crate) struct Posts<T> {
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T> Posts<T> {
    pub(crate) fn new() -> Posts<T> {
        Posts { queue: Mutex::new(Queue { items: Vec::new(), closed: false }) }
    }

    /// # Errors
    ///
    /// The item, if the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(item);
        }
        queue.items.push(item);
        Ok(())
    }

    /// Exchanges what has been posted for an empty vector, whose room is used again.
    pub(crate) fn take(&self, empty: Vec<T>) -> Vec<T> {
        debug_assert!(empty.is_empty());
        std::mem::replace(&mut self.lock().items, empty)
    }

    /// What has been posted last: nothing is from here on.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut queue = self.lock();
        queue.closed = true;
        std::mem::take(&mut queue.items)
    }

    /// As [`close`](Self::close), or `None` if the lock is held: in a child of `fork`, by a thread
    /// that is gone, and that may have left anything in the queue.
    pub(crate) fn try_close(&self) -> Option<Vec<T>> {
        let mut queue = match self.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        queue.closed = true;
        Some(std::mem::take(&mut queue.items))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing that can panic is done under the lock, save for running out of memory.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
