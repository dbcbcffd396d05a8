//! A function that waits for a thread. An executor's job and the task that waits for it share it:
//! the one runs it, or else the other drops it, without waiting for a thread to get there.

use super::body::drop_user_value;
use std::sync::{Arc, Mutex, PoisonError};

/// In a lock that is held to take it, and not to run or drop it.
pub(crate) struct Function<F>(Arc<Mutex<Option<F>>>);

impl<F> Function<F> {
    pub(crate) fn new(function: F) -> Function<F> {
        Function(Arc::new(Mutex::new(Some(function))))
    }

    /// The function, for the first who asks.
    pub(crate) fn take(&self) -> Option<F> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F> Clone for Function<F> {
    fn clone(&self) -> Function<F> {
        Function(self.0.clone())
    }
}

/// The task's share: the function is dropped with it, unless a thread has begun with it.
pub(crate) struct TaskShare<F>(pub(crate) Function<F>);

impl<F> Drop for TaskShare<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            drop_user_value(function);
        }
    }
}
