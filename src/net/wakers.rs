//! Whom to wake once nothing is borrowed any more.

use crate::report::drop_payload;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::thread;

/// Whom to wake, in order. Those who are left when this is dropped, because one of them has panicked,
/// are woken all the same.
#[must_use]
#[derive(Default)]
pub(super) struct Wakers {
    one: Option<Waker>,
    others: VecDeque<Waker>,
}

impl Wakers {
    pub(super) fn one(waker: Option<Waker>) -> Wakers {
        Wakers { one: waker, others: VecDeque::new() }
    }

    pub(super) fn push(&mut self, waker: Waker) {
        if self.one.is_none() && self.others.is_empty() {
            self.one = Some(waker);
        } else {
            self.others.push_back(waker);
        }
    }

    pub(super) fn wake(mut self) {
        // A panic would end the process while another one unwinds. None gets out of `drop`.
        while !thread::panicking()
            && let Some(waker) = self.next()
        {
            waker.wake();
        }
    }

    fn next(&mut self) -> Option<Waker> {
        self.one.take().or_else(|| self.others.pop_front())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.one.iter().count() + self.others.len()
    }
}

impl Extend<Waker> for Wakers {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }
}

impl FromIterator<Waker> for Wakers {
    fn from_iter<I: IntoIterator<Item = Waker>>(wakers: I) -> Wakers {
        let mut all = Wakers::default();
        all.extend(wakers);
        all
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        while let Some(waker) = self.next() {
            // The first panic is the one that is reported.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                drop_payload(payload);
            }
        }
    }
}
