//! A task that another thread wakes, while its loop sleeps.

use super::{Runtime, check};
use crate::harness::sys;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Long enough for a loop to fall asleep.
const NAP: Duration = Duration::from_micros(100);
/// A wake-up that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Line {
    /// The task's. It stays the same, as the task stays where it is.
    waker: OnceLock<Waker>,
    calls: AtomicUsize,
    answers: AtomicUsize,
}

/// Nanoseconds from wake-ups to what they lead to, as the other thread sees it.
pub(crate) fn measure<R: Runtime>(calls: usize, calling_core: usize) -> io::Result<u64> {
    let line = Arc::new(Line::default());
    let caller = std::thread::spawn({
        let line = line.clone();
        move || {
            sys::pin(calling_core)?;
            line.call(calls)
        }
    });
    let answered = R::run(async move { R::spawn(line.answer(calls)).await })?;
    let time = caller.join().map_err(|_| io::Error::other("the calling thread has panicked"))??;
    check(answered == calls, "the task was woken without reason")?;
    Ok(time.as_nanos() as u64)
}

impl Line {
    fn call(&self, calls: usize) -> io::Result<Duration> {
        let waker = self.waker.wait();
        let mut time = Duration::ZERO;
        for call in 1..=calls {
            spin(NAP);
            let begin = Instant::now();
            self.calls.store(call, Ordering::Release);
            waker.wake_by_ref();
            while self.answers.load(Ordering::Acquire) < call {
                if begin.elapsed() > LIMIT {
                    // The task will never end, and neither would this process.
                    eprintln!("a wake-up was lost");
                    std::process::exit(1);
                }
                std::hint::spin_loop();
            }
            time += begin.elapsed();
        }
        Ok(time)
    }

    /// How often the task has found another call.
    async fn answer(self: Arc<Line>, calls: usize) -> usize {
        let mut answered = 0;
        poll_fn(|context| {
            self.waker.get_or_init(|| context.waker().clone());
            let latest = self.calls.load(Ordering::Acquire);
            if latest > self.answers.load(Ordering::Relaxed) {
                answered += 1;
                self.answers.store(latest, Ordering::Release);
            }
            if latest == calls { Poll::Ready(answered) } else { Poll::Pending }
        })
        .await
    }
}

/// Lets time pass without a system call.
fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
