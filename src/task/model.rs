//! A task that other threads wake while its loop polls it, or closes, by `ci/loom.sh`: all
//! interleavings with one such thread, and with two those of a few preemptions.
//!
//! The posts, the wake state, and how a loop that closes comes by its tasks are the loop's own. The
//! cell of the task stands for `async-task`'s, which cannot be looked into: the states that a waker
//! and the loop change, and nothing else.

use super::ending::Ending;
use crate::posts::Posts;
use crate::wake::WakeState;
use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::cell::RefCell;
use std::collections::VecDeque;

/// How often a thread is interrupted where it need not be, at most. Each one more takes five times
/// as long.
const PREEMPTIONS: usize = 4;

/// There is a `Runnable`, or will be when the poll that is going on has ended.
const SCHEDULED: usize = 1;
const RUNNING: usize = 2;
/// The future is dropped.
const COMPLETED: usize = 4;

struct Task {
    state: AtomicUsize,
    /// Of the loop's thread: how often the future was polled, and dropped.
    polls: Cell<usize>,
    drops: Cell<usize>,
}

/// To be run by the loop, exactly once: dropping one would drop a future on the wrong thread, or
/// leave one behind.
struct Runnable(Option<Arc<Task>>);

impl Drop for Runnable {
    fn drop(&mut self) {
        assert!(self.0.is_none() || std::thread::panicking(), "a Runnable was dropped");
    }
}

impl Task {
    /// A task that is scheduled for the first time.
    fn spawn() -> (Arc<Task>, Runnable) {
        let state = AtomicUsize::new(SCHEDULED);
        let task = Arc::new(Task { state, polls: Cell::new(0), drops: Cell::new(0) });
        (task.clone(), Runnable(Some(task)))
    }

    /// What a waker does. Between the mark on the task and `schedule` anything may happen.
    fn wake(task: &Arc<Task>, schedule: impl FnOnce(Runnable)) {
        let before = task.state.fetch_or(SCHEDULED, Ordering::AcqRel);
        if before & (SCHEDULED | RUNNING | COMPLETED) == 0 {
            schedule(Runnable(Some(task.clone())));
        }
    }
}

impl Runnable {
    /// Polls the future, which is pending; what was woken meanwhile comes back.
    fn poll(mut self) -> Option<Runnable> {
        let task = self.0.take().unwrap();
        task.state.fetch_xor(SCHEDULED | RUNNING, Ordering::AcqRel);
        assert_eq!(task.drops.get(), 0, "polled after it was over");
        task.polls.set(task.polls.get() + 1);
        let after = task.state.fetch_xor(RUNNING, Ordering::AcqRel);
        (after & SCHEDULED != 0).then(|| Runnable(Some(task)))
    }

    /// Drops the future.
    fn end(mut self) -> Arc<Task> {
        let task = self.0.take().unwrap();
        task.state.fetch_xor(SCHEDULED | RUNNING, Ordering::AcqRel);
        task.drops.set(task.drops.get() + 1);
        task.state.fetch_or(COMPLETED, Ordering::AcqRel);
        task
    }
}

enum Posted {
    Task(Runnable),
    Callback(usize),
}

/// What threads share with the loop.
struct Shared {
    posts: Posts<Posted>,
    wake_state: WakeState,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared { posts: Posts::new(), wake_state: WakeState::new() })
    }

    /// False if there is no loop any more. A refused `Runnable` is a failure.
    fn post(&self, posted: Posted) -> bool {
        let accepted = self.posts.push(posted).is_ok();
        if accepted {
            self.wake_state.notify();
        }
        accepted
    }

    fn wake(&self, task: &Arc<Task>) {
        Task::wake(task, |runnable| assert!(self.post(Posted::Task(runnable)), "posted too late"));
    }
}

/// The loop's own side.
struct Loop {
    shared: Arc<Shared>,
    tasks: RefCell<Vec<Arc<Task>>>,
    queue: RefCell<VecDeque<Posted>>,
    callbacks: RefCell<Vec<usize>>,
}

impl Loop {
    fn new(shared: &Arc<Shared>) -> Loop {
        let (tasks, queue, callbacks) = Default::default();
        Loop { shared: shared.clone(), tasks, queue, callbacks }
    }

    fn spawn(&self) -> Arc<Task> {
        let (task, runnable) = Task::spawn();
        self.tasks.borrow_mut().push(task.clone());
        self.queue.borrow_mut().push_back(Posted::Task(runnable));
        task
    }

    fn turn(&self) {
        if self.shared.wake_state.take_notice() {
            self.collect_posted();
        }
        let queued = self.queue.borrow().len();
        for _ in 0..queued {
            let next = self.queue.borrow_mut().pop_front();
            match next.unwrap() {
                Posted::Task(runnable) => {
                    let woken = runnable.poll().map(Posted::Task);
                    self.queue.borrow_mut().extend(woken);
                }
                Posted::Callback(number) => self.callbacks.borrow_mut().push(number),
            }
        }
    }

    fn close(&self) {
        for task in &*self.tasks.borrow() {
            let schedule = |runnable| self.queue.borrow_mut().push_back(Posted::Task(runnable));
            Task::wake(task, schedule);
        }
        while let Some(runnable) = self.next_to_end() {
            let ended = runnable.end();
            self.tasks.borrow_mut().retain(|task| !Arc::ptr_eq(task, &ended));
        }
    }
}

impl Ending for Loop {
    type Runnable = Runnable;

    fn collect_posted(&self) {
        self.queue.borrow_mut().extend(self.shared.posts.take(Vec::new()));
    }

    fn next_queued(&self) -> Option<Runnable> {
        loop {
            match self.queue.borrow_mut().pop_front()? {
                Posted::Callback(number) => self.callbacks.borrow_mut().push(number),
                Posted::Task(runnable) => return Some(runnable),
            }
        }
    }

    fn is_without_tasks(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    fn close_posts(&self) {
        for posted in self.shared.posts.close() {
            match posted {
                Posted::Callback(number) => self.callbacks.borrow_mut().push(number),
                Posted::Task(_) => panic!("posted after its task was over"),
            }
        }
    }
}

/// A loop whose tasks are pending takes `turns` turns and closes, while each of `wakers`, a thread,
/// wakes the tasks with these numbers.
fn check(tasks: usize, turns: usize, wakers: &'static [&'static [usize]]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = (wakers.len() > 1).then_some(PREEMPTIONS);
    model.check(move || {
        let shared = Shared::new();
        let io_loop = Loop::new(&shared);
        let all: Vec<_> = (0..tasks).map(|_| io_loop.spawn()).collect();
        io_loop.turn();
        let threads: Vec<_> = wakers
            .iter()
            .map(|numbers| {
                let (shared, all) = (shared.clone(), all.clone());
                thread::spawn(move || numbers.iter().for_each(|&number| shared.wake(&all[number])))
            })
            .collect();
        (0..turns).for_each(|_| io_loop.turn());
        io_loop.close();
        for task in &all {
            assert_eq!((task.polls.get() > 0, task.drops.get()), (true, 1));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // No word of a task that is over.
        all.iter().for_each(|task| shared.wake(task));
        assert!(shared.posts.close().is_empty());
    });
}

#[test]
fn a_wake_up_that_meets_the_close_of_a_loop_ends_its_task_once() {
    check(1, 0, &[&[0, 0]]);
    check(1, 0, &[&[0], &[0]]);
}

#[test]
fn a_wake_up_that_meets_a_poll_or_the_close_after_it_ends_its_task_once() {
    check(1, 1, &[&[0, 0]]);
    check(1, 1, &[&[0], &[0]]);
}

#[test]
fn wake_ups_of_two_tasks_that_meet_the_close_end_both_once() {
    check(2, 1, &[&[0, 1]]);
    check(2, 1, &[&[0], &[1]]);
}

#[test]
fn a_callback_that_meets_the_close_is_collected_or_refused_and_no_task_left() {
    loom::model(|| {
        let shared = Shared::new();
        let io_loop = Loop::new(&shared);
        let task = io_loop.spawn();
        io_loop.turn();
        let (poster, woken) = (shared.clone(), task.clone());
        let thread = thread::spawn(move || {
            let accepted = poster.post(Posted::Callback(1));
            poster.wake(&woken);
            accepted
        });
        io_loop.close();
        assert_eq!(task.drops.get(), 1);
        let accepted = thread.join().unwrap();
        assert_eq!(accepted, *io_loop.callbacks.borrow() == [1]);
        assert!(shared.posts.close().is_empty());
    });
}
