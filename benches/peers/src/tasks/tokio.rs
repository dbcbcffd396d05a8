//! tokio, on one thread, with tasks that need not be `Send`.

use crate::tasks::Runtime;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};

pub(crate) struct Tokio;

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    const ABOUT: &'static str = "tokio 1.54, current_thread, as a LocalRuntime";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        Ok(runtime.block_on(future))
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        let task = tokio::task::spawn_local(future);
        async { task.await.expect("it does not panic") }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(duration, future).await.ok()
    }
}
