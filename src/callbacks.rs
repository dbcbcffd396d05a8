//! What runs once in a turn, callbacks and woken tasks: where it comes from and where it waits.

use crate::io_loop::Core;
use crate::report::{CallbackKind, Origin};
use crate::spare;
use crate::task::Runnable;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;

/// A closure that runs once, and knows where it was registered.
pub(crate) trait Callback {
    fn run(self: Box<Self>, kind: CallbackKind, core: &Core);

    /// It will not run: the loop is closing, or, if there is none, gone.
    fn discard(self: Box<Self>, _core: Option<&Core>) {}

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
    fn run(self: Box<Self>, kind: CallbackKind, core: &Core) {
        let Deferred { callback, site } = *self;
        core.watch.run(|| Origin::of::<F>(kind, site), callback);
    }

    fn origin(&self, kind: CallbackKind) -> Origin {
        Origin::of::<F>(kind, self.site)
    }
}

/// What waits for its turn.
pub(crate) enum Queued {
    Callback(Box<dyn Callback>),
    /// A task that was woken.
    Task(Runnable),
}

impl Queued {
    pub(crate) fn into_callback(self) -> Option<Box<dyn Callback>> {
        match self {
            Queued::Callback(callback) => Some(callback),
            Queued::Task(_) => None,
        }
    }
}

impl From<Box<dyn Callback>> for Queued {
    #[inline]
    fn from(callback: Box<dyn Callback>) -> Queued {
        Queued::Callback(callback)
    }
}

impl From<Runnable> for Queued {
    #[inline]
    fn from(runnable: Runnable) -> Queued {
        Queued::Task(runnable)
    }
}

/// First in, first out. No borrow outlives a method, so callbacks may add to it.
#[derive(Default)]
pub(crate) struct CallbackQueue {
    queue: RefCell<VecDeque<Queued>>,
    /// The most that one turn has had to run, of late.
    most: Cell<usize>,
}

impl CallbackQueue {
    /// Nothing is made into a `Queued` before there is room for it: this way, it is made in place.
    #[inline]
    pub(crate) fn push(&self, next: impl Into<Queued>) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < queue.capacity() {
            queue.push_back(next.into());
        } else {
            push_to_full(&mut queue, next);
        }
    }

    pub(crate) fn extend(&self, items: impl Iterator<Item = Queued>) {
        self.queue.borrow_mut().extend(items);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Queued> {
        self.queue.borrow_mut().pop_front()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// How many a turn has to run, which begins.
    #[inline]
    pub(crate) fn begin_turn(&self) -> usize {
        let length = self.len();
        self.most.set(self.most.get().max(length));
        length
    }

    /// Gives back room that was not needed since this was called last.
    pub(crate) fn trim(&self) {
        spare::trim_queue(&mut self.queue.borrow_mut(), self.most.take());
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, for the caller to drop.
    pub(crate) fn take(&self) -> VecDeque<Queued> {
        self.queue.take()
    }
}

#[cold]
fn push_to_full(queue: &mut VecDeque<Queued>, next: impl Into<Queued>) {
    queue.push_back(next.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// Writes its number down when it is dropped.
    struct Numbered(u32, Rc<RefCell<Vec<u32>>>);

    impl Callback for Numbered {
        fn run(self: Box<Self>, _kind: CallbackKind, _core: &Core) {
            unreachable!("there is no loop here")
        }

        fn origin(&self, kind: CallbackKind) -> Origin {
            Origin::of::<Numbered>(kind, Location::caller())
        }
    }

    impl Drop for Numbered {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }

    #[test]
    fn a_queue_is_first_in_first_out_beyond_its_room() {
        let (queue, log) = (CallbackQueue::default(), Rc::default());
        let numbered =
            |number| -> Box<dyn Callback> { Box::new(Numbered(number, Rc::clone(&log))) };
        let mut next = 0;
        for _ in 0..20 {
            (0..7).for_each(|more| queue.push(numbered(next + more)));
            next += 7;
            (0..3).for_each(|_| drop(queue.pop()));
        }
        queue.extend((next..next + 10).map(|number| Queued::from(numbered(number))));
        assert_eq!(queue.len(), 20 * 4 + 10);
        drop(queue.take());
        assert!(queue.is_empty() && queue.pop().is_none());
        assert!(log.take().into_iter().eq(0..next + 10));
    }

    #[test]
    fn what_is_dropped_by_a_queue_may_add_to_it() {
        struct Again(Rc<CallbackQueue>);

        impl Callback for Again {
            fn run(self: Box<Self>, _kind: CallbackKind, _core: &Core) {
                unreachable!("there is no loop here")
            }

            fn origin(&self, kind: CallbackKind) -> Origin {
                Origin::of::<Again>(kind, Location::caller())
            }
        }

        impl Drop for Again {
            fn drop(&mut self) {
                let more: Box<dyn Callback> = Box::new(Numbered(1, Rc::default()));
                self.0.push(more);
            }
        }

        let queue = Rc::new(CallbackQueue::default());
        let again: Box<dyn Callback> = Box::new(Again(queue.clone()));
        queue.push(again);
        drop(queue.take());
        assert_eq!(queue.len(), 1);
    }
}
