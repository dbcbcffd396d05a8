//! What nobody has asked to be told of: panics of detached tasks and of destructors, and errors.
//!
//! They cannot unwind where they are caught, inside a task's cell. So they wait here, on their
//! thread, for whoever has called into the cell.

use crate::report::{Caught, drop_payload};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) type Payload = Box<dyn Any + Send>;

/// A panic or error that nobody has been told of.
pub(crate) struct Stray {
    pub(crate) caught: Caught,
    /// Whether it is among the panics that the [registry](super::registry) counts: it was, for a
    /// time, the output of a task.
    pub(crate) counted: bool,
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static STRAYS: RefCell<Vec<Stray>> = const { RefCell::new(Vec::new()) };
}

/// Leaves one to whoever looks for it, or, when the thread is ending, to nobody.
#[cold]
pub(crate) fn leave(caught: Caught, counted: bool) {
    let mut stray = Some(Stray { caught, counted });
    let left = STRAYS.try_with(|strays| {
        strays.borrow_mut().extend(stray.take());
        NUMBER.set(NUMBER.get() + 1);
    });
    if left.is_err() {
        stray.into_iter().for_each(|stray| drop_payload(stray.caught.payload));
    }
}

/// Runs user code from within a task's cell.
pub(crate) fn catch(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        leave(Caught::panic(payload), false);
    }
}

/// A moment, to tell what is left after it from what was there.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Mark {
    #[inline]
    pub(crate) fn now() -> Mark {
        Mark(NUMBER.get())
    }

    /// True if one was left since, and not taken.
    #[inline]
    pub(crate) fn has_strays(self) -> bool {
        NUMBER.get() > self.0
    }

    /// Those left since, in their order.
    pub(crate) fn take_strays(self) -> Vec<Stray> {
        if !self.has_strays() {
            return Vec::new();
        }
        NUMBER.set(self.0);
        STRAYS.try_with(|strays| strays.borrow_mut().split_off(self.0)).unwrap_or_default()
    }
}
