//! The tasks of a loop whose futures are not dropped yet.

use super::body::{Body, End, Failure};
use super::join::JoinHandle;
use super::strays::Stray;
use super::{Meta, Runnable, Source, schedule};
use crate::handle::Shared;
use crate::report::Caught;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

/// The key of a task that is not registered.
const NOWHERE: usize = usize::MAX;

#[derive(Default)]
pub(crate) struct Tasks {
    /// One of each task, which also keeps its cell.
    wakers: RefCell<Slab<Waker>>,
    /// For the task that is run next: to end.
    order: Cell<Option<End>>,
    panics: Cell<u64>,
}

impl Tasks {
    /// Number of tasks whose futures are not dropped yet.
    pub(crate) fn len(&self) -> usize {
        self.wakers.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics that are, or were, the output of a task.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Gives a panic up to be reported, and counted, elsewhere.
    pub(crate) fn release(&self, Stray { caught, counted }: Stray) -> Caught {
        self.panics.set(self.panics.get() - u64::from(counted));
        caught
    }

    /// Makes a task, which the caller schedules.
    pub(crate) fn spawn<F, T, M>(
        self: &Rc<Self>,
        shared: &Arc<Shared>,
        source: Source,
        future: F,
        finish: M,
    ) -> (Runnable, JoinHandle<T>)
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        let mut wakers = self.wakers.borrow_mut();
        let vacant = wakers.vacant_entry();
        let (runnable, handle) = self.allocate(shared, source, vacant.key(), future, finish);
        vacant.insert(runnable.waker());
        (runnable, handle)
    }

    /// Makes a task that the caller ends at once.
    pub(crate) fn still_born<F, T, M>(
        self: &Rc<Self>,
        shared: &Arc<Shared>,
        source: Source,
        future: F,
        finish: M,
    ) -> (Runnable, JoinHandle<T>)
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        self.allocate(shared, source, NOWHERE, future, finish)
    }

    #[inline]
    fn allocate<F, T, M>(
        self: &Rc<Self>,
        shared: &Arc<Shared>,
        source: Source,
        key: usize,
        future: F,
        finish: M,
    ) -> (Runnable, JoinHandle<T>)
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        let meta = Meta::new(shared.clone(), key, source);
        let entry = Entry { tasks: self.clone(), key };
        let body = Body::new(future, finish, entry);
        let builder = async_task::Builder::new().metadata(meta);
        let (runnable, task) = match cfg!(debug_assertions) {
            // As below, with a look at which thread it is whenever the future is touched.
            true => builder.spawn_local(move |_| body, schedule),
            // SAFETY: the future is `'static`, but need not be `Send`: it is polled and dropped by
            // the `Runnable`, and those are run and dropped on this thread only. They are made by
            // the caller, and by `schedule`, which gives them to the loop if this is its thread, and
            // else to `Shared::post`, which gives them to the loop, or forgets them. The loop's
            // core never leaves its thread. `schedule` captures nothing.
            false => unsafe { builder.spawn_unchecked(move |_| body, schedule) },
        };
        (runnable, JoinHandle::new(task))
    }

    /// Wakes a task, if it is not over.
    pub(crate) fn wake(&self, key: usize) {
        if let Some(waker) = self.wakers.borrow().get(key) {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.wakers.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Drops a task's future instead of polling it. Neither unwinds out of the task.
    pub(crate) fn end(&self, runnable: Runnable, why: End) {
        self.order.set(Some(why));
        runnable.run();
    }
}

/// A task's place among those of its loop.
pub(crate) struct Entry {
    tasks: Rc<Tasks>,
    key: usize,
}

impl Entry {
    /// The order to end, if there is one.
    #[inline]
    pub(crate) fn take_order(&self) -> Option<End> {
        self.tasks.order.take()
    }

    pub(crate) fn count_panic(&self) {
        self.tasks.panics.set(self.tasks.panics.get() + 1);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The borrow ends before the waker is dropped.
        let waker = self.tasks.wakers.borrow_mut().try_remove(self.key);
        drop(waker);
    }
}
