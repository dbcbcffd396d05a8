//! Futures that wait for a time: on the timeouts of the current loop.
//!
//! ```
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! let io_loop = IoLoop::new()?;
//! io_loop.run_sync(
//!     || async {
//!         time::sleep(Duration::from_millis(2)).await;
//!         let limit = Duration::from_millis(2);
//!         assert!(time::timeout(limit, std::future::pending::<()>()).await.is_err());
//!     },
//!     None,
//! )?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The rules are those of [`IoLoop::add_timeout`]: never early, equal deadlines in the order in
//! which they were first polled, and a deadline in the past is due in the next turn.
//!
//! These futures belong to the loop that is current when they are first polled, and cannot go to
//! another thread:
//!
//! ```compile_fail,E0277
//! use ringloop::time;
//! use std::time::Duration;
//!
//! let sleep = time::sleep(Duration::from_secs(1));
//! std::thread::spawn(move || drop(sleep));
//! ```
//!
//! Dropping one cancels its timeout, and gives its memory back.
//!
//! # From now
//!
//! "From now" is from the call that makes a future, even if it is polled later: by the clock of the
//! loop that is current then, or without one, by the real clock. If the loop that polls it first has
//! another clock, which takes [virtual time](crate::Builder::virtual_time), the two do not compare, and
//! it counts from that poll instead.

use crate::clock::{ClockId, saturating_nanos};
use crate::error::LoopError;
use crate::io_loop::{IoLoop, SleepKey, WeakLoop};
use crate::periodic::next_due;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Waits for `duration`, [from now](self#from-now). A duration beyond the end of time lasts for ever.
///
/// ```
/// use ringloop::{IoLoop, time};
/// use std::time::{Duration, Instant};
///
/// let began = Instant::now();
/// IoLoop::new()?.run_sync(|| time::sleep(Duration::from_millis(5)), None)?;
/// assert!(began.elapsed() >= Duration::from_millis(5));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let now = Now::get();
    let state = State::New(Some(Span { duration, clock: now.clock }));
    Sleep { deadline: now.time.checked_add(duration), state }
}

/// Waits until `deadline`.
///
/// ```
/// use ringloop::{IoLoop, time};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// let deadline = io_loop.time() + Duration::from_millis(5);
/// io_loop.run_sync(|| time::sleep_until(deadline), None)?;
/// assert!(io_loop.time() >= deadline);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Some(deadline), state: State::New(None) }
}

/// Gives a future no more than `duration`, [from now](self#from-now).
///
/// When the time is over, the future is not polled any more; it is dropped with this one, which with
/// `.await` is at once. A future that is ready when it is first polled is never too late.
///
/// ```
/// use ringloop::{IoLoop, time};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// let limit = Duration::from_millis(5);
/// let slow = time::sleep(Duration::from_secs(3600));
/// let result = io_loop.run_sync(|| time::timeout(limit, slow), None)?;
/// assert_eq!(result.unwrap_err().to_string(), "timed out");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> WithTimeout<F::IntoFuture> {
    WithTimeout { future: future.into_future(), sleep: sleep(duration) }
}

/// Ticks again and again, `period` apart; first in one `period` [from now](self#from-now). On a loop with
/// another clock, the count starts anew there.
///
/// The rules are those of [`PeriodicCallback`](crate::PeriodicCallback): lateness does not add up,
/// and whoever takes longer than the period skips ticks. Each tick is chosen at the first poll
/// after the previous one: the next on the grid from that moment. Ticks that were due earlier, or
/// just then, are skipped.
///
/// A longer period than 2<sup>64</sup> nanoseconds (584 years) is cut to that.
///
/// # Panics
///
/// If the period is zero.
///
/// ```
/// use ringloop::{IoLoop, time};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// io_loop.run_sync(
///     || async {
///         let mut interval = time::interval(Duration::from_millis(2));
///         for _ in 0..3 {
///             interval.tick().await;
///             println!("tick");
///         }
///     },
///     None,
/// )?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "time::interval: {}", LoopError::ZeroPeriod);
    let period = saturating_nanos(period);
    Interval { previous: Now::get(), sleep: Sleep { deadline: None, state: State::Over }, period }
}

/// A time, and whose.
#[derive(Clone, Copy, Debug)]
struct Now {
    time: Instant,
    clock: ClockId,
}

impl Now {
    /// That of the current loop, if there is one.
    fn get() -> Now {
        match IoLoop::try_current() {
            Some(io_loop) => Now { time: io_loop.time(), clock: io_loop.clock_id() },
            None => Now { time: Instant::now(), clock: ClockId::Real },
        }
    }
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// # Panics
///
/// When it is polled and no loop is current on this thread, or the loop is closed, or the parent
/// process's: it would wait for ever.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    /// `None` is never.
    deadline: Option<Instant>,
    state: State,
}

enum State {
    /// With what the deadline was made of, unless it was given.
    New(Option<Span>),
    Begun {
        io_loop: WeakLoop,
        key: SleepKey,
    },
    Over,
}

struct Span {
    duration: Duration,
    clock: ClockId,
}

impl Sleep {
    /// When it is over; `None` if never. Its first poll may [change](self#from-now) it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// True once a poll has found it over.
    pub fn is_elapsed(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Sleeps until another time, as if it were new. It has to be polled to wake anybody.
    pub fn reset(&mut self, deadline: Instant) {
        *self = sleep_until(deadline);
    }

    /// Gives its timeout back.
    fn end(&mut self) {
        if let State::Begun { io_loop, key } = std::mem::replace(&mut self.state, State::Over)
            && let Some(io_loop) = io_loop.upgrade()
        {
            io_loop.core().end_sleep(key);
        }
    }

    fn try_poll(&mut self, context: &Context<'_>) -> Result<Poll<()>, LoopError> {
        match &self.state {
            State::Over => return Ok(Poll::Ready(())),
            State::Begun { io_loop, key } => {
                let io_loop = io_loop.upgrade().ok_or(LoopError::Closed)?;
                if io_loop.core().poll_sleep(*key, context)?.is_pending() {
                    return Ok(Poll::Pending);
                }
                self.end();
                return Ok(Poll::Ready(()));
            }
            State::New(_) => {}
        }
        let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
        if let State::New(Some(Span { duration, clock })) = self.state
            && clock != io_loop.clock_id()
        {
            self.deadline = io_loop.time().checked_add(duration);
        }
        let key = io_loop.core().begin_sleep(self.deadline, context.waker())?;
        self.state = State::Begun { io_loop: io_loop.downgrade(), key };
        Ok(Poll::Pending)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.try_poll(context) {
            Ok(polled) => polled,
            Err(error) => panic!("time::sleep was polled, but {error}"),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .field("elapsed", &self.is_elapsed())
            .finish()
    }
}

pin_project! {
    /// The future of [`timeout`].
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct WithTimeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for WithTimeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(context).map(|()| Err(Elapsed(())))
    }
}

/// The time that [`timeout`] gave is over.
///
/// Turns into an [`io::Error`](std::io::Error) of the kind `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Ticks; made by [`interval`].
#[derive(Debug)]
pub struct Interval {
    /// When it ticked last, or began: the ticks are whole periods apart from this.
    previous: Now,
    /// Until the next tick; over while nobody waits for one.
    sleep: Sleep,
    /// Nanoseconds.
    period: u64,
}

impl Interval {
    /// Waits for the next tick; the time it was due at.
    ///
    /// A tick that has been waited for is not lost if this future is dropped: the next one waits
    /// for the same, which comes late if it was due meanwhile.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|context| self.poll_tick(context)).await
    }

    /// As [`tick`](Self::tick), for futures and streams written by hand.
    pub fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<Instant> {
        if self.sleep.is_elapsed() {
            self.begin();
        }
        ready!(Pin::new(&mut self.sleep).poll(context));
        self.previous.time = self.sleep.deadline.unwrap_or(self.previous.time);
        Poll::Ready(self.previous.time)
    }

    /// Begins to wait for the first tick from now.
    fn begin(&mut self) {
        let now = Now::get();
        if now.clock != self.previous.clock {
            self.previous = now;
        }
        let passed = now.time.saturating_duration_since(self.previous.time);
        let next = next_due(0, saturating_nanos(passed), self.period);
        // In range: a loop's clock ends after 292 years, an `Instant` many times later.
        self.sleep.reset(self.previous.time + Duration::from_nanos(next));
    }

    /// Starts again: the next tick is one period from now.
    pub fn reset(&mut self) {
        self.sleep.end();
        self.previous = Now::get();
    }

    /// The time between ticks: what was asked for, up to 584 years.
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period)
    }
}
