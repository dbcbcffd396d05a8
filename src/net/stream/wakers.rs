//! Whom to wake, once nothing is borrowed any more.

use std::task::Waker;

#[must_use]
pub(super) struct Wakers {
    one: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    pub(super) fn none() -> Wakers {
        Wakers::one(None)
    }

    pub(super) fn one(waker: Option<Waker>) -> Wakers {
        Wakers::all(waker, Vec::new())
    }

    pub(super) fn all(one: Option<Waker>, others: Vec<Waker>) -> Wakers {
        Wakers { one, others }
    }

    pub(super) fn wake(self) {
        self.one.into_iter().chain(self.others).for_each(Waker::wake);
    }
}
