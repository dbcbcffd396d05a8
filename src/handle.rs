//! The loop as other threads see it: posting callbacks, waking, stopping.

use crate::callbacks::{Callback, Deferred, Queued};
use crate::fork::ForkGuard;
use crate::io_loop::Core;
use crate::posts::Posts;
use crate::report::{CallbackKind, Origin};
use crate::task::body::Failure;
use crate::task::outcome::Outcome;
use crate::task::{Runnable, Source};
use crate::wake::Alarm;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What other threads send to the loop.
pub(crate) enum Posted {
    Callback(Box<dyn Callback + Send>),
    Task(Runnable),
}

impl Posted {
    /// Gives it up, on any thread.
    fn forsake(self) {
        match self {
            Posted::Callback(callback) => drop(callback),
            // This may not be the thread to drop its future on. Only a task of a parent process
            // can have one here: a loop that closes waits for all of its tasks.
            Posted::Task(runnable) => std::mem::forget(runnable),
        }
    }
}

impl From<Posted> for Queued {
    fn from(posted: Posted) -> Queued {
        match posted {
            Posted::Callback(callback) => Queued::Callback(callback),
            Posted::Task(runnable) => Queued::Task(runnable),
        }
    }
}

/// What a loop shares with its handles and its tasks.
pub(crate) struct Shared {
    pub(crate) posts: Posts<Posted>,
    pub(crate) alarm: Alarm,
    stop: AtomicBool,
    pub(crate) fork: ForkGuard,
}

impl Shared {
    pub(crate) fn new(fork: ForkGuard) -> io::Result<Shared> {
        let (posts, alarm) = (Posts::new(), Alarm::new(fork)?);
        Ok(Shared { posts, alarm, stop: AtomicBool::new(false), fork })
    }

    /// Sends it to the loop, and wakes the loop if it sleeps. False if there is no loop any more.
    pub(crate) fn post(&self, posted: Posted) -> bool {
        // Before the lock, which a thread that the fork left behind may hold for ever.
        if self.is_forked() {
            posted.forsake();
            return false;
        }
        match self.posts.push(posted) {
            Ok(()) => {
                self.alarm.notify();
                return true;
            }
            Err(Posted::Callback(callback)) => callback.discard(None),
            Err(posted) => posted.forsake(),
        }
        false
    }

    /// In a child of the process that made the loop: gives up what was posted. False if that
    /// cannot be done, and this is not to be dropped.
    pub(crate) fn abandon(&self) -> bool {
        let posted = self.posts.try_close();
        let known = posted.is_some();
        posted.into_iter().flatten().for_each(Posted::forsake);
        known
    }

    /// True in a child of the process that made the loop.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.alarm.notify();
    }

    #[inline]
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// True if a stop was asked for, which is then done with.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop_requested() && self.stop.swap(false, Ordering::Relaxed)
    }
}

/// A loop, seen from any thread.
///
/// Made by [`IoLoop::handle`](crate::IoLoop::handle), cheap to clone, and valid for ever: what is
/// asked of a loop that is closed or gone, or that was made before a `fork`, is quietly not done.
///
/// # Accepted, and run
///
/// The methods that post something return true if the loop has accepted it, which is not to say that
/// it will run: a loop that is closed before it gets there drops it, on its own thread. Closing
/// begins by ending the tasks. What is posted while that goes on, even by their destructors, is
/// accepted and then dropped. If they return false, what was posted is dropped already, on the
/// thread that posted it.
///
/// ```
/// use ringloop::IoLoop;
///
/// let io_loop = IoLoop::new()?;
/// let handle = io_loop.handle();
/// let worker = std::thread::spawn(move || {
///     handle.add_callback(|| {
///         println!("back on the loop's thread");
///         IoLoop::current().stop();
///     })
/// });
/// io_loop.start()?;
/// assert!(worker.join().unwrap());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct LoopHandle {
    pub(crate) shared: Arc<Shared>,
}

impl LoopHandle {
    /// Runs `callback` on the loop's thread, in the loop's next turn.
    ///
    /// Callbacks posted by one thread run in the order posted. A sleeping loop is woken by one system
    /// call, however many posts come before it is awake; an awake loop costs none.
    ///
    /// Returns true if the loop has [accepted](Self#accepted-and-run) it. False if the loop is closed or
    /// gone, or the parent's of this process; the callback is dropped, here and now.
    #[track_caller]
    pub fn add_callback(&self, callback: impl FnOnce() + Send + 'static) -> bool {
        let callback = Deferred::boxed(callback, Location::caller());
        self.shared.post(Posted::Callback(callback))
    }

    /// Makes a task on the loop's thread: `f` is called there, in the loop's next turn, and what it
    /// returns runs as [`IoLoop::spawn`](crate::IoLoop::spawn) says, detached. So `f` has to be
    /// [`Send`], and the future not.
    ///
    /// What the future returns is dropped, also an error; a panic is reported. To have errors
    /// reported, too, use [`spawn_callback`](Self::spawn_callback).
    ///
    /// Returns true if the loop has [accepted](Self#accepted-and-run) `f`. False if the loop is closed,
    /// gone, or the parent process's; `f` is dropped, here and now.
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use std::rc::Rc;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let handle = io_loop.handle();
    /// let worker = std::thread::spawn(move || {
    ///     handle.spawn(|| async {
    ///         let local = Rc::new("on the loop's thread");
    ///         println!("{local}");
    ///         IoLoop::current().stop();
    ///     })
    /// });
    /// io_loop.start()?;
    /// assert!(worker.join().unwrap());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, Fut>(&self, f: F) -> bool
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
    {
        self.spawn_there(f, Ok, Location::caller())
    }

    /// As [`spawn`](Self::spawn), for a future that may fail: if it does, with a panic or a `Result`
    /// that is an error (see [`Outcome`]), the loop's [panic hook](crate::Builder::panic_hook) hears
    /// of it.
    ///
    /// ```
    /// use ringloop::IoLoop;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let handle = io_loop.handle();
    /// let worker = std::thread::spawn(move || {
    ///     handle.spawn_callback(|| async {
    ///         IoLoop::current().stop();
    ///         "forty-two".parse::<i32>() // reported on standard error
    ///     })
    /// });
    /// io_loop.start()?;
    /// assert!(worker.join().unwrap());
    /// assert_eq!(io_loop.metrics().task_errors, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_callback<F, Fut>(&self, f: F) -> bool
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        self.spawn_there(f, Failure::of_outcome, Location::caller())
    }

    fn spawn_there<F, Fut, T, M>(&self, f: F, finish: M, site: &'static Location<'static>) -> bool
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        T: 'static,
        M: Fn(Fut::Output) -> Result<T, Failure> + Send + 'static,
    {
        self.shared.post(Posted::Callback(Box::new(SpawnThere { f, finish, site })))
    }

    /// Stops the loop as [`IoLoop::stop`](crate::IoLoop::stop) does, waking it if it sleeps.
    ///
    /// Async-signal-safe: atomic operations and at most one system call, as in
    /// [`wake`](Self::wake). A signal handler that calls it ends [`start`](crate::IoLoop::start),
    /// after which there is time for what is left to do, such as
    /// [`TcpServer::shutdown`](crate::net::TcpServer::shutdown).
    pub fn stop(&self) {
        self.shared.request_stop();
    }

    /// Makes the loop go through a turn, if it sleeps now or is just about to.
    ///
    /// Async-signal-safe: atomic operations and at most one system call, `write(2)` or `futex(2)`. A
    /// signal handler sets a flag of its own and calls this; whoever runs the loop turn by turn looks
    /// at the flag after each. (To be told by a handler instead, register a `signalfd(2)`.)
    ///
    /// ```
    /// use ringloop::{IoLoop, LoopHandle};
    /// use std::sync::OnceLock;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// static LOOP: OnceLock<LoopHandle> = OnceLock::new();
    /// static ASKED_TO_RELOAD: AtomicBool = AtomicBool::new(false);
    ///
    /// extern "C" fn on_signal(_signal: libc::c_int) {
    ///     ASKED_TO_RELOAD.store(true, Ordering::SeqCst);
    ///     if let Some(handle) = LOOP.get() {
    ///         handle.wake();
    ///     }
    /// }
    ///
    /// let io_loop = IoLoop::new()?;
    /// LOOP.set(io_loop.handle()).expect("set once");
    /// let handler = on_signal as extern "C" fn(libc::c_int);
    /// // SAFETY: the handler does nothing that is not async-signal-safe.
    /// unsafe { libc::signal(libc::SIGHUP, handler as libc::sighandler_t) };
    /// # // SAFETY: the signal has a handler.
    /// # unsafe { libc::raise(libc::SIGHUP) };
    ///
    /// while !ASKED_TO_RELOAD.load(Ordering::SeqCst) {
    ///     io_loop.turn(None)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wake(&self) {
        self.shared.alarm.wake();
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("alarm", &self.shared.alarm).finish_non_exhaustive()
    }
}

/// Makes a task on the loop's thread.
struct SpawnThere<F, M> {
    f: F,
    finish: M,
    site: &'static Location<'static>,
}

impl<F, Fut, T, M> Callback for SpawnThere<F, M>
where
    F: FnOnce() -> Fut,
    Fut: Future + 'static,
    T: 'static,
    M: Fn(Fut::Output) -> Result<T, Failure> + 'static,
{
    fn run(self: Box<Self>, kind: CallbackKind, core: &Core) {
        let SpawnThere { f, finish, site } = *self;
        let spawn = || drop(core.spawn(Source::of::<Fut>(site), f(), finish));
        core.watch.run(|| Origin::of::<F>(kind, site), spawn);
    }

    fn origin(&self, kind: CallbackKind) -> Origin {
        Origin::of::<F>(kind, self.site)
    }
}
