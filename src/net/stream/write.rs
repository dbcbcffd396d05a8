//! Writing to a stream: the methods of [`IoStream`] that write, and the future [`Write`] that they
//! return.
//!
//! `sending` has the data sent.

use super::IoStream;
use super::error::again;
use super::inner::Inner;
use crate::buffer::Payload;
use crate::net::waiters::Ticket;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What may wait to be sent when a buffered write is done.
const BUFFERED: u64 = 256 * 1024;

/// # Writing
impl IoStream {
    /// Writes data: it is queued now, in order with other writes, and sent also if the returned
    /// future is dropped. That waits until the kernel has taken it all.
    ///
    /// It is handed to the kernel when the callbacks and tasks of this turn have run, together with
    /// what they write meanwhile. A server that only answers is faster with
    /// [`write(data).buffered()`](Write::buffered), which waits only if much is yet to be sent.
    ///
    /// # Errors
    ///
    /// [`StreamError::WriteLimit`](super::StreamError::WriteLimit) if too much would wait to be
    /// sent: nothing of this is, and the stream goes on.
    /// [`StreamError::Closed`](super::StreamError::Closed), also after
    /// [`shutdown`](Self::shutdown). What the operating system reports.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// IoLoop::new()?.run_sync(async || {
    ///     let stream = IoStream::from(stream);
    ///     stream.write("a copy").queued()?;
    ///     stream.write(vec![b','; 1]).queued()?;
    ///     stream.write(String::from(" and none")).await
    /// }, None)??;
    /// let mut received = String::new();
    /// peer.read_to_string(&mut received)?;
    /// assert_eq!(received, "a copy, and none");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, data: impl Into<Payload>) -> Write {
        Write::new(self.inner.clone(), self.inner.write(data.into()))
    }

    /// Writes several pieces, as [`write`](Self::write): all of them or, if that is too much, none.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoStream, Payload};
    /// use std::sync::Arc;
    ///
    /// async fn respond(stream: &IoStream, body: &Arc<[u8]>) -> std::io::Result<()> {
    ///     let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    ///     stream.write_vectored([Payload::from(head), body.clone().into()]).await
    /// }
    /// ```
    pub fn write_vectored<I>(&self, pieces: I) -> Write
    where
        I: IntoIterator,
        I::Item: Into<Payload>,
    {
        let pieces = pieces.into_iter().map(Into::into).collect();
        Write::new(self.inner.clone(), self.inner.write_all(pieces))
    }

    /// Waits until the kernel has taken everything that was written.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn flush(&self) -> Write {
        let end = self.inner.outgoing.borrow().written();
        Write::new(self.inner.clone(), Ok(end))
    }

    /// Ends one direction of a socket, or both.
    ///
    /// [`Shutdown::Write`]: nothing more can be written; the other side sees the end once
    /// everything is sent. Reading goes on. [`Shutdown::Read`]: nothing more is received; what has
    /// been can still be read. The other side of a pipe sees the end only when the stream is dropped.
    pub fn shutdown(&self, how: Shutdown) {
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.inner.end_sending();
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.inner.shut_down(Shutdown::Read);
        }
    }

    /// Whether something waits to be sent.
    pub fn writing(&self) -> bool {
        self.inner.outgoing.borrow().len() > 0
    }

    /// Sets how many bytes may wait to be sent before writes are refused: 16 MiB by
    /// default, 1 at least.
    pub fn set_max_write_buffer_size(&self, bytes: usize) {
        let waiting = self.inner.outgoing.borrow_mut().set_most(bytes);
        waiting.wake();
    }

    /// Sends small pieces at once, without waiting for more of them (`TCP_NODELAY`). Off by
    /// default, as the kernel has it. Does nothing for other streams than TCP.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.inner);
        match socket.set_tcp_nodelay(nodelay) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTSOCK | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }
}

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
