//! Waiting for connections.

use super::acceptor::Acceptor;
use super::queue::Ticket;
use crate::net::IoStream;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Waits for a connection. Dropping it takes none.
pub(crate) struct Accept<'a> {
    acceptor: &'a Rc<Acceptor>,
    ticket: Option<Ticket>,
}

impl<'a> Accept<'a> {
    pub(crate) fn new(acceptor: &'a Rc<Acceptor>) -> Accept<'a> {
        Accept { acceptor, ticket: None }
    }

    fn poll_accept(&mut self, context: &Context<'_>) -> Poll<io::Result<IoStream>> {
        self.acceptor.poll_accept(&mut self.ticket, context)
    }
}

impl Future for Accept<'_> {
    type Output = io::Result<IoStream>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_accept(context)
    }
}

impl Drop for Accept<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.acceptor.leave(ticket);
        }
    }
}

/// The connections of a listener, one after the other: a
/// [`Stream`](https://docs.rs/futures-core/0.3/futures_core/stream/trait.Stream.html) that ends when
/// the listener is closed. Made by [`TcpListener::incoming`](super::TcpListener::incoming) and
/// [`UnixListener::incoming`](super::UnixListener::incoming).
///
/// [`next`](Self::next) is there for those who need no other combinator.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::TcpListener;
/// use std::rc::Rc;
///
/// let io_loop = IoLoop::new()?;
/// let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
/// # let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let end = listener.clone();
/// io_loop.run_sync(
///     || async {
///         let mut incoming = listener.incoming();
///         while let Some(stream) = incoming.next().await {
///             println!("{:?}", stream?);
///             end.close();
///         }
///         Ok::<_, std::io::Error>(())
///     },
///     None,
/// )??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Incoming<'a> {
    accept: Accept<'a>,
    ended: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(acceptor: &'a Rc<Acceptor>) -> Incoming<'a> {
        Incoming { accept: Accept::new(acceptor), ended: false }
    }

    /// The next connection; `None` once the listener is closed. Dropping this future loses none.
    ///
    /// # Errors
    ///
    /// What the operating system reports about the listener, once; it ends after that.
    pub async fn next(&mut self) -> Option<io::Result<IoStream>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<io::Result<IoStream>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.accept.poll_accept(context).map(|accepted| {
            self.ended = accepted.is_err();
            match accepted {
                Err(error) if super::ListenerError::of(&error).is_some() => None,
                accepted => Some(accepted),
            }
        })
    }
}

impl Stream for Incoming<'_> {
    type Item = io::Result<IoStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl FusedStream for Incoming<'_> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("ended", &self.ended).finish_non_exhaustive()
    }
}
