//! Where functions run that would hold the loop up: [`Executor`], and the default one.

use crate::report::drop_payload;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Room kept for jobs in line. What a burst takes beyond it is given back.
const ROOM_FOR_JOBS: usize = 1024;

/// A function that an [`Executor`] is to run.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs functions on other threads, for [`IoLoop::run_in_executor`](crate::IoLoop::run_in_executor).
///
/// [`ThreadPool`] is one; so is any closure that takes a [`Job`], which is how to use a pool that is
/// there already:
///
/// ```
/// use ringloop::{IoLoop, Job};
///
/// let io_loop = IoLoop::new()?;
/// // rayon::spawn would do as well.
/// io_loop.set_default_executor(|job: Job| drop(std::thread::spawn(job)));
/// let sum = io_loop.run_in_executor(|| (1..=10).sum::<u32>());
/// assert_eq!(io_loop.run_sync(|| sum, None)?.unwrap(), 55);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A loop with [virtual time](crate::Builder::virtual_time) holds its clock while one of its jobs
/// is queued or running, and waits as long as that really takes, whatever limit it was given. An
/// executor for such a loop has to run its jobs, or to drop them.
pub trait Executor {
    /// Runs `job`, now or later, on another thread, without waiting for it. An executor that cannot
    /// do that drops the job; whoever awaits it gets a [`JoinError`](crate::JoinError).
    fn execute(&self, job: Job);
}

impl<F: Fn(Job)> Executor for F {
    fn execute(&self, job: Job) {
        self(job);
    }
}

/// Threads that run one job at a time, and as many of them as there is need for, up to a limit.
///
/// A job gets a thread that is idle, or a new one, or waits in line. Threads that have been idle for
/// a while end. Dropping the pool drops the jobs in line, and each thread ends when it is done with
/// the job that it has; it is not waited for.
///
/// Every loop makes a default one when it first needs it, and drops it when it is closed.
///
/// ```
/// use ringloop::{IoLoop, ThreadPool};
///
/// let io_loop = IoLoop::new()?;
/// io_loop.set_default_executor(ThreadPool::new(4));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ThreadPool {
    shared: Arc<Shared>,
    /// The process it belongs to. A child of `fork` has none of the threads.
    process: u32,
}

struct Shared {
    max_threads: usize,
    idle_limit: Duration,
    state: Mutex<State>,
    /// There is a job in line, or the pool is dropped.
    news: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Those that wait for a job.
    idle: usize,
    dropped: bool,
}

impl ThreadPool {
    /// Threads of a pool with default settings.
    pub const DEFAULT_THREADS: usize = 64;

    /// How long a thread of a pool with default settings stays idle before it ends: 10 s.
    pub const DEFAULT_IDLE_LIMIT: Duration = Duration::from_secs(10);

    /// A pool of no more than `max_threads`, and of none yet.
    ///
    /// # Panics
    ///
    /// If that is zero.
    #[track_caller]
    pub fn new(max_threads: usize) -> ThreadPool {
        ThreadPool::with_idle_limit(max_threads, ThreadPool::DEFAULT_IDLE_LIMIT)
    }

    /// As [`new`](Self::new), with threads that end when they have been idle for `idle_limit`.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn with_idle_limit(max_threads: usize, idle_limit: Duration) -> ThreadPool {
        assert!(max_threads > 0, "ThreadPool: a pool needs a thread at least");
        let (state, news) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { max_threads, idle_limit, state, news });
        ThreadPool { shared, process: std::process::id() }
    }

    /// How many threads there are now.
    pub fn threads(&self) -> usize {
        if self.is_forked() { 0 } else { self.shared.lock().threads }
    }

    /// How many of them wait for a job.
    pub fn idle_threads(&self) -> usize {
        if self.is_forked() { 0 } else { self.shared.lock().idle }
    }

    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }
}

impl Default for ThreadPool {
    fn default() -> ThreadPool {
        ThreadPool::new(ThreadPool::DEFAULT_THREADS)
    }
}

impl Executor for ThreadPool {
    fn execute(&self, job: Job) {
        if self.is_forked() {
            // Before the lock, which a thread that the fork left behind may hold for ever.
            return;
        }
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            self.shared.news.notify_one();
        } else if state.threads < self.shared.max_threads {
            state.threads += 1;
            drop(state);
            self.shared.start_thread();
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if self.is_forked() {
            // The lock may be held, and the state half changed.
            std::mem::forget(self.shared.clone());
            return;
        }
        let mut state = self.shared.lock();
        state.dropped = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.shared.news.notify_all();
        jobs.into_iter().for_each(drop_job);
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("max_threads", &self.shared.max_threads)
            .field("idle_limit", &self.shared.idle_limit)
            .field("threads", &self.threads())
            .finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job is run or dropped under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that is counted already.
    fn start_thread(self: &Arc<Self>) {
        let shared = self.clone();
        let builder = thread::Builder::new().name("ringloop-worker".to_owned());
        if builder.spawn(move || shared.work()).is_ok() {
            return;
        }
        // Out of threads, or of memory. The others, if there are any, see to the jobs.
        let mut state = self.lock();
        state.threads -= 1;
        let stranded =
            if state.threads == 0 { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
        drop(state);
        stranded.into_iter().for_each(drop_job);
    }

    /// Runs jobs until there have been none for a while.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(job)).map_err(drop_payload);
                state = self.lock();
                continue;
            }
            if state.dropped {
                break;
            }
            state.jobs.shrink_to(ROOM_FOR_JOBS);
            state.idle += 1;
            let nothing_new = |state: &mut State| state.jobs.is_empty() && !state.dropped;
            let waited = self.news.wait_timeout_while(state, self.idle_limit, nothing_new);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if timed_out.timed_out() {
                break;
            }
        }
        state.threads -= 1;
    }
}

/// Drops what may panic in the destructors of what it captured. Nobody hears of that: the function of
/// a loop's job is not among it, but is dropped, and reported, by the loop.
fn drop_job(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(job))).map_err(drop_payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A thread that the fork left behind may have the lock for ever, in the middle of a change.
    #[test]
    fn a_child_of_fork_neither_locks_a_pool_nor_drops_what_is_in_it() {
        let pool = ThreadPool::new(1);
        let job = Arc::new(());
        let in_line = job.clone();
        pool.shared.lock().jobs.push_back(Box::new(move || drop(in_line)));
        // SAFETY: the child uses what it has, and leaves by `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: passes no memory.
                unsafe { libc::alarm(20) };
                std::mem::forget(pool.shared.lock());
                let threads = pool.threads() + pool.idle_threads();
                pool.execute(Box::new(|| {}));
                drop(pool);
                let is_left_alone = threads == 0 && Arc::strong_count(&job) == 2;
                // SAFETY: ends the child without running the test harness's exit handlers.
                unsafe { libc::_exit(i32::from(!is_left_alone)) }
            }
            child => {
                let mut status = -1;
                // SAFETY: `status` is valid to write to.
                unsafe { libc::waitpid(child, &mut status, 0) };
                assert_eq!(status, 0);
            }
        }
    }

    #[test]
    fn a_burst_of_jobs_gives_its_memory_back() {
        let pool = ThreadPool::with_idle_limit(1, Duration::MAX);
        let (finish, to_finish) = mpsc::channel::<()>();
        pool.execute(Box::new(move || {
            let _ = to_finish.recv();
        }));
        (0..100 * ROOM_FOR_JOBS).for_each(|_| pool.execute(Box::new(|| {})));
        assert!(pool.shared.lock().jobs.capacity() >= 99 * ROOM_FOR_JOBS);
        drop(finish);
        while pool.idle_threads() == 0 {
            thread::yield_now();
        }
        assert!(pool.shared.lock().jobs.capacity() <= 2 * ROOM_FOR_JOBS);
    }
}
