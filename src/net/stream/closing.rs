//! The end of a stream: waiting for it, and being called back.

use super::IoStream;
use super::error::Reason;
use super::inner::Inner;
use crate::callbacks::Deferred;
use crate::io_loop::Core;
use crate::net::waiters::Ticket;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What is called when a stream has ended, and where it was set.
pub(super) struct CloseCallback {
    callback: Box<dyn FnOnce(io::Result<()>)>,
    site: &'static Location<'static>,
}

impl CloseCallback {
    /// Has it called in the loop's next turn, if there is one.
    pub(super) fn schedule(self, core: &Core, end: Result<(), Reason>) {
        let CloseCallback { callback, site } = self;
        core.call_soon(Deferred::boxed(move || callback(told(end)), site));
    }
}

/// An end, as users are told of it.
fn told(end: Result<(), Reason>) -> io::Result<()> {
    match end {
        Ok(()) | Err(Reason::Closed) => Ok(()),
        Err(reason) => Err(reason.error()),
    }
}

impl IoStream {
    /// Closes the stream, at once. Closing it again does nothing.
    ///
    /// What is not sent yet is not sent: [`flush`](Self::flush) first, or drop the stream instead.
    /// Reads and writes that wait fail with [`StreamError::Closed`](super::StreamError::Closed). What has been received can
    /// still be read.
    ///
    /// The other side of a socket sees the end. The descriptor is closed when the stream is
    /// dropped, and so a pipe's other side sees the end only then.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Whether the stream has ended: the other side has ended it, it has failed, or it was closed
    /// here.
    ///
    /// An end is noticed while the stream receives, which it does when it is read from or its end
    /// is waited for, and as long as there is room for what comes. After the other side's end, it
    /// can still be written to.
    pub fn is_closed(&self) -> bool {
        self.inner.end().is_some()
    }

    /// What went wrong with the stream, if something did: neither an end of the other side's nor
    /// being closed here is an error.
    pub fn error(&self) -> Option<io::Error> {
        self.inner.failure().map(Reason::error)
    }

    /// Waits until the stream [has ended](Self::is_closed).
    ///
    /// From then on the stream receives also when it is not read from, up to
    /// [`max_buffer_size`](Self::set_max_buffer_size). Above that, an end is noticed when some of
    /// it has been read.
    ///
    /// # Errors
    ///
    /// What went wrong, as for [`error`](Self::error).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, peer) = UnixStream::pair()?;
    /// drop(peer);
    /// IoLoop::new()?.run_sync(async || IoStream::from(stream).closed().await, None)??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closed(&self) -> Closed {
        Closed { inner: self.inner.clone(), ticket: None }
    }

    /// Calls `callback` once when the stream [has ended](Self::is_closed), also if it has already:
    /// in a later turn, after the tasks that waited for it. It is told what
    /// [`closed`](Self::closed) is told, and is dropped uncalled if its loop is closed.
    ///
    /// Replaces one that was set before and has not been called. Where Tornado takes
    /// `None` to have none called any more, set one that does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let (stream, peer) = UnixStream::pair()?;
    /// let stream = IoStream::new(stream)?;
    /// stream.set_close_callback(|end| {
    ///     assert!(end.is_ok());
    ///     IoLoop::current().stop();
    /// });
    /// drop(peer);
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn set_close_callback(&self, callback: impl FnOnce(io::Result<()>) + 'static) {
        let callback = CloseCallback { callback: Box::new(callback), site: Location::caller() };
        let before = self.inner.on_close.replace(Some(Box::new(callback)));
        drop(before);
        self.inner.watch();
        self.inner.call_back();
    }
}

/// Waits for the end of a stream. Made by [`IoStream::closed`].
#[must_use = "futures do nothing unless polled"]
pub struct Closed {
    inner: Rc<Inner>,
    ticket: Option<Ticket>,
}

impl Future for Closed {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Closed { inner, ticket } = self.get_mut();
        inner.watch();
        if let Some(end) = inner.end() {
            return Poll::Ready(told(end));
        }
        let is_known = inner.incoming.borrow_mut().watchers().knows(*ticket, 0, context.waker());
        if !is_known {
            let waker = context.waker().clone();
            let before = inner.incoming.borrow_mut().watchers().insert(ticket, 0, waker);
            drop(before);
        }
        // The waker was cloned, which is user code, and may have run the loop.
        inner.end().map_or(Poll::Pending, |end| Poll::Ready(told(end)))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let waker = self.inner.incoming.borrow_mut().watchers().remove(&mut self.ticket);
            drop(waker);
        }
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}
