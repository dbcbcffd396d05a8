//! Connections that have been accepted and not been taken, and those who wait for them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::{Context, Waker};

/// Connections that wait, unless said otherwise: what Tornado accepts at a time.
const LIMIT: usize = 128;

/// Names one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

pub(super) struct Queue {
    sockets: VecDeque<OwnedFd>,
    /// As many are taken from the kernel; those that come in the same turn may exceed it.
    limit: usize,
    waiters: VecDeque<(Ticket, Waker)>,
    next: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { sockets: VecDeque::new(), limit: LIMIT, waiters: VecDeque::new(), next: 0 }
    }
}

impl Queue {
    /// 0 is none until further notice.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds a connection. The one who waited longest is to be woken.
    pub(super) fn push(&mut self, socket: OwnedFd) -> Option<Waker> {
        self.sockets.push_back(socket);
        self.waiters.pop_front().map(|(_, waker)| waker)
    }

    pub(super) fn pop(&mut self) -> Option<OwnedFd> {
        self.sockets.pop_front()
    }

    pub(super) fn is_full(&self) -> bool {
        self.sockets.len() >= self.limit
    }

    /// Low enough to accept again.
    pub(super) fn is_low(&self) -> bool {
        self.sockets.len() <= self.limit / 2
    }

    /// Somebody waits from now on, or goes on waiting. The waker to be dropped comes back.
    pub(super) fn wait(
        &mut self,
        ticket: &mut Option<Ticket>,
        context: &Context<'_>,
    ) -> Option<Waker> {
        let known = self.waiters.iter_mut().find(|(waiting, _)| Some(*waiting) == *ticket);
        if let Some((_, waker)) = known {
            let same = waker.will_wake(context.waker());
            return (!same).then(|| std::mem::replace(waker, context.waker().clone()));
        }
        let new = Ticket(self.next);
        self.next += 1;
        *ticket = Some(new);
        self.waiters.push_back((new, context.waker().clone()));
        None
    }

    /// Somebody does not wait any more: the waker to be dropped, if it has not been woken.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.waiters.iter().position(|(waiting, _)| *waiting == ticket)?;
        self.waiters.remove(place).map(|(_, waker)| waker)
    }

    /// Who is to be woken for a connection that somebody was woken for, and has not taken.
    pub(super) fn pass_on(&mut self) -> Option<Waker> {
        if self.sockets.is_empty() {
            return None;
        }
        self.waiters.pop_front().map(|(_, waker)| waker)
    }

    /// Everybody and everything.
    pub(super) fn take(&mut self) -> (VecDeque<OwnedFd>, Vec<Waker>) {
        (std::mem::take(&mut self.sockets), self.take_wakers())
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.waiters.drain(..).map(|(_, waker)| waker).collect()
    }
}
