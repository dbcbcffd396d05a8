//! Errors that say what they are about.

use super::StreamError;
use crate::LoopError;
use std::error::Error;
use std::fmt;
use std::io;

/// An error with what was tried. Its kind stays, and the error itself is the source of this one.
/// What the loop refuses stays as it is, for those who look for it: it is about nothing else.
pub(super) fn context(what: impl fmt::Display, error: io::Error) -> io::Error {
    if LoopError::of(&error).is_some() || StreamError::of(&error).is_some() {
        return error;
    }
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
