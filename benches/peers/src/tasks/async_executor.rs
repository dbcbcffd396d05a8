//! async-executor, which has tasks only; async-io has timers for it, and waits for them.

use crate::tasks::Runtime;
use async_executor::LocalExecutor;
use async_io::Timer;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct AsyncExecutor;

thread_local! {
    static EXECUTOR: Rc<LocalExecutor<'static>> = Rc::default();
}

impl Runtime for AsyncExecutor {
    const NAME: &'static str = "async-executor";
    const ABOUT: &'static str =
        "async-executor 1.14's LocalExecutor, with the timers of async-io 2.6";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        let executor = EXECUTOR.with(Rc::clone);
        Ok(async_io::block_on(executor.run(future)))
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        EXECUTOR.with(|executor| executor.spawn(future))
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    fn timeout<F: Future>(
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> {
        let done = async { Some(future.await) };
        futures_lite::future::or(done, async move {
            Timer::after(duration).await;
            None
        })
    }
}
