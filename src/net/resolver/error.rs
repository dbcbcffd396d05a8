//! [`ResolveError`].

use std::fmt;
use std::io;

/// Why a name has no address.
///
/// Where it is returned inside an [`io::Error`], [`of`](Self::of) takes it out.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{Resolver, SystemResolver};
///
/// let io_loop = IoLoop::new()?;
/// let error = io_loop.run_sync(|| SystemResolver.resolve("no host", 80, None), None)?.unwrap_err();
/// assert_eq!(error.host(), "no host");
/// println!("{error}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    host: String,
    reason: String,
}

impl ResolveError {
    /// For resolvers: `reason` says what they know.
    pub fn new(host: impl Into<String>, reason: impl Into<String>) -> ResolveError {
        ResolveError { host: host.into(), reason: reason.into() }
    }

    pub(crate) fn no_address(host: &str) -> ResolveError {
        ResolveError::new(host, "it has no address of the kind that was asked for")
    }

    /// The name that was looked up.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the resolver says.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The reason that an error carries, if it is one of these.
    pub fn of(error: &io::Error) -> Option<&ResolveError> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {:?}: {}", self.host, self.reason)
    }
}

impl std::error::Error for ResolveError {}

impl From<ResolveError> for io::Error {
    fn from(error: ResolveError) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, error)
    }
}
