//! Wakers of those who await a task elsewhere than on its loop.

use super::unreported;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Stands for a waker in the cell of a task. The cell ends the process if a waker panics, whichever
/// of its functions it is. Those of this one add panics to the [`unreported`].
pub(crate) struct Relay(
    /// `None` when it is being dropped.
    Option<Waker>,
);

impl Relay {
    pub(crate) fn to(waker: Waker) -> Waker {
        Arc::new(Relay(Some(waker))).into()
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waker) = &self.0 {
            unreported::catch(|| waker.wake_by_ref());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let waker = self.0.take();
        unreported::catch(|| drop(waker));
    }
}
