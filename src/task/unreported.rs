//! What nobody has asked to be told of: panics of detached tasks and of destructors, and errors.
//!
//! They cannot unwind where they are caught, inside a task's cell. So they wait here, on their
//! thread, for whoever has called into the cell.

use crate::report::{Caught, drop_payload};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// A panic or error that nobody has been told of.
pub(crate) struct Unreported {
    pub(crate) caught: Caught,
    /// Whether it is among the panics that the [registry](super::registry) counts: it was, for a
    /// time, the output of a task.
    pub(crate) counted: bool,
}

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static ALL: RefCell<Vec<Unreported>> = const { RefCell::new(Vec::new()) };
}

/// Leaves one to whoever asks for it, or, when the thread is ending, to nobody.
#[cold]
pub(crate) fn add(caught: Caught, counted: bool) {
    let mut unreported = Some(Unreported { caught, counted });
    let added = ALL.try_with(|all| {
        all.borrow_mut().extend(unreported.take());
        COUNT.set(COUNT.get() + 1);
    });
    if added.is_err() {
        unreported.into_iter().for_each(|unreported| drop_payload(unreported.caught.payload));
    }
}

/// Runs user code from within a task's cell.
pub(crate) fn catch(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        add(Caught::panic(payload), false);
    }
}

/// A moment, to tell what is added after it from what was there.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Mark {
    #[inline]
    pub(crate) fn now() -> Mark {
        Mark(COUNT.get())
    }

    /// True if one was added since, and not taken.
    #[inline]
    pub(crate) fn has_unreported(self) -> bool {
        COUNT.get() > self.0
    }

    /// Those added since, in their order.
    pub(crate) fn take_unreported(self) -> Vec<Unreported> {
        if !self.has_unreported() {
            return Vec::new();
        }
        COUNT.set(self.0);
        ALL.try_with(|all| all.borrow_mut().split_off(self.0)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_text(text: &str) {
        add(Caught::error(text.to_owned()), false);
    }

    fn texts(unreported: Vec<Unreported>) -> Vec<String> {
        let text =
            |unreported: Unreported| *unreported.caught.payload.downcast::<String>().unwrap();
        unreported.into_iter().map(text).collect()
    }

    #[test]
    fn a_mark_takes_what_was_added_since_once_and_in_its_order() {
        let mark = Mark::now();
        assert!(!mark.has_unreported() && mark.take_unreported().is_empty());
        ["first", "second"].into_iter().for_each(add_text);
        assert!(mark.has_unreported());
        assert_eq!(texts(mark.take_unreported()), ["first", "second"]);
        assert!(!mark.has_unreported() && mark.take_unreported().is_empty());
    }

    #[test]
    fn a_later_mark_leaves_what_was_there_to_the_earlier() {
        let outer = Mark::now();
        add_text("outer");
        let inner = Mark::now();
        assert!(!inner.has_unreported());
        add_text("inner");
        assert_eq!(texts(inner.take_unreported()), ["inner"]);
        assert_eq!(texts(outer.take_unreported()), ["outer"]);
    }

    #[test]
    fn each_thread_has_its_own() {
        let mark = Mark::now();
        std::thread::spawn(|| add_text("elsewhere")).join().unwrap();
        assert!(!mark.has_unreported());
    }

    #[test]
    fn what_is_added_when_the_thread_ends_is_dropped() {
        struct AtEnd(std::sync::Arc<()>);

        impl Drop for AtEnd {
            fn drop(&mut self) {
                add(Caught::panic(Box::new(self.0.clone())), false);
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
            add_text("");
        });
        thread.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&payload), 1);
    }
}
