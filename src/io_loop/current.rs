//! The loop that is current on a thread.

use super::core::Core;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

thread_local! {
    /// Weak: being current does not keep a loop alive.
    static CURRENT: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
}

pub(super) fn get() -> Option<Rc<Core>> {
    CURRENT.with_borrow(Weak::upgrade)
}

pub(super) fn set(core: &Rc<Core>) {
    CURRENT.set(Rc::downgrade(core));
}

pub(super) fn clear() {
    CURRENT.set(Weak::new());
}

/// Makes a loop current until it is dropped, then the one that was.
pub(super) struct Scope {
    previous: Weak<Core>,
}

impl Scope {
    pub(super) fn enter(core: &Rc<Core>) -> Scope {
        Scope { previous: CURRENT.replace(Rc::downgrade(core)) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.previous));
    }
}
