//! The io_uring driver.
//!
//! `setup` finds the best ring this kernel gives, `ring` submits and reaps through `enter`, `refusal`
//! says why one of them cannot, `polls` keeps one poll per registered fd, `operations` everything that completes (`requests` as the kernel
//! sees it), `files` the sockets in the ring's own table, `token` says what comes back with a completion.

mod enter;
#[cfg(test)]
mod faults;
mod files;
mod operations;
mod polls;
mod refusal;
mod requests;
mod ring;
mod setup;
mod token;

use crate::buffer::{Gather, PoolSize};
use crate::driver::notices::Notices;
use crate::driver::operation::{Operation, Owner, PoolId, QuickSend};
use crate::driver::{Batch, Counters, Driver, Flush, OperationKey, Readiness, Wait};
use crate::events::{Events, Trigger};
use crate::features::KernelFeatures;
use crate::handle::Shared;
use crate::sys;
use files::Files;
use operations::Operations;
use polls::Polls;
use ring::{Completion, HeldBack, Ring};
pub(crate) use setup::Sizes;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use token::{Kind, Token};

/// Each is one enter, which collects some 20 completions. What is left waits for the next turn:
/// batches of about a hundred are served faster than larger ones, whose files go cold meanwhile.
const COLLECTS_PER_TURN: usize = 4;
/// Nor is more collected when so many bytes have been received: before anybody gets to them, they
/// would have left the processor's cache.
const BYTES_PER_TURN: usize = 256 * 1024;
/// As `COLLECTS_PER_TURN`, for completions that overflowed their queue, and come by the queueful.
const OVERFLOWS_PER_TURN: usize = 64;
/// How long a turn sleeps, in nanoseconds, while streams wait for buffers that may come back.
const EXHAUSTED_WAIT: u64 = 5_000_000;
/// As many as cancellations of 20,000 polls need on a kernel that runs 20 per enter.
const FLUSH_ENTERS: usize = 1024;
/// Closing waits no longer than this for the kernel, as it does when completions were dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Watches the loop's own eventfd with a multishot poll. The counter is never read: each write is
/// a new wake-up all the same, and 2^64 of them are out of reach.
#[derive(Debug)]
struct WakePoll {
    eventfd: RawFd,
    armed: bool,
}

impl WakePoll {
    fn arm(&mut self, ring: &mut Ring) {
        self.armed = true;
        let poll = ring::poll(self.eventfd, libc::POLLIN as u32, true, Token::WAKE);
        // SAFETY: a poll refers to no memory.
        unsafe { ring.push(poll) };
    }
}

pub(crate) struct Uring {
    /// The last turn has found nothing and left nothing to do, and nobody has asked for anything
    /// since: what there is to do now, if anything, is in the ring.
    nothing_to_do: bool,
    ring: Ring,
    polls: Polls,
    operations: Operations,
    files: Files,
    wake: WakePoll,
    /// Something is queued that is not to wait for the loop to turn again, if it stops.
    urgent: bool,
}

impl Uring {
    /// `eventfd` outlives the driver.
    pub(crate) fn new(sizes: Sizes, without: KernelFeatures, eventfd: RawFd) -> io::Result<Uring> {
        let ring = Ring::new(sizes, without)?;
        let wake = WakePoll { eventfd, armed: false };
        let (polls, operations) = (Polls::new(), Operations::new(ring.features()));
        let files = Files::new(ring.features());
        Ok(Uring { nothing_to_do: false, ring, polls, operations, files, wake, urgent: false })
    }

    /// Submits what is queued, waits, and takes in what there is.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let entered = self.ring.submit_and_wait(wait);
        self.operations.stop_waiting();
        // Also what a part of it has brought, if not all could be done.
        self.reap();
        entered?;
        self.reap_rest()?;
        if self.urgent {
            self.complete_silent();
        }
        Ok(())
    }

    /// What completes silently, if all is well, is over if the kernel has heard of it.
    fn complete_silent(&mut self) {
        if self.ring.is_up_to_date() {
            self.operations.complete_quick_sends();
            self.files.complete_asked();
            self.urgent = false;
        } else {
            self.complete_silent_in_doubt();
        }
    }

    #[cold]
    fn complete_silent_in_doubt(&mut self) {
        if self.ring.has_told_all() {
            self.operations.complete_quick_sends_after_loss();
            self.urgent = false;
        } else {
            self.operations.await_quick_sends();
        }
    }

    fn reap(&mut self) {
        let Uring { ring, polls, operations, files, wake, .. } = self;
        let (mut stale, mut wakeups) = (0, 0);
        ring.reap(
            #[inline(always)]
            |completion| {
                if !polls.complete(completion) {
                    let outcome = other_completion(completion, polls, operations, files, wake);
                    stale += u64::from(outcome == Other::Stale);
                    wakeups += u64::from(outcome == Other::Wakeup);
                }
            },
        );
        ring.counters.stale_completions += stale;
        ring.counters.wakeups += wakeups;
    }

    fn reap_rest(&mut self) -> io::Result<()> {
        for round in 0..OVERFLOWS_PER_TURN {
            match self.ring.held_back() {
                None => break,
                Some(HeldBack::TaskWork) if round >= COLLECTS_PER_TURN || self.is_full() => break,
                Some(HeldBack::TaskWork | HeldBack::Overflow) => {}
            }
            self.ring.collect()?;
            self.reap();
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.operations.bytes_received >= BYTES_PER_TURN
    }

    /// False if it has ended early, as told.
    fn flush_cancellations(&mut self, extent: Flush) -> io::Result<bool> {
        self.operations.bytes_received = 0;
        for _ in 0..FLUSH_ENTERS {
            let has_parts = extent == Flush::Whole && self.operations.has_parts_to_send();
            if !has_parts && !self.is_releasing() {
                break;
            }
            if extent == Flush::Part && self.is_full() {
                return Ok(false);
            }
            self.operations.arm(&mut self.ring);
            self.enter(Wait::Poll)?;
        }
        Ok(true)
    }

    fn is_releasing(&self) -> bool {
        self.urgent || self.polls.is_releasing() || self.operations.is_releasing()
    }

    fn has_nothing_to_do(&mut self) -> bool {
        self.wake.armed
            && self.polls.is_quiet()
            && self.operations.is_quiet()
            && self.ring.has_nothing_to_do()
    }

    fn has_let_go(&self) -> bool {
        !self.polls.is_releasing() && self.operations.is_empty() && !self.wake.armed
    }
}

/// What a completion was that is not an armed poll's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Wakeup,
    Stale,
    Known,
}

#[inline(never)]
fn other_completion(
    completion: Completion,
    polls: &mut Polls,
    operations: &mut Operations,
    files: &mut Files,
    wake: &mut WakePoll,
) -> Other {
    let token = completion.token;
    match token.stamp().kind() {
        Some(Kind::Operation) if operations.complete(completion) => Other::Known,
        Some(Kind::File) if files.complete(completion) => Other::Known,
        Some(Kind::QuickSend) if operations.quick_sends.complete(completion) => Other::Known,
        Some(Kind::Wake) => {
            wake.armed = completion.has_more();
            if completion.result < 0 { Other::Known } else { Other::Wakeup }
        }
        Some(Kind::Operation | Kind::QuickSend | Kind::File) => Other::Stale,
        Some(Kind::Poll) => {
            polls.complete_cancelled(completion.has_more());
            Other::Stale
        }
        Some(Kind::Cancel) => {
            operations.not_cancelled(completion);
            Other::Known
        }
        Some(Kind::Ignored) | None => Other::Known,
    }
}

impl Driver for Uring {
    fn add_poll(&mut self, fd: RawFd, interest: Events, trigger: Trigger) -> u32 {
        self.nothing_to_do = false;
        self.polls.add(fd, interest, trigger)
    }

    fn modify_poll(&mut self, fd: RawFd, interest: Events) -> io::Result<()> {
        self.nothing_to_do = false;
        self.polls.modify(fd, interest, &mut self.ring)
    }

    fn remove_poll(&mut self, fd: RawFd) -> bool {
        self.nothing_to_do = false;
        self.polls.remove(fd, &mut self.ring)
    }

    fn needs_flush(&self) -> bool {
        // An operation that ended without a request keeps its file until its owner is told.
        self.is_releasing() || self.operations.has_notices()
    }

    fn has_parts_to_send(&self) -> bool {
        self.operations.has_parts_to_send()
    }

    fn flush(&mut self, extent: Flush, notices: &mut Notices) -> io::Result<bool> {
        self.nothing_to_do = false;
        let flushed = self.flush_cancellations(extent);
        self.polls.forget_levels();
        self.operations.report(notices);
        flushed
    }

    fn add_pool(&mut self, size: Option<PoolSize>, shared: Arc<Shared>) -> io::Result<PoolId> {
        self.operations.add_pool(size, shared, &mut self.ring)
    }

    fn are_buffers_scarce(&self) -> bool {
        self.operations.are_buffers_scarce()
    }

    fn longest_quick_send(&self) -> usize {
        self.operations.quick_sends.longest()
    }

    fn send(&mut self, send: QuickSend, data: Gather, owner: Rc<dyn Owner>) {
        self.urgent = true;
        self.nothing_to_do = false;
        let Uring { files, ring, .. } = self;
        self.operations.quick_sends.push(send, data, owner, files, ring);
    }

    fn submit(&mut self, operation: Operation, owner: Rc<dyn Owner>) -> OperationKey {
        self.urgent |= matches!(operation, Operation::Send { .. });
        self.nothing_to_do = false;
        self.operations.submit(operation, owner, &mut self.ring)
    }

    fn cancel(&mut self, operation: OperationKey) {
        self.nothing_to_do = false;
        self.operations.cancel(operation, &mut self.ring);
    }

    fn stop(&mut self, operation: OperationKey) {
        self.nothing_to_do = false;
        self.operations.stop(operation, &mut self.ring);
    }

    fn adopt_descriptor(&mut self, fd: RawFd) {
        self.nothing_to_do = false;
        self.files.remove(fd, &mut self.ring);
    }

    fn close_descriptor(&mut self, fd: OwnedFd) {
        self.nothing_to_do = false;
        self.urgent = true;
        self.files.remove(fd.as_raw_fd(), &mut self.ring);
        self.ring.push_close(fd);
    }

    fn close_descriptor_now(&mut self, fd: OwnedFd) {
        self.files.remove_now(fd.as_raw_fd(), &self.ring);
    }

    fn turn(&mut self, wait: Wait, batch: &mut Batch) -> io::Result<()> {
        self.ring.check()?;
        self.operations.bytes_received = 0;
        if !self.wake.armed {
            self.wake.arm(&mut self.ring);
        }
        self.polls.arm(&batch.ready, &mut self.ring);
        self.operations.arm(&mut self.ring);
        let is_due =
            self.polls.has_ready() || self.operations.is_due() || !batch.notices.is_empty();
        self.operations.reclaim();
        let may_wait = !is_due && !self.operations.has_returns() && wait != Wait::Poll;
        let wait = match may_wait {
            true if self.operations.awaits_returns() => {
                wait.no_later_than(sys::monotonic_now() + EXHAUSTED_WAIT)
            }
            true => wait,
            false => Wait::Poll,
        };
        if may_wait || !self.ring.is_quiet() {
            self.enter(wait)?;
        }
        self.polls.report(&mut batch.ready);
        self.operations.report(&mut batch.notices);
        self.nothing_to_do = batch.is_empty() && self.has_nothing_to_do();
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        self.nothing_to_do && !self.ring.has_news() && !self.operations.has_returns()
    }

    fn is_idle(&mut self) -> bool {
        self.is_quiet() && self.polls.is_empty() && self.operations.is_empty()
    }

    fn put_back(&mut self, rest: &[Readiness]) {
        self.polls.put_back(rest);
    }

    fn close(&mut self, notices: &mut Notices) {
        self.polls.disarm_all(&mut self.ring);
        self.operations.cancel_all(&mut self.ring);
        if self.wake.armed {
            self.ring.push_cancel(Token::WAKE, Token::IGNORED);
        }
        let deadline = sys::monotonic_now() + CLOSE_TIMEOUT.as_nanos() as u64;
        loop {
            self.operations.arm(&mut self.ring);
            if self.has_let_go() || sys::monotonic_now() >= deadline {
                break;
            }
            if self.enter(Wait::Until(deadline)).is_err() {
                break;
            }
        }
        self.operations.leak();
        self.operations.report(notices);
        self.files.unregister(&self.ring);
    }

    fn abandon(mut self: Box<Self>) {
        self.ring.disown();
    }

    fn counters(&self) -> Counters {
        Counters { buffers_exhausted: self.operations.buffers_exhausted, ..self.ring.counters }
    }

    fn features(&self) -> KernelFeatures {
        let mut features = self.ring.features() - operations::OPTIONAL;
        if !self.files.are_available() {
            features -= KernelFeatures::REGISTERED_FILES;
        }
        features | self.operations.features()
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}
