//! Connections that have been accepted and not been taken, and those who wait for them.

use crate::net::wakers::Wakers;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::Waker;

/// Connections that wait, unless said otherwise: what Tornado accepts at a time.
const LIMIT: usize = 128;

/// Names one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

pub(super) struct Queue {
    sockets: VecDeque<OwnedFd>,
    /// As many are taken from the kernel; those that come in the same turn may exceed it.
    limit: usize,
    /// In the order of their tickets.
    waiters: VecDeque<(Ticket, Waker)>,
    next: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { sockets: VecDeque::new(), limit: LIMIT, waiters: VecDeque::new(), next: 0 }
    }
}

impl Queue {
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds a connection. The one who waited longest is to be woken.
    pub(super) fn push(&mut self, socket: OwnedFd) -> Option<Waker> {
        self.sockets.push_back(socket);
        self.pop_waker()
    }

    /// Who has waited longest is not waiting any more.
    pub(super) fn pop_waker(&mut self) -> Option<Waker> {
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

    /// Where somebody stands, who has not been woken.
    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |(waiting, _)| *waiting).ok()
    }

    /// Whether somebody waits, and with this waker.
    pub(super) fn knows(&self, ticket: Option<Ticket>, waker: &Waker) -> bool {
        let place = ticket.and_then(|ticket| self.place(ticket));
        place.is_some_and(|place| self.waiters[place].1.will_wake(waker))
    }

    /// Somebody waits from now on, or goes on waiting. The waker to be dropped comes back.
    pub(super) fn wait(&mut self, ticket: &mut Option<Ticket>, waker: Waker) -> Option<Waker> {
        if let Some(place) = ticket.and_then(|ticket| self.place(ticket)) {
            return Some(std::mem::replace(&mut self.waiters[place].1, waker));
        }
        let new = Ticket(self.next);
        self.next += 1;
        *ticket = Some(new);
        self.waiters.push_back((new, waker));
        None
    }

    /// Somebody does not wait any more: the waker to be dropped, if it has not been woken.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.place(ticket)?;
        self.waiters.remove(place).map(|(_, waker)| waker)
    }

    /// Who is to be woken for a connection that somebody was woken for, and has not taken.
    pub(super) fn pass_on(&mut self) -> Option<Waker> {
        if self.sockets.is_empty() {
            return None;
        }
        self.pop_waker()
    }

    /// Everybody and everything.
    pub(super) fn take(&mut self) -> (VecDeque<OwnedFd>, Wakers) {
        (std::mem::take(&mut self.sockets), self.take_wakers())
    }

    pub(super) fn take_wakers(&mut self) -> Wakers {
        self.waiters.drain(..).map(|(_, waker)| waker).collect()
    }
}
