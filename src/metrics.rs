//! Counters of a loop.

use crate::features::KernelFeatures;

/// What a loop has done since it was made, also after it is closed; see [`IoLoop::metrics`](crate::IoLoop::metrics).
///
/// ```
/// use ringloop::IoLoop;
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// io_loop.add_callback(|| {});
/// io_loop.turn(Some(Duration::ZERO))?;
/// let metrics = io_loop.metrics();
/// assert_eq!((metrics.turns, metrics.callbacks), (1, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// What drives the loop: `"io_uring"`, or `"closed"` when nothing does any more. What was
    /// counted until then stays.
    pub driver: &'static str,
    /// The optional kernel features in use: none when the loop is closed.
    pub features: KernelFeatures,
    /// Turns begun.
    pub turns: u64,
    /// Callbacks run, from this thread and others.
    pub callbacks: u64,
    /// Tasks that were woken, and polled or ended.
    pub task_polls: u64,
    /// Tasks that have not finished.
    pub tasks: usize,
    /// Timeouts fired.
    pub timeouts: u64,
    /// Handler calls.
    pub handler_calls: u64,
    /// Handlers registered now.
    pub handlers: usize,
    /// Timeouts pending now.
    pub timeouts_pending: usize,
    /// Panics caught, those of tasks that the task's [`JoinHandle`](crate::JoinHandle) tells of
    /// included.
    pub panics: u64,
    /// Errors that tasks returned with nobody waiting for them.
    pub task_errors: u64,
    /// Reports of the blocking detector.
    pub slow_callbacks: u64,
    /// System calls made to submit and wait. A loop that has nothing to wait for but its handles makes
    /// none.
    pub enters: u64,
    /// Requests submitted to the kernel.
    pub submissions: u64,
    /// Completions taken out of the ring.
    pub completions: u64,
    /// Completions of requests that were cancelled, replaced or over, and were ignored.
    pub stale_completions: u64,
    /// Wake-ups by other threads or signal handlers.
    pub wakeups: u64,
    /// Waits interrupted by a signal, and resumed.
    pub interrupts: u64,
    /// Times the submission queue was full, and was submitted early.
    pub submission_queue_full: u64,
    /// Times completions overflowed their queue, and were collected from the kernel's own list.
    pub completion_overflows: u64,
    /// Submissions tried again because the kernel had no memory, or no room, for them.
    pub submit_retries: u64,
    /// Times a stream found all buffers of its pool in use, and waited for one.
    pub buffers_exhausted: u64,
    /// Times a listener paused because the process or the system was out of descriptors or memory.
    /// Connections then wait in the kernel's backlog.
    pub accept_pauses: u64,
}
