//! What the loop needs from the kernel, and the contract a driver meets.
//!
//! A driver owns the kernel object and nothing else of the loop: it never calls user code and never
//! sees a closure. There is one, [`uring`]; the trait keeps the kernel's interface out of
//! everything else. The loop talks to it through [`Driver`]:
//!
//! * **Polls are keyed by fd number**, one registration per number. [`add_poll`](Driver::add_poll)
//!   returns a registration id that is never used again for that number; every [`Readiness`]
//!   carries the id it belongs to, so the loop can tell an old file's event from the new one's.
//! * **Removal is final.** The loop drops every `Readiness` whose registration has ended, so a
//!   driver may hand out what it had found before [`remove_poll`](Driver::remove_poll).
//! * **Level means level.** An fd reported by one turn and still ready is reported by the next,
//!   without the loop's help. `Trigger::Edge` reports each new wake-up once.
//! * **One `Readiness` per fd per turn**, with every event of the turn merged into its mask. The
//!   mask holds only what was asked for, and `ERROR`, which is always delivered.
//! * **Release.** The kernel may pin a file while a poll on it is armed. `remove_poll` returns
//!   whether it still does; after [`flush`](Driver::flush), or once [`needs_flush`](Driver::needs_flush)
//!   says so after a [`turn`](Driver::turn), it no longer does. Whoever owns the file drops it only
//!   then.
//! * **One wait.** [`turn`](Driver::turn) is the only call that blocks. It hands everything queued
//!   so far to the kernel and collects whatever is ready, in one system call where it can. While
//!   the driver [is idle](Driver::is_idle) the loop may sleep elsewhere.
//! * **Waking.** The driver watches the eventfd given at construction; any write to it ends a
//!   wait, also a write made just before the wait began.
//! * **Failure.** Trouble that passes (interrupted, out of memory, full queues) is absorbed and
//!   counted in [`Counters`]; an error returned from `turn` means that the loop cannot go on.
//! * **Closing.** [`close`](Driver::close) cancels everything and waits, bounded, until the kernel
//!   holds no file of ours.
//! * **Operations** ([`operation`]) are submitted at any time, and their outcomes join the turn's
//!   batch. A driver keeps an operation and its owner until the kernel is done with both, and tells
//!   the owner so by a last outcome. Received data and completely sent quick sends go straight to
//!   their owner, which only records them and wakes nobody; who is to be woken joins the batch.
//!   This happens in `turn`, `flush` and `close`, never inside a call by an owner. `flush` waits
//!   for cancelled operations, too.

pub(crate) mod notices;
pub(crate) mod operation;
pub(crate) mod uring;

use crate::buffer::{Gather, PoolSize};
use crate::events::{Events, Trigger};
use crate::features::KernelFeatures;
use crate::handle::Shared;
use notices::Notices;
use operation::{Operation, Owner, PoolId, QuickSend};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

/// How long [`Driver::turn`] may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: collect what is there.
    Poll,
    /// Until something happens or the monotonic clock reads this many nanoseconds.
    Until(u64),
    /// Until something happens.
    Forever,
}

impl Wait {
    /// No longer than until the monotonic clock reads `deadline`.
    pub(crate) fn no_later_than(self, deadline: u64) -> Wait {
        match self {
            Wait::Poll => Wait::Poll,
            Wait::Until(earlier) => Wait::Until(earlier.min(deadline)),
            Wait::Forever => Wait::Until(deadline),
        }
    }
}

/// How far [`Driver::flush`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Whole,
    /// Until so much data has come with it that its owners should be told: it is not to be more than
    /// they have room for. Long sends go on with the turns.
    Part,
}

/// An fd that became, or still is, ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) fd: RawFd,
    pub(crate) registration: u32,
    pub(crate) events: Events,
}

/// What a turn has found.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) ready: Vec<Readiness>,
    pub(crate) notices: Notices,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.notices.is_empty()
    }
}

/// Names an operation, and after its end, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OperationKey {
    slot: u32,
    generation: u32,
}

/// What a driver counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) enters: u64,
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
    pub(crate) stale_completions: u64,
    pub(crate) wakeups: u64,
    pub(crate) interrupts: u64,
    pub(crate) submission_queue_full: u64,
    pub(crate) completion_overflows: u64,
    pub(crate) submit_retries: u64,
    pub(crate) buffers_exhausted: u64,
}

/// See the [module documentation](self) for the contract.
pub(crate) trait Driver {
    /// Starts watching `fd` and returns the registration id.
    ///
    /// The caller has made sure that `fd` is open, can be polled and is not registered.
    fn add_poll(&mut self, fd: RawFd, interest: Events, trigger: Trigger) -> u32;

    /// Replaces the interest of a registered fd. For edge triggers, what is ready now counts as new.
    fn modify_poll(&mut self, fd: RawFd, interest: Events) -> io::Result<()>;

    /// Stops watching a registered fd. True while the kernel still pins its file.
    fn remove_poll(&mut self, fd: RawFd) -> bool;

    /// True if removed polls or cancelled operations may still pin their files, or the kernel has not
    /// been told yet to send something or to close a descriptor.
    fn needs_flush(&self) -> bool;

    /// True if a part of a long send is done, and the kernel has not been told yet of the next one.
    fn has_parts_to_send(&self) -> bool;

    /// Makes the kernel let go of every removed poll and cancelled operation, and has it send and
    /// close what it is to, without blocking.
    /// Outcomes that this brings go to `notices`. False if [`Flush::Part`] ended it early.
    fn flush(&mut self, extent: Flush, notices: &mut Notices) -> io::Result<bool>;

    /// True if the last turn has found nothing, and one that does not wait would do nothing now.
    /// Costs no system call, and may be false for no reason.
    fn is_quiet(&mut self) -> bool;

    /// True if nothing could end a wait but a write to the eventfd, and a turn that does not wait would
    /// do nothing. May be false for no reason.
    fn is_idle(&mut self) -> bool;

    /// Makes a pool of buffers to receive into, of the usual size if there is none given.
    fn add_pool(&mut self, size: Option<PoolSize>, shared: Arc<Shared>) -> io::Result<PoolId>;

    /// More than half of the buffers of a pool are in use: whoever may have to wait for long is not to
    /// keep any.
    fn are_buffers_scarce(&self) -> bool;

    /// Most bytes that a quick send may carry; 0 if the kernel has none. Less than 4 GiB.
    fn longest_quick_send(&self) -> usize;

    /// Sends what is no longer than that, with the next system call.
    fn send(&mut self, send: QuickSend, data: Gather, owner: Rc<dyn Owner>);

    /// Starts an operation.
    fn submit(&mut self, operation: Operation, owner: Rc<dyn Owner>) -> OperationKey;

    /// Asks for an operation to end. Its last outcome tells when it has.
    fn cancel(&mut self, operation: OperationKey);

    /// As `cancel`, but `flush` does not wait for it.
    fn stop(&mut self, operation: OperationKey);

    /// A descriptor belongs to a stream from now on. Whatever had its number before does not concern it.
    fn adopt_descriptor(&mut self, fd: RawFd);

    /// Closes the descriptor of a stream that no poll and no operation is on, with the next system call.
    fn close_descriptor(&mut self, fd: OwnedFd);

    /// The same, at once.
    fn close_descriptor_now(&mut self, fd: OwnedFd);

    /// Submits what is queued, waits, and replaces `batch.ready`, which still holds what the last
    /// turn reported, with what is ready now. Adds to `batch.notices`.
    fn turn(&mut self, wait: Wait, batch: &mut Batch) -> io::Result<()>;

    /// Takes back what the last turn handed out and nobody was told: the next turn hands it out
    /// again, if it is still true.
    fn put_back(&mut self, rest: &[Readiness]);

    /// Cancels everything and waits, bounded, for the kernel to let go. What it does not let go of
    /// is never freed. The last outcomes of operations go to `notices`.
    fn close(&mut self, notices: &mut Notices);

    /// Gives up the kernel object without a word to the kernel: for the child of a fork, which
    /// shares it with its parent.
    fn abandon(self: Box<Self>);

    fn counters(&self) -> Counters;

    /// The optional kernel features in use.
    fn features(&self) -> KernelFeatures;

    fn name(&self) -> &'static str;
}
