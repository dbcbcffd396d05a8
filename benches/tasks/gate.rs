//! Where tasks wait for each other.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Lets nobody pass until all have come.
pub(crate) struct Gate {
    missing: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    pub(crate) fn of(tasks: usize) -> Gate {
        Gate { missing: Cell::new(tasks), waiting: RefCell::new(Vec::with_capacity(tasks)) }
    }

    pub(crate) async fn pass(&self) {
        let mut came = false;
        poll_fn(|context| {
            if !came {
                came = true;
                self.missing.set(self.missing.get() - 1);
                if self.missing.get() > 0 {
                    self.waiting.borrow_mut().push(context.waker().clone());
                } else {
                    self.waiting.take().into_iter().for_each(Waker::wake);
                }
            }
            if self.missing.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}
