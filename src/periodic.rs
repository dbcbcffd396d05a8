//! [`PeriodicCallback`], and its arithmetic.

use crate::callbacks::Callback;
use crate::clock::saturating_nanos;
use crate::error::LoopError;
use crate::fork::ForkGuard;
use crate::io_loop::{Core, IoLoop, Timeout, WeakLoop};
use crate::report::{CallbackKind, Origin};
use crate::task::Source;
use crate::task::body::Failure;
use crate::task::calls::Map;
use crate::task::outcome::Outcome;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Calls a closure again and again, a fixed period apart.
///
/// Tornado's rules: the first call comes one period after [`start`](Self::start). Calls are
/// scheduled from where the previous one *should* have been, so lateness does not add up. A call
/// that takes longer than the period makes it skip whole periods, never pile up; one that ends
/// exactly on a tick skips that tick. A panic does not end the series.
///
/// Dropping it stops it: keep it for as long as it is to go on.
///
/// ```
/// use ringloop::{IoLoop, PeriodicCallback};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// let mut ticks = 0;
/// let ticker = PeriodicCallback::new(
///     move || {
///         ticks += 1;
///         println!("tick {ticks}");
///         if ticks == 3 {
///             IoLoop::current().stop();
///         }
///     },
///     Duration::from_millis(5),
/// )?;
/// ticker.start()?;
/// io_loop.start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct PeriodicCallback {
    series: Rc<Series>,
}

struct Series {
    callback: RefCell<Body>,
    /// The process in which a future of an earlier call is not done.
    busy: Cell<Option<ForkGuard>>,
    origin: Origin,
    /// Nanoseconds.
    period: u64,
    jitter: Cell<f64>,
    chain: RefCell<Option<Chain>>,
    /// Counts the starts, so that a call of an earlier one is told from one of the present.
    starts: Cell<u64>,
}

/// What a series calls.
enum Body {
    Closure(Box<dyn FnMut()>),
    /// Spawns what the closure returns.
    Async(Box<Spawn>),
}

type Spawn = dyn FnMut(&Core, InFlight);

/// A started series.
struct Chain {
    io_loop: WeakLoop,
    /// When the pending call is due, by the loop's clock, and its timeout.
    due: u64,
    timeout: Timeout,
}

impl PeriodicCallback {
    /// Makes it, stopped.
    ///
    /// # Errors
    ///
    /// [`LoopError::ZeroPeriod`].
    #[track_caller]
    pub fn new<F: FnMut() + 'static>(callback: F, period: Duration) -> io::Result<Self> {
        PeriodicCallback::with_body::<F>(period, Location::caller(), |_| {
            Body::Closure(Box::new(callback))
        })
    }

    /// Makes one that calls an async closure, stopped.
    ///
    /// What the closure returns runs as a task. The next call comes when it is done and dropped, on
    /// the same schedule: calls never overlap, and periods that one takes too long for are skipped.
    /// If the future fails, it is reported as for [`IoLoop::spawn_callback`], and the series goes on.
    ///
    /// Stopping the series, or dropping it, lets a future that is under way come to its end. If the
    /// series is started again meanwhile, its first call waits for that, too.
    ///
    /// # Errors
    ///
    /// [`LoopError::ZeroPeriod`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, PeriodicCallback, time};
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let mut calls = 0;
    /// let poller = PeriodicCallback::new_async(
    ///     move || {
    ///         calls += 1;
    ///         async move {
    ///             time::sleep(Duration::from_millis(3)).await;
    ///             println!("call {calls} is done");
    ///             if calls == 3 {
    ///                 IoLoop::current().stop();
    ///             }
    ///         }
    ///     },
    ///     Duration::from_millis(2),
    /// )?;
    /// poller.start()?;
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn new_async<F, Fut>(mut callback: F, period: Duration) -> io::Result<Self>
    where
        F: FnMut() -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        PeriodicCallback::with_body::<F>(period, Location::caller(), |source| {
            Body::Async(Box::new(move |core, in_flight| {
                let future = callback();
                let done = |output| {
                    drop(in_flight);
                    output
                };
                drop(core.spawn(source, Map::new(future, done), Failure::of_outcome));
            }))
        })
    }

    fn with_body<F>(
        period: Duration,
        site: &'static Location<'static>,
        body: impl FnOnce(Source) -> Body,
    ) -> io::Result<Self> {
        if period.is_zero() {
            return Err(LoopError::ZeroPeriod.into());
        }
        let source = Source::of_periodic::<F>(site);
        let series = Series {
            callback: RefCell::new(body(source)),
            busy: Cell::new(None),
            origin: source.origin(),
            period: saturating_nanos(period),
            jitter: Cell::new(0.0),
            chain: RefCell::new(None),
            starts: Cell::new(0),
        };
        Ok(PeriodicCallback { series: Rc::new(series) })
    }

    /// Varies each step at random by `jitter`, the width of a window centred on the period: 0.1
    /// makes steps of 95 % to 105 % of it. Keeps series that were started together apart.
    ///
    /// # Errors
    ///
    /// [`LoopError::BadJitter`] unless it is a number from 0 to 1.
    pub fn with_jitter(self, jitter: f64) -> io::Result<Self> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(LoopError::BadJitter.into());
        }
        self.series.jitter.set(jitter);
        Ok(self)
    }

    /// Starts it on the current loop. Does nothing if it is running.
    ///
    /// # Errors
    ///
    /// [`LoopError::NoCurrent`], [`LoopError::Closed`], [`LoopError::Forked`].
    pub fn start(&self) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
        io_loop.core().check_usable()?;
        self.series.starts.set(self.series.starts.get() + 1);
        self.series.schedule(&io_loop, io_loop.now());
        Ok(())
    }

    /// Stops it; it can be started again. May be called from the callback, and does nothing if it
    /// is not running.
    pub fn stop(&self) {
        let Some(chain) = self.series.chain.take() else {
            return;
        };
        if let Some(io_loop) = chain.io_loop.upgrade() {
            io_loop.remove_timeout(chain.timeout);
        }
    }

    /// True from [`start`](Self::start) to [`stop`](Self::stop), or to the end of the loop.
    pub fn is_running(&self) -> bool {
        let chain = self.series.chain.borrow();
        let io_loop = chain.as_ref().and_then(|chain| chain.io_loop.upgrade());
        io_loop.is_some_and(|io_loop| io_loop.core().is_usable())
    }
}

impl Drop for PeriodicCallback {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for PeriodicCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeriodicCallback")
            .field("period", &Duration::from_nanos(self.series.period))
            .field("jitter", &self.series.jitter.get())
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl Series {
    /// Schedules the call after the one that was due at `previous`.
    fn schedule(self: &Rc<Self>, io_loop: &IoLoop, previous: u64) {
        let step = step(self.period, self.jitter.get(), fastrand::f64());
        let due = next_due(previous, io_loop.now(), step);
        let tick =
            Tick { series: Rc::downgrade(self), start: self.starts.get(), origin: self.origin };
        let timeout = io_loop.insert_timeout(due, Box::new(tick));
        self.chain.replace(Some(Chain { io_loop: io_loop.downgrade(), due, timeout }));
    }

    /// Not in a child of the process: there, the future is left alone, and not waited for.
    fn is_busy(&self) -> bool {
        self.busy.get().is_some_and(|process| !process.is_forked())
    }

    /// One call, of the start that has this number.
    fn call(self: &Rc<Self>, start: u64, core: &Core) {
        // Comes about even if the callback panics.
        let next = GoOn { series: self, start };
        // Borrowed already only if the callback runs another loop, and this series on it.
        let Ok(mut callback) = self.callback.try_borrow_mut() else { return };
        match &mut *callback {
            Body::Closure(callback) => callback(),
            Body::Async(_) if self.is_busy() => {}
            Body::Async(call) => {
                std::mem::forget(next);
                call(core, InFlight::new(self, start, core.shared.fork));
            }
        }
    }

    /// Schedules the next call, unless the series was stopped, or started again, since `start`.
    fn go_on(self: &Rc<Self>, start: u64) {
        if self.starts.get() != start {
            return;
        }
        let Some(Chain { io_loop, due, .. }) = self.chain.take() else {
            return;
        };
        if let Some(io_loop) = io_loop.upgrade() {
            self.schedule(&io_loop, due);
        }
    }
}

/// One scheduled call.
struct Tick {
    series: Weak<Series>,
    start: u64,
    origin: Origin,
}

impl Callback for Tick {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        let Tick { series, start, origin } = *self;
        let called = Called { series: series.upgrade(), core };
        if let Some(series) = &called.series {
            core.watch.run(|| origin, || series.call(start, core));
        }
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        self.origin
    }
}

/// A series while it is called. If the call drops it, its callback is dropped after the call: a panic
/// of the one must not meet a panic of the other.
struct Called<'a> {
    series: Option<Rc<Series>>,
    core: &'a Core,
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        let last = self.series.take().and_then(Rc::into_inner);
        self.core.watch.drop_all(last.map(|series| (series.origin, series)));
    }
}

struct GoOn<'a> {
    series: &'a Rc<Series>,
    start: u64,
}

impl Drop for GoOn<'_> {
    fn drop(&mut self) {
        self.series.go_on(self.start);
    }
}

/// A call whose future is not done. The series goes on when it is, or is dropped.
struct InFlight {
    series: Weak<Series>,
    start: u64,
}

impl InFlight {
    fn new(series: &Rc<Series>, start: u64, process: ForkGuard) -> InFlight {
        series.busy.set(Some(process));
        InFlight { series: Rc::downgrade(series), start }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(series) = self.series.upgrade() {
            series.busy.set(None);
            series.go_on(self.start);
        }
    }
}

/// The first tick after `now` on the grid of `step` from `previous`.
pub(crate) fn next_due(previous: u64, now: u64, step: u64) -> u64 {
    let missed = now.saturating_sub(previous) / step;
    previous.saturating_add(step.saturating_mul(missed + 1))
}

/// The period, moved within a window of width `jitter` by `random`, which is from 0 to 1.
fn step(period: u64, jitter: f64, random: f64) -> u64 {
    if jitter == 0.0 {
        return period;
    }
    let step = period as f64 * (1.0 + jitter * (random - 0.5));
    (step as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_time_calls_follow_the_schedule_and_not_their_lateness() {
        assert_eq!(next_due(1000, 1000, 10), 1010);
        assert_eq!(next_due(1000, 1009, 10), 1010);
    }

    /// Tornado's table: calls of these durations on a period of ten seconds.
    #[test]
    fn an_overrun_skips_whole_periods() {
        let durations = [9, 9, 10, 11, 20, 20, 35, 35, 0, 0, 0];
        let expected = [1010, 1020, 1030, 1050, 1070, 1100, 1130, 1170, 1210, 1220, 1230];
        let mut due = next_due(1000, 1000, 10);
        for (duration, expected) in durations.into_iter().zip(expected) {
            assert_eq!(due, expected);
            due = next_due(due, due + duration, 10);
        }
    }

    #[test]
    fn a_clock_that_went_back_never_gives_the_same_slot_twice() {
        assert_eq!(next_due(1000, 900, 10), 1010);
    }

    #[test]
    fn a_huge_jump_ahead_takes_one_step() {
        assert_eq!(next_due(0, u64::MAX - 5, 1), u64::MAX - 4);
        assert_eq!(next_due(10, 10, u64::MAX), u64::MAX);
    }

    /// Tornado's table: 10 s, jitter 0.5, and the random numbers 0.5, 1, 0, 0.75.
    #[test]
    fn jitter_moves_each_step_within_its_window() {
        let second = 1_000_000_000;
        let mut due = 1000 * second;
        let expected = [1_010_000, 1_022_500, 1_030_000, 1_041_250];
        for (random, milliseconds) in [0.5, 1.0, 0.0, 0.75].into_iter().zip(expected) {
            due = next_due(due, due, step(10 * second, 0.5, random));
            assert_eq!(due, milliseconds * 1_000_000);
        }
    }
}
