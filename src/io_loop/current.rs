//! The loop that is current on a thread.

use super::core::Core;
use crate::handle::Shared;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

thread_local! {
    /// Weak: being current does not keep a loop alive.
    static CURRENT: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
}

/// A thread that ends has none any more.
pub(super) fn get() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().upgrade()).ok().flatten()
}

/// The loop that `shared` belongs to, if it is the current one.
#[inline]
pub(crate) fn of(shared: &Shared) -> Option<Rc<Core>> {
    get().filter(|core| std::ptr::eq(&*core.shared, shared))
}

pub(super) fn set(core: &Rc<Core>) {
    replace(Rc::downgrade(core));
}

pub(super) fn clear() {
    replace(Weak::new());
}

fn replace(core: Weak<Core>) -> Weak<Core> {
    CURRENT.try_with(|current| current.replace(core)).unwrap_or_default()
}

/// Makes a loop current until it is dropped, then the one that was.
pub(super) struct Scope {
    previous: Weak<Core>,
}

impl Scope {
    pub(super) fn enter(core: &Rc<Core>) -> Scope {
        Scope { previous: replace(Rc::downgrade(core)) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        replace(std::mem::take(&mut self.previous));
    }
}
