//! Waiting for a write.

use super::error::again;
use super::inner::Inner;
use super::waiters::Ticket;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What may wait to be sent when a buffered write is done.
const BUFFERED: u64 = 256 * 1024;

/// Waits until the kernel has taken what was written. What was written is sent in any case.
///
/// Writes are done in order, each when its last byte has been taken.
#[must_use = "an error is told here, and nowhere else"]
pub struct Write {
    inner: Rc<Inner>,
    /// Where the data ends in the stream.
    target: u64,
    /// Why it was refused.
    refused: Option<io::Error>,
    ticket: Option<Ticket>,
}

impl Write {
    /// `target` is where the data ends in the stream; or why it was refused.
    #[inline]
    pub(super) fn new(inner: Rc<Inner>, target: io::Result<u64>) -> Write {
        let (target, refused) = match target {
            Ok(target) => (target, None),
            Err(error) => (0, Some(error)),
        };
        Write { inner, target, refused, ticket: None }
    }

    /// Waits only if much is yet to be sent: until that is no more than 256 KiB.
    ///
    /// To report that the kernel has taken the data, the loop must ask for it at once. A buffered
    /// write lets it ask along with its next request, which saves a server that answers requests
    /// one system call per turn. An error in sending is reported by the next write, or by
    /// [`IoStream::flush`](super::IoStream::flush).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::IoStream;
    ///
    /// async fn echo(stream: IoStream) -> std::io::Result<()> {
    ///     while let Some(piece) = stream.chunk().await? {
    ///         stream.write(piece).buffered().await?;
    ///     }
    ///     stream.flush().await
    /// }
    /// ```
    #[inline]
    pub fn buffered(mut self) -> Write {
        self.target = self.target.saturating_sub(BUFFERED);
        self
    }

    /// What is known at once: whether the data was accepted. It is sent, and nobody waits for it.
    ///
    /// # Errors
    ///
    /// Why it was not.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let stream = IoStream::new(stream)?;
    /// stream.write("one").queued()?;
    /// stream.write("two").queued()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn queued(mut self) -> io::Result<()> {
        self.refused.take().map_or(Ok(()), Err)
    }
}

impl Future for Write {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &this.refused {
            Some(error) => Poll::Ready(Err(again(error))),
            None => this.inner.poll_taken(this.target, &mut this.ticket, context),
        }
    }
}

impl Drop for Write {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let waker = self.inner.outgoing.borrow_mut().writers().remove(&mut self.ticket);
            drop(waker);
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("refused", &self.refused).finish_non_exhaustive()
    }
}
