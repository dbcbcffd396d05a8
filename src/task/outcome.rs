//! [`Outcome`]: whether what a task returns is a failure. And futures that end in a callback.

use super::body::drop_future;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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

pin_project! {
    /// Calls a closure with what a future returns, in a task. By then the future is dropped, and what
    /// it held is free.
    pub(crate) struct Map<F, C> {
        // `None` once it is done.
        #[pin]
        future: Option<F>,
        callback: Option<C>,
    }
}

impl<F, C> Map<F, C> {
    pub(crate) fn new(future: F, callback: C) -> Map<F, C> {
        Map { future: Some(future), callback: Some(callback) }
    }
}

impl<F, C, T> Future for Map<F, C>
where
    F: Future,
    C: FnOnce(F::Output) -> T,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect(POLLED_AGAIN);
        let output = ready!(future.poll(context));
        drop_future(this.future);
        let callback = this.callback.take().expect(POLLED_AGAIN);
        Poll::Ready(callback(output))
    }
}

const POLLED_AGAIN: &str = "polled after it was ready";
