//! The sending side of a stream: what is to be sent, and who waits for that.

use super::error::{Reason, StreamError};
use crate::buffer::{Gather, Payload};
use crate::driver::OperationKey;
use crate::handle::Shared;
use crate::net::waiters::Waiters;
use crate::net::wakers::Wakers;
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::mem;

/// More than this many bytes do not wait to be sent.
const MOST: usize = 16 * 1024 * 1024;
/// Data up to this size is copied together.
const SMALL: usize = 2048;
/// What one request sends at most, if it is more than one payload: as many as a system call takes
/// (`IOV_MAX`), and no more bytes than so many, because writes are done when their request is.
const MOST_PAYLOADS: usize = 1024;
const MOST_BYTES: usize = 256 * 1024;

pub(crate) struct Outgoing {
    /// What is sent next, apart, because most often there is nothing else. Empty only if nothing
    /// waits.
    next: Payload,
    rest: VecDeque<Payload>,
    /// Bytes of these.
    waiting: usize,
    /// Bytes that have been written, and those of them that the kernel has taken.
    written: u64,
    taken: u64,
    sending: Sending,
    /// Who waits until how much has been taken. Most often nobody has ever done so.
    writers: Option<Box<Waiters>>,
    failed: Option<Reason>,
    end: End,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
enum Sending {
    /// Nothing, as there is nothing to send, or nothing can be.
    Idle,
    /// It begins when the loop has nothing else to do.
    Due,
    /// What is sent does not wait.
    Quick,
    /// An operation sends, which waits for room.
    Submitted(OperationKey),
}

/// The end of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Nothing more is written; the other side is told when all is sent.
    Due,
    Told,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing {
            next: Payload::default(),
            rest: VecDeque::new(),
            waiting: 0,
            written: 0,
            taken: 0,
            sending: Sending::Idle,
            writers: None,
            failed: None,
            end: End::Open,
            most: MOST,
        }
    }
}

impl Outgoing {
    /// Bytes that the kernel has not taken yet, and may still take.
    pub(super) fn len(&self) -> usize {
        match self.failed {
            None => (self.written - self.taken) as usize,
            Some(_) => 0,
        }
    }

    /// Bytes that may still be written before writes are refused.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.len())
    }

    /// How much has been taken when there is more room than now.
    #[cfg(feature = "futures-io")]
    pub(super) fn more(&self) -> u64 {
        self.taken + 1
    }

    /// Who is to be woken, because it may wait for room that there is now.
    pub(super) fn set_most(&mut self, bytes: usize) -> Wakers {
        let before = mem::replace(&mut self.most, bytes.max(1));
        let writers = self.writers.as_mut().filter(|_| self.most > before);
        writers.map(|writers| writers.take_all()).unwrap_or_default()
    }

    /// # Errors
    ///
    /// Why this many bytes cannot be written.
    #[inline]
    pub(super) fn check(&self, length: usize) -> io::Result<()> {
        let is_open = self.failed.is_none() && self.end == End::Open;
        if is_open && length <= self.room() { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> io::Error {
        match self.failed {
            Some(reason) => reason.error(),
            None if self.end != End::Open => StreamError::Closed.into(),
            None => StreamError::WriteLimit(self.most).into(),
        }
    }

    /// Queues data that has been checked.
    #[inline]
    pub(super) fn push(&mut self, payload: Payload) {
        let length = payload.len();
        match self.waiting {
            _ if length == 0 => return,
            0 => self.next = payload,
            _ => self.push_behind(payload),
        }
        self.written += length as u64;
        self.waiting += length;
    }

    #[inline(never)]
    fn push_behind(&mut self, payload: Payload) {
        let is_small = payload.len() <= SMALL;
        let last = self.rest.back_mut().unwrap_or(&mut self.next);
        if is_small && last.append(&payload) {
            return;
        }
        // What follows may be added to it, instead of costing more than its bytes.
        self.rest.push_back(if is_small { payload.into_owned() } else { payload });
    }

    /// What is written now waits for the peer to receive what was written before.
    #[inline]
    pub(super) fn waits_for_room(&self) -> bool {
        matches!(self.sending, Sending::Submitted(_))
    }

    /// Copies what waits to be sent, so that its buffers can be used.
    pub(super) fn give_back(&mut self) {
        iter::once(&mut self.next).chain(&mut self.rest).for_each(Payload::give_back);
    }

    /// The same, for buffers of other loops' than this.
    pub(super) fn give_back_foreign(&mut self, own: &Shared) {
        iter::once(&mut self.next).chain(&mut self.rest).for_each(|one| one.give_back_foreign(own));
    }

    /// Where what has been written ends.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// True once, when something is to be sent, and nothing is being sent.
    #[inline]
    pub(super) fn becomes_due(&mut self) -> bool {
        let is_due = self.waiting > 0 && matches!(self.sending, Sending::Idle);
        if is_due {
            self.sending = Sending::Due;
        }
        is_due
    }

    /// Something is being sent, or is about to be.
    pub(super) fn is_sending(&self) -> bool {
        !matches!(self.sending, Sending::Idle)
    }

    /// As much as one request is to send of what was due, and its length. None if there is nothing
    /// any more.
    #[inline]
    pub(super) fn take_due(&mut self) -> Option<(Gather, usize)> {
        self.sending = Sending::Idle;
        (self.waiting > 0).then(|| self.take())
    }

    #[inline]
    fn take(&mut self) -> (Gather, usize) {
        let first = mem::take(&mut self.next);
        if self.rest.is_empty() {
            return (Gather::One(first), mem::take(&mut self.waiting));
        }
        self.gather(first)
    }

    /// As many payloads as one request is to send.
    #[inline(never)]
    fn gather(&mut self, first: Payload) -> (Gather, usize) {
        let alone = first.len();
        let mut bytes = alone;
        let more = (self.rest.iter().take(MOST_PAYLOADS - 1))
            .take_while(|payload| {
                bytes = bytes.saturating_add(payload.len());
                bytes <= MOST_BYTES
            })
            .count();
        let (data, length) = match more {
            0 => (Gather::One(first), alone),
            _ => {
                let all: Vec<_> = iter::once(first).chain(self.rest.drain(..more)).collect();
                let length = all.iter().map(|payload| payload.len()).sum();
                (Gather::many(all), length)
            }
        };
        self.next = self.rest.pop_front().unwrap_or_default();
        self.waiting -= length;
        (data, length)
    }

    /// Nothing is to be sent but what was taken, and the end is to follow.
    pub(super) fn is_last(&self) -> bool {
        self.end == End::Due && self.waiting == 0
    }

    /// Something is to be done when what was taken has been sent.
    pub(super) fn is_awaited(&self) -> bool {
        self.end == End::Due || self.waiting > 0 || self.has_writers()
    }

    pub(super) fn started(&mut self, operation: OperationKey) {
        self.sending = Sending::Submitted(operation);
    }

    pub(super) fn started_quickly(&mut self) {
        self.sending = Sending::Quick;
    }

    /// What is to be cancelled, if nothing more is to be sent: what does not wait is over soon.
    pub(super) fn sending(&self) -> Option<OperationKey> {
        match self.sending {
            Sending::Submitted(operation) => Some(operation),
            Sending::Idle | Sending::Due | Sending::Quick => None,
        }
    }

    /// The kernel has taken `sent` bytes of what was sent last: all of it, or there is a reason.
    pub(super) fn sent(&mut self, sent: usize, result: Result<(), Reason>) {
        self.sending = Sending::Idle;
        self.taken += sent as u64;
        match result {
            Ok(()) => {}
            // The stream has failed before, or its loop closes.
            Err(Reason::CANCELLED) => self.fail(Reason::LoopClosed),
            Err(reason) => self.fail(reason),
        }
    }

    /// The kernel has taken all `bytes` that were sent last. Counts them, if that is all there is
    /// to do.
    #[inline]
    pub(super) fn sent_all(&mut self, bytes: usize) -> bool {
        let is_quiet = !self.is_awaited() && self.failed.is_none();
        if is_quiet {
            self.sending = Sending::Idle;
            self.taken += bytes as u64;
        }
        is_quiet
    }

    /// Nothing can be sent any more. The first reason stays.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.failed.get_or_insert(reason);
        self.next = Payload::default();
        self.rest = VecDeque::new();
        self.waiting = 0;
    }

    pub(super) fn failed(&self) -> Option<Reason> {
        self.failed
    }

    /// Those whose data has been taken, or never will be.
    pub(super) fn wakers(&mut self) -> Wakers {
        match &mut self.writers {
            None => Wakers::default(),
            Some(writers) if self.failed.is_some() => writers.take_all(),
            Some(writers) => writers.take_up_to(self.taken),
        }
    }

    pub(super) fn has_writers(&self) -> bool {
        self.writers.as_ref().is_some_and(|writers| !writers.is_empty())
    }

    /// Those who wait, or will.
    pub(super) fn writers(&mut self) -> &mut Waiters {
        self.writers.get_or_insert_default()
    }

    /// Nothing more is written.
    pub(super) fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Due;
        }
    }

    /// True once, when all is sent and nothing more is written.
    pub(super) fn take_end(&mut self) -> bool {
        let is_due = self.end == End::Due && self.len() == 0 && !self.is_sending();
        if is_due {
            self.end = End::Told;
        }
        is_due && self.failed.is_none()
    }

    /// Whether the kernel has taken everything up to `target`. `None` if it may still do so.
    #[inline]
    pub(super) fn taken(&self, target: u64) -> Option<io::Result<()>> {
        match self.failed {
            _ if self.taken >= target => Some(Ok(())),
            Some(reason) => Some(Err(reason.error())),
            None => None,
        }
    }
}
