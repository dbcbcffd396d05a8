//! The connections of a server: the tasks of their handlers.

use crate::io_loop::Core;
use crate::task::Source;
use crate::task::body::Failure;
use crate::task::join::JoinHandle;
use crate::task::outcome::Outcome;
use slab::Slab;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(super) struct Connections {
    /// `None` while the task is being made.
    tasks: RefCell<Slab<Option<JoinHandle<()>>>>,
    limit: usize,
    /// Those who wait for connections to end.
    watchers: RefCell<Vec<Waker>>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Rc<Connections> {
        Rc::new(Connections {
            tasks: RefCell::default(),
            limit: limit.max(1),
            watchers: RefCell::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.borrow().len()
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit < usize::MAX
    }

    /// Runs a handler as a task of the loop's.
    pub(super) fn spawn<Fut>(
        self: &Rc<Self>,
        core: &Core,
        source: Source,
        handler: impl FnOnce() -> Fut + 'static,
    ) where
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        let key = self.tasks.borrow_mut().insert(None);
        let entry = Entry { connections: self.clone(), key };
        let run = async move {
            let _entry = entry;
            handler().await
        };
        let task = core.spawn(source, run, Failure::of_outcome);
        // On a loop that is closed it is over already.
        if let Some(place) = self.tasks.borrow_mut().get_mut(key) {
            *place = Some(task);
        }
    }

    /// How many more there may be.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    /// Waits until there may be more.
    pub(super) async fn has_room(&self) {
        poll_fn(|context| self.watch(context, || self.room() > 0)).await;
    }

    /// Waits until there are none.
    pub(super) async fn ended(&self) {
        poll_fn(|context| self.watch(context, || self.len() == 0)).await;
    }

    fn watch(&self, context: &Context<'_>, is_due: impl Fn() -> bool) -> Poll<()> {
        // User code, before anything is borrowed or looked at.
        let waker = context.waker().clone();
        if is_due() {
            return Poll::Ready(());
        }
        let mut watchers = self.watchers.borrow_mut();
        if !watchers.iter().any(|watcher| watcher.will_wake(&waker)) {
            watchers.push(waker);
        }
        Poll::Pending
    }

    /// Cancels all of them; they end in the loop's next turn. Returns how many there are.
    pub(super) fn abort_all(&self) -> usize {
        let tasks = self.tasks.borrow();
        tasks.iter().filter_map(|(_, task)| task.as_ref()).for_each(JoinHandle::abort);
        tasks.len()
    }
}

/// The place of a connection, given back when its handler has ended, or is dropped.
struct Entry {
    connections: Rc<Connections>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let task = self.connections.tasks.borrow_mut().try_remove(self.key);
        // Detached, so that the loop reports how it ended.
        drop(task);
        let watchers = self.connections.watchers.take();
        watchers.into_iter().for_each(Waker::wake);
    }
}
