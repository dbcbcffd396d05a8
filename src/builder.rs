//! Building a loop with other settings than the defaults.

use crate::buffer::PoolSize;
use crate::driver::uring::Sizes;
use crate::features::KernelFeatures;
use crate::io_loop::IoLoop;
use crate::report::{PanicHook, PanicReport, Panics, SlowHook, SlowReport};
use std::fmt;
use std::io;
use std::time::Duration;

const WITHOUT: &str = "RINGLOOP_WITHOUT";

/// Settings of a loop to be; made by [`IoLoop::builder`].
///
/// ```
/// use ringloop::IoLoop;
/// use std::time::Duration;
///
/// let io_loop = IoLoop::builder()
///     .entries(64)
///     .slow_callback(Duration::from_millis(100), |report| eprintln!("{report}"))
///     .build()?;
/// # drop(io_loop);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Builder {
    pub(crate) sizes: Sizes,
    pub(crate) pool: Option<PoolSize>,
    pub(crate) make_current: bool,
    pub(crate) without: KernelFeatures,
    pub(crate) panics: Panics,
    pub(crate) panic_hook: Option<PanicHook>,
    pub(crate) slow: Option<(Duration, SlowHook)>,
    pub(crate) virtual_time: bool,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            sizes: Sizes { submission: 1024, completion: 8192 },
            pool: None,
            make_current: true,
            without: KernelFeatures::empty(),
            panics: Panics::Catch,
            panic_hook: None,
            slow: None,
            virtual_time: false,
        }
    }

    /// Size of the submission queue: requests that one system call hands over. 1024 by default,
    /// 64 bytes each. Rounded up to a power of two, and to 2 at least; 32768 at most.
    ///
    /// A queue that is too small costs system calls, nothing else.
    pub fn entries(mut self, entries: u32) -> Builder {
        self.sizes.submission = entries.max(2);
        self
    }

    /// Size of the completion queue. 8192 by default, 16 bytes each. Rounded up to a power of two,
    /// and to the submission queue's size at least; 65536 at most.
    ///
    /// It also sizes the table in which the kernel finds a request to cancel. One that is too small
    /// costs time, nothing else: completions that do not fit wait in the kernel. If the kernel has
    /// no memory for them, it drops them, and the loop's turns fail.
    pub fn cq_entries(mut self, entries: u32) -> Builder {
        self.sizes.completion = entries.max(2);
        self
    }

    /// The buffers that streams receive into: `count` of `size` bytes each. The count is rounded up
    /// to a power of two; 32768 at most, and no more than 1 GiB each. By default 128 of 64 KiB, each of which holds one piece of
    /// data after the other; where the kernel has no such buffers (before 6.12), 512 of 16 KiB.
    ///
    /// Memory is used as data comes. A buffer is in use from the arrival of data until all of it is
    /// read, or while a [`Chunk`](crate::Chunk) holds part of it; idle streams hold none. While all
    /// are in use, streams wait for one in turn, and the kernel keeps what they are sent.
    pub fn buffers(mut self, count: u16, size: usize) -> Builder {
        self.pool = Some(PoolSize::new(count, size));
        self
    }

    /// Whether the loop becomes the thread's current one. True by default, as in Tornado since 6.3.
    pub fn make_current(mut self, make_current: bool) -> Builder {
        self.make_current = make_current;
        self
    }

    /// Does without these kernel features, as an older kernel would.
    pub fn without(mut self, features: KernelFeatures) -> Builder {
        self.without |= features;
        self
    }

    /// What to do about a panic in a callback, timeout, handler or detached task.
    /// [`Panics::Catch`] by default.
    pub fn panics(mut self, panics: Panics) -> Builder {
        self.panics = panics;
        self
    }

    /// Is told of every panic caught, and of errors that
    /// [`spawn_callback`](IoLoop::spawn_callback) found. By default it is written to standard
    /// error: what it was and, if it was registered with the loop, where.
    pub fn panic_hook(mut self, hook: impl Fn(&PanicReport<'_>) + 'static) -> Builder {
        self.panic_hook = Some(Box::new(hook));
        self
    }

    /// Is told of every callback, timeout, handler call and task poll that held the loop for longer
    /// than `limit`, right after it ended. Off by default; costs two readings of the clock per call.
    ///
    /// The successor of Tornado 4's `set_blocking_log_threshold`, without its signal.
    pub fn slow_callback(
        mut self,
        limit: Duration,
        hook: impl Fn(&SlowReport) + 'static,
    ) -> Builder {
        self.slow = Some((limit, Box::new(hook)));
        self
    }

    /// Gives the loop a clock of its own, for tests: it stands still while the loop has anything to
    /// do, and when there is nothing, it jumps to the next deadline. A test of a schedule of hours
    /// takes milliseconds, and comes out the same every time.
    ///
    /// Everything of the loop's goes by that clock: [`IoLoop::time`], timeouts,
    /// [`PeriodicCallback`](crate::PeriodicCallback), the [`time`](crate::time) module, and the
    /// limits of [`turn`](IoLoop::turn) and [`run_sync`](IoLoop::run_sync). It begins at the present.
    /// `Instant::now()` is not it, nor is the time of another loop, and
    /// [`slow_callback`](Self::slow_callback) keeps measuring real time. What the [`time`](crate::time)
    /// module makes while another loop is current, or none, counts
    /// [from its first poll](crate::time#from-now) on this one.
    ///
    /// The clock jumps at the end of a turn, if
    ///
    /// * no callback is queued, and no task is woken,
    /// * nothing was posted from another thread, and nobody has asked for a stop,
    /// * the kernel, asked without waiting, reports no fd: a handler that leaves its fd ready holds
    ///   the time still, as a callback does that adds itself again,
    /// * no function of [`run_in_executor`](IoLoop::run_in_executor) is under way whose task is
    ///   not done: the loop waits for it, for as long as it really takes. One that itself waits
    ///   for a timeout of the loop waits for ever.
    ///
    /// It jumps to the earliest deadline, or the limit of `turn` if that is earlier, and never back;
    /// what is due then runs in the next turn. If there is neither, the loop waits until something
    /// happens, as any loop does. [`IoLoop::advance`] moves the clock by hand.
    ///
    /// The loop cannot know of what else goes on outside of it: threads that will post, other
    /// processes, a network. It does not wait for them, and by the time they are heard of, the
    /// clock may have jumped: a [`timeout`](crate::time::timeout) for a reply from outside is over at
    /// once. Keep both ends of a connection on the loop, and give threads their work with
    /// `run_in_executor`.
    ///
    /// ```
    /// use ringloop::{IoLoop, time};
    /// use std::time::Duration;
    ///
    /// let hour = Duration::from_secs(3600);
    /// let io_loop = IoLoop::builder().virtual_time().build()?;
    /// let began = io_loop.time();
    /// io_loop.call_later(hour, move || {
    ///     assert_eq!(IoLoop::current().time(), began + hour);
    /// });
    /// io_loop.run_sync(|| time::sleep(3 * hour), None)?;
    /// assert_eq!(io_loop.time(), began + 3 * hour);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn virtual_time(mut self) -> Builder {
        self.virtual_time = true;
        self
    }

    /// Builds the loop, for this thread.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a ring; the message says why and what to do: `kernel.io_uring_disabled`
    /// (6.6), a seccomp profile (containers), `RLIMIT_MEMLOCK`, a kernel before 5.15. If the
    /// process or the system is out of file descriptors, of which a loop takes three; the message
    /// says for which it was. If `RINGLOOP_WITHOUT` names an unknown feature.
    pub fn build(mut self) -> io::Result<IoLoop> {
        if let Some(names) = std::env::var_os(WITHOUT) {
            self.without |= KernelFeatures::parse(&names.to_string_lossy()).map_err(|name| {
                let message = format!("{WITHOUT}: {name:?} is not the name of a kernel feature");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
        }
        IoLoop::from_builder(self)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("sizes", &self.sizes)
            .field("make_current", &self.make_current)
            .field("without", &self.without)
            .field("panics", &self.panics)
            .field("slow_callback", &self.slow.as_ref().map(|(limit, _)| limit))
            .field("virtual_time", &self.virtual_time)
            .finish_non_exhaustive()
    }
}
