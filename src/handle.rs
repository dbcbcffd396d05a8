//! The loop as other threads see it: posting callbacks, waking, stopping.

use crate::callbacks::{Callback, Deferred};
use crate::sys;
use crossbeam_channel::{Receiver, Sender};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The wake protocol: whether the loop sleeps, and the eventfd that ends its sleep.
///
/// The loop announces that it is about to sleep and *then* looks at its queue once more; a poster
/// adds to the queue and *then* looks whether the loop sleeps. Whichever is second sees the other
/// (the fences order each side's write before its read), so no post is slept over. Of many posters
/// only the one that turns `asleep` off writes to the eventfd.
#[derive(Debug)]
pub(crate) struct Alarm {
    asleep: AtomicBool,
    eventfd: OwnedFd,
}

impl Alarm {
    fn new() -> io::Result<Alarm> {
        Ok(Alarm { asleep: AtomicBool::new(false), eventfd: sys::eventfd()? })
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// On the loop's thread: about to sleep unless `nothing_to_do` says otherwise, which is asked
    /// after the announcement. True if sleeping is in order; then [`awake`](Self::awake) must
    /// follow.
    pub(crate) fn announce_sleep(&self, nothing_to_do: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleep = nothing_to_do();
        if !sleep {
            self.awake();
        }
        sleep
    }

    /// On the loop's thread: posts need no wake-up from now on.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// On any thread, after the work has been queued. Async-signal-safe.
    fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            sys::eventfd_signal(&self.eventfd);
        }
    }
}

pub(crate) type Posted = Box<dyn Callback + Send>;

/// What a loop shares with its handles.
pub(crate) struct Shared {
    posts: Sender<Posted>,
    pub(crate) alarm: Alarm,
    stop: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> io::Result<(Arc<Shared>, Receiver<Posted>)> {
        let (posts, receiver) = crossbeam_channel::unbounded();
        let shared = Shared { posts, alarm: Alarm::new()?, stop: AtomicBool::new(false) };
        Ok((Arc::new(shared), receiver))
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
/// asked of a loop that is closed or gone is quietly not done.
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
    /// Returns false if the loop is closed or gone; the callback is dropped, here and now.
    #[track_caller]
    pub fn add_callback(&self, callback: impl FnOnce() + Send + 'static) -> bool {
        let posted = Deferred::boxed(callback, Location::caller());
        if self.shared.posts.send(posted).is_err() {
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
    /// Async-signal-safe: one `write(2)` and nothing else. A signal handler sets a flag of its own
    /// and calls this, so that a callback of the loop may look at the flag.
    pub fn wake(&self) {
        sys::eventfd_signal(&self.shared.alarm.eventfd);
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("alarm", &self.shared.alarm).finish_non_exhaustive()
    }
}
