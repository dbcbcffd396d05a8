//! Errors that say what they are about.

use super::StreamError;
use crate::LoopError;
use crate::sys::shortage_advice;
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
        write!(f, "{}: {}", self.what, self.error)?;
        match shortage_advice(&self.error) {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_descriptors_is_told_with_the_cure() {
        let message = |errno| context("cannot", io::Error::from_raw_os_error(errno)).to_string();
        for (errno, cure) in [(libc::EMFILE, "ulimit -n"), (libc::ENFILE, "fs.file-max")] {
            let message = message(errno);
            assert!(message.starts_with("cannot: Too many"), "{message}");
            assert!(message.ends_with(cure), "{message}");
        }
        let other = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(message(libc::EADDRINUSE), format!("cannot: {other}"));
    }
}
