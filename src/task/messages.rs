//! What handles tell their loop, from whichever thread.

use super::strays::{Mark, Stray};
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

/// Has the loop report what was left since `mark`.
pub(super) fn deliver_strays(mark: Mark, shared: &Shared, origin: Origin) {
    for stray in mark.take_strays() {
        let unheard = Box::new(Unheard { stray, origin });
        match io_loop::current_of(shared) {
            Some(core) if core.is_closed() && !shared.is_forked() => unheard.discard(Some(&core)),
            // In a child of `fork`, it is the parent that reports it.
            Some(core) => core.callbacks.push(Queued::Callback(unheard)),
            None => {
                shared.post(Posted::Callback(unheard));
            }
        }
    }
}

/// A panic that came out when a handle was dropped, for one.
struct Unheard {
    stray: Stray,
    origin: Origin,
}

impl Callback for Unheard {
    fn run(self: Box<Self>, _kind: CallbackKind, core: &Core) {
        let Unheard { stray, origin } = *self;
        core.watch.report_all([(origin, core.tasks.release(stray))]);
    }

    /// Lets nothing through: it is in the middle of a destructor.
    fn discard(self: Box<Self>, core: Option<&Core>) {
        let Unheard { stray, origin } = *self;
        match core {
            Some(core) => core.watch.report(origin, core.tasks.release(stray)),
            None => report::report_without_loop(origin, stray.caught),
        }
    }

    fn origin(&self, _kind: CallbackKind) -> Origin {
        self.origin
    }
}
