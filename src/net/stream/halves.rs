//! The two halves of a stream.

use super::{IoStream, Write};
use crate::buffer::{Payload, Piece};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

/// The half of a stream that is read from. Made by [`IoStream::split`].
///
/// Its methods are those of the stream; `as_ref` gives the stream for all others.
#[derive(Debug)]
pub struct ReadHalf {
    pub(super) stream: Rc<IoStream>,
    #[cfg(feature = "futures-io")]
    pub(super) polled: super::futures_io::Polled,
}

/// The half of a stream that is written to. Made by [`IoStream::split`].
///
/// Dropping it ends what the other side reads, after what was written is sent, as
/// [`IoStream::shutdown`] does: that of a socket, but that of a pipe only when the other half is
/// dropped, too. Its methods are those of the stream; `as_ref` gives the stream for all
/// others.
#[derive(Debug)]
pub struct WriteHalf {
    pub(super) stream: Rc<IoStream>,
    #[cfg(feature = "futures-io")]
    pub(super) polled: super::futures_io::Polled,
}

pub(super) fn split(stream: IoStream) -> (ReadHalf, WriteHalf) {
    #[cfg(feature = "futures-io")]
    stream.put_back();
    let stream = Rc::new(stream);
    let reader = ReadHalf {
        stream: stream.clone(),
        #[cfg(feature = "futures-io")]
        polled: Default::default(),
    };
    let writer = WriteHalf {
        stream,
        #[cfg(feature = "futures-io")]
        polled: Default::default(),
    };
    (reader, writer)
}

impl ReadHalf {
    /// The stream, in which there is all that has been received.
    fn source(&self) -> &IoStream {
        #[cfg(feature = "futures-io")]
        self.polled.put_back(&self.stream.inner);
        &self.stream
    }

    /// See [`IoStream::read_bytes`].
    ///
    /// # Errors
    ///
    /// Listed there, as for all of these.
    pub async fn read_bytes(&self, count: usize) -> io::Result<Vec<u8>> {
        self.source().read_bytes(count).await
    }

    /// See [`IoStream::read_partial`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn read_partial(&self, most: usize) -> io::Result<Vec<u8>> {
        self.source().read_partial(most).await
    }

    /// See [`IoStream::read_until`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn read_until(&self, delimiter: &[u8], most: usize) -> io::Result<Vec<u8>> {
        self.source().read_until(delimiter, most).await
    }

    /// See [`IoStream::read_until_regex`].
    ///
    /// # Errors
    ///
    /// Listed there.
    #[cfg(feature = "regex")]
    pub async fn read_until_regex(
        &self,
        regex: &regex::bytes::Regex,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        self.source().read_until_regex(regex, most).await
    }

    /// See [`IoStream::read_into`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn read_into(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.source().read_into(buffer).await
    }

    /// See [`IoStream::read_into_partial`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn read_into_partial(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source().read_into_partial(buffer).await
    }

    /// See [`IoStream::read_until_close`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn read_until_close(&self, most: usize) -> io::Result<Vec<u8>> {
        self.source().read_until_close(most).await
    }

    /// See [`IoStream::chunk`].
    ///
    /// # Errors
    ///
    /// Listed there.
    pub async fn chunk(&self) -> io::Result<Option<Piece>> {
        self.source().chunk().await
    }
}

impl WriteHalf {
    /// See [`IoStream::write`].
    pub fn write(&self, data: impl Into<Payload>) -> Write {
        self.stream.write(data)
    }

    /// See [`IoStream::write_vectored`].
    pub fn write_vectored<I>(&self, pieces: I) -> Write
    where
        I: IntoIterator,
        I::Item: Into<Payload>,
    {
        self.stream.write_vectored(pieces)
    }

    /// See [`IoStream::flush`].
    pub fn flush(&self) -> Write {
        self.stream.flush()
    }

    /// Ends what the other side reads, once everything is sent; not that of a pipe.
    pub fn shutdown(&self) {
        self.stream.shutdown(Shutdown::Write);
    }
}

/// What was shown stays in the stream.
#[cfg(feature = "futures-io")]
impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.source();
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl AsRef<IoStream> for ReadHalf {
    fn as_ref(&self) -> &IoStream {
        self.source()
    }
}

impl AsRef<IoStream> for WriteHalf {
    fn as_ref(&self) -> &IoStream {
        &self.stream
    }
}
