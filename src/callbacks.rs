//! Callbacks that run once: where they come from and where they wait.

use crate::report::{CallbackKind, Origin, Watch};
use std::any::type_name;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::Location;

/// A closure that runs once, and knows where it was registered.
pub(crate) trait Callback {
    fn run(self: Box<Self>, kind: CallbackKind, watch: &Watch);
    fn origin(&self, kind: CallbackKind) -> Origin;
}

pub(crate) struct Deferred<F> {
    callback: F,
    site: &'static Location<'static>,
}

impl<F: FnOnce()> Deferred<F> {
    pub(crate) fn boxed(callback: F, site: &'static Location<'static>) -> Box<Deferred<F>> {
        Box::new(Deferred { callback, site })
    }
}

impl<F: FnOnce()> Callback for Deferred<F> {
    fn run(self: Box<Self>, kind: CallbackKind, watch: &Watch) {
        let Deferred { callback, site } = *self;
        watch.run(|| origin::<F>(kind, site), callback);
    }

    fn origin(&self, kind: CallbackKind) -> Origin {
        origin::<F>(kind, self.site)
    }
}

fn origin<F>(kind: CallbackKind, site: &'static Location<'static>) -> Origin {
    Origin { kind, type_name: type_name::<F>(), site }
}

/// First in, first out. No borrow outlives a method, so callbacks may add to it.
#[derive(Default)]
pub(crate) struct CallbackQueue {
    queue: RefCell<VecDeque<Box<dyn Callback>>>,
}

impl CallbackQueue {
    #[inline]
    pub(crate) fn push(&self, callback: Box<dyn Callback>) {
        self.queue.borrow_mut().push_back(callback);
    }

    pub(crate) fn extend(&self, callbacks: impl Iterator<Item = Box<dyn Callback>>) {
        self.queue.borrow_mut().extend(callbacks);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Box<dyn Callback>> {
        self.queue.borrow_mut().pop_front()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, for the caller to drop.
    pub(crate) fn take(&self) -> VecDeque<Box<dyn Callback>> {
        self.queue.take()
    }
}
