//! The loop that is current on a thread: the one that runs, or else the one made current last.

use super::core::Core;
use crate::handle::Shared;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::thread::LocalKey;

thread_local! {
    /// Weak: being current does not keep a loop alive.
    static CURRENT: Place = const { RefCell::new(Weak::new()) };
    static RUNNING: Place = const { RefCell::new(Weak::new()) };
}

type Place = RefCell<Weak<Core>>;

/// A thread that ends has none any more.
pub(super) fn get() -> Option<Rc<Core>> {
    RUNNING
        .try_with(|running| running.borrow().upgrade())
        .ok()
        .flatten()
        .or_else(|| CURRENT.try_with(|current| current.borrow().upgrade()).ok().flatten())
}

/// The loop that `shared` belongs to, if it is the current one.
#[inline]
pub(crate) fn of(shared: &Shared) -> Option<Rc<Core>> {
    get().filter(|core| std::ptr::eq(&*core.shared, shared))
}

pub(super) fn set(core: &Rc<Core>) {
    replace(&CURRENT, Rc::downgrade(core));
}

pub(super) fn clear() {
    replace(&CURRENT, Weak::new());
}

fn replace(place: &'static LocalKey<Place>, core: Weak<Core>) -> Weak<Core> {
    place.try_with(|place| place.replace(core)).unwrap_or_default()
}

/// Makes a loop current, whatever else is made current meanwhile, until it is dropped; then the one
/// that was.
pub(super) struct Scope {
    running: Weak<Core>,
    current: Weak<Core>,
}

impl Scope {
    pub(super) fn enter(core: &Rc<Core>) -> Scope {
        let current = CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default();
        Scope { running: replace(&RUNNING, Rc::downgrade(core)), current }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        replace(&RUNNING, std::mem::take(&mut self.running));
        replace(&CURRENT, std::mem::take(&mut self.current));
    }
}
