//! Waiting for a read.

use super::incoming::Incoming;
use super::inner::Inner;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A read that waits until it can be done at once. Dropping it takes nothing.
pub(super) struct Read<'a, F> {
    inner: &'a Rc<Inner>,
    read: F,
    waiting: bool,
}

impl<'a, F> Read<'a, F> {
    pub(super) fn new(inner: &'a Rc<Inner>, read: F) -> Read<'a, F> {
        Read { inner, read, waiting: false }
    }
}

impl<F> Unpin for Read<'_, F> {}

impl<T, F> Future for Read<'_, F>
where
    F: FnMut(&mut Incoming) -> Poll<io::Result<T>>,
{
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Read { inner, read, waiting } = self.get_mut();
        // Called in place: a reference to the closure is called out of line.
        inner.poll_read(context, waiting, |incoming| read(incoming))
    }
}

impl<F> Drop for Read<'_, F> {
    fn drop(&mut self) {
        if self.waiting {
            self.inner.give_up_reading();
        }
    }
}
