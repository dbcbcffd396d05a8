//! What handles tell their loop, from whichever thread.

use super::unreported::{Mark, Unreported};
use crate::callbacks::{Callback, Queued};
use crate::handle::{Posted, Shared};
use crate::io_loop::{self, Core};
use crate::report::{self, CallbackKind, Origin};
use std::task::Waker;

/// On the loop's thread: wakes a task that is to be aborted.
pub(super) struct Abort {
    pub(super) key: usize,
    pub(super) origin: Origin,
}

impl Callback for Abort {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        // The key may be another task's by now, which a wake-up does not harm.
        core.tasks.wake(self.key);
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        self.origin
    }
}

/// On the loop's thread: lets go of the waker of whoever awaits a task, and does no more.
pub(super) struct Left {
    pub(super) key: usize,
    pub(super) origin: Origin,
}

impl Callback for Left {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        let Left { key, origin } = *self;
        let joiner = core.tasks.take_joiner(key);
        // The key may be another task's by now, or another waker have come in. So it is woken, which
        // harms nobody: whoever still awaits a handle polls it again.
        core.watch.run(|| origin, || joiner.into_iter().for_each(Waker::wake));
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        self.origin
    }
}

/// Has the loop report what was added since `mark`.
pub(super) fn report_later(mark: Mark, shared: &Shared, origin: Origin) {
    for unreported in mark.take_unreported() {
        let report = Box::new(LateReport { unreported, origin });
        match io_loop::current_of(shared) {
            Some(core) if core.is_closed() && !shared.is_forked() => report.discard(Some(&core)),
            // In a child of `fork`, it is the parent that reports it.
            Some(core) => core.callbacks.push(Queued::Callback(report)),
            None => {
                shared.post(Posted::Callback(report));
            }
        }
    }
}

/// A panic that came out when a handle was dropped, for one.
struct LateReport {
    unreported: Unreported,
    origin: Origin,
}

impl Callback for LateReport {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        let LateReport { unreported, origin } = *self;
        core.watch.report_all([(origin, core.tasks.release(unreported))]);
    }

    /// Lets nothing through: it is in the middle of a destructor.
    fn discard(self: Box<Self>, core: Option<&Core>) {
        let LateReport { unreported, origin } = *self;
        match core {
            Some(core) => core.watch.report(origin, core.tasks.release(unreported)),
            None => report::report_without_loop(origin, unreported.caught),
        }
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        self.origin
    }
}
