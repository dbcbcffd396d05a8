//! Errors that say what they are about.

use std::error::Error;
use std::fmt;
use std::io;

/// An error with what was tried. Its kind stays, and the error itself is the source of this one.
pub(super) fn context(what: impl fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Context { what: what.to_string(), error })
}

#[derive(Debug)]
struct Context {
    what: String,
    error: io::Error,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
