//! The inside of a loop: its parts, and one turn of it.
//!
//! User code runs, and user values are dropped, with nothing borrowed.

mod descriptors;
mod dispatch;
mod operations;
mod sleeps;
mod tasks;

pub(crate) use self::descriptors::Starved;
pub(crate) use self::operations::Sender;
pub(crate) use self::sleeps::Nap;

use self::tasks::EndOfTask;
use crate::buffer::PoolSize;
use crate::builder::Builder;
use crate::callbacks::{Callback, CallbackQueue, Queued};
use crate::clock::{Clock, END_OF_TIME};
use crate::driver;
use crate::driver::operation::{Completed, Owner, PoolId};
use crate::driver::uring::Uring;
use crate::driver::{Batch, Driver, Wait};
use crate::error::LoopError;
use crate::executor::Executor;
use crate::fork::ForkGuard;
use crate::handle::{Posted, Shared};
use crate::handlers::{self, Handler, Handlers};
use crate::metrics::Metrics;
use crate::report::{CallbackKind, Origin, Watch};
use crate::sleepers::Sleepers;
use crate::sys::{BareFd, PollProbe};
use crate::task::registry::Tasks;
use crate::task::strays::Mark;
use crate::timeouts::Timeouts;
use slab::Slab;
use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::iter;
use std::os::fd::RawFd;
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
    outbox: RefCell<Vec<Rc<dyn Sender>>>,
    /// Outcomes of operations are being told.
    delivering: Cell<bool>,
    /// Who is told when the loop is closed, if no operation of theirs tells them.
    mourners: RefCell<Slab<Weak<dyn Owner>>>,
    /// The pool that streams receive into by default, once there is one.
    /// Listeners that wait for a descriptor.
    starved: RefCell<Vec<Weak<dyn Starved>>>,
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
            closed: Cell::new(false),
            posted: RefCell::new(Vec::new()),
            batch: RefCell::new(Batch::default()),
            condemned: RefCell::new(Vec::new()),
            unreleased: Cell::new(false),
            outbox: RefCell::default(),
            delivering: Cell::new(false),
            mourners: RefCell::default(),
            starved: RefCell::default(),
            pool: Cell::new(None),
            pool_size: builder.pool,
            running: Cell::new(false),
            probe: PollProbe::new()?,
            fork,
            counts: Counts::default(),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
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

    /// The driver, unless the loop is closed or another process's.
    pub(super) fn driver(&self) -> Result<RefMut<'_, Box<dyn Driver>>, LoopError> {
        self.check_fork()?;
        RefMut::filter_map(self.driver.borrow_mut(), Option::as_mut).map_err(|_| LoopError::Closed)
    }

    pub(super) fn begin(self: &Rc<Self>) -> Result<Running<'_>, LoopError> {
        drop(self.driver()?);
        if self.running.replace(true) {
            return Err(LoopError::AlreadyRunning);
        }
        Ok(Running { core: self })
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
        self.release()
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
    fn run_queued(&self, mode: Mode) -> io::Result<bool> {
        // A handler of the turn before may have forked.
        self.check_fork()?;
        add(&self.counts.turns, 1);
        let any_due = !self.timeouts.borrow().is_empty() && self.collect_due();
        if self.shared.alarm.take_notice() {
            self.collect_posted();
        }
        if self.unreleased.get() && (any_due || !self.callbacks.is_empty()) {
            // Peers of what the turn before has closed should not have to wait for them.
            self.release()?;
        }
        self.run_callbacks()?;
        if any_due {
            self.run_due()?;
        }
        Ok(mode != Mode::Start || !self.shared.take_stop())
    }

    #[inline]
    fn run_callbacks(&self) -> io::Result<()> {
        let mark = Mark::now();
        for _ in 0..self.callbacks.len() {
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

    /// Submits, waits, and fills the batch.
    fn wait(&self, mode: Mode) -> io::Result<()> {
        match self.how_long(mode) {
            Wait::Until(deadline) if self.clock.is_virtual() => self.wait_virtually(deadline),
            wait => self.wait_for(wait),
        }
    }

    #[inline(always)]
    fn wait_for(&self, mut wait: Wait) -> io::Result<()> {
        let alarm = &self.shared.alarm;
        let asleep = wait != Wait::Poll && alarm.fall_asleep();
        if !asleep {
            wait = Wait::Poll;
        }
        let result = match self.driver() {
            Ok(mut driver) => driver.turn(wait, &mut self.batch.borrow_mut()),
            Err(error) => Err(error.into()),
        };
        if asleep {
            alarm.awake();
        }
        result
    }

    /// A wait until `deadline` on a clock that stands still while there is anything to do.
    #[cold]
    fn wait_virtually(&self, deadline: u64) -> io::Result<()> {
        self.wait_for(Wait::Poll)?;
        // What one look at the kernel has not found may still be on its way to us.
        if !self.driver()?.is_quiet() || self.shared.alarm.is_notified() {
            return Ok(());
        }
        if deadline > self.clock.now() && self.clock.is_held() {
            return self.wait_for(Wait::Forever);
        }
        self.clock.move_on(deadline);
        Ok(())
    }

    /// The earliest deadline; on a real clock perhaps a time before it, at which to look again.
    #[inline]
    fn next_deadline(&self) -> Option<u64> {
        let timeouts = self.timeouts.borrow();
        if self.clock.is_virtual() { timeouts.earliest() } else { timeouts.next_deadline() }
    }

    fn how_long(&self, mode: Mode) -> Wait {
        if !self.callbacks.is_empty() {
            return Wait::Poll;
        }
        let limit = match mode {
            Mode::Start => Wait::Forever,
            Mode::Turn(limit) => limit,
        };
        match (limit, self.next_deadline()) {
            (Wait::Poll, _) => Wait::Poll,
            (Wait::Until(limit), Some(deadline)) => until(limit.min(deadline)),
            (Wait::Until(limit), None) => until(limit),
            (Wait::Forever, Some(deadline)) => until(deadline),
            (Wait::Forever, None) => Wait::Forever,
        }
    }

    #[inline]
    fn has_condemned(&self) -> bool {
        !self.condemned.borrow().is_empty()
    }

    /// Drops the condemned at once, if the kernel has let go of all that was removed.
    #[cold]
    fn drop_released(&self) {
        if !self.driver().is_ok_and(|driver| driver.needs_flush()) {
            self.drop_condemned();
        }
    }

    fn drop_condemned(&self) {
        let condemned = self.condemned.take().into_iter();
        self.watch.drop_all(condemned.map(|(fd, handler)| (handler.origin(fd), handler)));
    }

    fn flush(&self) -> io::Result<()> {
        self.driver()?.flush(&mut self.batch.borrow_mut().completed)
    }

    /// Makes the kernel let go of what was removed, and drops it; and so on with what that removes.
    fn release(&self) -> io::Result<()> {
        self.send_all();
        loop {
            if self.driver()?.needs_flush() {
                self.flush()?;
            }
            let flushed = !self.driver()?.needs_flush();
            if !std::thread::panicking() {
                self.deliver();
            }
            if self.has_condemned() {
                self.drop_condemned();
            } else if !flushed || !self.driver()?.needs_flush() {
                self.unreleased.set(false);
                return Ok(());
            }
        }
    }

    /// As `release`, for what was removed before the wait: the kernel has let go of it by itself,
    /// unless it was very much.
    fn release_condemned(&self) {
        if self.has_condemned() {
            // A loop that cannot do it says so at the end of the turn.
            let _ = self.release();
        }
    }

    /// Ends a registration. The handler comes with word whether the kernel may pin its file.
    pub(super) fn unregister(&self, fd: RawFd) -> Option<(Rc<dyn Handler>, bool)> {
        if !self.is_usable() || !self.handlers.borrow().is_registered(fd) {
            return None;
        }
        let mut pinned = self.driver().is_ok_and(|mut driver| driver.remove_poll(fd));
        if pinned && !self.running.get() {
            // The file may be closed as soon as this returns, and no turn may ever follow.
            pinned = self.flush().is_err();
        }
        let handler = self.handlers.borrow_mut().remove(fd)?;
        if pinned || handlers::is_running(&handler) {
            self.unreleased.set(true);
        }
        Some((handler, pinned))
    }

    pub(super) fn remove(&self, fd: RawFd) -> bool {
        let Some((handler, pinned)) = self.unregister(fd) else {
            return false;
        };
        if pinned || handlers::is_running(&handler) {
            self.condemned.borrow_mut().push((fd, handler));
        }
        true
    }

    /// Cancels everything, then drops everything.
    pub(super) fn close(&self, all_fds: bool) -> io::Result<()> {
        self.check_fork()?;
        if self.running.get() {
            return Err(LoopError::StillRunning.into());
        }
        self.send_all();
        let Some(mut driver) = self.driver.take() else {
            return Ok(());
        };
        self.closed.set(true);
        driver.close(&mut self.batch.borrow_mut().completed);
        self.shared.take_stop();
        self.drop_contents(all_fds);
        Ok(())
    }

    fn drop_contents(&self, all_fds: bool) {
        let handlers = self.handlers.borrow_mut().take();
        // Closed at the end, also by a panic: a closure may own what was registered by number, and
        // then it is closed with the closure.
        let _bare_fds: Vec<BareFd> = match all_fds {
            true => handlers.iter().filter_map(bare_fd).collect(),
            false => Vec::new(),
        };
        let outcomes = std::mem::take(&mut self.batch.borrow_mut().completed);
        let outcomes = (outcomes.into_iter().chain(self.news_of_closing()))
            .map(|outcome| (Origin::of_loop(), Doomed::Outcome(Told(Some(outcome)))));
        self.tasks.wake_all();
        let callbacks = RefCell::default();
        let tasks = iter::from_fn(|| self.next_to_end(&callbacks));
        let tasks = tasks.map(|task| (task.origin(), Doomed::Task(task)));
        let handlers = handlers.into_iter().chain(self.condemned.take());
        let handlers = handlers.map(|(fd, handler)| (handler.origin(fd), Doomed::Handler(handler)));
        let callback =
            |callback: Box<dyn Callback>, kind| (callback.origin(kind), Doomed::Callback(callback));
        let callbacks = iter::from_fn(|| callbacks.borrow_mut().pop_front());
        let callbacks = callbacks.map(|next| callback(next, CallbackKind::Callback));
        let timeouts = self.timeouts.borrow_mut().take();
        let timeouts = timeouts.into_iter().map(|next| callback(next, CallbackKind::Timeout));
        let rest = [Doomed::Sleepers(self.sleepers.take()), Doomed::Executor(self.executor.take())];
        let rest = rest.map(|rest| (Origin::of_loop(), rest));
        self.watch.drop_all(
            outcomes.chain(tasks).chain(handlers).chain(callbacks).chain(timeouts).chain(rest),
        );
    }

    pub(super) fn metrics(&self) -> Metrics {
        let driver = self.driver.borrow();
        let driver = driver.as_ref();
        let counters = driver.map_or_else(driver::Counters::default, |driver| driver.counters());
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
            wakeups: counters.wakeups,
            interrupts: counters.interrupts,
            submission_queue_full: counters.submission_queue_full,
            completion_overflows: counters.completion_overflows,
            submit_retries: counters.submit_retries,
            buffers_exhausted: counters.buffers_exhausted,
            accept_pauses: self.counts.accept_pauses.get(),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            if let Some(driver) = self.driver.take() {
                driver.abandon();
            }
            self.leave_tasks_behind();
            return;
        }
        // Not running, or a clone would be alive.
        let _ = self.close(false);
    }
}

fn until(deadline: u64) -> Wait {
    if deadline >= END_OF_TIME { Wait::Forever } else { Wait::Until(deadline) }
}

/// The descriptor of a handler that was registered by its number alone.
fn bare_fd((fd, handler): &(RawFd, Rc<dyn Handler>)) -> Option<BareFd> {
    if handler.bare_fd() == Some(*fd) { BareFd::new(*fd) } else { None }
}

/// What a loop that closes drops.
#[expect(dead_code, reason = "it is there to be dropped")]
enum Doomed<'a> {
    Outcome(Told),
    Task(EndOfTask<'a>),
    Handler(Rc<dyn Handler>),
    Callback(Box<dyn Callback>),
    Sleepers(Sleepers),
    Executor(Option<Rc<dyn Executor>>),
}

/// The last outcome of an operation, whose owner is told when this is dropped.
struct Told(Option<Completed>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(Completed { owner, outcome }) = self.0.take() {
            owner.complete(outcome);
        }
    }
}

/// The loop is running for as long as this lives.
pub(super) struct Running<'a> {
    core: &'a Core,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The turn ends here, so what it removed is let go of here. A loop that cannot do it
            // says so in its next turn.
            let _ = self.core.release();
        }
        self.core.running.set(false);
    }
}
