//! The tasks of a loop whose futures are not dropped yet.

use super::body::{Body, End, Failure};
use super::join::JoinHandle;
use super::unreported::{self, Unreported};
use super::{AbortFlag, Meta, Runnable, Source, schedule};
use crate::handle::Shared;
use crate::report::Caught;
use crate::spare;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

/// The key of a task that is not registered.
const NOWHERE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Tasks {
    places: RefCell<Slab<Place>>,
    /// For the task that is run next: to end.
    order: Cell<Option<End>>,
    panics: Cell<u64>,
}

/// What is known of a task whose future is not dropped.
struct Place {
    state: State,
    /// Of whoever awaits its handle, on this thread.
    joiner: Option<Waker>,
}

/// Whether a task needs to be woken, to be found among what the loop is to run. A new one does not,
/// and many are over when they have been polled once: so they are spared the count of references.
enum State {
    /// Its first poll is ahead, or going on.
    New,
    /// The same, and it is to be polled again at once.
    NewAndWoken,
    /// It was polled, and is kept by its waker.
    Polled(Waker),
    /// Its future is dropped. Whoever awaits its handle is being told, and may spawn tasks: none of
    /// them is to have its key, by which the handle is still known.
    Over,
}

impl Place {
    fn wake(&mut self) {
        match &self.state {
            State::New | State::NewAndWoken => self.state = State::NewAndWoken,
            State::Polled(waker) => waker.wake_by_ref(),
            State::Over => {}
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

impl Tasks {
    /// Number of tasks whose futures are not dropped yet.
    pub(crate) fn len(&self) -> usize {
        self.places.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back room that is not needed any more.
    pub(crate) fn trim(&self) {
        spare::trim_slab(&mut self.places.borrow_mut());
    }

    /// Panics that are, or were, the output of a task.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Gives a panic up to be reported, and counted, elsewhere.
    pub(crate) fn release(&self, Unreported { caught, counted }: Unreported) -> Caught {
        self.panics.set(self.panics.get() - u64::from(counted));
        caught
    }

    /// Makes a task, which the caller schedules. `abort_flag` is set when it is aborted.
    pub(crate) fn spawn<F, T, M>(
        self: &Rc<Self>,
        shared: &Arc<Shared>,
        source: Source,
        future: F,
        finish: M,
        abort_flag: Option<AbortFlag>,
    ) -> (Runnable, JoinHandle<T>)
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        let mut places = self.places.borrow_mut();
        let vacant = places.vacant_entry();
        let key = u32::try_from(vacant.key()).expect("fewer than 2^32 tasks");
        let made = self.allocate(shared, source, key, future, finish, abort_flag);
        vacant.insert(Place { state: State::New, joiner: None });
        made
    }

    /// Makes a task that the caller ends at once.
    pub(crate) fn spawn_unregistered<F, T, M>(
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
        self.allocate(shared, source, NOWHERE, future, finish, None)
    }

    #[inline]
    fn allocate<F, T, M>(
        self: &Rc<Self>,
        shared: &Arc<Shared>,
        source: Source,
        key: u32,
        future: F,
        finish: M,
        abort_flag: Option<AbortFlag>,
    ) -> (Runnable, JoinHandle<T>)
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        let meta = Meta::new(shared.clone(), key as usize, source, abort_flag);
        let entry = Entry { tasks: self.clone(), key, is_new: true };
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
        if let Some(place) = self.places.borrow_mut().get_mut(key) {
            place.wake();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.places.borrow_mut().iter_mut().for_each(|(_, place)| place.wake());
    }

    /// Has `waker` woken when a task's future is dropped. False if it is already.
    ///
    /// The cell would do it, too, but for several times the atomic operations.
    pub(crate) fn join(
        &self,
        key: usize,
        waker: &Waker,
        is_finished: impl FnOnce() -> bool,
    ) -> bool {
        let knows = |place: &Place| {
            let known = place.joiner.as_ref().is_some_and(|known| known.will_wake(waker));
            (!place.is_over()).then_some(known)
        };
        let Some(known) = self.places.borrow().get(key).and_then(knows) else { return false };
        if known {
            return true;
        }
        let joiner = waker.clone();
        // That may have run the loop, and the key be another task's by now.
        !is_finished() && self.set_joiner(key, joiner)
    }

    fn set_joiner(&self, key: usize, joiner: Waker) -> bool {
        let mut joiner = Some(joiner);
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(key).filter(|place| !place.is_over());
        let is_set = place.map(|place| std::mem::swap(&mut place.joiner, &mut joiner)).is_some();
        // No borrow lasts while other executors' code runs.
        drop(places);
        drop(joiner);
        is_set
    }

    /// Whoever waits for a task. To be dropped, or woken, with nothing borrowed.
    #[must_use]
    pub(crate) fn take_joiner(&self, key: usize) -> Option<Waker> {
        self.places.borrow_mut().get_mut(key)?.joiner.take()
    }

    /// Takes out a task whose future is dropped; or the one who waits for it, who is to be told
    /// before.
    #[inline]
    fn finish(&self, key: usize) -> Option<Waker> {
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(key)?;
        let joiner = place.joiner.take();
        // The borrow ends before the waker is dropped.
        let _state = match joiner {
            Some(_) => std::mem::replace(&mut place.state, State::Over),
            None => places.remove(key).state,
        };
        drop(places);
        joiner
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
    // Each task has one of these: it leaves the half of a word to the next.
    key: u32,
    /// It has not been pending yet.
    is_new: bool,
}

impl Entry {
    /// The order to end, if there is one.
    #[inline]
    pub(crate) fn take_order(&self) -> Option<End> {
        // Most often there is none, and then nothing is written.
        self.tasks.order.get().inspect(|_| self.tasks.order.set(None))
    }

    /// The task was polled, and is not over. `waker` is its own.
    #[inline]
    pub(crate) fn was_pending(&mut self, waker: &Waker) {
        if self.is_new {
            self.keep_waker(waker);
        }
    }

    #[inline(never)]
    fn keep_waker(&mut self, waker: &Waker) {
        self.is_new = false;
        if let Some(place) = self.tasks.places.borrow_mut().get_mut(self.key as usize) {
            let polled = State::Polled(waker.clone());
            if let State::NewAndWoken = std::mem::replace(&mut place.state, polled) {
                waker.wake_by_ref();
            }
        }
    }

    pub(crate) fn count_panic(&self) {
        self.tasks.panics.set(self.tasks.panics.get() + 1);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let key = self.key as usize;
        if let Some(joiner) = self.tasks.finish(key) {
            unreported::catch(|| joiner.wake());
            self.tasks.places.borrow_mut().remove(key);
        }
    }
}
