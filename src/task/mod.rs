//! Tasks: futures that run on the loop, as callbacks of the turn after the one that woke them.
//!
//! The cell of a task (its state, its future or output, its wakers) is `async-task`'s: one
//! allocation, which the loop's queues hold as a [`Runnable`]. Around it:
//!
//! * [`body`]: the future as the cell sees it. It turns panics and aborts into outputs, because
//!   a panic that comes out of a destructor inside a cell would abort the process.
//! * [`calls`]: futures that begin or end in a call.
//! * [`ending`]: how a loop that closes finds its tasks.
//! * [`registry`]: what tasks there are, so that a loop that closes finds them all.
//! * [`join`]: the other end of a task.
//! * [`messages`]: what handles tell their loop.
//! * [`relay`]: the waker of whoever awaits a task elsewhere, as the cell may have it.
//! * [`unreported`]: panics and errors that nobody has asked to be told of.
//! * [`function`]: what an executor runs for a task.
//! * [`loan`]: a future on the stack, polled by a task.
//! * [`outcome`]: whether what a task returns is a failure.
//! * [`run_sync`]: why the loop's `main` has returned no value.
//!
//! # Threads
//!
//! Wakers go anywhere; the future never leaves its thread. A wake-up turns into a `Runnable` on
//! whichever thread it happens, and there are two places for it to go: the loop's own queue, if
//! this is the loop's thread, or else the channel that the loop drains. Either way it is run and
//! dropped by the loop. It cannot come too late: a loop that closes waits for every task that it
//! knows of, and a task whose future is gone makes no `Runnable` any more.

pub(crate) mod body;
pub(crate) mod calls;
pub(crate) mod ending;
pub(crate) mod function;
pub(crate) mod join;
pub(crate) mod loan;
mod messages;
#[cfg(all(test, ringloop_loom))]
mod model;
pub(crate) mod outcome;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod run_sync;
pub(crate) mod unreported;

use crate::handle::{Posted, Shared};
use crate::io_loop::{self, Core};
use crate::report::{CallbackKind, Origin};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A task that has something to do. To be run, or dropped, on its loop's thread only.
pub(crate) type Runnable = async_task::Runnable<Meta>;

/// Set when a task is aborted, for others who work for it.
pub(crate) type AbortFlag = Arc<AtomicBool>;

/// What can be known of a task from any thread.
pub(crate) struct Meta {
    pub(crate) shared: Arc<Shared>,
    /// Its place in the registry.
    pub(crate) key: usize,
    /// Set before the wake-up that makes the loop look at it.
    aborted: AtomicBool,
    /// The registry, or the cell, may have the waker of whoever awaits the handle. Of the handle
    /// alone.
    awaited_here: AtomicBool,
    awaited_elsewhere: AtomicBool,
    abort_flag: Option<AbortFlag>,
    pub(crate) source: Source,
}

impl Meta {
    pub(crate) fn new(
        shared: Arc<Shared>,
        key: usize,
        source: Source,
        abort_flag: Option<AbortFlag>,
    ) -> Meta {
        let [aborted, awaited_here, awaited_elsewhere] = [const { AtomicBool::new(false) }; 3];
        Meta { shared, key, aborted, awaited_here, awaited_elsewhere, abort_flag, source }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    pub(crate) fn set_aborted(&self) {
        self.aborted.store(true, Ordering::Release);
        // After that: whoever sees this one may wake the task, which has to see the other.
        if let Some(flag) = &self.abort_flag {
            flag.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta").field("origin", &self.source.origin()).finish_non_exhaustive()
    }
}

/// Where a task comes from, in two words, which fit into registers.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    describe: fn(Site) -> Origin,
    site: Site,
}

type Site = &'static Location<'static>;

impl Source {
    pub(crate) fn of<F>(site: Site) -> Source {
        let describe = |site| Origin::of::<F>(CallbackKind::Task, site);
        Source { describe, site }
    }

    /// A task that is part of a periodic callback.
    pub(crate) fn of_periodic<F>(site: Site) -> Source {
        let describe = |site| Origin::of::<F>(CallbackKind::Periodic, site);
        Source { describe, site }
    }

    pub(crate) fn origin(&self) -> Origin {
        (self.describe)(self.site)
    }
}

/// Takes a woken task to its loop, from whichever thread.
///
/// Captures nothing, so that a wake-up by value need not count references.
fn schedule(runnable: Runnable) {
    let shared = Arc::as_ptr(&runnable.metadata().shared);
    let push = |core: &Rc<Core>, runnable| core.callbacks.push(runnable);
    if let Err(runnable) = io_loop::with_running(shared, runnable, push) {
        schedule_elsewhere(runnable);
    }
}

/// The loop of the task does not run on this thread, but may be the current one.
#[inline(never)]
fn schedule_elsewhere(runnable: Runnable) {
    let shared = &runnable.metadata().shared;
    match io_loop::current_of(shared) {
        Some(core) => core.callbacks.push(runnable),
        None => {
            // Once it is posted, the task may be gone, and its share with it.
            let shared = Arc::clone(shared);
            shared.post(Posted::Task(runnable));
        }
    }
}
