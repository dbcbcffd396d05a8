//! compio.

use crate::tasks::Runtime;
use std::io;
use std::time::Duration;

pub(crate) struct Compio;

impl Runtime for Compio {
    const NAME: &'static str = "compio";
    const ABOUT: &'static str = "compio 0.19";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        Ok(compio::runtime::Runtime::new()?.block_on(future))
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let task = compio::runtime::spawn(future);
        async { task.await.expect("it does not panic") }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        compio::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        compio::time::timeout(duration, future).await.ok()
    }
}
