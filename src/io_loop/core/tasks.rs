//! Running tasks, and ending them when the loop closes.

use super::{Core, add};
use crate::callbacks::{Callback, Queued};
use crate::executor::{Executor, ThreadPool};
use crate::report::Origin;
use crate::task::body::{End, Failure};
use crate::task::ending::Ending;
use crate::task::join::JoinHandle;
use crate::task::unreported::Mark;
use crate::task::{AbortFlag, Runnable, Source};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;

impl Core {
    /// Makes a task, and queues its first poll. On a loop that is closed, or the parent's, the task
    /// ends here and now.
    #[inline]
    pub(crate) fn spawn<F, T, M>(&self, source: Source, future: F, finish: M) -> JoinHandle<T>
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        self.spawn_with(None, source, future, finish)
    }

    /// As [`spawn`](Self::spawn), with a flag that is set when the task is aborted.
    pub(crate) fn spawn_with<F, T, M>(
        &self,
        abort_flag: Option<AbortFlag>,
        source: Source,
        future: F,
        finish: M,
    ) -> JoinHandle<T>
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        if self.is_usable() {
            let (runnable, handle) =
                self.tasks.spawn(&self.shared, source, future, finish, abort_flag);
            self.callbacks.push(runnable);
            handle
        } else {
            self.refuse(source, future, finish)
        }
    }

    #[cold]
    fn refuse<F, T, M>(&self, source: Source, future: F, finish: M) -> JoinHandle<T>
    where
        F: Future + 'static,
        T: 'static,
        M: Fn(F::Output) -> Result<T, Failure> + 'static,
    {
        let (runnable, handle) =
            self.tasks.spawn_unregistered(&self.shared, source, future, finish);
        self.end_task(runnable, End::Closed);
        handle
    }

    /// The executor, which may have to be made; none on a loop that is closed, or the parent's.
    pub(crate) fn executor(&self) -> Option<Rc<dyn Executor>> {
        if !self.is_usable() {
            return None;
        }
        let mut executor = self.executor.borrow_mut();
        Some(executor.get_or_insert_with(|| Rc::new(ThreadPool::default())).clone())
    }

    pub(crate) fn set_executor(&self, executor: impl Executor + 'static) {
        if self.is_usable() {
            let replaced = self.executor.replace(Some(Rc::new(executor)));
            drop(replaced);
        }
    }

    /// `mark`: a moment in this turn, or before.
    #[inline]
    pub(super) fn poll_task(&self, runnable: Runnable, mark: Mark) {
        if runnable.metadata().is_aborted() {
            return self.end_task(runnable, End::Aborted);
        }
        add(&self.counts.task_polls, 1);
        let source = runnable.metadata().source;
        if self.watch.is_timed() {
            return self.poll_timed(runnable, source, mark);
        }
        // Neither the future nor its destructor unwinds out of the task.
        runnable.run();
        if mark.has_unreported() {
            self.report_since(source, mark);
        }
    }

    #[cold]
    fn poll_timed(&self, runnable: Runnable, source: Source, mark: Mark) {
        let poll = || {
            runnable.run();
            // Before the other hook is called, which may panic.
            self.report_since(source, mark);
        };
        self.watch.run(|| source.origin(), poll);
    }

    /// Drops a task's future, with word to its handle why.
    #[cold]
    fn end_task(&self, runnable: Runnable, why: End) {
        add(&self.counts.task_polls, 1);
        let source = runnable.metadata().source;
        let mark = Mark::now();
        let end = || {
            self.tasks.end(runnable, why);
            self.report_since(source, mark);
        };
        self.watch.run(|| source.origin(), end);
    }

    #[cold]
    fn report_since(&self, source: Source, mark: Mark) {
        let release = |unreported| (source.origin(), self.tasks.release(unreported));
        self.watch.report_all(mark.take_unreported().into_iter().map(release));
    }

    /// In a child of `fork`: leaves the parent's tasks as they are, for good.
    pub(super) fn leave_tasks_behind(&self) {
        if !self.shared.abandon() {
            std::mem::forget(self.shared.clone());
        }
        // Its threads do not exist here, and may have held locks.
        std::mem::forget(self.executor.take());
        for next in self.callbacks.take() {
            match next {
                Queued::Callback(callback) => drop(callback),
                Queued::Task(runnable) => std::mem::forget(runnable),
            }
        }
    }
}

/// A loop that closes, and the callbacks that it comes upon meanwhile.
pub(super) struct Closing<'a> {
    core: &'a Core,
    callbacks: RefCell<VecDeque<Box<dyn Callback>>>,
}

impl<'a> Closing<'a> {
    /// Wakes all tasks.
    pub(super) fn begin(core: &'a Core) -> Closing<'a> {
        core.tasks.wake_all();
        Closing { core, callbacks: RefCell::default() }
    }

    pub(super) fn next_task(&self) -> Option<EndOfTask<'a>> {
        self.next_to_end().map(|runnable| EndOfTask::new(self.core, runnable))
    }

    pub(super) fn next_callback(&self) -> Option<Box<dyn Callback>> {
        self.callbacks.borrow_mut().pop_front()
    }
}

impl Ending for Closing<'_> {
    type Runnable = Runnable;

    fn collect_posted(&self) {
        self.core.collect_posted();
    }

    fn next_queued(&self) -> Option<Runnable> {
        loop {
            match self.core.callbacks.pop()? {
                Queued::Callback(callback) => self.callbacks.borrow_mut().push_back(callback),
                Queued::Task(runnable) => return Some(runnable),
            }
        }
    }

    fn is_without_tasks(&self) -> bool {
        self.core.tasks.is_empty()
    }

    fn close_posts(&self) {
        let posted = self.core.shared.posts.close().into_iter().map(Queued::from);
        self.callbacks.borrow_mut().extend(posted.filter_map(Queued::into_callback));
    }
}

/// A task that ends when this is dropped.
pub(super) struct EndOfTask<'a> {
    core: &'a Core,
    runnable: Option<Runnable>,
    source: Source,
}

impl EndOfTask<'_> {
    fn new(core: &Core, runnable: Runnable) -> EndOfTask<'_> {
        let source = runnable.metadata().source;
        EndOfTask { core, runnable: Some(runnable), source }
    }

    pub(super) fn origin(&self) -> Origin {
        self.source.origin()
    }
}

impl Drop for EndOfTask<'_> {
    fn drop(&mut self) {
        if let Some(runnable) = self.runnable.take() {
            self.core.end_task(runnable, End::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Closing;
    use crate::handle::Posted;
    use crate::io_loop::IoLoop;
    use crate::task::Source;
    use crate::task::ending::Ending;
    use std::cell::Cell;
    use std::future::{Future, pending};
    use std::panic::Location;
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::thread;

    /// A future that never ends, and calls back as it is dropped.
    fn pending_until_dropped(on_drop: impl FnOnce() + 'static) -> impl Future<Output = ()> {
        struct OnDrop<F: FnOnce()>(Option<F>);

        impl<F: FnOnce()> Drop for OnDrop<F> {
            fn drop(&mut self) {
                if let Some(on_drop) = self.0.take() {
                    on_drop();
                }
            }
        }

        let on_drop = OnDrop(Some(on_drop));
        async move {
            let _on_drop = on_drop;
            pending().await
        }
    }

    #[test]
    fn what_is_posted_as_the_last_task_ends_is_discarded_by_close() {
        let io_loop = IoLoop::new().unwrap();
        let closing = Closing::begin(io_loop.core());
        assert!(io_loop.handle().add_callback(|| unreachable!("the loop closes")));
        closing.close_posts();
        assert!(closing.next_callback().is_some());
        assert!(!io_loop.handle().add_callback(|| unreachable!("the loop is closed")));
    }

    #[test]
    fn close_waits_for_a_task_that_another_thread_has_woken_and_not_posted_yet() {
        let io_loop = IoLoop::new().unwrap();
        let dropped = Rc::new(Cell::new(0));
        let (closing, begun) = mpsc::channel();
        let count = dropped.clone();
        let _first = io_loop.spawn(pending_until_dropped(move || {
            closing.send(()).unwrap();
            count.set(count.get() + 1);
        }));
        let count = dropped.clone();
        let late = pending_until_dropped(move || count.set(count.get() + 1));
        let core = io_loop.core();
        let source = Source::of::<()>(Location::caller());
        // As a waker has it when it has marked the task as scheduled.
        let (runnable, _handle) = core.tasks.spawn(&core.shared, source, late, Ok, None);
        let shared = core.shared.clone();
        let waker = thread::spawn(move || {
            begun.recv().unwrap();
            (0..100).for_each(|_| thread::yield_now());
            shared.post(Posted::Task(runnable))
        });
        io_loop.close(false).unwrap();
        assert_eq!(dropped.get(), 2);
        assert!(waker.join().unwrap());
    }
}
