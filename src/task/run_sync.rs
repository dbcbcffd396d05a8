//! [`RunSyncError`].

use super::join::JoinError;
use crate::error::LoopError;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why [`IoLoop::run_sync`](crate::IoLoop::run_sync) has no value.
///
/// ```
/// use ringloop::{IoLoop, RunSyncError};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// let limit = Duration::from_millis(5);
/// let error = io_loop.run_sync(std::future::pending::<()>, Some(limit)).unwrap_err();
/// assert!(matches!(error, RunSyncError::TimedOut(after) if after == limit));
/// assert_eq!(error.to_string(), "run_sync: timed out after 5ms");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunSyncError {
    /// The time given was over. The future was dropped.
    TimedOut(Duration),
    /// The loop was stopped before the future finished. The future was dropped.
    Stopped,
    /// The future panicked.
    Panicked(JoinError),
    /// The loop could not run: [`LoopError::AlreadyRunning`] inside the loop,
    /// [`LoopError::Closed`], [`LoopError::Forked`], or an error of the kernel's.
    Loop(io::Error),
}

impl fmt::Display for RunSyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("run_sync: ")?;
        match self {
            RunSyncError::TimedOut(after) => write!(f, "timed out after {after:?}"),
            RunSyncError::Stopped => f.write_str("the loop was stopped before the future finished"),
            RunSyncError::Panicked(error) => write!(f, "{error}"),
            RunSyncError::Loop(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RunSyncError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunSyncError::Panicked(error) => Some(error),
            RunSyncError::Loop(error) => Some(error),
            RunSyncError::TimedOut(_) | RunSyncError::Stopped => None,
        }
    }
}

impl From<LoopError> for RunSyncError {
    fn from(error: LoopError) -> RunSyncError {
        RunSyncError::Loop(error.into())
    }
}

/// `io_loop.run_sync(..)?` works in functions that return `io::Result`.
impl From<RunSyncError> for io::Error {
    fn from(error: RunSyncError) -> io::Error {
        match error {
            RunSyncError::Loop(error) => error,
            RunSyncError::TimedOut(_) => io::Error::new(io::ErrorKind::TimedOut, error),
            RunSyncError::Stopped | RunSyncError::Panicked(_) => io::Error::other(error),
        }
    }
}
