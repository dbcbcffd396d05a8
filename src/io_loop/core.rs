//! The inside of a loop: its parts, and one turn of it.
//!
//! A turn runs `tasks` beside the callbacks and timeouts (`sleeps` are timeouts that wake tasks),
//! has `operations` send what was written, and goes into the wait (`waiting`) and to the handlers
//! (`dispatch`). `removal` lets go of handlers, `descriptors` of those of streams, for which
//! listeners may wait, and `closing` of everything.
//!
//! User code runs, and user values are dropped, with nothing borrowed.

mod closing;
mod descriptors;
mod dispatch;
mod operations;
mod removal;
mod sleeps;
mod tasks;
mod waiting;

pub(crate) use self::descriptors::DescriptorWaiter;
pub(crate) use self::operations::Sender;
pub(crate) use self::sleeps::SleepKey;

use super::current;
use crate::buffer::PoolSize;
use crate::builder::Builder;
use crate::callbacks::{Callback, CallbackQueue, Deferred, Queued};
use crate::clock::Clock;
use crate::driver::operation::{Owner, PoolId};
use crate::driver::uring::Uring;
use crate::driver::{Batch, Counters, Driver, Wait};
use crate::error::LoopError;
use crate::executor::Executor;
use crate::fork::ForkGuard;
use crate::handle::{Posted, Shared};
use crate::handlers::{Handler, Handlers};
use crate::metrics::Metrics;
use crate::report::{CallbackKind, Watch};
use crate::sleepers::Sleepers;
use crate::spare;
use crate::sys::PollProbe;
use crate::task::registry::Tasks;
use crate::task::unreported::Mark;
use crate::timeouts::Timeouts;
use slab::Slab;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Room kept for posts, in entries. What a burst takes beyond it is given back.
const ROOM_FOR_POSTS: usize = 1024;

#[derive(Default)]
struct Counts {
    turns: Cell<u64>,
    callbacks: Cell<u64>,
    timeouts: Cell<u64>,
    handler_calls: Cell<u64>,
    task_polls: Cell<u64>,
    accept_pauses: Cell<u64>,
    /// Of sleeps that were not the driver's.
    wakeups: Cell<u64>,
    interrupts: Cell<u64>,
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

/// What drives the turns: it says how long one may wait, and whether `stop` ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `start`: until `stop`.
    Start,
    /// `turn`: once.
    Turn(Wait),
}

pub(crate) struct Core {
    pub(super) id: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) callbacks: CallbackQueue,
    pub(crate) tasks: Rc<Tasks>,
    pub(super) timeouts: RefCell<Timeouts<Box<dyn Callback>>>,
    sleepers: RefCell<Sleepers>,
    /// Made when it is needed.
    executor: RefCell<Option<Rc<dyn Executor>>>,
    pub(super) handlers: RefCell<Handlers>,
    pub(super) clock: Clock,
    pub(crate) watch: Watch,
    /// `None` once the loop is closed.
    driver: RefCell<Option<Box<dyn Driver>>>,
    /// What a driver that is gone has counted.
    counted: Cell<Counters>,
    closed: Cell<bool>,
    /// Room for what has been posted.
    posted: RefCell<Vec<Posted>>,
    /// What has been found ready in this turn.
    batch: RefCell<Batch>,
    /// Handlers removed while they run, or while the kernel may pin their files.
    condemned: RefCell<Vec<(RawFd, Rc<dyn Handler>)>>,
    /// The kernel may pin the file of something removed, or something removed is not dropped yet.
    unreleased: Cell<bool>,
    /// Who has something to send when the callbacks of this turn have run.
    outbox: RefCell<VecDeque<Rc<dyn Sender>>>,
    /// As the driver says.
    pub(crate) longest_quick_send: usize,
    /// Outcomes of operations are being told.
    delivering: Cell<bool>,
    /// Who is told when the loop is closed, if no operation of theirs tells them.
    close_watchers: RefCell<Slab<Weak<dyn Owner>>>,
    /// Listeners that wait for a descriptor.
    descriptor_waiters: RefCell<Vec<Weak<dyn DescriptorWaiter>>>,
    /// The pool that streams receive into by default, once there is one.
    pool: Cell<Option<PoolId>>,
    pool_size: Option<PoolSize>,
    running: Cell<bool>,
    pub(super) probe: PollProbe,
    fork: ForkGuard,
    counts: Counts,
}

impl Core {
    pub(super) fn new(builder: Builder) -> io::Result<Core> {
        static IDS: AtomicU32 = AtomicU32::new(0);
        let fork = ForkGuard::new()?;
        let shared = Arc::new(Shared::new(fork)?);
        let clock = if builder.virtual_time { Clock::with_virtual_time() } else { Clock::new() };
        let mut timeouts = Timeouts::new();
        timeouts.collect_due(clock.now());
        let driver = Uring::new(builder.sizes, builder.without, shared.alarm.eventfd())?;
        let longest_quick_send = driver.longest_quick_send();
        Ok(Core {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            shared,
            callbacks: CallbackQueue::default(),
            tasks: Rc::default(),
            timeouts: RefCell::new(timeouts),
            sleepers: RefCell::default(),
            executor: RefCell::default(),
            handlers: RefCell::new(Handlers::default()),
            clock,
            watch: Watch::new(builder.panics, builder.panic_hook, builder.slow),
            driver: RefCell::new(Some(Box::new(driver))),
            counted: Cell::default(),
            closed: Cell::new(false),
            posted: RefCell::new(Vec::new()),
            batch: RefCell::new(Batch::default()),
            condemned: RefCell::new(Vec::new()),
            unreleased: Cell::new(false),
            outbox: RefCell::default(),
            longest_quick_send,
            delivering: Cell::new(false),
            close_watchers: RefCell::default(),
            descriptor_waiters: RefCell::default(),
            pool: Cell::new(None),
            pool_size: builder.pool,
            running: Cell::new(false),
            probe: PollProbe::new()?,
            fork,
            counts: Counts::default(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// # Errors
    ///
    /// On a loop that is closed, or another process's.
    #[inline]
    pub(crate) fn check_usable(&self) -> Result<(), LoopError> {
        self.check_fork()?;
        if self.is_closed() { Err(LoopError::Closed) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        !self.fork.is_forked() && !self.is_closed()
    }

    /// # Errors
    ///
    /// In a child of the process that the loop belongs to. Any user code may fork, and return here
    /// in both.
    #[inline]
    fn check_fork(&self) -> Result<(), LoopError> {
        if self.fork.is_forked() { Err(LoopError::Forked) } else { Ok(()) }
    }

    /// Runs something of the loop's own in the next turn.
    #[track_caller]
    pub(crate) fn defer(&self, callback: impl FnOnce() + 'static) {
        self.callbacks.push(Queued::Callback(Deferred::boxed(callback, Location::caller())));
    }

    /// Runs it in the next turn; drops it if there will be none.
    pub(crate) fn call_soon(&self, callback: Box<dyn Callback>) {
        if self.is_usable() {
            self.callbacks.push(callback);
        } else {
            self.watch.drop_all([(callback.origin(CallbackKind::Callback), callback)]);
        }
    }

    /// The driver, unless the loop is closed or another process's.
    pub(super) fn driver(&self) -> Result<RefMut<'_, Box<dyn Driver>>, LoopError> {
        self.check_fork()?;
        RefMut::filter_map(self.driver.borrow_mut(), Option::as_mut).map_err(|_| LoopError::Closed)
    }

    pub(super) fn begin(self: &Rc<Self>) -> Result<Running<'_>, LoopError> {
        self.check_usable()?;
        if self.running.replace(true) {
            return Err(LoopError::AlreadyRunning);
        }
        // A waker may run the loop that wakes it, which then goes on telling.
        let delivering = self.delivering.replace(false);
        Ok(Running { core: self, delivering, _current: current::Scope::enter(self) })
    }

    /// Turns until `stop`, or until callbacks and timeouts have run and it is `done`.
    pub(super) fn run(&self, done: impl Fn() -> bool) -> io::Result<()> {
        if self.shared.take_stop() {
            return Ok(());
        }
        while self.run_queued(Mode::Start)? && !done() {
            // Where callbacks follow upon callbacks, this is all that there is to do.
            if self.callbacks.is_empty() || !self.is_quiet() {
                self.wait_and_dispatch(Mode::Start)?;
            }
        }
        self.release_last()
    }

    /// One turn.
    pub(super) fn run_once(&self, timeout: Option<Duration>) -> io::Result<()> {
        let wait = match timeout {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::Poll,
            Some(timeout) => Wait::Until(self.clock.nanos(timeout.into())),
        };
        let mode = Mode::Turn(wait);
        self.run_queued(mode)?;
        self.wait_and_dispatch(mode)?;
        self.release()
    }

    fn wait_and_dispatch(&self, mode: Mode) -> io::Result<()> {
        self.send_all();
        self.wait(mode)?;
        self.dispatch();
        Ok(())
    }

    /// True if there is nothing that the kernel has to be told, has to tell, or has told.
    #[inline]
    fn is_quiet(&self) -> bool {
        !self.unreleased.get()
            && self.outbox.borrow().is_empty()
            && self.driver.borrow_mut().as_mut().is_some_and(|d| d.is_quiet())
    }

    /// Runs the callbacks queued and the timeouts due when the turn begins. False if it is the
    /// last.
    ///
    /// Where tasks wake each other, this is most of a turn: it is part of `run`'s own code.
    #[inline(always)]
    fn run_queued(&self, mode: Mode) -> io::Result<bool> {
        // A handler of the turn before may have forked.
        self.check_fork()?;
        add(&self.counts.turns, 1);
        if self.counts.turns.get().is_multiple_of(spare::TURNS) {
            self.trim();
        }
        let any_due = !self.timeouts.borrow().is_empty() && self.collect_due();
        if self.shared.alarm.take_notice() {
            self.collect_posted();
        }
        if self.unreleased.get() && (any_due || !self.callbacks.is_empty()) {
            // Peers of what the turn before has closed should not have to wait for them.
            self.release_in_part()?;
        }
        self.run_callbacks()?;
        if any_due {
            self.run_due()?;
        }
        Ok(mode != Mode::Start || !self.shared.take_stop())
    }

    #[cold]
    fn trim(&self) {
        self.callbacks.trim();
        self.tasks.trim();
        self.sleepers.borrow_mut().trim();
    }

    #[inline]
    fn run_callbacks(&self) -> io::Result<()> {
        let mark = Mark::now();
        for _ in 0..self.callbacks.begin_turn() {
            match self.callbacks.pop() {
                Some(Queued::Task(runnable)) => self.poll_task(runnable, mark),
                Some(Queued::Callback(callback)) => {
                    add(&self.counts.callbacks, 1);
                    callback.run(CallbackKind::Callback, self);
                }
                None => break,
            }
            self.check_fork()?;
        }
        Ok(())
    }

    #[inline(never)]
    fn run_due(&self) -> io::Result<()> {
        while let Some(timeout) = self.take_due() {
            add(&self.counts.timeouts, 1);
            timeout.run(CallbackKind::Timeout, self);
            self.check_fork()?;
        }
        Ok(())
    }

    /// Whether any timeouts are due.
    #[inline(never)]
    fn collect_due(&self) -> bool {
        self.timeouts.borrow_mut().collect_due(self.clock.now())
    }

    fn take_due(&self) -> Option<Box<dyn Callback>> {
        self.timeouts.borrow_mut().take_due()
    }

    #[inline(never)]
    fn collect_posted(&self) {
        let mut posted = self.shared.posts.take(self.posted.take());
        self.callbacks.extend(posted.drain(..).map(Queued::from));
        posted.shrink_to(ROOM_FOR_POSTS);
        self.posted.replace(posted);
    }

    pub(super) fn metrics(&self) -> Metrics {
        let driver = self.driver.borrow();
        let driver = driver.as_ref();
        let counters = driver.map_or_else(|| self.counted.get(), |driver| driver.counters());
        Metrics {
            driver: driver.map_or("closed", |driver| driver.name()),
            features: driver.map(|driver| driver.features()).unwrap_or_default(),
            turns: self.counts.turns.get(),
            callbacks: self.counts.callbacks.get(),
            task_polls: self.counts.task_polls.get(),
            tasks: self.tasks.len(),
            timeouts: self.counts.timeouts.get(),
            handler_calls: self.counts.handler_calls.get(),
            handlers: self.handlers.borrow().len(),
            timeouts_pending: self.timeouts.borrow().len(),
            panics: self.watch.panic_count() + self.tasks.panics(),
            task_errors: self.watch.error_count(),
            slow_callbacks: self.watch.slow_count(),
            enters: counters.enters,
            submissions: counters.submissions,
            completions: counters.completions,
            stale_completions: counters.stale_completions,
            wakeups: counters.wakeups + self.counts.wakeups.get(),
            interrupts: counters.interrupts + self.counts.interrupts.get(),
            submission_queue_full: counters.submission_queue_full,
            completion_overflows: counters.completion_overflows,
            submit_retries: counters.submit_retries,
            buffers_exhausted: counters.buffers_exhausted,
            accept_pauses: self.counts.accept_pauses.get(),
        }
    }
}

/// The loop is running, and current, for as long as this lives.
pub(super) struct Running<'a> {
    core: &'a Core,
    /// Outcomes were being told before.
    delivering: bool,
    /// Ends last: what is dropped when a turn ends by a panic finds the loop current, too.
    _current: current::Scope,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The turn ends here, so what it removed is let go of here. A loop that cannot do it
            // says so in its next turn.
            let _ = self.core.release();
        }
        self.core.running.set(false);
        self.core.delivering.set(self.delivering);
    }
}
