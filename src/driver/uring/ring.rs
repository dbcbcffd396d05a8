//! The ring itself: queueing submissions, the one `io_uring_enter`, taking completions out.
//!
//! What a request refers to in memory lasts until its terminal completion: whoever pushes it has
//! promised that.

use super::enter::{ENTER_ABS_TIMER, ENTER_EXT_ARG, ENTER_GETEVENTS, ENTER_NO_IOWAIT, Entrance};
#[cfg(test)]
use super::faults::OlderKernel;
use super::refusal;
use super::setup::{self, Sizes};
use super::token::Token;
use crate::buffer::BufferRing;
use crate::driver::operation::LOST_COMPLETION;
use crate::driver::{Counters, Wait};
use crate::features::KernelFeatures as Features;
use crate::sys;
use io_uring::{IoUring, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// `IORING_CQE_F_MORE`.
const MORE: u32 = 1 << 1;
/// `IOU_PBUF_RING_INC`.
const BUFFERS_INCREMENTAL: u16 = 1 << 1;

/// One completion, moved out of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) token: Token,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// More completions of the same request will follow.
    #[inline]
    pub(super) fn has_more(self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The provided buffer that the kernel has chosen.
    pub(super) fn buffer(self) -> Option<u16> {
        io_uring::cqueue::buffer_select(self.flags)
    }

    /// As one that failed and has no buffer, if it has one. Nothing tells where in the buffer the
    /// data is when the completion of what was put there before has been dropped.
    fn without_buffer(self) -> Completion {
        match self.buffer() {
            None => self,
            Some(_) => Completion { result: -LOST_COMPLETION, flags: self.flags & MORE, ..self },
        }
    }

    /// The kernel goes on in the rest of that buffer.
    pub(super) fn has_rest(self) -> bool {
        io_uring::cqueue::buffer_more(self.flags)
    }
}

/// Where completions are that are not in the ring yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldBack {
    /// To be made, when asked for.
    TaskWork,
    /// In the kernel's list of those that did not fit.
    Overflow,
}

impl From<io_uring::cqueue::Entry> for Completion {
    #[inline]
    fn from(entry: io_uring::cqueue::Entry) -> Completion {
        let token = Token::from_bits(entry.user_data());
        let completion = Completion { token, result: entry.result(), flags: entry.flags() };
        #[cfg(test)]
        let completion = super::faults::completion(completion);
        completion
    }
}

/// A poll. The number is resolved to a file when it is submitted, not now.
#[inline]
pub(super) fn poll(fd: RawFd, mask: u32, multishot: bool, token: Token) -> squeue::Entry {
    let entry = opcode::PollAdd::new(types::Fd(fd), mask).multi(multishot).build();
    entry.user_data(token.bits())
}

pub(super) struct Ring {
    /// Goes before the ring.
    entrance: Entrance,
    io: IoUring,
    features: Features,
    /// Submissions that did not fit, in order. Empty but for a kernel out of memory.
    waiting: VecDeque<squeue::Entry>,
    /// Completions taken out early, to make room while submitting.
    stashed: Vec<Completion>,
    /// Completions that the kernel has dropped, when some were taken out last.
    dropped: u32,
    pub(super) counters: Counters,
}

impl Ring {
    pub(super) fn new(sizes: Sizes, without: Features) -> io::Result<Ring> {
        let (io, mut features) = setup::build(sizes, without)?;
        let entrance = Entrance::new(io.as_raw_fd(), features.contains(Features::RING_FD));
        features.set(Features::RING_FD, entrance.is_registered());
        Ok(Ring {
            entrance,
            io,
            features,
            waiting: VecDeque::new(),
            stashed: Vec::new(),
            dropped: 0,
            counters: Counters::default(),
        })
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Queues the cancellation of the request that carries `token`.
    ///
    /// By token and not by `POLL_REMOVE`, which can leave a poll armed whose event is being
    /// processed; nor by fd, which scans every request and matches duplicates.
    ///
    /// If there is no such request, a completion of `answer` may say so.
    pub(super) fn push_cancel(&mut self, token: Token, answer: Token) {
        let mut entry = opcode::AsyncCancel::new(token.bits()).build();
        if self.features.contains(Features::CQE_SKIP) {
            entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        }
        // SAFETY: a cancellation refers to no memory.
        unsafe { self.push(entry.user_data(answer.bits())) };
    }

    /// Queues the closing of a descriptor.
    pub(super) fn push_close(&mut self, fd: OwnedFd) {
        let mut entry = opcode::Close::new(types::Fd(fd.into_raw_fd())).build();
        if self.features.contains(Features::CQE_SKIP) {
            entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        }
        // SAFETY: a close refers to no memory.
        unsafe { self.push(entry.user_data(Token::IGNORED.bits())) };
    }

    /// Queues requests.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    #[inline]
    pub(super) unsafe fn push_all(&mut self, entries: impl IntoIterator<Item = squeue::Entry>) {
        let mut entries = entries.into_iter();
        // SAFETY: the caller's promise.
        while let Some(unfit) = unsafe { self.push_while_there_is_room(&mut entries) } {
            self.push_full(unfit);
        }
    }

    /// Queues a request.
    ///
    /// # Safety
    ///
    /// What it refers to in memory is valid, and is not moved or freed, until its terminal
    /// completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's promise.
        unsafe { self.push_all([entry]) };
    }

    /// Tells the kernel of a ring of buffers, which it may fill one piece after the other.
    pub(super) fn register_buffers(
        &self,
        group: u16,
        buffers: &BufferRing,
        incremental: bool,
    ) -> io::Result<()> {
        #[cfg(test)]
        OlderKernel::check(match incremental {
            true => Features::INCREMENTAL,
            false => Features::BUFFER_RING,
        })?;
        let (address, count) = (buffers.address(), buffers.count());
        let flags = if incremental { BUFFERS_INCREMENTAL } else { 0 };
        // SAFETY: the address is that of a mapping with as many entries, which the pool keeps for
        // as long as this ring exists; `Operations::leak` sees to that.
        unsafe { self.io.submitter().register_buf_ring_with_flags(address, count, group, flags) }
    }

    /// Makes the ring's table of files, with nothing in it.
    pub(super) fn register_files(&self, places: u32) -> io::Result<()> {
        self.io.submitter().register_files_sparse(places)
    }

    /// Puts `file` into a place of the table, or takes out what is there if it is -1.
    pub(super) fn update_file(&self, place: RawFd, file: RawFd) -> io::Result<()> {
        self.io.submitter().register_files_update(place as u32, &[file]).map(drop)
    }

    pub(super) fn unregister_files(&self) -> io::Result<()> {
        self.io.submitter().unregister_files()
    }

    /// The entry that did not fit, if one did not.
    #[inline]
    unsafe fn push_while_there_is_room(
        &mut self,
        entries: &mut impl Iterator<Item = squeue::Entry>,
    ) -> Option<squeue::Entry> {
        if !self.waiting.is_empty() {
            return entries.next();
        }
        let mut submission = self.io.submission();
        // SAFETY: `push` copies the entry. What it refers to lasts, as the caller has promised.
        entries.find(|entry| unsafe { submission.push(entry) }.is_err())
    }

    #[cold]
    fn push_full(&mut self, entry: squeue::Entry) {
        self.counters.submission_queue_full += 1;
        self.waiting.push_back(entry);
        self.submit_all();
    }

    /// Moves everything that waits into the queue, submitting as it fills up. What a kernel that
    /// is out of memory does not take stays queued for the next enter.
    #[cold]
    fn submit_all(&mut self) {
        loop {
            self.refill();
            if self.waiting.is_empty() {
                return;
            }
            let queued = self.queued();
            match self.enter(queued, 0, 0, None) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    self.counters.submit_retries += 1;
                    if error.raw_os_error() != Some(libc::EINTR) && !self.make_room() {
                        return;
                    }
                }
            }
        }
    }

    fn refill(&mut self) {
        while let Some(entry) = self.waiting.front() {
            // SAFETY: `push` copies the entry. What it refers to lasts: whoever had it queued has
            // promised that.
            if unsafe { self.io.submission().push(entry) }.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Empties the completion queue, so that a kernel that is over its limit accepts submissions
    /// again. False if there was nothing to take.
    fn make_room(&mut self) -> bool {
        let before = self.stashed.len();
        let _ = self.enter(0, 0, ENTER_GETEVENTS, None);
        let arrived = self.io.completion().map(Completion::from);
        self.stashed.extend(arrived);
        self.stashed.len() > before
    }

    /// Submits everything queued and waits as told, for one completion or more.
    ///
    /// # Errors
    ///
    /// Only what cannot be mended by trying again.
    pub(super) fn submit_and_wait(&mut self, wait: Wait) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.submit_all();
        }
        loop {
            // What was taken out early is what is waited for, and what stands in line may be what
            // would end the wait.
            let may_wait = self.stashed.is_empty() && self.waiting.is_empty();
            let wait = if may_wait { wait } else { Wait::Poll };
            let queued = self.queued();
            match self.enter_and_wait(queued, wait) {
                // A signal or a timeout hides behind the number of submissions.
                Ok(submitted) if submitted == queued => {}
                Ok(0) => return self.retry_later(),
                Ok(_) => {
                    self.counters.submit_retries += 1;
                    continue;
                }
                Err(error) => match error.raw_os_error() {
                    // What was dropped is counted, and told of by `check`.
                    Some(libc::ETIME | libc::EBADR) => return Ok(()),
                    Some(libc::EINTR) => self.counters.interrupts += 1,
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => return self.retry_later(),
                    _ => return Err(refusal::of_enter(error)),
                },
            }
            if !self.keep_waiting(wait) {
                return Ok(());
            }
        }
    }

    /// The kernel has no memory for our submissions now. They stay queued; a short wait without
    /// them lets completions (and memory) come back.
    #[cold]
    fn retry_later(&mut self) -> io::Result<()> {
        self.counters.submit_retries += 1;
        if self.make_room() {
            return Ok(());
        }
        let soon = Wait::Until(sys::monotonic_now() + 1_000_000);
        match self.enter_and_wait(0, soon) {
            Err(error) if !is_transient(&error) => Err(refusal::of_enter(error)),
            _ => Ok(()),
        }
    }

    /// True if a wait came back with nothing before its time.
    fn keep_waiting(&mut self, wait: Wait) -> bool {
        self.is_idle()
            && match wait {
                Wait::Poll => false,
                Wait::Until(deadline) => sys::monotonic_now() < deadline,
                Wait::Forever => true,
            }
    }

    fn is_idle(&mut self) -> bool {
        self.stashed.is_empty() && self.io.completion().is_empty()
    }

    /// True if an enter would neither submit nor bring anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.has_nothing_to_do() && !self.has_news()
    }

    /// True if there is nothing to submit, and nothing was taken out of the ring early.
    pub(super) fn has_nothing_to_do(&mut self) -> bool {
        self.stashed.is_empty() && self.waiting.is_empty() && self.queued() == 0
    }

    /// True if the kernel has anything for us. It says so in memory that it shares with us.
    #[inline]
    pub(super) fn has_news(&mut self) -> bool {
        let nothing_in_ring = self.io.completion().is_empty();
        let submission = self.io.submission();
        !nothing_in_ring || submission.taskrun() || submission.cq_overflow()
    }

    /// True if the kernel has taken in every request, and has put every completion that was there
    /// then into the ring.
    #[inline]
    pub(super) fn is_up_to_date(&mut self) -> bool {
        self.has_told_all() && self.dropped == 0
    }

    /// The same, but for completions that it has dropped.
    #[inline]
    pub(super) fn has_told_all(&mut self) -> bool {
        let submission = self.io.submission();
        submission.is_empty() && !submission.cq_overflow() && self.waiting.is_empty()
    }

    /// # Errors
    ///
    /// If the kernel has ever dropped a completion. It may have been the last one of anything, which
    /// would be waited for for ever.
    #[inline]
    pub(super) fn check(&self) -> io::Result<()> {
        if self.dropped == 0 { Ok(()) } else { Err(has_dropped(self.dropped)) }
    }

    /// What the kernel has for us that it has not put into the ring.
    #[inline]
    pub(super) fn held_back(&mut self) -> Option<HeldBack> {
        let submission = self.io.submission();
        if submission.cq_overflow() {
            drop(submission);
            self.counters.completion_overflows += 1;
            return Some(HeldBack::Overflow);
        }
        submission.taskrun().then_some(HeldBack::TaskWork)
    }

    /// Collects what the kernel holds back, some 20 completions. Waiting for more completions would
    /// bring more at once, but then the enter sleeps, even with a timeout of zero.
    pub(super) fn collect(&mut self) -> io::Result<()> {
        match self.enter(0, 0, ENTER_GETEVENTS, None) {
            Err(error) if !is_transient(&error) => Err(refusal::of_enter(error)),
            _ => Ok(()),
        }
    }

    /// Moves every completion out of the ring, then publishes the head, giving each to `consume`.
    #[inline(always)]
    pub(super) fn reap(&mut self, mut consume: impl FnMut(Completion)) {
        if !self.stashed.is_empty() {
            self.reap_stashed(&mut consume);
        }
        let arrived = self.io.completion();
        self.dropped = arrived.overflow();
        self.counters.completions += arrived.len() as u64;
        if self.dropped > 0 {
            return consume_in_doubt(arrived.map(Completion::from), &mut consume);
        }
        arrived.map(Completion::from).for_each(consume);
    }

    #[cold]
    fn reap_stashed(&mut self, consume: &mut dyn FnMut(Completion)) {
        self.counters.completions += self.stashed.len() as u64;
        if self.io.completion().overflow() > 0 {
            return consume_in_doubt(self.stashed.drain(..), consume);
        }
        self.stashed.drain(..).for_each(consume);
    }

    pub(super) fn queued(&mut self) -> u32 {
        self.io.submission().len() as u32
    }

    #[inline]
    fn enter_and_wait(&mut self, submit: u32, wait: Wait) -> io::Result<u32> {
        let no_iowait = match self.features.contains(Features::NO_IOWAIT) {
            true => ENTER_NO_IOWAIT,
            false => 0,
        };
        match wait {
            Wait::Poll => self.enter(submit, 0, ENTER_GETEVENTS, None),
            Wait::Forever => self.enter(submit, 1, ENTER_GETEVENTS | no_iowait, None),
            Wait::Until(deadline) => {
                let absolute = self.features.contains(Features::ABS_TIMER);
                let (flag, nanos) = match absolute {
                    true => (ENTER_ABS_TIMER, deadline),
                    false => (0, deadline.saturating_sub(sys::monotonic_now())),
                };
                let timespec = types::Timespec::new()
                    .sec(nanos / 1_000_000_000)
                    .nsec((nanos % 1_000_000_000) as u32);
                let flags = ENTER_GETEVENTS | ENTER_EXT_ARG | no_iowait | flag;
                self.enter(submit, 1, flags, Some(&timespec))
            }
        }
    }

    fn enter(
        &mut self,
        submit: u32,
        wait_for: u32,
        flags: u32,
        timespec: Option<&types::Timespec>,
    ) -> io::Result<u32> {
        self.counters.enters += 1;
        // SAFETY: what queued entries refer to lasts: whoever pushed them has promised that.
        let submitted = unsafe { self.entrance.enter(submit, wait_for, flags, timespec) };
        #[cfg(test)]
        super::faults::drop_completions(&mut self.io);
        let submitted = submitted?;
        self.counters.submissions += u64::from(submitted);
        Ok(submitted)
    }

    /// Forgets that the ring is registered with the thread that made it: the child of a fork has
    /// registered nothing, or something else.
    pub(super) fn disown(&mut self) {
        self.entrance.disown();
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("features", &self.features).finish_non_exhaustive()
    }
}

fn is_transient(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(
        errno,
        Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::EBADR)
    )
}

/// Some have been dropped, before these or after.
#[cold]
fn consume_in_doubt(
    completions: impl Iterator<Item = Completion>,
    consume: &mut dyn FnMut(Completion),
) {
    completions.map(Completion::without_buffer).for_each(consume);
}

#[cold]
fn has_dropped(count: u32) -> io::Error {
    let message = format!(
        "the kernel had no memory to keep completions that did not fit into their queue, and has \
         dropped {count}: the loop cannot go on, so close it; a larger queue \
         (Builder::cq_entries) needs no such memory"
    );
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}
