//! A task that another thread wakes, while its loop sleeps.
//!
//! On a core of its own, that thread waits mostly for the machine: a virtual one takes tens of
//! microseconds to wake up a core that has halted, and many to interrupt one that is kept from it. On
//! the loop's core, it waits for the runtime and the kernel only.

use super::awake::Awake;
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

/// Where the thread is that wakes the task.
#[derive(Clone, Copy)]
pub(crate) enum Caller {
    /// On a core of its own. The loop's halts while there is nothing to do.
    There(usize),
    /// The same, but the loop's core never halts.
    ThereWhileAwake(usize),
    /// On the loop's core, where they take turns.
    Here,
}

/// Nanoseconds from wake-ups to what they lead to, as the other thread sees it.
pub(crate) fn measure<R: Runtime>(calls: usize, caller: Caller) -> io::Result<u64> {
    let _awake = match caller {
        Caller::ThereWhileAwake(_) => Some(Awake::keep(sys::cores()?.0)?),
        _ => None,
    };
    let line = Arc::new(Line::default());
    let caller = std::thread::spawn({
        let line = line.clone();
        move || match caller {
            Caller::There(core) | Caller::ThereWhileAwake(core) => {
                sys::pin(core)?;
                line.call(calls, std::hint::spin_loop)
            }
            Caller::Here => line.call(calls, std::thread::yield_now),
        }
    });
    let answered = R::run(async move { R::spawn(line.answer(calls)).await })?;
    let time = caller.join().map_err(|_| io::Error::other("the calling thread has panicked"))??;
    check(answered == calls, "the task was woken without reason")?;
    Ok(time.as_nanos() as u64)
}

impl Line {
    /// It calls `pause` again and again while it waits.
    fn call(&self, calls: usize, pause: fn()) -> io::Result<Duration> {
        let waker = self.waker.wait();
        let mut time = Duration::ZERO;
        for call in 1..=calls {
            pass(NAP, pause);
            let begin = Instant::now();
            self.calls.store(call, Ordering::Release);
            waker.wake_by_ref();
            while self.answers.load(Ordering::Acquire) < call {
                if begin.elapsed() > LIMIT {
                    // The task will never end, and neither would this process.
                    eprintln!("a wake-up was lost");
                    std::process::exit(1);
                }
                pause();
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

/// Lets time pass without sleeping.
fn pass(time: Duration, pause: fn()) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        pause();
    }
}
