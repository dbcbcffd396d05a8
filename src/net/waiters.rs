//! Who waits, and for what.

use crate::net::wakers::Wakers;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;

/// Futures that wait, each for a number to be reached.
#[derive(Default)]
pub(super) struct Waiters {
    /// Who is woken next, apart, because most often there is nobody else.
    first: Option<(Ticket, Waker)>,
    /// Who is woken after that. Empty if there is no first.
    others: BTreeMap<Ticket, Waker>,
    issued: u64,
}

/// Names a future that waits. In the order in which they are woken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    target: u64,
    number: u64,
}

impl Ord for Ticket {
    fn cmp(&self, other: &Ticket) -> Ordering {
        #[cfg(test)]
        tests::count_comparison();
        (self.target, self.number).cmp(&(other.target, other.number))
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Ticket) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Ticket {}

impl PartialEq for Ticket {
    fn eq(&self, other: &Ticket) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// Whether this future waits, for this number and with this waker.
    pub(super) fn knows(&self, ticket: Option<Ticket>, target: u64, waker: &Waker) -> bool {
        ticket.is_some_and(|ticket| {
            let known = match &self.first {
                Some((first, waker)) if *first == ticket => Some(waker),
                _ => self.others.get(&ticket),
            };
            ticket.target == target && known.is_some_and(|known| known.will_wake(waker))
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
        self.issued += 1;
        let mut waiter = (Ticket { target, number: self.issued }, waker);
        *ticket = Some(waiter.0);
        match &mut self.first {
            None => {
                self.first = Some(waiter);
                return before;
            }
            Some(first) if waiter.0 < first.0 => mem::swap(first, &mut waiter),
            Some(_) => {}
        }
        self.others.insert(waiter.0, waiter.1);
        before
    }

    /// The future waits no more. Its waker is to be dropped with nothing borrowed.
    pub(super) fn remove(&mut self, ticket: &mut Option<Ticket>) -> Option<Waker> {
        let ticket = ticket.take()?;
        match self.first.take_if(|(first, _)| *first == ticket) {
            Some((_, waker)) => {
                self.first = self.others.pop_first();
                Some(waker)
            }
            None => self.others.remove(&ticket),
        }
    }

    /// Those whose number is reached, in the order of their numbers.
    pub(super) fn take_up_to(&mut self, reached: u64) -> Wakers {
        let mut wakers = Wakers::one(self.take_reached(reached));
        while let Some(waker) = self.take_reached(reached) {
            wakers.push(waker);
        }
        wakers
    }

    fn take_reached(&mut self, reached: u64) -> Option<Waker> {
        let (_, waker) = self.first.take_if(|(ticket, _)| ticket.target <= reached)?;
        self.first = self.others.pop_first();
        Some(waker)
    }

    pub(super) fn take_all(&mut self) -> Wakers {
        self.take_up_to(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    thread_local! {
        static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count_comparison() {
        COMPARISONS.set(COMPARISONS.get() + 1);
    }

    /// Writes its number down when it is woken.
    struct Marker(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Marker {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn waker(number: usize) -> Waker {
        marker(number, &Arc::default())
    }

    fn marker(number: usize, woken: &Arc<Mutex<Vec<usize>>>) -> Waker {
        Waker::from(Arc::new(Marker(number, woken.clone())))
    }

    #[test]
    fn those_are_woken_whose_number_is_reached() {
        let mut waiters = Waiters::default();
        let mut tickets = [None; 4];
        for (ticket, target) in tickets.iter_mut().zip([5, 1, 9, 5]) {
            assert!(waiters.insert(ticket, target, waker(0)).is_none());
        }
        assert_eq!(waiters.take_up_to(0).len(), 0);
        assert_eq!(waiters.take_up_to(5).len(), 3);
        assert_eq!(waiters.take_up_to(8).len(), 0);
        assert_eq!(waiters.take_all().len(), 1);
    }

    #[test]
    fn they_are_woken_in_the_order_of_their_numbers_however_they_came_and_went() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..200 {
            let woken = Arc::default();
            let mut waiters = Waiters::default();
            let mut expected = Vec::new();
            let mut tickets = Vec::new();
            for number in 0..random.usize(1..20) {
                let (mut ticket, target) = (None, random.u64(0..10));
                waiters.insert(&mut ticket, target, marker(number, &woken));
                tickets.push(ticket);
                expected.push((target, number));
                if random.bool() {
                    let gone = random.usize(0..tickets.len());
                    waiters.remove(&mut tickets[gone]);
                    expected.retain(|(_, number)| *number != gone);
                }
                if random.u8(0..5) == 0 {
                    let reached = random.u64(0..10);
                    waiters.take_up_to(reached).wake();
                    let mut due: Vec<_> =
                        expected.extract_if(.., |(target, _)| *target <= reached).collect();
                    due.sort_unstable();
                    let due: Vec<_> = due.into_iter().map(|(_, number)| number).collect();
                    assert_eq!(std::mem::take(&mut *woken.lock().unwrap()), due);
                }
            }
            expected.sort_unstable();
            waiters.take_all().wake();
            let expected: Vec<_> = expected.into_iter().map(|(_, number)| number).collect();
            assert_eq!(*woken.lock().unwrap(), expected);
        }
    }

    /// Comparisons for each of `count` that wait, are asked about, and go: one half is woken one by
    /// one, in order, the other half leaves.
    fn comparisons(count: u64) -> usize {
        let waker = waker(0);
        let mut waiters = Waiters::default();
        let mut tickets = vec![None; count as usize];
        COMPARISONS.set(0);
        for (ticket, target) in tickets.iter_mut().zip(1..) {
            waiters.insert(ticket, target, waker.clone());
        }
        for (ticket, target) in tickets.iter().zip(1..) {
            assert!(waiters.knows(*ticket, target, &waker));
        }
        for reached in 1..=count / 2 {
            assert_eq!(waiters.take_up_to(reached).len(), 1);
        }
        for ticket in tickets.iter_mut().rev() {
            waiters.remove(ticket);
        }
        assert_eq!(waiters.take_all().len(), 0);
        COMPARISONS.get() / count as usize
    }

    #[test]
    fn a_hundred_times_as_many_cost_no_more_than_a_few_times_as_much_each() {
        let (few, many) = (comparisons(30), comparisons(3000));
        assert!(few > 0 && many <= 8 * few, "{few} comparisons each, and {many}");
    }

    #[test]
    fn who_waits_for_another_number_is_not_known() {
        let (mut waiters, mut ticket) = (Waiters::default(), None);
        waiters.insert(&mut ticket, 9, waker(0));
        let same = waiters.first.as_ref().map(|(_, waker)| waker.clone()).unwrap();
        assert!(waiters.knows(ticket, 9, &same));
        assert!(!waiters.knows(ticket, 1, &same));
    }

    #[test]
    fn who_waits_again_waits_once() {
        let mut waiters = Waiters::default();
        let mut ticket = None;
        let (known, other) = (waker(0), waker(1));
        for round in 0..10 {
            assert_eq!(waiters.insert(&mut ticket, 1, known.clone()).is_some(), round > 0);
            assert!(waiters.knows(ticket, 1, &known));
            assert!(!waiters.knows(ticket, 1, &other));
        }
        assert!(waiters.remove(&mut ticket).is_some());
        assert!(waiters.remove(&mut ticket).is_none());
        assert_eq!(waiters.take_all().len(), 0);
    }
}
