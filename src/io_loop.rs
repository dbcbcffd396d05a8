//! [`IoLoop`], as its users see it. What a turn does is in [`core`].

mod core;
mod current;
mod handlers;
mod tasks;

use crate::buffer::PoolSize;
use crate::builder::Builder;
use crate::callbacks::{Callback, Deferred};
use crate::clock::{ClockId, Deadline};
use crate::driver::operation::PoolId;
use crate::error::LoopError;
use crate::handle::LoopHandle;
use crate::metrics::Metrics;
use crate::timeouts::TimeoutKey;
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

pub(crate) use self::core::{Core, DescriptorWaiter, Sender, SleepKey};
pub(crate) use self::current::{of as current_of, with_running};

/// An event loop: handlers for fds, timeouts and callbacks, on one ring, for one thread.
///
/// Cheap to clone; clones are the same loop. The loop is closed when the last one is dropped. A
/// closure registered with a loop that holds a clone of it keeps it alive for ever: use
/// [`IoLoop::current`] inside closures, or [`close`](Self::close) the loop when done. So does a task
/// that holds one while it awaits something, if only until the end of a statement:
/// `let task = IoLoop::current().spawn(future); task.await` holds none, and
/// `IoLoop::current().spawn(future).await` does.
///
/// The [crate page](crate) shows it in use.
#[derive(Clone)]
pub struct IoLoop {
    core: Rc<Core>,
}

/// Names a timeout, to cancel it with [`IoLoop::remove_timeout`].
///
/// It names nothing once its timeout is gone, nor on another loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeout {
    loop_id: u32,
    key: Option<TimeoutKey>,
}

/// Names a pool of buffers that [`IoLoop::add_buffers`] has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferPool {
    loop_id: u32,
    pool: PoolId,
}

impl BufferPool {
    /// Its number, on the loop that it belongs to.
    ///
    /// # Errors
    ///
    /// On another.
    pub(crate) fn on(self, core: &Core) -> io::Result<PoolId> {
        if self.loop_id == core.id {
            return Ok(self.pool);
        }
        let message = "the pool of buffers belongs to another loop than the stream";
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl IoLoop {
    /// A loop with default settings, which becomes this thread's current one.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    pub fn new() -> io::Result<IoLoop> {
        IoLoop::builder().build()
    }

    /// A loop with settings of your own.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_builder(builder: Builder) -> io::Result<IoLoop> {
        let make_current = builder.make_current;
        let io_loop = IoLoop { core: Rc::new(Core::new(builder)?) };
        if make_current {
            io_loop.make_current();
        }
        Ok(io_loop)
    }

    /// The loop that runs on this thread, or else the one made current last.
    ///
    /// # Panics
    ///
    /// If there is none: none was built here, or it is dropped. No loop is ever made implicitly.
    #[track_caller]
    pub fn current() -> IoLoop {
        match IoLoop::try_current() {
            Some(current) => current,
            None => panic!("IoLoop::current(): {}", LoopError::NoCurrent),
        }
    }

    /// As [`current`](Self::current), or `None`.
    pub fn try_current() -> Option<IoLoop> {
        current::get().map(|core| IoLoop { core })
    }

    /// Makes this loop the thread's current one. That alone does not keep it alive.
    pub fn make_current(&self) {
        current::set(&self.core);
    }

    /// Leaves the thread without a current loop.
    pub fn clear_current() {
        current::clear();
    }

    /// Runs the loop until [`stop`](Self::stop).
    ///
    /// Each turn runs the callbacks queued when it begins, then the timeouts due when it begins,
    /// then waits for the kernel, then calls the handlers of what is ready. The loop is current
    /// while it runs; afterwards, the one that was current before.
    ///
    /// # Errors
    ///
    /// [`LoopError::AlreadyRunning`], [`LoopError::Closed`], [`LoopError::Forked`], or an error of
    /// the kernel's that leaves the loop unable to go on.
    ///
    /// # Panics
    ///
    /// Only with [`Panics::Propagate`](crate::Panics::Propagate), when user code does.
    pub fn start(&self) -> io::Result<()> {
        let _running = self.core.begin()?;
        self.core.run(|| false)
    }

    /// Makes [`start`](Self::start) return, before its next wait: what is queued and due in the
    /// current turn is still run. Called from a handler, that is after the next round of callbacks
    /// and timeouts.
    ///
    /// Called before `start`, it makes the next `start` return at once, running nothing. What is
    /// queued stays queued. (Tornado 4.5's rules.)
    pub fn stop(&self) {
        self.core.shared.request_stop();
    }

    /// Runs exactly one turn, as [`start`](Self::start) does, waiting no longer than `timeout`.
    /// `None` waits until something happens, `Duration::ZERO` not at all. It may end early with
    /// nothing done: many timeouts close together are sorted out shortly before they are due.
    ///
    /// With [`Builder::virtual_time`], `timeout` is of that clock, and while a function of
    /// [`run_in_executor`](Self::run_in_executor) is under way, which holds the clock still, the turn
    /// waits for it for as long as it really takes.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As for [`start`](Self::start).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// io_loop.add_callback(|| println!("in the first turn"));
    /// io_loop.turn(Some(Duration::ZERO))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn turn(&self, timeout: Option<Duration>) -> io::Result<()> {
        let _running = self.core.begin()?;
        self.core.run_once(timeout)
    }

    /// Closes the loop: cancels everything in the kernel, then drops every task, handler, timeout and
    /// callback. Closing a closed loop does nothing.
    ///
    /// Sources that own their descriptor close it; bare numbers (`RawFd`) stay open, unless
    /// `all_fds`. When this returns, ports that were listened on are free.
    ///
    /// With `all_fds`, the loop is the owner of the bare numbers registered with it, and closes them
    /// last, after it has dropped all closures. Nobody else may own such a number when this is
    /// called, for it would be closed twice, and the second time it may be another file's. The one
    /// exception is a handler, callback or timeout of this loop that owns the stream: it closes it
    /// as it is dropped, and the loop finds that the number is free, or another file's, and leaves
    /// it alone.
    ///
    /// A closed loop drops the callbacks and timeouts it is given, and refuses the rest. So does one
    /// that was made before a `fork`, in the child.
    ///
    /// Panics of destructors are reported, or with [`Panics::Propagate`](crate::Panics::Propagate)
    /// the first is let out of here, when all is dropped. A panic of a task that no handle can return
    /// any more, because it is dropped here, is reported: see [`spawn`](Self::spawn).
    ///
    /// # Errors
    ///
    /// [`LoopError::StillRunning`], [`LoopError::Forked`].
    pub fn close(&self, all_fds: bool) -> io::Result<()> {
        self.core.close(all_fds)
    }

    /// The time by the loop's clock, which is monotonic: `Instant::now()`, or with
    /// [`Builder::virtual_time`] where that clock stands.
    pub fn time(&self) -> Instant {
        self.core.clock.instant()
    }

    /// Moves a virtual clock on by `time`, as if the code that calls this took that long.
    ///
    /// What becomes due by that runs in the next turn, earliest first. See
    /// [`Builder::virtual_time`].
    ///
    /// # Panics
    ///
    /// If the loop's clock is the real one.
    ///
    /// # Examples
    ///
    /// A callback that takes longer than its period skips calls:
    ///
    /// ```
    /// use ringloop::{IoLoop, PeriodicCallback};
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::builder().virtual_time().build()?;
    /// let began = io_loop.time();
    /// let slow = PeriodicCallback::new(
    ///     move || {
    ///         let io_loop = IoLoop::current();
    ///         println!("called after {:?}", io_loop.time() - began); // 10s, 40s, 70s, ...
    ///         io_loop.advance(Duration::from_secs(25));
    ///     },
    ///     Duration::from_secs(10),
    /// )?;
    /// slow.start()?;
    /// io_loop.call_later(Duration::from_secs(3600), || IoLoop::current().stop());
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        let clock = &self.core.clock;
        assert!(clock.is_virtual(), "IoLoop::advance: this loop has no virtual time");
        clock.move_on(clock.nanos(Deadline::After(time)));
    }

    /// Runs `callback` in the next turn. Callbacks run in the order added.
    ///
    /// Neither a lock nor a system call. One added by a running callback runs in the next turn,
    /// after a look at the kernel, so callbacks never starve handlers. From other threads, use
    /// [`handle`](Self::handle).
    #[track_caller]
    pub fn add_callback(&self, callback: impl FnOnce() + 'static) {
        if self.core.is_usable() {
            let callback: Box<dyn Callback> = Deferred::boxed(callback, Location::caller());
            self.core.callbacks.push(callback);
        }
    }

    /// Runs `callback` in `delay` from now: never early, and in the first turn after.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, callback: impl FnOnce() + 'static) -> Timeout {
        self.add_timeout(delay, callback)
    }

    /// Runs `callback` at `when`: never early, and in the first turn after.
    #[track_caller]
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> Timeout {
        self.add_timeout(when, callback)
    }

    /// Runs `callback` at a time (an `Instant`) or after a time (a `Duration`).
    ///
    /// Earlier deadlines run first, equal ones in the order added, to the nanosecond. A deadline in
    /// the past is due in the next turn. One added by a running callback or timeout waits for the
    /// next turn. Thousands that are due at once run in several turns, so that handlers need not
    /// wait for all of them.
    #[track_caller]
    pub fn add_timeout(
        &self,
        deadline: impl Into<Deadline>,
        callback: impl FnOnce() + 'static,
    ) -> Timeout {
        let deadline = self.core.clock.nanos(deadline.into());
        self.insert_timeout(deadline, Deferred::boxed(callback, Location::caller()))
    }

    pub(crate) fn insert_timeout(&self, deadline: u64, callback: Box<dyn Callback>) -> Timeout {
        let usable = self.core.is_usable();
        let key = usable.then(|| self.core.timeouts.borrow_mut().insert(deadline, callback));
        Timeout { loop_id: self.core.id, key }
    }

    /// Cancels a timeout, and drops its callback. Harmless twice, after it has run, and after the
    /// loop is closed. One that is due in this turn but has not run yet does not run.
    pub fn remove_timeout(&self, timeout: Timeout) {
        if timeout.loop_id != self.core.id {
            return;
        }
        let cancelled = timeout.key.and_then(|key| self.core.timeouts.borrow_mut().cancel(key));
        drop(cancelled);
    }

    /// Adds a pool of buffers for streams to receive into, beside the one of
    /// [`Builder::buffers`], which says how a pool is made and used.
    ///
    /// Streams are given to it by [`IoStream::set_buffers`](crate::IoStream::set_buffers): bulk
    /// transfers to one of large buffers, many small clients to one of small ones, strangers to
    /// one of their own. When a pool is empty, the streams that receive into it wait in turn, and
    /// the others do not notice. It lives as long as the loop.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; [`LoopError::Closed`], [`LoopError::Forked`]; `InvalidInput` for the 65,537th.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let bulk = io_loop.add_buffers(16, 256 * 1024)?;
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let stream = IoStream::new(stream)?;
    /// stream.set_buffers(bulk)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn add_buffers(&self, count: u16, size: usize) -> io::Result<BufferPool> {
        let pool = self.core.add_pool(Some(PoolSize::new(count, size)))?;
        Ok(BufferPool { loop_id: self.core.id, pool })
    }

    /// A handle for other threads and signal handlers.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle { shared: self.core.shared.clone() }
    }

    /// What the loop has done so far.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(crate) fn of(core: Rc<Core>) -> IoLoop {
        IoLoop { core }
    }

    pub(crate) fn downgrade(&self) -> WeakLoop {
        WeakLoop(Rc::downgrade(&self.core))
    }

    pub(crate) fn clock_id(&self) -> ClockId {
        if self.core.clock.is_virtual() { ClockId::Virtual(self.core.id) } else { ClockId::Real }
    }

    /// Nanoseconds by the loop's clock.
    pub(crate) fn now(&self) -> u64 {
        self.core.clock.now()
    }
}

impl fmt::Debug for IoLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoLoop").field("id", &self.core.id).finish_non_exhaustive()
    }
}

/// A loop that is not kept alive.
#[derive(Clone)]
pub(crate) struct WeakLoop(Weak<Core>);

impl WeakLoop {
    pub(crate) fn upgrade(&self) -> Option<IoLoop> {
        self.0.upgrade().map(|core| IoLoop { core })
    }
}
