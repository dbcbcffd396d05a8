//! What a driver has the loop tell.

use super::operation::{Outcome, Owner};
use std::collections::VecDeque;
use std::rc::Rc;

/// What is to be told, in order. Who has received data is told first, which came before whatever
/// else has happened to the same stream.
#[derive(Default)]
pub(crate) struct Notices {
    /// Apart, because most are of this kind, and need no more than this.
    received: VecDeque<Rc<dyn Owner>>,
    outcomes: VecDeque<(Rc<dyn Owner>, Outcome)>,
}

impl Notices {
    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.outcomes.is_empty()
    }

    /// Has the owner told that [it has received](Owner::received).
    #[inline]
    pub(super) fn push_received(&mut self, owner: Rc<dyn Owner>) {
        self.received.push_back(owner);
    }

    /// Has the owner told what [its operation has come to](Owner::complete).
    pub(super) fn push_outcome(&mut self, owner: Rc<dyn Owner>, outcome: Outcome) {
        self.outcomes.push_back((owner, outcome));
    }

    #[inline]
    pub(crate) fn pop_received(&mut self) -> Option<Rc<dyn Owner>> {
        self.received.pop_front()
    }

    pub(crate) fn pop_outcome(&mut self) -> Option<(Rc<dyn Owner>, Outcome)> {
        self.outcomes.pop_front()
    }

    /// Moves everything behind what there is in `all`.
    #[inline]
    pub(super) fn move_to(&mut self, all: &mut Notices) {
        move_queue(&mut self.received, &mut all.received);
        move_queue(&mut self.outcomes, &mut all.outcomes);
    }
}

/// Takes out what is to be told next.
impl Iterator for Notices {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        let received = self.pop_received().map(Notice::Received);
        received
            .or_else(|| self.pop_outcome().map(|(owner, outcome)| Notice::Outcome(owner, outcome)))
    }
}

pub(crate) enum Notice {
    Received(Rc<dyn Owner>),
    Outcome(Rc<dyn Owner>, Outcome),
}

impl Notice {
    /// Calls wakers, which are user code if they are other executors'.
    pub(crate) fn tell(self) {
        match self {
            Notice::Received(owner) => owner.received(),
            Notice::Outcome(owner, outcome) => owner.complete(outcome),
        }
    }
}

#[inline]
fn move_queue<T>(from: &mut VecDeque<T>, to: &mut VecDeque<T>) {
    match (from.is_empty(), to.is_empty()) {
        (true, _) => {}
        (false, true) => std::mem::swap(from, to),
        (false, false) => to.append(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Takes down what it is told.
    struct Listener(&'static str, Rc<RefCell<Vec<String>>>);

    impl Owner for Listener {
        fn complete(self: Rc<Self>, _outcome: Outcome) {
            self.1.borrow_mut().push(format!("{} has ended", self.0));
        }

        fn received(&self) {
            self.1.borrow_mut().push(format!("{} has received", self.0));
        }
    }

    #[test]
    fn data_is_told_before_what_came_after_it_and_all_of_a_kind_in_order() {
        let told = Rc::default();
        let owner = |name| Rc::new(Listener(name, Rc::clone(&told)));
        let (mut first, mut all) = (Notices::default(), Notices::default());
        first.push_received(owner("a"));
        first.push_outcome(owner("a"), Outcome::ReceiveEnded(Ok(())));
        first.move_to(&mut all);
        assert!(first.is_empty() && !all.is_empty());
        first.push_outcome(owner("b"), Outcome::ReceiveEnded(Ok(())));
        first.push_received(owner("c"));
        first.move_to(&mut all);
        all.by_ref().for_each(Notice::tell);
        assert!(all.is_empty());
        assert_eq!(
            *told.borrow(),
            ["a has received", "c has received", "a has ended", "b has ended"]
        );
    }
}
