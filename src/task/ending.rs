//! How a loop that closes comes by its tasks, whichever thread has them.

#[cfg(ringloop_loom)]
use loom::thread;
#[cfg(not(ringloop_loom))]
use std::thread;

/// A loop, or a model of one, whose tasks have all been woken to be ended.
pub(crate) trait Ending {
    type Runnable;

    /// Queues what has been posted.
    fn collect_posted(&self);

    /// The next task in the queue. What comes before it is put aside.
    fn next_queued(&self) -> Option<Self::Runnable>;

    /// Whether no future is left.
    fn is_without_tasks(&self) -> bool;

    /// Refuses posts from now on, and puts those aside that came before.
    fn close_posts(&self);

    /// The next task to end. When no task is left, nothing can be posted to the loop any more.
    ///
    /// A task that had been woken by another thread just before may not have arrived yet, but will:
    /// that thread is between its mark on the task and its post.
    fn next_to_end(&self) -> Option<Self::Runnable> {
        loop {
            self.collect_posted();
            if let Some(runnable) = self.next_queued() {
                return Some(runnable);
            }
            if self.is_without_tasks() {
                self.close_posts();
                return None;
            }
            thread::yield_now();
        }
    }
}
