//! What a stream refuses to do, or cannot do any more.

use crate::driver::operation::LOST_COMPLETION;
use std::fmt;
use std::io;

/// Why a stream did not do what it was asked.
///
/// Methods return it inside an [`io::Error`], out of which [`of`](Self::of) takes it. What the
/// operating system reports (a reset, a broken pipe) comes as it is, with its `raw_os_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The other side has ended the stream, and what it sent before does not satisfy the read.
    Ended,
    /// The stream was closed on this side.
    Closed,
    /// The loop of the stream is closed.
    LoopClosed,
    /// What was read for is not within this many bytes. They are still there to be read.
    ReadLimit(usize),
    /// More than this many bytes would wait to be sent. Nothing was added; the stream goes on.
    WriteLimit(usize),
    /// Another read is waiting already.
    AlreadyReading,
    /// The kernel was out of memory, and did not tell how much of what was written it has sent. The
    /// loop cannot go on either.
    SendUnknown,
}

impl StreamError {
    /// The reason that an error carries, if it is one of these.
    pub fn of(error: &io::Error) -> Option<StreamError> {
        error.get_ref()?.downcast_ref().copied()
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            StreamError::Ended => io::ErrorKind::UnexpectedEof,
            StreamError::Closed | StreamError::LoopClosed => io::ErrorKind::NotConnected,
            StreamError::ReadLimit(_) => io::ErrorKind::InvalidData,
            StreamError::WriteLimit(_) => io::ErrorKind::StorageFull,
            StreamError::AlreadyReading => io::ErrorKind::ResourceBusy,
            StreamError::SendUnknown => io::ErrorKind::OutOfMemory,
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Ended => f.write_str("the other side ended the stream too early"),
            StreamError::Closed => f.write_str("the stream is closed"),
            StreamError::LoopClosed => f.write_str("the stream's loop is closed"),
            StreamError::ReadLimit(limit) => {
                write!(f, "what was read for is not among the first {limit} bytes")
            }
            StreamError::WriteLimit(limit) => write!(
                f,
                "more than {limit} bytes would wait to be sent: the other side is too slow, or \
                 max_write_buffer_size too small"
            ),
            StreamError::AlreadyReading => {
                f.write_str("another read of this stream is waiting: one at a time")
            }
            StreamError::SendUnknown => f.write_str(
                "the kernel was out of memory, and did not tell how much was sent: close the loop",
            ),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// Why a stream ended, to be told again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Os(i32),
    /// [`StreamError::Closed`].
    Closed,
    /// [`StreamError::LoopClosed`].
    LoopClosed,
}

impl Reason {
    /// An operation was cancelled.
    pub(super) const CANCELLED: Reason = Reason::Os(libc::ECANCELED);
    /// The other side has given the connection up, or it was lost.
    pub(super) const RESET: Reason = Reason::Os(libc::ECONNRESET);
    /// Nothing can be sent: not why.
    pub(super) const BROKEN: Reason = Reason::Os(libc::EPIPE);
    /// [`StreamError::SendUnknown`].
    const SEND_UNKNOWN: Reason = Reason::Os(LOST_COMPLETION);

    pub(super) fn error(self) -> io::Error {
        match self {
            Reason::SEND_UNKNOWN => StreamError::SendUnknown.into(),
            Reason::Os(errno) => io::Error::from_raw_os_error(errno),
            Reason::Closed => StreamError::Closed.into(),
            Reason::LoopClosed => StreamError::LoopClosed.into(),
        }
    }
}

/// What is not of the operating system is the loop's refusal.
impl From<&io::Error> for Reason {
    fn from(error: &io::Error) -> Reason {
        error.raw_os_error().map_or(Reason::LoopClosed, Reason::Os)
    }
}

/// The error of a stream, to be told once more.
#[cold]
pub(super) fn again(error: &io::Error) -> io::Error {
    StreamError::of(error).map_or_else(|| Reason::from(error).error(), io::Error::from)
}
