//! [`IoStream`]: bytes both ways, over TCP, Unix sockets and pipes.
//!
//! `inner` ties together the receiving side (`incoming`, on its `queue`) and the sending side
//! (`outgoing`); `read` and `write` are the futures that users wait for.

mod error;
mod incoming;
mod inner;
mod outgoing;
mod queue;
mod read;
mod wakers;
mod write;

pub use error::StreamError;
pub use write::Write;

use self::error::Reason;
use self::inner::Inner;
use self::queue::Received;
use self::read::Read;
use crate::buffer::Payload;
use crate::driver::operation::StreamKind;
use crate::io_loop::{Core, IoLoop};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// A stream of bytes, both ways.
///
/// **No byte is lost.** The stream owns what it has received; a read only takes from that. One that is
/// dropped before it is done, because it took too long or lost a `select!`, has taken nothing.
///
/// **Back-pressure.** When [`max_buffer_size`](Self::set_max_buffer_size) bytes wait to be read, the
/// stream stops receiving, and goes on at half of that. The kernel's own buffers fill up, and then the
/// other side has to wait.
///
/// **Half a close.** The end of what the other side sends ends reading, not writing.
///
/// Methods take `&self`: one task may read while others write. One read waits at a time.
///
/// Dropping a stream closes it, after what was written is sent. [`close`](Self::close) does not wait
/// for that.
pub struct IoStream {
    inner: Rc<Inner>,
}

impl IoStream {
    /// A stream of the current loop over a socket that is connected, or a pipe.
    ///
    /// # Errors
    ///
    /// [`LoopError::NoCurrent`](crate::LoopError::NoCurrent), or if `fd` cannot be made
    /// non-blocking.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<IoStream> {
        let fd = fd.into();
        let io_loop = IoLoop::try_current().ok_or(crate::LoopError::NoCurrent)?;
        let socket = socket2::SockRef::from(&fd);
        let kind = match socket.r#type() {
            Ok(_) => StreamKind::Socket,
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => StreamKind::Pipe,
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        Ok(IoStream { inner: Inner::new(io_loop.core(), fd, kind) })
    }

    /// A stream over a non-blocking socket.
    pub(crate) fn of_socket(core: &Rc<Core>, socket: OwnedFd) -> IoStream {
        IoStream { inner: Inner::new(core, socket, StreamKind::Socket) }
    }

    fn read<T, F>(&self, read: F) -> Read<'_, F>
    where
        F: FnMut(&mut incoming::Incoming) -> Option<io::Result<T>>,
    {
        Read::new(&self.inner, read)
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Errors
    ///
    /// [`StreamError::Ended`] if the stream ends before: what is there stays there. What the
    /// operating system reports.
    pub async fn read_bytes(&self, count: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_exactly(count)).await
    }

    /// Reads what is there, from 1 to `most` bytes. An empty result is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub async fn read_partial(&self, most: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_some(most)).await
    }

    /// Reads up to and with `delimiter`, `most` bytes in all.
    ///
    /// # Errors
    ///
    /// [`StreamError::ReadLimit`] if there is no delimiter within `most` bytes: they stay there.
    /// [`StreamError::Ended`], and what the operating system reports.
    pub async fn read_until(&self, delimiter: &[u8], most: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_until(delimiter, most)).await
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub async fn read_into(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.read(|incoming| incoming.read_into(buffer, true)).await.map(drop)
    }

    /// Reads what is there into `buffer`, and returns how much. 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub async fn read_some_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(|incoming| incoming.read_into(buffer, false)).await
    }

    /// Reads to the end of the stream, `most` bytes in all.
    ///
    /// # Errors
    ///
    /// [`StreamError::ReadLimit`] if there are more: they stay there. What the operating system
    /// reports; a reset is not an end.
    pub async fn read_until_close(&self, most: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_until_end(most)).await
    }

    /// Takes the next piece of data as it came, without copying it. `None` is the end of the
    /// stream.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub async fn chunk(&self) -> io::Result<Option<Payload>> {
        let piece = self.read(|incoming| incoming.read_piece()).await?;
        Ok(piece.map(|piece| match piece {
            Received::Lent(chunk) => chunk.into(),
            Received::Copied(bytes, 0) => bytes.into(),
            Received::Copied(bytes, from) => bytes[from..].into(),
        }))
    }

    /// Writes data: it is queued now, in order with other writes, and sent also if the returned
    /// future is dropped. That waits until the kernel has taken it all.
    ///
    /// # Errors
    ///
    /// [`StreamError::WriteLimit`] if too much is queued: nothing of this is.
    /// [`StreamError::Closed`], and what the operating system reports.
    pub fn write(&self, data: impl Into<Payload>) -> Write {
        Write::new(self.inner.clone(), self.inner.write(data.into()))
    }

    /// Waits until the kernel has taken everything that was written.
    pub fn flush(&self) -> Write {
        let end = self.inner.outgoing.borrow().end_of_data();
        Write::new(self.inner.clone(), Ok(end))
    }

    /// Ends the stream to the other side, once everything is sent. Reading goes on.
    pub fn shutdown(&self) {
        self.inner.end_sending();
    }

    /// Closes the stream. What is not sent yet is not sent; what is not read yet can still be.
    pub fn close(&self) {
        self.inner.close(Reason::Stream(StreamError::Closed));
    }

    /// Sets how many bytes may wait to be read before the stream stops receiving. 128 KiB by
    /// default.
    pub fn set_max_buffer_size(&self, bytes: usize) {
        self.inner.incoming.borrow_mut().high_water = bytes.max(1);
    }

    /// Sets how many bytes may wait to be sent before writes are refused. 16 MiB by default.
    pub fn set_max_write_buffer_size(&self, bytes: usize) {
        self.inner.outgoing.borrow_mut().most = bytes;
    }

    /// Sends small pieces at once, without waiting for more of them (`TCP_NODELAY`). Does nothing
    /// for other streams than TCP.
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

impl Drop for IoStream {
    fn drop(&mut self) {
        self.inner.abandon();
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
