//! A function that waits for a thread. An executor's job and the task that waits for it share it:
//! the one runs it, or else the other drops it, without waiting for a thread to get there.

use super::body::drop_user_value;
use std::sync::{Arc, Mutex, PoisonError};

/// In a lock that is held to take it, and not to run or drop it.
pub(crate) struct Function<F>(Arc<Mutex<Option<F>>>);

impl<F> Function<F> {
    pub(crate) fn new(function: F) -> Function<F> {
        Function(Arc::new(Mutex::new(Some(function))))
    }

    /// The function, for the first who asks.
    pub(crate) fn take(&self) -> Option<F> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F> Clone for Function<F> {
    fn clone(&self) -> Function<F> {
        Function(self.0.clone())
    }
}

/// The task's share: the function is dropped with it, unless a thread has begun with it.
pub(crate) struct TaskShare<F>(pub(crate) Function<F>);

impl<F> Drop for TaskShare<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            drop_user_value(function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::unreported::Mark;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_to_ask_has_the_function_and_no_other() {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let function = Function::new(move || drop(counted));
        let task = TaskShare(function.clone());
        let taken = function.take().unwrap();
        assert!(function.take().is_none());
        drop(task);
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        taken();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_task_and_a_thread_that_meet_take_it_once() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            let (drops, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (counted, count) = (Counted(drops.clone()), runs.clone());
            let function = Function::new(move || {
                let _counted = &counted;
                count.fetch_add(1, Ordering::Relaxed);
            });
            let task = TaskShare(function.clone());
            let job = thread::spawn(move || function.take().map(|function| function()).is_some());
            drop(task);
            let has_run = job.join().unwrap();
            assert_eq!(runs.load(Ordering::Relaxed), usize::from(has_run));
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn a_panic_of_the_destructor_is_left_to_the_loop() {
        struct Explosive;

        impl Drop for Explosive {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }

        let mark = Mark::now();
        let explosive = Explosive;
        drop(TaskShare(Function::new(move || drop(explosive))));
        assert_eq!(mark.take_unreported().len(), 1);
    }
}
