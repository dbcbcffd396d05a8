//! Reading from a stream: the methods of [`IoStream`] that read, and the future that they wait with.
//!
//! `receiving` has the data come in.

use super::IoStream;
use super::incoming::Incoming;
use crate::buffer::Piece;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// # Reading
///
/// One read waits at a time; another one is refused with
/// [`StreamError::AlreadyReading`](super::StreamError::AlreadyReading). A read that is dropped
/// before it is done has taken nothing, and one that fails leaves what is there for the next.
///
/// What came before the end of the stream, or before an error, can be read before that is told.
impl IoStream {
    pub(super) fn read<T, F>(&self, read: F) -> Read<'_, F>
    where
        F: FnMut(&mut Incoming) -> Poll<io::Result<T>>,
    {
        Read::new(self, read)
    }

    /// Reads exactly `count` bytes. For 0, that is none, also of a stream that is closed.
    ///
    /// All of them are held in memory meanwhile, whatever
    /// [`max_buffer_size`](Self::set_max_buffer_size) is.
    ///
    /// # Errors
    ///
    /// [`StreamError::Ended`](super::StreamError::Ended) if the stream ends before: what is there
    /// stays there. What the operating system reports, such as a reset.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// peer.write_all(b"\x00\x03abc")?;
    /// let frame = IoLoop::new()?.run_sync(async || {
    ///     let stream = IoStream::from(stream);
    ///     let header = stream.read_bytes(2).await?;
    ///     let length = u16::from_be_bytes([header[0], header[1]]);
    ///     stream.read_bytes(length.into()).await
    /// }, None)??;
    /// assert_eq!(frame, b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn read_bytes(&self, count: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_exactly(count)).await
    }

    /// Reads what is there, from 1 to `most` bytes. An empty result is the end of the stream, unless
    /// `most` is 0.
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
    /// [`StreamError::ReadLimit`](super::StreamError::ReadLimit) if the first `most` bytes do not
    /// end a delimiter: they stay there, and the stream goes on. (Tornado closes it.)
    /// [`StreamError::Ended`](super::StreamError::Ended), and what the operating system reports.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// peer.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    /// let line = IoLoop::new()?.run_sync(async || {
    ///     IoStream::from(stream).read_until(b"\r\n", 8192).await
    /// }, None)??;
    /// assert_eq!(line, b"GET / HTTP/1.1\r\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn read_until(&self, delimiter: &[u8], most: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_until(delimiter, most)).await
    }

    /// With the feature `regex`: reads up to the end of the first match, `most` bytes in all.
    ///
    /// `regex` is one of bytes. Matching is tried on what has arrived, whenever something arrives: a
    /// match that could have been longer with what comes later is not. It begins anew each time, so
    /// keep `most` small.
    ///
    /// # Errors
    ///
    /// As [`read_until`](Self::read_until).
    ///
    /// # Examples
    ///
    /// ```
    /// use regex::bytes::Regex;
    /// use ringloop::{IoLoop, IoStream};
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// peer.write_all(b"name: value\n\nbody")?;
    /// let blank_line = Regex::new(r"\r?\n\r?\n")?;
    /// let head = IoLoop::new()?.run_sync(async || {
    ///     IoStream::from(stream).read_until_regex(&blank_line, 8192).await
    /// }, None)??;
    /// assert_eq!(head, b"name: value\n\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "regex")]
    pub async fn read_until_regex(
        &self,
        regex: &regex::bytes::Regex,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_until_regex(regex, most)).await
    }

    /// Fills `buffer`. It is filled in one go when everything is there: a read that is dropped or
    /// fails has not touched it.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub async fn read_into(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.read(|incoming| incoming.fill(buffer)).await
    }

    /// Reads what is there into `buffer`, and returns how much. 0 is the end of the stream, unless
    /// `buffer` is empty.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub async fn read_into_partial(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(|incoming| incoming.read_into(buffer)).await
    }

    /// Reads to the end of the stream, `most` bytes in all.
    ///
    /// # Errors
    ///
    /// [`StreamError::ReadLimit`](super::StreamError::ReadLimit) if there are more: they stay
    /// there. [`StreamError::Closed`](super::StreamError::Closed), and what the operating system
    /// reports: being closed here, or reset, is not an end, and what came before it stays there,
    /// too. (Tornado takes both for an end.)
    pub async fn read_until_close(&self, most: usize) -> io::Result<Vec<u8>> {
        self.read(|incoming| incoming.read_until_end(most)).await
    }

    /// Takes the next piece of data as it came, without copying it. `None` is the end of the
    /// stream.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    ///
    /// # Examples
    ///
    /// An echo that copies nothing:
    ///
    /// ```
    /// use ringloop::IoStream;
    ///
    /// async fn echo(stream: IoStream) -> std::io::Result<()> {
    ///     while let Some(piece) = stream.chunk().await? {
    ///         stream.write(piece).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn chunk(&self) -> impl Future<Output = io::Result<Option<Piece>>> {
        self.read(Incoming::read_piece)
    }

    /// Whether a read waits.
    pub fn reading(&self) -> bool {
        self.inner.incoming.borrow().is_busy()
    }

    /// Sets how many bytes may wait to be read before the stream stops receiving: 128 KiB by
    /// default, 1 at least. It goes on when half of them are read.
    ///
    /// What is on its way at that moment still comes. A read that asks for more gets more.
    pub fn set_max_buffer_size(&self, bytes: usize) {
        let is_low = {
            let mut incoming = self.inner.incoming.borrow_mut();
            incoming.set_high_water(bytes);
            incoming.is_low()
        };
        if is_low {
            self.inner.receive();
        }
    }
}

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
