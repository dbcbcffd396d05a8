//! Closing a loop: everything is cancelled, then everything is dropped.

use super::Core;
use super::tasks::{Closing, EndOfTask};
use crate::callbacks::Callback;
use crate::driver::notices::Notice;
use crate::error::LoopError;
use crate::executor::Executor;
use crate::handlers::Handler;
use crate::report::{CallbackKind, Origin};
use crate::sys::BareFd;
use std::io;
use std::iter;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;

impl Core {
    /// Cancels everything, then drops everything.
    pub(crate) fn close(&self, all_fds: bool) -> io::Result<()> {
        self.check_fork()?;
        if self.running.get() {
            return Err(LoopError::StillRunning.into());
        }
        let _close = CloseAtLast { core: self, all_fds };
        if !self.is_closed() {
            // What a loop cannot send now is lost with it.
            let _ = self.release_last();
        }
        // A waker may have forked.
        Ok(self.check_fork()?)
    }

    fn close_driver(&self, all_fds: bool) {
        if self.fork.is_forked() {
            return;
        }
        let Some(mut driver) = self.driver.take() else { return };
        self.closed.set(true);
        driver.close(&mut self.batch.borrow_mut().notices);
        self.counted.set(driver.counters());
        self.shared.take_stop();
        self.drop_contents(all_fds);
    }

    fn drop_contents(&self, all_fds: bool) {
        let handlers = self.handlers.borrow_mut().take();
        // Closed at the end, also by a panic: a closure may own what was registered by number, and
        // then it is closed with the closure.
        let _bare_fds: Vec<BareFd> = match all_fds {
            true => handlers.iter().filter_map(bare_fd).collect(),
            false => Vec::new(),
        };
        let outcomes = std::mem::take(&mut self.batch.borrow_mut().notices);
        let outcomes = (outcomes.chain(self.notices_of_close()))
            .map(|outcome| (Origin::waker(), ToDrop::Outcome(Told(Some(outcome)))));
        let closing = Closing::begin(self);
        let tasks = iter::from_fn(|| closing.next_task());
        let tasks = tasks.map(|task| (task.origin(), ToDrop::Task(task)));
        let handlers = handlers.into_iter().chain(self.condemned.take());
        let handlers = handlers.map(|(fd, handler)| (handler.origin(fd), ToDrop::Handler(handler)));
        let callback = |callback: Box<dyn Callback>, kind| {
            let origin = callback.origin(kind);
            (origin, ToDrop::Callback(Discarded { core: self, callback: Some(callback) }))
        };
        let callbacks = iter::from_fn(|| closing.next_callback());
        let callbacks = callbacks.map(|next| callback(next, CallbackKind::Callback));
        let timeouts = self.timeouts.borrow_mut().take();
        let timeouts = timeouts.into_iter().map(|next| callback(next, CallbackKind::Timeout));
        let sleepers = self.sleepers.take().into_wakers();
        let sleepers = sleepers.map(|waker| (Origin::waker(), ToDrop::Sleeper(waker)));
        let executor = self.executor.take();
        let executor = executor.map(|executor| (Origin::destructor(), ToDrop::Executor(executor)));
        let rest = sleepers.chain(executor);
        self.watch.drop_all(
            outcomes.chain(tasks).chain(handlers).chain(callbacks).chain(timeouts).chain(rest),
        );
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Not running, or a clone would be alive.
        let _ = self.close(false);
        if self.fork.is_forked() {
            if let Some(driver) = self.driver.take() {
                driver.abandon();
            }
            self.leave_tasks_behind();
        }
    }
}

/// Closes a loop when it is dropped, also by the panic of a waker or a destructor: until its driver is
/// closed, the kernel may touch the memory of what is under way.
struct CloseAtLast<'a> {
    core: &'a Core,
    all_fds: bool,
}

impl Drop for CloseAtLast<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic may have come in between.
            let _ = self.core.release_last();
        }
        self.core.close_driver(self.all_fds);
    }
}

/// The descriptor of a handler that was registered by its number alone.
fn bare_fd((fd, handler): &(RawFd, Rc<dyn Handler>)) -> Option<BareFd> {
    if handler.bare_fd() == Some(*fd) { BareFd::new(*fd) } else { None }
}

/// What a loop that closes drops.
#[expect(dead_code, reason = "it is there to be dropped")]
enum ToDrop<'a> {
    Outcome(Told),
    Task(EndOfTask<'a>),
    Handler(Rc<dyn Handler>),
    Callback(Discarded<'a>),
    Sleeper(Waker),
    Executor(Rc<dyn Executor>),
}

/// What is told when this is dropped: the last outcome of an operation, for one.
struct Told(Option<Notice>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(notice) = self.0.take() {
            notice.tell();
        }
    }
}

/// A callback that is not called.
struct Discarded<'a> {
    core: &'a Core,
    callback: Option<Box<dyn Callback>>,
}

impl Drop for Discarded<'_> {
    fn drop(&mut self) {
        if let Some(callback) = self.callback.take() {
            callback.discard(Some(self.core));
        }
    }
}
