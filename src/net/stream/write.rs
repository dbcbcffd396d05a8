//! Waiting for a write.

use super::inner::Inner;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Waits until the kernel has taken what was written. What was written is sent in any case.
#[must_use = "an error is told here, and nowhere else"]
pub struct Write {
    inner: Rc<Inner>,
    /// Where the data ends in the stream; or why it was refused.
    target: io::Result<u64>,
}

impl Write {
    pub(super) fn new(inner: Rc<Inner>, target: io::Result<u64>) -> Write {
        Write { inner, target }
    }

    /// What is known at once: whether the data was accepted. It is sent without further ado.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub fn queued(self) -> io::Result<()> {
        self.target.map(drop)
    }
}

impl Future for Write {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match std::mem::replace(&mut self.target, Ok(0)) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(target) => {
                self.target = Ok(target);
                self.inner.outgoing.borrow_mut().poll_taken(target, context)
            }
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("target", &self.target).finish_non_exhaustive()
    }
}
