//! [`JoinHandle`], and what it may say instead of a value.

use super::Meta;
use super::body::{End, Failure, Output};
use super::messages::{self, Abort, Left};
use super::relay::Relay;
use super::unreported::{Mark, PanicPayload};
use crate::handle::Posted;
use crate::io_loop;
use crate::report::text_of;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

/// The other end of a task: a future that gives the task's output.
///
/// Made by [`IoLoop::spawn`](crate::IoLoop::spawn). It can be awaited by any task, on any loop or
/// other executor, and on another thread if the output may go there.
///
/// Dropping it detaches the task, which goes on. If a detached task panics, the loop reports it as
/// it does for callbacks.
///
/// ```
/// use ringloop::IoLoop;
///
/// let io_loop = IoLoop::new()?;
/// let answer = io_loop.spawn(async { 6 * 7 });
/// io_loop.spawn(async move {
///     println!("{}", answer.await.unwrap());
///     IoLoop::current().stop();
/// });
/// io_loop.start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JoinHandle<T> {
    /// `None` once the output is taken.
    task: Option<Task<T>>,
}

type Task<T> = async_task::Task<Output<T>, Meta>;

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: Task<T>) -> JoinHandle<T> {
        JoinHandle { task: Some(task) }
    }

    /// Ends the task: the loop drops its future, in its next turn, instead of polling it again. If
    /// this is called while the loop is not the current one, on another thread for one, that may take
    /// the turn after, too.
    ///
    /// Awaiting the handle then gives a [`JoinError`] that [`is_aborted`](JoinError::is_aborted).
    /// A task that has finished by then has its output still. May be called from any thread, from
    /// the task itself, more than once, and after the loop is closed.
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let task = io_loop.spawn(std::future::pending::<()>());
    /// task.abort();
    /// io_loop.turn(Some(Duration::ZERO))?;
    /// assert!(task.is_finished());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&self) {
        let Some(task) = self.task.as_ref().filter(|task| !task.is_finished()) else {
            return;
        };
        let meta = task.metadata();
        meta.set_aborted();
        // Only the loop's own thread wakes it: there, no poll can slip in between the flag and
        // the wake-up, and find the one without the other.
        match io_loop::current_of(&meta.shared) {
            Some(core) => core.tasks.wake(meta.key),
            None => {
                let abort = Abort { key: meta.key, origin: meta.source.origin() };
                meta.shared.post(Posted::Callback(Box::new(abort)));
            }
        }
    }

    /// The output, if the task is finished.
    pub(crate) fn into_output(mut self) -> Option<Result<T, JoinError>> {
        if !self.is_finished() {
            return None;
        }
        match Pin::new(&mut self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// True if the future has been dropped, whether it came to its end or not.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(|task| task.is_finished())
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If the output was taken before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("JoinHandle polled after it was ready");
        let Meta { shared, key, .. } = task.metadata();
        if shared.is_forked() {
            // The parent's loop will never get to it in this process.
            return Poll::Ready(Err(JoinError(Repr::Closed)));
        }
        let polled = if task.is_finished() {
            Pin::new(task).poll(context)
        } else if let Some(core) = io_loop::current_of(shared)
            && core.tasks.join(*key, context.waker(), || task.is_finished())
        {
            task.metadata().awaited_here.store(true, Ordering::Relaxed);
            withdraw(task)
        } else {
            await_elsewhere(task, context.waker())
        };
        let mut output = ready!(polled);
        if let Some(task) = self.task.take() {
            // Dropping it would look for something to cancel first.
            task.detach();
        }
        match output.take() {
            Some(Ok(value)) => Poll::Ready(Ok(value)),
            Some(Err(failure)) => Poll::Ready(Err(failure.into())),
            None => Poll::Ready(Err(JoinError(Repr::Closed))),
        }
    }
}

/// Has `waker` woken by the cell, unless the task is finished.
#[cold]
fn await_elsewhere<T>(task: &mut Task<T>, waker: &Waker) -> Poll<Output<T>> {
    // Cloned before the cell has any part in it: a panic is for whoever polls.
    let relay = Relay::to(waker.clone());
    let meta = task.metadata();
    meta.awaited_elsewhere.store(true, Ordering::Relaxed);
    leave(meta);
    poll_cell(task, &relay)
}

/// Elsewhere: has the loop wake nobody any more.
fn leave(Meta { shared, key, awaited_here, source, .. }: &Meta) {
    if awaited_here.load(Ordering::Relaxed) {
        awaited_here.store(false, Ordering::Relaxed);
        let left = Left { key: *key, origin: source.origin() };
        shared.post(Posted::Callback(Box::new(left)));
    }
}

/// Has the cell wake nobody any more. That drops a waker, which is user code, and may run the loop
/// until the task is finished: then this is ready.
#[inline]
fn withdraw<T>(task: &mut Task<T>) -> Poll<Output<T>> {
    let is_awaited = &task.metadata().awaited_elsewhere;
    if !is_awaited.load(Ordering::Relaxed) {
        return Poll::Pending;
    }
    is_awaited.store(false, Ordering::Relaxed);
    poll_cell(task, Waker::noop())
}

/// Has the loop report it if a waker panics that the cell had before, or that it wakes at once.
#[cold]
fn poll_cell<T>(task: &mut Task<T>, waker: &Waker) -> Poll<Output<T>> {
    let Meta { shared, source, .. } = task.metadata();
    let (shared, origin) = (shared.clone(), source.origin());
    let mark = Mark::now();
    let polled = Pin::new(task).poll(&mut Context::from_waker(waker));
    messages::report_later(mark, &shared, origin);
    polled
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let meta = task.metadata();
        if task.is_finished() {
            return detach(task);
        }
        let Some(core) = io_loop::current_of(&meta.shared) else {
            leave(meta);
            return detach(task);
        };
        let joiner = core.tasks.take_joiner(meta.key);
        // Before other executors' code runs, which may panic, or end the task.
        match meta.awaited_elsewhere.load(Ordering::Relaxed) {
            true => detach(task),
            false => task.detach(),
        }
        drop(joiner);
    }
}

/// Lets go of a task that may be finished, and of its waker. Has the loop report it if that panics.
fn detach<T>(mut task: Task<T>) {
    let Meta { shared, source, .. } = task.metadata();
    let (shared, origin) = (shared.clone(), source.origin());
    let mark = Mark::now();
    drop(withdraw(&mut task));
    task.detach();
    messages::report_later(mark, &shared, origin);
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("origin", &self.task.as_ref().map(|task| task.metadata().source.origin()))
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Why a task has no output.
///
/// ```
/// use ringloop::IoLoop;
///
/// let io_loop = IoLoop::new()?;
/// let task = io_loop.spawn(async { panic!("out of luck") });
/// io_loop.spawn(async {
///     let Err(error) = task.await;
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: out of luck");
///     IoLoop::current().stop();
/// });
/// io_loop.start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JoinError(Repr);

enum Repr {
    Aborted,
    Closed,
    Dropped,
    /// In a lock that nobody contends for, because errors are expected to be `Sync`.
    Panicked(Mutex<PanicPayload>),
}

impl JoinError {
    /// True if the task was [aborted](JoinHandle::abort).
    pub fn is_aborted(&self) -> bool {
        matches!(self.0, Repr::Aborted)
    }

    /// True if the loop was closed, or dropped, before the task finished, or if an
    /// [`Executor`](crate::Executor) has dropped a function without running it. Also in a child of
    /// `fork`, where tasks of the parent do not run.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Repr::Closed | Repr::Dropped)
    }

    /// True if the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Repr::Panicked(_))
    }

    /// What the task panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    ///
    /// This error again, if it is no panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.0 {
            Repr::Panicked(payload) => {
                Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            other => Err(JoinError(other)),
        }
    }

    /// What the task panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If this error is no panic.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("JoinError::into_panic: {error}"),
        }
    }
}

impl From<Failure> for JoinError {
    fn from(failure: Failure) -> JoinError {
        JoinError(match failure {
            Failure::Ended(End::Aborted) => Repr::Aborted,
            Failure::Ended(End::Closed) => Repr::Closed,
            Failure::Dropped => Repr::Dropped,
            Failure::Panicked(payload) => Repr::Panicked(Mutex::new(payload)),
            // Only tasks without a handle fail.
            Failure::Failed(text) => Repr::Panicked(Mutex::new(Box::new(text))),
        })
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Aborted => f.write_str("the task was aborted"),
            Repr::Closed => f.write_str("the loop was closed before the task finished"),
            Repr::Dropped => f.write_str("the executor dropped the function without running it"),
            Repr::Panicked(payload) => {
                let payload = payload.lock().unwrap_or_else(PoisonError::into_inner);
                write!(f, "the task panicked: {}", text_of(&**payload))
            }
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}
