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

#[cfg(test)]
mod tests {
    use super::*;

    fn leave_text(text: &str) {
        leave(Caught::error(text.to_owned()), false);
    }

    fn texts(strays: Vec<Stray>) -> Vec<String> {
        let text = |stray: Stray| *stray.caught.payload.downcast::<String>().unwrap();
        strays.into_iter().map(text).collect()
    }

    #[test]
    fn a_mark_takes_what_was_left_since_once_and_in_its_order() {
        let mark = Mark::now();
        assert!(!mark.has_strays() && mark.take_strays().is_empty());
        ["first", "second"].into_iter().for_each(leave_text);
        assert!(mark.has_strays());
        assert_eq!(texts(mark.take_strays()), ["first", "second"]);
        assert!(!mark.has_strays() && mark.take_strays().is_empty());
    }

    #[test]
    fn a_later_mark_leaves_what_was_there_to_the_earlier() {
        let outer = Mark::now();
        leave_text("outer");
        let inner = Mark::now();
        assert!(!inner.has_strays());
        leave_text("inner");
        assert_eq!(texts(inner.take_strays()), ["inner"]);
        assert_eq!(texts(outer.take_strays()), ["outer"]);
    }

    #[test]
    fn each_thread_has_its_own() {
        let mark = Mark::now();
        std::thread::spawn(|| leave_text("elsewhere")).join().unwrap();
        assert!(!mark.has_strays());
    }

    #[test]
    fn what_is_left_when_the_thread_ends_is_dropped() {
        struct AtEnd(std::sync::Arc<()>);

        impl Drop for AtEnd {
            fn drop(&mut self) {
                leave(Caught::panic(Box::new(self.0.clone())), false);
            }
        }

        thread_local! {
            static AT_END: Cell<Option<AtEnd>> = const { Cell::new(None) };
        }

        let payload = std::sync::Arc::new(());
        let own = payload.clone();
        let thread = std::thread::spawn(move || {
            AT_END.set(Some(AtEnd(own)));
            // Registered after it, and so gone before.
            leave_text("");
        });
        thread.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&payload), 1);
    }
}
