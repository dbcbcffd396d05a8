//! A loop that sleeps, and the thread that wakes it and waits for its answer.

use crate::harness::sys;
use crate::mechanisms::Mechanism;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Per measurement.
const CALLS: usize = 100;
/// Long enough for a loop to fall asleep.
const NAP: Duration = Duration::from_micros(100);
/// A wake-up that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(5);
/// The call that ends the loop.
const LAST: usize = usize::MAX;

/// Each on a cache line of its own.
#[derive(Default)]
struct Shared {
    calls: Aligned,
    answers: Aligned,
}

#[derive(Default)]
#[repr(align(128))]
struct Aligned(AtomicUsize);

type Bell = Box<dyn FnMut() -> io::Result<()>>;

pub(crate) struct Line {
    name: &'static str,
    shared: Arc<Shared>,
    ring: Bell,
    made: usize,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Nanoseconds a call.
pub(crate) struct Times {
    /// Until the call was over.
    pub(crate) called: f64,
    /// Until the loop's answer was seen.
    pub(crate) answered: f64,
}

impl Line {
    /// # Errors
    ///
    /// The kernel does not know the mechanism.
    pub(crate) fn new<M: Mechanism>(loop_core: usize) -> io::Result<Line> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                sys::pin(loop_core)?;
                let (mut mechanism, address) = M::new()?;
                let _ = sender.send(address);
                shared.answer(&mut mechanism)
            }
        });
        let Ok(address) = receiver.recv() else {
            let ended = thread.join().expect("it does not panic");
            return Err(ended.expect_err("it has not sent its address"));
        };
        let ring = Box::new(M::bell(address)?);
        let mut line = Line { name: M::NAME, shared, ring, made: 0, thread: Some(thread) };
        line.call()?;
        Ok(line)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn call(&mut self) -> io::Result<Times> {
        let (mut called, mut answered) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..CALLS {
            spin(NAP);
            self.made += 1;
            let begin = Instant::now();
            self.shared.calls.0.store(self.made, Ordering::Release);
            (self.ring)()?;
            called += begin.elapsed();
            while self.shared.answers.0.load(Ordering::Acquire) < self.made {
                if begin.elapsed() > LIMIT {
                    return Err(io::Error::other(format!("{}: a wake-up was lost", self.name)));
                }
                std::hint::spin_loop();
            }
            answered += begin.elapsed();
        }
        let each = |time: Duration| time.as_nanos() as f64 / CALLS as f64;
        Ok(Times { called: each(called), answered: each(answered) })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.calls.0.store(LAST, Ordering::Release);
        if (self.ring)().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn answer(&self, mechanism: &mut impl Mechanism) -> io::Result<()> {
        loop {
            mechanism.sleep()?;
            match self.calls.0.load(Ordering::Acquire) {
                LAST => return Ok(()),
                latest => self.answers.0.store(latest, Ordering::Release),
            }
        }
    }
}

/// Lets time pass without a system call.
fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
