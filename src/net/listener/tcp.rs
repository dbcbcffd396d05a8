//! [`TcpListener`].

use super::accept::{Accept, Incoming};
use super::acceptor::Acceptor;
use super::alike::accepts;
use crate::net::IoStream;
use crate::net::bind::{BindOptions, bind_first};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

/// Accepts TCP connections, for the loop that was current when it was made.
///
/// From the first [`accept`](Self::accept) on, the kernel accepts what comes, by one request for
/// all, into a queue of the listener's. `accept` takes from there: one that is dropped, because it
/// took too long or lost a `select!`, takes no connection with it.
///
/// **Back-pressure.** When [128](Self::set_accept_limit) connections wait to be taken, the rest stays
/// in the kernel's backlog, until half of them are.
///
/// **Out of descriptors.** When the process or the system has no descriptor or memory for a
/// connection, the listener waits: until a stream of the loop is closed, or for 10 ms, then 20, up
/// to a second. [`Metrics::accept_pauses`](crate::Metrics::accept_pauses) counts that; `accept`
/// just takes longer. A connection that was given up before it could be accepted is skipped.
///
/// Dropping the listener [closes](Self::close) it.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::TcpListener;
///
/// let io_loop = IoLoop::new()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// # std::io::Write::write_all(&mut client, b"hello\n")?;
/// # let length =
/// io_loop.run_sync(
///     || async {
///         let stream = listener.accept().await?;
///         let line = stream.read_until(b"\n", 1024).await?;
///         println!("{}: {}", stream.peer_addr()?, String::from_utf8_lossy(&line));
///         # Ok::<_, std::io::Error>(line.len())
///     },
///     None,
/// )??;
/// # assert_eq!(length, 6);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpListener {
    acceptor: Rc<Acceptor>,
}

impl TcpListener {
    /// Listens at the first of these addresses where it can, with `SO_REUSEADDR` and a backlog of
    /// 1024; at `[::]`, for both families. A name is looked up by the calling thread.
    /// [`bind_sockets`](crate::net::bind_sockets) has more choices.
    ///
    /// # Errors
    ///
    /// What the operating system reports, with the last of the addresses (see
    /// [`net`](crate::net#errors)); [`LoopError`](crate::LoopError), if no loop is current, or it is
    /// closed.
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::from_std(bind_first(addresses, &BindOptions::new())?)
    }

    /// Takes a socket that listens already, such as one of
    /// [`bind_sockets`](crate::net::bind_sockets), or one that was inherited. It becomes
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// [`LoopError`](crate::LoopError), if no loop is current, or it is closed; what the operating
    /// system reports.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { acceptor: Acceptor::new(listener.into(), None)? })
    }

    /// Where it listens: with the port that it was given, if it asked for any.
    ///
    /// # Errors
    ///
    /// [`ListenerError::Closed`](super::ListenerError::Closed); what the operating system reports.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.acceptor.with_socket(|socket| socket.local_addr())?;
        address.as_socket().ok_or_else(|| io::Error::other("not an Internet socket"))
    }
}

accepts!(TcpListener);
