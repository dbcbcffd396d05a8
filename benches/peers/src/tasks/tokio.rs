//! tokio, on one thread, with tasks that need not be `Send`.

use crate::tasks::Runtime;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};

/// As programs have it that do input and output: it sleeps in `epoll_wait`.
pub(crate) struct Tokio;

/// The same without: it sleeps on a futex, and could not be woken by a socket.
pub(crate) struct TokioWithoutIo;

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    const ABOUT: &'static str = "tokio 1.54, current_thread, as a LocalRuntime";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        block_on(Builder::new_current_thread().enable_all(), future)
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(duration, future).await.ok()
    }
}

impl Runtime for TokioWithoutIo {
    const NAME: &'static str = "tokio-no-io";
    const ABOUT: &'static str =
        "the same with timers only: it can wait for nothing but other threads";

    fn run<F: Future + 'static>(future: F) -> io::Result<F::Output> {
        block_on(Builder::new_current_thread().enable_time(), future)
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
        spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        Tokio::sleep(duration)
    }

    fn timeout<F: Future>(
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> {
        Tokio::timeout(duration, future)
    }
}

fn block_on<F: Future>(builder: &mut Builder, future: F) -> io::Result<F::Output> {
    Ok(builder.build_local(LocalOptions::default())?.block_on(future))
}

fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static {
    let task = tokio::task::spawn_local(future);
    async { task.await.expect("it does not panic") }
}
