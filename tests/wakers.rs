//! Wakers: cloned, sent, woken and dropped on any thread, at any time.

mod support;

use futures::FutureExt;
use ringloop::{IoLoop, LoopHandle};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use support::{Count, OnDrop, in_child, new_loop, thread_id, turn, turn_until, wait_until_asleep};

/// The waker of a future that never ends, and counts its polls.
fn parked() -> (impl Future<Output = ()>, Arc<Mutex<Option<Waker>>>, Count) {
    let (waker, polls) = (Arc::new(Mutex::new(None)), Count::new());
    let (store, hit) = (waker.clone(), polls.clone());
    let future = poll_fn(move |context| {
        hit.hit();
        *store.lock().unwrap() = Some(context.waker().clone());
        Poll::Pending
    });
    (future, waker, polls)
}

/// A value that may be dropped on one thread only, and counts where it was.
struct Local {
    home: ThreadId,
    drops: Arc<AtomicUsize>,
    _not_send: Rc<()>,
}

impl Local {
    fn new(drops: &Arc<AtomicUsize>) -> Local {
        Local { home: thread::current().id(), drops: drops.clone(), _not_send: Rc::new(()) }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if thread::current().id() != self.home {
            std::process::abort();
        }
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn total(drops: &Arc<AtomicUsize>) -> usize {
    drops.load(Ordering::Relaxed)
}

#[test]
fn wakers_go_anywhere() {
    fn assert_shareable<T: Send + Sync + Clone + 'static>() {}
    assert_shareable::<Waker>();
    assert_shareable::<LoopHandle>();
}

#[test]
fn a_wake_up_from_another_thread_wakes_a_sleeping_loop() {
    let io_loop = new_loop();
    let (future, waker, polls) = parked();
    io_loop.spawn(future);
    turn(&io_loop);
    let sleeper = thread_id();
    for round in 2..10 {
        let woken = waker.lock().unwrap().take().unwrap();
        let other = thread::spawn(move || {
            wait_until_asleep(sleeper);
            woken.wake();
        });
        io_loop.turn(None).unwrap();
        turn_until(&io_loop, || polls.get() == round);
        other.join().unwrap();
    }
}

#[test]
fn wake_ups_from_other_threads_to_an_awake_loop_write_nothing() {
    let io_loop = new_loop();
    let mut wakers = Vec::new();
    for _ in 0..100 {
        let (future, waker, _) = parked();
        io_loop.spawn(future);
        wakers.push(waker);
    }
    turn(&io_loop);
    io_loop.add_callback(move || {
        let wake = move || wakers.iter().for_each(|w| w.lock().unwrap().take().unwrap().wake());
        thread::spawn(wake).join().unwrap();
    });
    turn(&io_loop);
    turn(&io_loop);
    let metrics = io_loop.metrics();
    assert_eq!((metrics.task_polls, metrics.wakeups), (200, 0));
}

#[test]
fn no_wake_up_of_many_threads_is_lost() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 2_000;
    let io_loop = new_loop();
    // Each task waits for its thread's next round, which waits for the task.
    let mut workers = Vec::new();
    let finished = Count::new();
    for _ in 0..THREADS {
        let round = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mpsc::channel::<Waker>();
        let (seen, done) = (round.clone(), finished.clone());
        let mut expected = 0;
        io_loop.spawn(poll_fn(move |context| {
            while seen.load(Ordering::Acquire) > expected {
                expected += 1;
            }
            if expected == ROUNDS {
                done.hit();
                if done.get() == THREADS {
                    IoLoop::current().stop();
                }
                return Poll::Ready(());
            }
            sender.send(context.waker().clone()).unwrap();
            // It may have moved on before it could have a waker.
            if seen.load(Ordering::Acquire) > expected {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        }));
        workers.push(thread::spawn(move || {
            while round.load(Ordering::Relaxed) < ROUNDS {
                let Ok(waker) = receiver.recv() else { break };
                round.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        }));
    }
    // Not `turn_until`, which would wake up without a wake-up.
    io_loop.start().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[test]
fn a_waker_outlives_its_task_and_its_loop() {
    let io_loop = new_loop();
    let (future, waker, polls) = parked();
    let task = io_loop.spawn(future);
    turn(&io_loop);
    task.abort();
    turn(&io_loop);
    let kept = waker.lock().unwrap().take().unwrap();
    kept.wake_by_ref();
    turn(&io_loop);
    drop(io_loop);
    kept.wake_by_ref();
    let use_up = move || {
        let clone = kept.clone();
        clone.wake();
        kept.wake_by_ref();
        drop(kept);
    };
    thread::spawn(use_up).join().unwrap();
    assert_eq!(polls.get(), 1);
    assert!(task.is_finished());
}

#[test]
fn the_last_waker_of_a_detached_task_may_be_dropped_anywhere() {
    let io_loop = new_loop();
    let drops = Arc::default();
    let (future, waker, _) = parked();
    let local = Local::new(&drops);
    drop(io_loop.spawn(async move {
        let _local = local;
        future.await;
    }));
    turn(&io_loop);
    let last = waker.lock().unwrap().take();
    thread::spawn(move || drop(last)).join().unwrap();
    turn(&io_loop);
    assert_eq!(total(&drops), 0);
    drop(io_loop);
    assert_eq!(total(&drops), 1);
}

/// Threads wake tasks all the time while their loop is closed.
fn futures_die_at_home_once(close: impl Fn(IoLoop)) {
    const TASKS: usize = 20;
    const THREADS: usize = 3;
    for _ in 0..200 {
        let io_loop = new_loop();
        let drops = Arc::default();
        let mut wakers = Vec::new();
        for _ in 0..TASKS {
            let (future, waker, _) = parked();
            let local = Local::new(&drops);
            drop(io_loop.spawn(async move {
                let _local = local;
                future.await;
            }));
            wakers.push(waker);
        }
        turn(&io_loop);
        let wakers: Vec<Waker> =
            wakers.into_iter().map(|w| w.lock().unwrap().take().unwrap()).collect();
        let closed = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(THREADS + 1));
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (wakers, closed, start) = (wakers.clone(), closed.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    while !closed.load(Ordering::Relaxed) {
                        for waker in &wakers {
                            let clone = waker.clone();
                            clone.wake();
                        }
                    }
                })
            })
            .collect();
        drop(wakers);
        start.wait();
        turn(&io_loop);
        close(io_loop);
        assert_eq!(total(&drops), TASKS);
        closed.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(total(&drops), TASKS);
    }
}

#[test]
fn dropping_the_loop_while_threads_wake_its_tasks_drops_each_future_at_home_once() {
    futures_die_at_home_once(drop);
}

#[test]
fn closing_the_loop_while_threads_wake_its_tasks_drops_each_future_at_home_once() {
    futures_die_at_home_once(|io_loop| io_loop.close(false).unwrap());
}

#[test]
fn a_loop_that_ends_with_its_thread_drops_its_futures_there() {
    support::watchdog();
    let drops = Arc::<AtomicUsize>::default();
    let counted = drops.clone();
    let (sender, receiver) = mpsc::channel();
    let home = thread::spawn(move || {
        thread_local! {
            static KEPT: Cell<Option<IoLoop>> = const { Cell::new(None) };
        }
        let io_loop = new_loop();
        let (future, waker, _) = parked();
        let local = Local::new(&counted);
        drop(io_loop.spawn(async move {
            let _local = local;
            future.await;
        }));
        turn(&io_loop);
        sender.send(waker.lock().unwrap().take().unwrap()).unwrap();
        // Dropped when the thread's own variables are.
        KEPT.set(Some(io_loop));
    });
    let waker = receiver.recv().unwrap();
    home.join().unwrap();
    assert_eq!(total(&drops), 1);
    waker.wake();
}

#[test]
fn in_a_child_the_parents_tasks_neither_run_nor_block() {
    let io_loop = new_loop();
    let (future, waker, polls) = parked();
    let dropped = Count::new();
    let (woken, idle) = (OnDrop(dropped.counter()), OnDrop(dropped.counter()));
    let task = io_loop.spawn(async move {
        let _on_drop = woken;
        future.await;
    });
    io_loop.spawn(async move {
        let _on_drop = idle;
        pending::<()>().await;
    });
    turn(&io_loop);
    let result = in_child(|| {
        let woken = waker.lock().unwrap().take().unwrap();
        woken.wake_by_ref();
        task.abort();
        let late = io_loop.spawn(async {});
        if !late.now_or_never().unwrap().unwrap_err().is_closed() {
            return Err("a task on the parent's loop".to_owned());
        }
        if io_loop.turn(None).is_ok() {
            return Err("the parent's loop turned".to_owned());
        }
        let own = IoLoop::new().unwrap();
        let joined = own.spawn(task);
        turn(&own);
        if !joined.now_or_never().unwrap().unwrap().unwrap_err().is_closed() {
            return Err("the parent's task ended".to_owned());
        }
        woken.wake_by_ref();
        drop(io_loop);
        woken.wake();
        match (polls.get(), dropped.get()) {
            (1, 0) => Ok(()),
            other => Err(format!("polls and drops: {other:?}")),
        }
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn after_a_fork_the_parents_tasks_go_on() {
    let io_loop = new_loop();
    let (future, waker, polls) = parked();
    io_loop.spawn(future);
    turn(&io_loop);
    let result = in_child(|| {
        waker.lock().unwrap().take().unwrap().wake();
        Ok(())
    });
    assert_eq!(result, Ok(()));
    waker.lock().unwrap().take().unwrap().wake();
    turn_until(&io_loop, || polls.get() == 2);
}
