//! Who waits, and whom to wake once nothing is borrowed any more.

use std::task::Waker;

/// Futures that wait, each for a number to be reached.
#[derive(Default)]
pub(super) struct Waiters {
    /// Apart, because most often there is one.
    first: Option<Waiter>,
    others: Vec<Waiter>,
    last_ticket: u64,
}

struct Waiter {
    ticket: Ticket,
    target: u64,
    waker: Waker,
}

/// Names a future that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// Whether this future waits, and with this waker.
    pub(super) fn knows(&self, ticket: Option<Ticket>, waker: &Waker) -> bool {
        ticket.is_some_and(|ticket| {
            let mut all = self.first.iter().chain(&self.others);
            all.any(|known| known.ticket == ticket && known.waker.will_wake(waker))
        })
    }

    /// Has a future wait. The waker that it had before is to be dropped with nothing borrowed.
    pub(super) fn insert(
        &mut self,
        ticket: &mut Option<Ticket>,
        target: u64,
        waker: Waker,
    ) -> Option<Waker> {
        let before = self.remove(ticket);
        self.last_ticket += 1;
        let issued = Ticket(self.last_ticket);
        *ticket = Some(issued);
        let waiter = Waiter { ticket: issued, target, waker };
        match &self.first {
            None => self.first = Some(waiter),
            Some(_) => self.others.push(waiter),
        }
        before
    }

    /// The future waits no more. Its waker is to be dropped with nothing borrowed.
    pub(super) fn remove(&mut self, ticket: &mut Option<Ticket>) -> Option<Waker> {
        let ticket = ticket.take()?;
        if self.first.as_ref().is_some_and(|first| first.ticket == ticket) {
            return self.first.take().map(|waiter| waiter.waker);
        }
        let place = self.others.iter().position(|waiter| waiter.ticket == ticket)?;
        Some(self.others.remove(place).waker)
    }

    /// Those whose number is reached.
    pub(super) fn take_up_to(&mut self, reached: u64) -> Wakers {
        let one = self.first.take_if(|waiter| waiter.target <= reached);
        let mut wakers = Wakers::one(one.map(|waiter| waiter.waker));
        if !self.others.is_empty() {
            let others = self.others.extract_if(.., |waiter| waiter.target <= reached);
            wakers.others.extend(others.map(|waiter| waiter.waker));
        }
        wakers
    }

    pub(super) fn take_all(&mut self) -> Wakers {
        self.take_up_to(u64::MAX)
    }
}

/// Whom to wake.
#[must_use]
#[derive(Default)]
pub(super) struct Wakers {
    one: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    pub(super) fn one(waker: Option<Waker>) -> Wakers {
        Wakers { one: waker, others: Vec::new() }
    }

    #[inline]
    pub(super) fn wake(self) {
        if let Some(one) = self.one {
            one.wake();
        }
        if !self.others.is_empty() {
            self.others.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> Waker {
        Waker::from(Arc::new(Nobody))
    }

    fn count(wakers: &Wakers) -> usize {
        wakers.one.iter().count() + wakers.others.len()
    }

    #[test]
    fn those_are_woken_whose_number_is_reached() {
        let mut waiters = Waiters::default();
        let mut tickets = [None; 4];
        for (ticket, target) in tickets.iter_mut().zip([5, 1, 9, 5]) {
            assert!(waiters.insert(ticket, target, waker()).is_none());
        }
        assert_eq!(count(&waiters.take_up_to(0)), 0);
        assert_eq!(count(&waiters.take_up_to(5)), 3);
        assert_eq!(count(&waiters.take_up_to(8)), 0);
        assert_eq!(count(&waiters.take_all()), 1);
    }

    #[test]
    fn who_waits_again_waits_once() {
        let mut waiters = Waiters::default();
        let mut ticket = None;
        let (known, other) = (waker(), waker());
        for round in 0..10 {
            assert_eq!(waiters.insert(&mut ticket, 1, known.clone()).is_some(), round > 0);
            assert!(waiters.knows(ticket, &known));
            assert!(!waiters.knows(ticket, &other));
        }
        assert!(waiters.remove(&mut ticket).is_some());
        assert!(waiters.remove(&mut ticket).is_none());
        assert_eq!(count(&waiters.take_all()), 0);
    }
}
