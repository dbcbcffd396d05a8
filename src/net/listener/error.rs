//! What a listener does not do any more.

use std::fmt;
use std::io;

/// Why a listener has no connection to give.
///
/// `accept` returns it inside an [`io::Error`], out of which [`of`](Self::of) takes it. What the
/// operating system reports comes as it is, with its `raw_os_error`.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{ListenerError, TcpListener};
///
/// let io_loop = IoLoop::new()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// listener.close();
/// let error = io_loop.run_sync(|| listener.accept(), None)?.unwrap_err();
/// assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerError {
    /// It was closed.
    Closed,
    /// Its loop was closed.
    LoopClosed,
}

impl ListenerError {
    /// The reason that an error carries, if it is one of these.
    pub fn of(error: &io::Error) -> Option<ListenerError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenerError::Closed => "the listener is closed",
            ListenerError::LoopClosed => "the listener's loop is closed",
        })
    }
}

impl std::error::Error for ListenerError {}

impl From<ListenerError> for io::Error {
    fn from(error: ListenerError) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, error)
    }
}

/// Why a listener ended, to be told again and again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    Os(i32),
    Listener(ListenerError),
}

impl Reason {
    pub(super) fn error(self) -> io::Error {
        match self {
            Reason::Os(errno) => io::Error::from_raw_os_error(errno),
            Reason::Listener(error) => error.into(),
        }
    }
}
