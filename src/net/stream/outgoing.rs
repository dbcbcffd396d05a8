//! The sending side of a stream.

use super::error::{Reason, StreamError};
use super::wakers::Wakers;
use crate::buffer::Payload;
use crate::driver::OperationKey;
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

/// More than this many bytes do not wait to be sent.
const MOST: usize = 16 * 1024 * 1024;

/// Data up to this size is copied together.
const SMALL: usize = 2048;

pub(crate) struct Outgoing {
    queue: VecDeque<Payload>,
    /// Bytes that have been written, and those of them that the kernel has taken.
    written: u64,
    taken: u64,
    pub(super) sending: Option<OperationKey>,
    /// Who waits until how much has been taken. In order, but for those who wait again.
    writers: Vec<(u64, Waker)>,
    failed: Option<Reason>,
    /// Nothing more is to be written.
    ended: bool,
    /// It ends when all is sent.
    end_due: bool,
    pub(super) most: usize,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing {
            queue: VecDeque::new(),
            written: 0,
            taken: 0,
            sending: None,
            writers: Vec::new(),
            failed: None,
            ended: false,
            end_due: false,
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

    /// Queues data, and returns where it ends in the stream.
    pub(super) fn push(&mut self, payload: Payload) -> io::Result<u64> {
        if let Some(reason) = self.failed {
            return Err(reason.error());
        }
        if self.ended {
            return Err(StreamError::Closed.into());
        }
        if self.len().saturating_add(payload.len()) > self.most {
            return Err(StreamError::WriteLimit(self.most).into());
        }
        self.written += payload.len() as u64;
        let joined = match self.queue.back_mut() {
            Some(last) if payload.len() <= SMALL => last.append(&payload),
            _ => payload.is_empty(),
        };
        if !joined {
            self.queue.push_back(payload);
        }
        Ok(self.written)
    }

    /// What to send next.
    pub(super) fn next(&mut self) -> Option<Payload> {
        if self.sending.is_some() || self.failed.is_some() {
            return None;
        }
        self.queue.pop_front()
    }

    /// The kernel has taken `sent` bytes of what was sent last: all of it, or there is a reason.
    pub(super) fn sent(&mut self, sent: usize, result: Result<(), Reason>) -> Wakers {
        self.sending = None;
        self.taken += sent as u64;
        if let Err(reason) = result {
            self.fail(reason);
        }
        self.wakers()
    }

    /// Nothing can be sent any more. The first reason stays.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.failed.get_or_insert(reason);
        self.queue.clear();
    }

    /// Those whose data has been taken, or never will be.
    pub(super) fn wakers(&mut self) -> Wakers {
        let (taken, failed) = (self.taken, self.failed.is_some());
        let mut woken = Vec::new();
        self.writers.retain(|(target, waker)| {
            let waits = *target > taken && !failed;
            if !waits {
                woken.push(waker.clone());
            }
            waits
        });
        Wakers::all(None, woken)
    }

    /// Nothing more is written. True if it is all sent.
    pub(super) fn end(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.ended, true);
        let idle = self.len() == 0 && self.sending.is_none();
        self.end_due = first && !idle;
        first && idle && self.failed.is_none()
    }

    /// True once, when all is sent and nothing more is written.
    pub(super) fn take_end(&mut self) -> bool {
        let due = self.end_due && self.len() == 0 && self.sending.is_none();
        self.end_due &= !due;
        due && self.failed.is_none()
    }

    /// Ready when the kernel has taken everything up to `target`.
    pub(super) fn poll_taken(
        &mut self,
        target: u64,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken >= target {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.failed {
            return Poll::Ready(Err(reason.error()));
        }
        let waits = |(at, waker): &(u64, Waker)| *at == target && waker.will_wake(context.waker());
        if !self.writers.iter().any(waits) {
            self.writers.push((target, context.waker().clone()));
        }
        Poll::Pending
    }

    pub(super) fn end_of_data(&self) -> u64 {
        self.written
    }
}
