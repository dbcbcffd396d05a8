//! Having the kernel send what is in `outgoing`, and waiting until it has taken that.

use super::error::Reason;
use super::inner::Inner;
use crate::buffer::{Gather, Payload};
use crate::driver::operation::{Operation, QuickSend, StreamKind};
use crate::io_loop::{Core, Sender};
use crate::net::waiters::Ticket;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::slice;
use std::task::{Context, Poll};

impl Inner {
    /// Queues data to be sent. Returns how much has to be sent until it is.
    pub(super) fn write(self: &Rc<Self>, mut payload: Payload) -> io::Result<u64> {
        let (target, is_due) = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.check(payload.len())?;
            if outgoing.waits_for_room() {
                self.give_back_buffers(slice::from_mut(&mut payload));
            }
            outgoing.push(payload);
            (outgoing.written(), outgoing.becomes_due())
        };
        if is_due {
            self.send_soon()?;
        }
        Ok(target)
    }

    /// Queues all pieces, or none.
    pub(super) fn write_all(self: &Rc<Self>, mut pieces: Vec<Payload>) -> io::Result<u64> {
        let total = pieces.iter().fold(0usize, |total, piece| total.saturating_add(piece.len()));
        let (target, is_due) = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.check(total)?;
            if outgoing.waits_for_room() {
                self.give_back_buffers(&mut pieces);
            }
            pieces.into_iter().for_each(|piece| outgoing.push(piece));
            (outgoing.written(), outgoing.becomes_due())
        };
        if is_due {
            self.send_soon()?;
        }
        Ok(target)
    }

    /// What may have to wait for long is to keep no buffers from others.
    #[cold]
    fn give_back_buffers(&self, pieces: &mut [Payload]) {
        let Ok(core) = self.core() else { return };
        if core.are_buffers_scarce() {
            pieces.iter_mut().for_each(Payload::give_back);
        } else {
            pieces.iter_mut().for_each(|piece| piece.give_back_foreign(&core.shared));
        }
    }

    /// Has the kernel send what has become due, once the loop has nothing else to do: what is
    /// written until then is sent with it.
    #[inline]
    pub(super) fn send_soon(self: &Rc<Self>) -> io::Result<()> {
        let sent = self.core().and_then(|core| Ok(core.send_later(self.clone())?));
        sent.map_err(|error| self.sending_failed(&error).error())
    }

    /// Has the kernel send what is left, as soon as there is room for it.
    #[cold]
    pub(super) fn send_rest(self: &Rc<Self>, data: Gather, sent: usize) {
        if self.outgoing.borrow().failed().is_some() {
            drop(data);
            return self.sent(sent, Ok(()));
        }
        if let Err(error) = self.core().and_then(|core| self.submit_send(data, sent, &core)) {
            self.outgoing.borrow_mut().sent(sent, Err((&error).into()));
            self.tell_end();
        }
    }

    #[inline(never)]
    fn submit_send(self: &Rc<Self>, mut data: Gather, sent: usize, core: &Core) -> io::Result<()> {
        // The driver sees to this loop's own buffers.
        data.give_back_foreign(&core.shared);
        self.outgoing.borrow_mut().give_back_foreign(&core.shared);
        let stream = self.as_fd().as_raw_fd();
        let operation = Operation::Send { stream, kind: self.kind, data, sent };
        let operation = core.submit(operation, self.clone())?;
        self.outgoing.borrow_mut().started(operation);
        if self.is_abandoned() {
            self.set_user_timeout();
        }
        Ok(())
    }

    #[inline]
    fn send_quickly(self: Rc<Self>, data: Gather, length: usize, core: &Core) {
        let (awaited, last) = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.started_quickly();
            // Nobody but this loop can give another loop's buffers back.
            (outgoing.is_awaited() || data.is_foreign(&core.shared), outgoing.is_last())
        };
        let stream = self.as_fd().as_raw_fd();
        core.send(QuickSend { stream, length: length as u32, awaited, last }, data, self);
    }

    #[cold]
    fn sending_failed(&self, error: &io::Error) -> Reason {
        let reason = error.into();
        self.outgoing.borrow_mut().fail(reason);
        self.tell_end();
        reason
    }

    /// Ends the sending side once everything is sent.
    pub(super) fn end_sending(&self) {
        self.outgoing.borrow_mut().end();
        self.tell_end_of_data();
    }

    pub(super) fn tell_end_of_data(&self) {
        let is_due = self.outgoing.borrow_mut().take_end();
        if is_due {
            self.shut_down(Shutdown::Write);
        }
    }

    /// As `tell_end_of_data`, for a stream that is dropped: it tells by being closed, unless futures
    /// keep it open for a while.
    pub(super) fn tell_end_of_dropped(self: &Rc<Self>) {
        let operations = usize::from(self.incoming.borrow().is_receiving())
            + usize::from(self.outgoing.borrow().is_sending());
        if Rc::strong_count(self) > 1 + operations {
            self.tell_end_of_data();
        }
    }

    /// Wakes when there is more room than now: when anything is taken.
    #[cfg(feature = "futures-io")]
    pub(super) fn wait_for_room(&self, ticket: &mut Option<Ticket>, context: &Context<'_>) {
        let target = self.outgoing.borrow().more();
        self.wait_until_taken(target, ticket, context);
    }

    /// Ready when the kernel has taken everything up to `target`.
    #[inline]
    pub(super) fn poll_taken(
        &self,
        target: u64,
        ticket: &mut Option<Ticket>,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        let taken = self.outgoing.borrow().taken(target);
        match taken {
            Some(result) => Poll::Ready(result),
            None => {
                self.wait_until_taken(target, ticket, context);
                // The waker was cloned, which is user code, and may have run the loop.
                self.outgoing.borrow().taken(target).map_or(Poll::Pending, Poll::Ready)
            }
        }
    }

    #[inline(never)]
    fn wait_until_taken(&self, target: u64, ticket: &mut Option<Ticket>, context: &Context<'_>) {
        let is_known = self.outgoing.borrow_mut().writers().knows(*ticket, target, context.waker());
        if !is_known {
            let waker = context.waker().clone();
            let before = self.outgoing.borrow_mut().writers().insert(ticket, target, waker);
            drop(before);
        }
    }
}

impl Sender for Inner {
    fn send_now(self: Rc<Self>, core: &Core) {
        let due = self.outgoing.borrow_mut().take_due();
        let Some((data, length)) = due else { return };
        if self.kind == StreamKind::Socket && length <= core.longest_quick_send {
            self.send_quickly(data, length, core);
        } else if let Err(error) = self.submit_send(data, 0, core) {
            self.sending_failed(&error);
        }
    }
}
