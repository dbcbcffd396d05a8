//! [`Outcome`]: whether what a task returns is a failure.

use std::fmt;

/// What a task of [`IoLoop::spawn_callback`](crate::IoLoop::spawn_callback) may return: nothing, or
/// a `Result` whose error the loop reports.
///
/// ```
/// use ringloop::Outcome;
///
/// assert_eq!(().into_failure(), None);
/// assert_eq!(Ok::<i32, String>(1).into_failure(), None);
/// assert_eq!("x".parse::<i32>().into_failure().unwrap(), "invalid digit found in string");
/// ```
pub trait Outcome {
    /// What went wrong, in words, if something did.
    fn into_failure(self) -> Option<String>;
}

impl Outcome for () {
    fn into_failure(self) -> Option<String> {
        None
    }
}

/// For tasks that never end.
impl Outcome for Never {
    fn into_failure(self) -> Option<String> {
        self
    }
}

impl<T, E: fmt::Display> Outcome for Result<T, E> {
    fn into_failure(self) -> Option<String> {
        // The alternate form is that of errors that can tell their causes, too.
        self.err().map(|error| format!("{error:#}"))
    }
}

/// The type `!`, by the one name for it that is stable.
type Never = <fn() -> ! as Returns>::Type;

pub trait Returns {
    type Type;
}

impl<T> Returns for fn() -> T {
    type Type = T;
}
