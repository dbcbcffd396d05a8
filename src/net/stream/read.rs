//! Waiting for a read.

use super::IoStream;
use super::incoming::Incoming;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A read that waits until it can be done at once. Dropping it takes nothing.
pub(super) struct Read<'a, F> {
    stream: &'a IoStream,
    read: F,
    waiting: bool,
}

impl<'a, F> Read<'a, F> {
    pub(super) fn new(stream: &'a IoStream, read: F) -> Read<'a, F> {
        Read { stream, read, waiting: false }
    }
}

impl<F> Unpin for Read<'_, F> {}

impl<T, F> Future for Read<'_, F>
where
    F: FnMut(&mut Incoming) -> Poll<io::Result<T>>,
{
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Read { stream, read, waiting } = self.get_mut();
        #[cfg(feature = "futures-io")]
        if !*waiting {
            stream.put_back();
        }
        // Called in place: a reference to the closure is called out of line.
        stream.inner.poll_read(context, Some(waiting), |incoming| read(incoming))
    }
}

impl<F> Drop for Read<'_, F> {
    fn drop(&mut self) {
        if self.waiting {
            self.stream.inner.give_up_reading();
        }
    }
}
