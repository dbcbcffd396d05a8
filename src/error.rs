//! Misuse of a loop, as errors.

use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// What a loop refuses to do.
///
/// Methods return it inside an [`io::Error`], from which it can be had back:
///
/// ```
/// use ringloop::{IoLoop, LoopError};
///
/// let io_loop = IoLoop::new()?;
/// io_loop.close(false)?;
/// let refused = io_loop.start().unwrap_err();
/// assert_eq!(LoopError::of(&refused), Some(&LoopError::Closed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopError {
    /// `start` or `turn` was called from inside the same loop.
    AlreadyRunning,
    /// `close` was called from inside the running loop.
    StillRunning,
    /// The loop is closed.
    Closed,
    /// The loop belongs to the parent of this process.
    Forked,
    /// No handler is registered for this fd.
    NotRegistered(RawFd),
    /// The fd was closed without `remove_handler`, which is now due.
    Lost(RawFd),
    /// No loop is current on this thread.
    NoCurrent,
    /// The period of a `PeriodicCallback` is zero.
    ZeroPeriod,
    /// The jitter of a `PeriodicCallback` is not between 0 and 1.
    BadJitter,
}

impl LoopError {
    /// The misuse that an error tells of, if it does.
    pub fn of(error: &io::Error) -> Option<&LoopError> {
        error.get_ref()?.downcast_ref()
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            LoopError::AlreadyRunning | LoopError::StillRunning => io::ErrorKind::ResourceBusy,
            LoopError::NotRegistered(_) | LoopError::Lost(_) => io::ErrorKind::NotFound,
            LoopError::ZeroPeriod | LoopError::BadJitter => io::ErrorKind::InvalidInput,
            LoopError::Closed | LoopError::Forked | LoopError::NoCurrent => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for LoopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoopError::AlreadyRunning => f.write_str(
                "the loop is already running: start() and turn() cannot be called from inside it",
            ),
            LoopError::StillRunning => {
                f.write_str("the loop is running: stop() it, and close() it after start() returned")
            }
            LoopError::Closed => f.write_str("the loop is closed"),
            LoopError::Forked => f.write_str(
                "the loop was made before fork() and belongs to the parent process: build a new \
                 one in the child",
            ),
            LoopError::NotRegistered(fd) => write!(f, "fd {fd} has no handler"),
            LoopError::Lost(fd) => write!(
                f,
                "fd {fd} was closed while its handler was registered: call remove_handler first"
            ),
            LoopError::NoCurrent => f.write_str(
                "no loop is current on this thread: build one here, or call make_current()",
            ),
            LoopError::ZeroPeriod => f.write_str("the period must be longer than zero"),
            LoopError::BadJitter => f.write_str("the jitter must be a number from 0 to 1"),
        }
    }
}

impl std::error::Error for LoopError {}

impl From<LoopError> for io::Error {
    fn from(error: LoopError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}
