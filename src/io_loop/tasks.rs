//! The methods of [`IoLoop`] that are about futures.

use super::{IoLoop, Timeout};
use crate::executor::Executor;
use crate::task::body::Failure;
use crate::task::calls::{Call, Map};
use crate::task::function::{Function, TaskShare};
use crate::task::join::JoinHandle;
use crate::task::outcome::Outcome;
use crate::task::run_sync::RunSyncError;
use crate::task::{AbortFlag, Source, loan};
use futures_channel::oneshot;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl IoLoop {
    /// Runs a future on the loop, as a task of its own.
    ///
    /// It is polled in the next turn, and then in the turn after each wake-up, in line with the
    /// callbacks: whatever woke up first runs first, and handlers and timeouts have their turn in
    /// between. It need not be [`Send`]: it stays on this thread, where it is dropped as soon as it
    /// is done. Wakers go anywhere.
    ///
    /// The [`JoinHandle`] is a future of what comes out. Dropping it detaches the task.
    ///
    /// **Panics.** While there is a handle, a panic of the task is what the handle returns, also
    /// with [`Panics::Propagate`](crate::Panics::Propagate). One that no handle can return any
    /// more, because it was dropped, and one of a destructor, is reported like that of a callback,
    /// or with `Propagate` let out of `start` or `turn`. One whose handle is dropped as the loop
    /// closes, or afterwards, is reported in either case: to the panic hook, or on standard error if
    /// the handle is dropped on another thread, or when the loop is gone or not the current one.
    ///
    /// When the loop is closed, or was already, the future is dropped and the handle returns an
    /// error. After a `fork`, the parent's tasks are left alone in the child: they neither run nor
    /// are they dropped.
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let greeting = io_loop.spawn(async { String::from("hello") });
    /// io_loop.spawn(async move {
    ///     println!("{}", greeting.await.unwrap());
    ///     IoLoop::current().stop();
    /// });
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.core.spawn(Source::of::<F>(Location::caller()), future, Ok)
    }

    /// Runs `f` and the future that it returns on the loop, for their effects: in the next turn, as
    /// a task that nobody waits for.
    ///
    /// If it fails, with a panic or a `Result` that is an error (see [`Outcome`]), the loop's
    /// [panic hook](crate::Builder::panic_hook) hears of it.
    ///
    /// ```
    /// use ringloop::IoLoop;
    ///
    /// let io_loop = IoLoop::new()?;
    /// io_loop.spawn_callback(|| async {
    ///     IoLoop::current().stop();
    ///     "forty-two".parse::<i32>() // reported on standard error
    /// });
    /// io_loop.start()?;
    /// assert_eq!(io_loop.metrics().task_errors, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_callback<F, Fut>(&self, f: F)
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        let source = Source::of::<F>(Location::caller());
        drop(self.core.spawn(source, Call::new(f), Failure::of_outcome));
    }

    /// Calls `callback` with the output of `future` when that is done: on the loop, and in a later
    /// turn than this one, also if it is done already. The future is dropped by then, and what it
    /// held is free.
    ///
    /// If the loop is closed before, both are dropped. So is the callback if the future panics, which
    /// the loop's [panic hook](crate::Builder::panic_hook) hears of. Where the callback has to be
    /// called in either case, add the handle of a task: `add_future(io_loop.spawn(future), callback)`
    /// gives it a `Result`, and a panic is the [`JoinError`](crate::JoinError) in that.
    ///
    /// ```
    /// use ringloop::IoLoop;
    ///
    /// let io_loop = IoLoop::new()?;
    /// io_loop.add_future(async { 6 * 7 }, |answer| {
    ///     println!("{answer}");
    ///     IoLoop::current().stop();
    /// });
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add_future<F: Future + 'static>(
        &self,
        future: F,
        callback: impl FnOnce(F::Output) + 'static,
    ) {
        fn source_of<C>(_: &C, site: &'static Location<'static>) -> Source {
            Source::of::<C>(site)
        }
        let source = source_of(&callback, Location::caller());
        drop(self.core.spawn(source, Map::new(future, callback), Ok));
    }

    /// Runs the loop until a future is done, and returns what it gives: the loop's `main`.
    ///
    /// `f` is called in the first turn, as a callback, and may borrow what is around it, as may the
    /// future. The loop runs as with [`start`](Self::start), and everything else on it, too. When
    /// the future is done, the loop finishes its callbacks and timeouts of the turn, and stops.
    ///
    /// `timeout` is by the loop's clock. With [`Builder::virtual_time`](crate::Builder::virtual_time), a
    /// function of [`run_in_executor`](Self::run_in_executor) that is under way holds that still, and
    /// the loop waits for it for as long as it really takes, whatever `timeout` says.
    ///
    /// # Errors
    ///
    /// [`RunSyncError::TimedOut`] if it is not done within `timeout`, and
    /// [`RunSyncError::Stopped`] if somebody [stops](Self::stop) the loop before. The future is
    /// dropped in either case. [`RunSyncError::Panicked`] if it panics, whatever
    /// [`Panics`](crate::Panics) says. [`RunSyncError::Loop`] if the loop runs already, or cannot
    /// run.
    ///
    /// # Panics
    ///
    /// Only with [`Panics::Propagate`](crate::Panics::Propagate), when other user code on the loop
    /// does, or the destructor of the future; or if a stop left a future behind, and its destructor
    /// panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::IoLoop;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let numbers = vec![1, 2, 3];
    /// let sum = io_loop.run_sync(|| async { numbers.iter().sum::<i32>() }, None)?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn run_sync<F, Fut>(
        &self,
        f: F,
        timeout: Option<Duration>,
    ) -> Result<Fut::Output, RunSyncError>
    where
        F: FnOnce() -> Fut,
        Fut: Future,
    {
        let source = Source::of::<F>(Location::caller());
        let _running = self.core.begin()?;
        let mut output = None;
        let run = Map::new(Call::new(f), |value| output = Some(value));
        loan::lend(run, |loan| self.finish(self.core.spawn(source, loan, Ok), timeout))?;
        output.ok_or(RunSyncError::Stopped)
    }

    /// Runs a function that takes its time, or blocks, on another thread: a thread pool's, unless
    /// [`set_default_executor`](Self::set_default_executor) has said otherwise.
    ///
    /// Its value comes back to the loop, as the output of a task. If it panics, that is what the
    /// handle returns.
    ///
    /// If the task is [aborted](JoinHandle::abort), or the loop closed, before a thread has begun with
    /// the function, it never runs, and is dropped with the task: by the loop, on this thread. So is
    /// one that the executor has dropped. If a thread has begun, the function runs to its end, and its
    /// value is dropped there.
    ///
    /// ```
    /// use ringloop::IoLoop;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let text = io_loop.run_in_executor(|| std::fs::read_to_string("/proc/self/stat"));
    /// let text = io_loop.run_sync(|| text, None)?.unwrap()?;
    /// println!("{text}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn run_in_executor<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let source = Source::of::<F>(Location::caller());
        let (sender, receiver) = oneshot::channel();
        let (function, aborted) = (Function::new(f), AbortFlag::default());
        let (own, flag) = (function.clone(), aborted.clone());
        let job = move || {
            if !flag.load(Ordering::Acquire)
                && let Some(f) = own.take()
            {
                // A value that nobody waits for any more is dropped here.
                drop(sender.send(catch_unwind(AssertUnwindSafe(f))));
            }
        };
        match self.core.executor() {
            Some(executor) => executor.execute(Box::new(job)),
            None => drop(job),
        }
        // Of the task's future: they go when the job is done, or nobody waits for it any more.
        let held = (self.core.clock.hold(), TaskShare(function));
        let receiver = Map::new(receiver, |received| {
            drop(held);
            received
        });
        self.core.spawn_with(Some(aborted), source, receiver, |received| match received {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(payload)) => Err(Failure::Panicked(payload)),
            Err(oneshot::Canceled) => Err(Failure::Dropped),
        })
    }

    /// Runs functions elsewhere from now on. By default they are run by a [`ThreadPool`](crate::ThreadPool) of this
    /// loop's own, of up to [64](crate::ThreadPool::DEFAULT_THREADS) threads.
    ///
    /// The executor before, and at the end this one, are dropped: a pool ends with the loop.
    pub fn set_default_executor(&self, executor: impl Executor + 'static) {
        self.core.set_executor(executor);
    }

    /// Runs the loop until a task is done.
    fn finish(&self, task: JoinHandle<()>, timeout: Option<Duration>) -> Result<(), RunSyncError> {
        let task = Rc::new(task);
        let result = {
            let _end = AbortOnDrop(&task);
            let _alarm = timeout.map(|timeout| {
                let task = task.clone();
                CallLater { io_loop: self, timeout: self.call_later(timeout, move || task.abort()) }
            });
            self.core.run(|| task.is_finished())
        };
        match (Rc::into_inner(task).and_then(JoinHandle::into_output), timeout) {
            (Some(Ok(())), _) => Ok(()),
            (Some(Err(error)), _) if error.is_panic() => Err(RunSyncError::Panicked(error)),
            (Some(Err(error)), Some(timeout)) if error.is_aborted() => {
                Err(RunSyncError::TimedOut(timeout))
            }
            _ => Err(result.map_or_else(RunSyncError::Loop, |()| RunSyncError::Stopped)),
        }
    }
}

/// A task that does not outlive this by more than a turn.
struct AbortOnDrop<'a>(&'a JoinHandle<()>);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A timeout, removed when this is dropped.
struct CallLater<'a> {
    io_loop: &'a IoLoop,
    timeout: Timeout,
}

impl Drop for CallLater<'_> {
    fn drop(&mut self) {
        self.io_loop.remove_timeout(self.timeout);
    }
}
