//! The loop that is current on a thread: the one that runs, or else the one made current last.

use super::core::Core;
use crate::handle::Shared;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr;
use std::rc::{Rc, Weak};

thread_local! {
    /// Weak: being current does not keep a loop alive.
    static CURRENT: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
    /// Put here and taken away again by a [`Scope`]. As nothing is dropped with the thread, nobody
    /// has to find out whether it was already, each time that a task is woken.
    static RUNNING: Cell<RunningCore> = const { Cell::new(None) };
}

/// The loop that runs.
type RunningCore = Option<ManuallyDrop<Rc<Core>>>;

pub(super) fn get() -> Option<Rc<Core>> {
    look_at_running(|running| running.cloned()).or_else(made_current)
}

/// The loop that `shared` belongs to, if it is the current one.
#[inline]
pub(crate) fn of(shared: &Shared) -> Option<Rc<Core>> {
    let is_it = |core: &Rc<Core>| ptr::eq(&*core.shared, shared);
    let (core, none_runs) =
        look_at_running(|core| (core.filter(|core| is_it(core)).cloned(), core.is_none()));
    if none_runs { made_current().filter(is_it) } else { core }
}

/// Hands `value` to the loop that `shared` belongs to, if that runs on this thread. Else it comes back.
///
/// `act` runs no user code: no loop runs meanwhile.
#[inline]
pub(crate) fn with_running<T>(
    shared: *const Shared,
    value: T,
    act: impl FnOnce(&Rc<Core>, T),
) -> Result<(), T> {
    look_at_running(|core| match core {
        Some(core) if ptr::eq(&*core.shared, shared) => {
            act(core, value);
            Ok(())
        }
        _ => Err(value),
    })
}

#[inline]
fn look_at_running<R>(look: impl FnOnce(Option<&Rc<Core>>) -> R) -> R {
    RUNNING.with(|place| {
        let running = place.take();
        let result = look(running.as_deref());
        place.set(running);
        result
    })
}

/// A thread that ends has none any more.
#[cold]
fn made_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().upgrade()).ok().flatten()
}

pub(super) fn set(core: &Rc<Core>) {
    replace(Rc::downgrade(core));
}

pub(super) fn clear() {
    replace(Weak::new());
}

fn replace(core: Weak<Core>) {
    let _ = CURRENT.try_with(|current| current.replace(core));
}

/// Makes a loop current, whatever else is made current meanwhile, until it is dropped; then the one
/// that was.
pub(super) struct Scope {
    running: RunningCore,
    current: Weak<Core>,
}

impl Scope {
    pub(super) fn enter(core: &Rc<Core>) -> Scope {
        let current = CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default();
        Scope { running: RUNNING.replace(Some(ManuallyDrop::new(core.clone()))), current }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let ours = RUNNING.replace(self.running.take());
        drop(ours.map(ManuallyDrop::into_inner));
        replace(std::mem::take(&mut self.current));
    }
}
