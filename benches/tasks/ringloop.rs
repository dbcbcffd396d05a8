//! The library itself.

use crate::tasks::Runtime;
use ringloop::{IoLoop, time};
use std::io;
use std::time::Duration;

pub(crate) struct Ringloop;

impl Runtime for Ringloop {
    const NAME: &'static str = "ringloop";
    const ABOUT: &'static str = "this library";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        Ok(IoLoop::new()?.run_sync(|| future, None)?)
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let task = IoLoop::current().spawn(future);
        async { task.await.expect("it does not panic") }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        time::timeout(duration, future).await.ok()
    }
}
