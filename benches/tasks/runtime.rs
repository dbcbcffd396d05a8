//! What the workloads need of a runtime.

use std::io;
use std::time::Duration;

pub(crate) trait Runtime: Sized + 'static {
    /// One word.
    const NAME: &'static str;
    /// One line for the report.
    const ABOUT: &'static str;

    /// Runs a future on this thread, and the tasks that it spawns, until it is done.
    ///
    /// # Errors
    ///
    /// There can be no runtime here.
    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output>;

    /// Starts a task, and gives a future of what it returns.
    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static;

    fn sleep(duration: Duration) -> impl Future<Output = ()>;

    /// `None` if the future is not done in time.
    fn timeout<F: Future>(duration: Duration, future: F)
    -> impl Future<Output = Option<F::Output>>;
}
