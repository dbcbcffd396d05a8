//! A task's future and output, as the cell sees them: neither ever panics.

use super::outcome::Outcome;
use super::registry::Entry;
use super::unreported::{self, PanicPayload};
use crate::report::Caught;
use pin_project_lite::pin_project;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why the loop drops a future that is not done.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Aborted,
    /// The loop was closed, or is another process's.
    Closed,
}

/// Why a task has no output.
pub(crate) enum Failure {
    Ended(End),
    /// An executor dropped the function that was to run.
    Dropped,
    Panicked(PanicPayload),
    /// It returned an error, which only the loop is to hear of.
    Failed(String),
}

impl Failure {
    pub(crate) fn of_outcome(outcome: impl Outcome) -> Result<(), Failure> {
        match outcome.into_failure() {
            None => Ok(()),
            Some(text) => Err(Failure::Failed(text)),
        }
    }
}

/// What came of a task. A panic in it that nobody takes out is one of the [`unreported`].
pub(crate) struct Output<T>(Option<Result<T, Failure>>);

impl<T> Output<T> {
    pub(crate) fn take(&mut self) -> Option<Result<T, Failure>> {
        self.0.take()
    }
}

impl<T> Drop for Output<T> {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Ok(value)) => drop_user_value(value),
            Some(Err(Failure::Panicked(payload))) => unreported::add(Caught::panic(payload), true),
            Some(Err(Failure::Failed(text))) => unreported::add(Caught::error(text), false),
            Some(Err(Failure::Ended(_) | Failure::Dropped)) | None => {}
        }
    }
}

/// Drops what may panic in its destructor.
pub(super) fn drop_user_value<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        unreported::catch(|| drop(value));
    }
}

/// Drops a future in its place.
pub(super) fn drop_future<F>(mut future: Pin<&mut Option<F>>) {
    unreported::catch(|| future.set(None));
}

pin_project! {
    /// A future, with what the loop knows about it.
    pub(crate) struct Body<F, M> {
        // `None` once it is dropped.
        #[pin]
        future: Option<F>,
        finish: M,
        // Goes after the future, so that a task that is not registered has none.
        entry: Entry,
    }

    impl<F, M> PinnedDrop for Body<F, M> {
        fn drop(this: Pin<&mut Self>) {
            drop_future(this.project().future);
        }
    }
}

impl<F, M> Body<F, M> {
    /// `finish` turns what the future returns into what the task does.
    pub(crate) fn new(future: F, finish: M, entry: Entry) -> Body<F, M> {
        Body { future: Some(future), finish, entry }
    }
}

impl<F, M, T> Future for Body<F, M>
where
    F: Future,
    M: Fn(F::Output) -> Result<T, Failure>,
{
    type Output = Output<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Output<T>> {
        let this = self.project();
        if let Some(end) = this.entry.take_order() {
            return Poll::Ready(Output(Some(Err(Failure::Ended(end)))));
        }
        let Some(future) = this.future.as_pin_mut() else { return Poll::Pending };
        // Also `finish` calls user code: an error is made into text by its own `Display`.
        let mut output = Poll::Pending;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let Poll::Ready(value) = future.poll(context) {
                output = Poll::Ready(Output(Some((this.finish)(value))));
            }
        }));
        if let Err(payload) = polled {
            output = Poll::Ready(Output(Some(Err(Failure::Panicked(payload)))));
        }
        match &output {
            Poll::Pending => this.entry.was_pending(context.waker()),
            Poll::Ready(Output(Some(Err(Failure::Panicked(_))))) => this.entry.count_panic(),
            Poll::Ready(_) => {}
        }
        output
    }
}
