//! The loop as other threads see it: posting callbacks, waking, stopping.

use crate::callbacks::{Callback, Deferred};
use crate::fork::ForkGuard;
use crate::posts::Posts;
use crate::wake::Alarm;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type Posted = Box<dyn Callback + Send>;

/// What a loop shares with its handles.
pub(crate) struct Shared {
    pub(crate) posts: Posts<Posted>,
    pub(crate) alarm: Alarm,
    stop: AtomicBool,
    fork: ForkGuard,
}

impl Shared {
    pub(crate) fn new(fork: ForkGuard) -> io::Result<Shared> {
        Ok(Shared {
            posts: Posts::new(),
            alarm: Alarm::new(fork)?,
            stop: AtomicBool::new(false),
            fork,
        })
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
    /// Callbacks posted by one thread run in the order posted. A sleeping loop is woken by one
    /// `write(2)`, however many posts come before it is awake; an awake loop costs no system call.
    ///
    /// Returns false if the loop is closed or gone, or the parent's of this process; the callback is
    /// dropped, here and now.
    #[track_caller]
    pub fn add_callback(&self, callback: impl FnOnce() + Send + 'static) -> bool {
        let posted = Deferred::boxed(callback, Location::caller());
        // Before the lock, which a thread that the fork left behind may hold for ever.
        if self.shared.fork.is_forked() || self.shared.posts.push(posted).is_err() {
            return false;
        }
        self.shared.alarm.notify();
        true
    }

    /// Stops the loop as [`IoLoop::stop`](crate::IoLoop::stop) does, waking it if it sleeps.
    ///
    /// Async-signal-safe: two atomic operations and at most one `write(2)`.
    pub fn stop(&self) {
        self.shared.request_stop();
    }

    /// Makes the loop go through a turn, if it sleeps now or is just about to.
    ///
    /// Async-signal-safe: an atomic load and one `write(2)`. A signal handler sets a flag of its own
    /// and calls this, so that a callback of the loop may look at the flag.
    pub fn wake(&self) {
        self.shared.alarm.ring();
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("alarm", &self.shared.alarm).finish_non_exhaustive()
    }
}
