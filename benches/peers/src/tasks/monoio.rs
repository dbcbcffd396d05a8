//! monoio, with the feature that lets other threads wake its tasks.

use crate::tasks::Runtime;
use monoio::{IoUringDriver, RuntimeBuilder};
use std::io;
use std::time::Duration;

pub(crate) struct Monoio;

impl Runtime for Monoio {
    const NAME: &'static str = "monoio";
    const ABOUT: &'static str = "monoio 0.2.4, with wake-ups by other threads (feature sync)";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build()?;
        Ok(runtime.block_on(future))
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        monoio::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        monoio::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        monoio::time::timeout(duration, future).await.ok()
    }
}
