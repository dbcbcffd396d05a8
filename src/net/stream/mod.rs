//! [`IoStream`]: bytes both ways, over TCP, Unix sockets and pipes.
//!
//! `read`, `write`, `closing` and `halves` are what users call, each with its futures, and
//! `futures_io` is for other crates. `inner` ties together the two sides: `incoming` is what was
//! received and not read, in its `queue`, which `receiving` has the kernel fill; `outgoing` is what was
//! written and not sent, which `sending` has the kernel send. `resets` tells a reset from an
//! end.

mod closing;
mod error;
#[cfg(feature = "futures-io")]
mod futures_io;
mod halves;
mod incoming;
mod inner;
mod outgoing;
mod queue;
mod read;
mod receiving;
mod resets;
mod sending;
mod write;

pub use closing::Closed;
pub use error::StreamError;
pub use halves::{ReadHalf, WriteHalf};
pub use write::Write;

pub(in crate::net) use self::inner::Inner;
use crate::driver::operation::StreamKind;
use crate::error::LoopError;
use crate::io_loop::{BufferPool, Core, IoLoop};
use crate::sys;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// A stream of bytes, both ways.
///
/// **No byte is lost.** The stream owns what it has received; a read only takes from that. One that is
/// dropped before it is done, because it took too long or lost a `select!`, has taken nothing.
///
/// **Back-pressure.** When [`max_buffer_size`](Self::set_max_buffer_size) bytes wait to be read, the
/// stream stops receiving, and goes on at half of that. The kernel's own buffers fill up, and then the
/// other side has to wait. A stream that nobody has read from yet does not receive at all.
///
/// **Half a close.** The end of what the other side sends ends reading, not writing.
///
/// **Errors** are those of the operating system, as they are, or a [`StreamError`] inside an
/// [`io::Error`]. A reset is never taken for an end.
///
/// Methods take `&self`: one task may read while others write, through an `Rc` or the two
/// [halves](Self::split).
///
/// Dropping a stream closes it. What was written is sent first, however long that takes; once it
/// is, the descriptor is closed before the loop next waits, or stops. A TCP peer that has received
/// none of it for 60 seconds is given up; where that is too long or too short, set
/// `TCP_USER_TIMEOUT` (`socket2` can). [`close`](Self::close) does not wait for what is not sent. A
/// loop that is closed ends its streams: reads and writes fail with [`StreamError::LoopClosed`].
///
/// ```
/// use ringloop::{IoLoop, IoStream};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (stream, mut peer) = UnixStream::pair()?;
/// peer.write_all(b"ping\n")?;
/// IoLoop::new()?.run_sync(async || {
///     let stream = IoStream::from(stream);
///     let line = stream.read_until(b"\n", 80).await?;
///     assert_eq!(line, b"ping\n");
///     stream.write("pong\n").await
/// }, None)??;
/// let mut answer = String::new();
/// peer.read_to_string(&mut answer)?;
/// assert_eq!(answer, "pong\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IoStream {
    inner: Rc<Inner>,
    #[cfg(feature = "futures-io")]
    polled: futures_io::Polled,
}

impl IoStream {
    /// A stream of the current loop over a socket that is connected, or a pipe. It makes that
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// [`LoopError::NoCurrent`]; `EPERM` for a file that is always ready, as regular ones are;
    /// `EINVAL` for a socket of datagrams or packets, and for a listener; or if `fd` cannot be made
    /// non-blocking.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<IoStream> {
        let fd = fd.into();
        let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
        let socket = socket2::SockRef::from(&fd);
        let kind = match socket.r#type() {
            Ok(socket2::Type::STREAM) if !sys::is_listening(fd.as_raw_fd()) => StreamKind::Socket,
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
                io_loop.core().check_pollable(fd.as_raw_fd())?;
                if sys::is_write_only(fd.as_raw_fd()) {
                    StreamKind::PipeWriter
                } else {
                    StreamKind::Pipe
                }
            }
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        Ok(IoStream::of(Inner::new(io_loop.core(), fd, kind)))
    }

    /// A stream over a non-blocking socket.
    pub(crate) fn of_socket(core: &Rc<Core>, socket: OwnedFd) -> IoStream {
        IoStream::of(Inner::new(core, socket, StreamKind::Socket))
    }

    pub(in crate::net) fn inner(&self) -> &Rc<Inner> {
        &self.inner
    }

    fn of(inner: Rc<Inner>) -> IoStream {
        IoStream {
            inner,
            #[cfg(feature = "futures-io")]
            polled: futures_io::Polled::default(),
        }
    }

    /// Takes the stream apart, for two tasks.
    ///
    /// It is closed when both halves are dropped. Dropping the writing half ends what the other side
    /// reads, after what was written is sent.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        halves::split(self)
    }

    /// Receives into another pool of buffers from now on.
    ///
    /// # Errors
    ///
    /// If the pool is of another loop; [`StreamError::LoopClosed`].
    pub fn set_buffers(&self, pool: BufferPool) -> io::Result<()> {
        let pool = pool.on(&*self.inner.core()?)?;
        self.inner.set_pool(pool);
        Ok(())
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// `Unsupported` for what is no IP socket, and what the operating system reports.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        ip_address(socket2::SockRef::from(&self.inner).peer_addr()?)
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// As for [`peer_addr`](Self::peer_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ip_address(socket2::SockRef::from(&self.inner).local_addr()?)
    }
}

fn ip_address(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the stream has no IP address"))
}

impl Drop for IoStream {
    fn drop(&mut self) {
        self.inner.abandon();
    }
}

/// # Panics
///
/// Where [`IoStream::new`] fails.
impl From<TcpStream> for IoStream {
    #[track_caller]
    fn from(stream: TcpStream) -> IoStream {
        OwnedFd::from(stream).into()
    }
}

/// # Panics
///
/// Where [`IoStream::new`] fails.
impl From<UnixStream> for IoStream {
    #[track_caller]
    fn from(stream: UnixStream) -> IoStream {
        OwnedFd::from(stream).into()
    }
}

/// # Panics
///
/// Where [`IoStream::new`] fails.
impl From<OwnedFd> for IoStream {
    #[track_caller]
    fn from(fd: OwnedFd) -> IoStream {
        match IoStream::new(fd) {
            Ok(stream) => stream,
            Err(error) => panic!("IoStream::from(): {error}"),
        }
    }
}

impl AsFd for IoStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for IoStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for IoStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoStream").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}
