//! Panics that nobody has asked to be told of: of detached tasks, and of destructors.
//!
//! They cannot unwind where they are caught, inside a task's cell. So they wait here, on their
//! thread, for whoever has called into the cell.

use crate::report::drop_payload;
use std::any::Any;
use std::cell::{Cell, RefCell};

pub(crate) type Payload = Box<dyn Any + Send>;

/// A panic that nobody has been told of.
pub(crate) struct Stray {
    pub(crate) payload: Payload,
    /// Whether it is among the panics that the [registry](super::registry) counts: it was, for a
    /// time, the output of a task.
    pub(crate) counted: bool,
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static STRAYS: RefCell<Vec<Stray>> = const { RefCell::new(Vec::new()) };
}

/// Leaves a panic to who called [`gather`], or, when the thread is ending, to nobody.
#[cold]
pub(crate) fn leave(payload: Payload, counted: bool) {
    let mut stray = Some(Stray { payload, counted });
    let left = STRAYS.try_with(|strays| {
        strays.borrow_mut().extend(stray.take());
        NUMBER.set(NUMBER.get() + 1);
    });
    if left.is_err() {
        stray.into_iter().for_each(|stray| drop_payload(stray.payload));
    }
}

/// Calls into a cell. The panics that came up meanwhile, in their order.
#[inline]
pub(crate) fn gather(call: impl FnOnce()) -> Vec<Stray> {
    let before = NUMBER.get();
    call();
    if NUMBER.get() == before { Vec::new() } else { split_off(before) }
}

#[cold]
fn split_off(before: usize) -> Vec<Stray> {
    NUMBER.set(before);
    STRAYS.try_with(|strays| strays.borrow_mut().split_off(before)).unwrap_or_default()
}
