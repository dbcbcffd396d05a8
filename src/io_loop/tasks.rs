//! The methods of [`IoLoop`] that are about futures.

use super::IoLoop;
use crate::task::Source;
use crate::task::join::JoinHandle;
use std::future::Future;
use std::panic::Location;

impl IoLoop {
    /// Runs a future on the loop, as a task of its own.
    ///
    /// It is polled in the next turn, and then in the turn after each wake-up, in line with the
    /// callbacks: whatever woke up first runs first, and handlers and timeouts have their turn in
    /// between. It need not be [`Send`]: it stays on this thread, where it is dropped as soon as it
    /// is done. Wakers go anywhere.
    ///
    /// The [`JoinHandle`] is a future of what comes out. Dropping it detaches the task.
    ///
    /// **Panics.** While there is a handle, a panic of the task is what the handle returns, also
    /// with [`Panics::Propagate`](crate::Panics::Propagate). One that no handle can return any
    /// more, because it was dropped, and one of a destructor, is reported like that of a callback,
    /// or with `Propagate` let out of `start` or `turn`.
    ///
    /// When the loop is closed, or was already, the future is dropped and the handle returns an
    /// error. After a `fork`, the parent's tasks are left alone in the child: they neither run nor
    /// are they dropped.
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let greeting = io_loop.spawn(async { String::from("hello") });
    /// io_loop.spawn(async move {
    ///     println!("{}", greeting.await.unwrap());
    ///     IoLoop::current().stop();
    /// });
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.core.spawn(Source::of::<F>(Location::caller()), future, Ok)
    }
}
