//! The crates that tasks are used with: channels, locks, events and combinators made elsewhere.

mod support;

use async_lock::{Barrier, Mutex, RwLock, Semaphore};
use event_listener::{Event, Listener};
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, FutureExt, join_all, select, try_join};
use futures::stream::{self, FuturesUnordered, StreamExt};
use futures::{SinkExt, select as select_macro};
use ringloop::{IoLoop, time};
use std::cell::Cell;
use std::future::{Future, pending};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::new_loop;

const SHORT: Duration = Duration::from_millis(3);

/// Runs a future on a loop of its own.
#[track_caller]
fn run<F: Future>(future: F) -> F::Output {
    let io_loop = new_loop();
    let output = io_loop.run_sync(|| future, None).unwrap();
    io_loop.close(false).unwrap();
    output
}

fn spawn<F: Future + 'static>(future: F) -> ringloop::JoinHandle<F::Output> {
    IoLoop::current().spawn(future)
}

#[test]
fn select_takes_what_comes_first_and_drops_the_rest() {
    let winner = run(async {
        let mut fast = Box::pin(time::sleep(SHORT).fuse());
        let mut never = Box::pin(pending::<()>().fuse());
        select_macro! {
            () = fast => "fast",
            () = never => "never",
        }
    });
    assert_eq!(winner, "fast");
    run(async {
        let (sender, receiver) = oneshot::channel();
        spawn(async move { sender.send(4) });
        match select(receiver, Box::pin(time::sleep(Duration::from_secs(60)))).await {
            Either::Left((value, _)) => assert_eq!(value, Ok(4)),
            Either::Right(_) => panic!("the sleep came first"),
        }
    });
}

#[test]
fn joined_futures_run_side_by_side() {
    run(async {
        let tasks = (0..50u64).map(|number| async move {
            time::sleep(Duration::from_micros(number * 10)).await;
            number
        });
        assert_eq!(join_all(tasks).await.into_iter().sum::<u64>(), 1225);
        let failing = async { Err::<(), _>("no") };
        let never = pending::<Result<(), _>>();
        assert_eq!(try_join(failing, never).await, Err("no"));
    });
}

#[test]
fn unordered_futures_come_as_they_are_done() {
    run(async {
        let mut sleeps: FuturesUnordered<_> = [3, 1, 2]
            .map(|millis| async move {
                time::sleep(Duration::from_millis(5 * millis)).await;
                millis
            })
            .into_iter()
            .collect();
        let mut order = Vec::new();
        while let Some(millis) = sleeps.next().await {
            order.push(millis);
        }
        assert_eq!(order, [1, 2, 3]);
    });
}

#[test]
fn buffered_streams_of_tasks_keep_their_limit() {
    run(async {
        let (active, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let work = stream::iter(0..20).map(|number| {
            let (active, most) = (active.clone(), most.clone());
            async move {
                active.set(active.get() + 1);
                most.set(most.get().max(active.get()));
                time::sleep(Duration::from_micros(100)).await;
                active.set(active.get() - 1);
                number
            }
        });
        let sum: i32 = work.buffer_unordered(4).fold(0, async |sum, number| sum + number).await;
        assert_eq!((sum, most.get()), (190, 4));
    });
}

#[test]
fn channels_of_futures_hold_back_their_senders() {
    run(async {
        let (mut sender, receiver) = mpsc::channel(2);
        let producer = spawn(async move {
            for number in 0..100 {
                sender.send(number).await.unwrap();
            }
        });
        assert_eq!(receiver.collect::<Vec<_>>().await, (0..100).collect::<Vec<_>>());
        producer.await.unwrap();
    });
}

#[test]
fn a_channel_is_a_queue_between_threads_and_tasks() {
    run(async {
        let (sender, receiver) = async_channel::bounded(4);
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let sender = sender.clone();
                thread::spawn(move || {
                    (0..500).for_each(|item| sender.send_blocking((number, item)).unwrap());
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; 3];
        while let Ok((number, item)) = receiver.recv().await {
            assert_eq!(next[number], item);
            next[number] += 1;
        }
        assert_eq!(next, [500; 3]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn an_event_wakes_all_who_listen_whichever_thread_notifies() {
    run(async {
        let event = Arc::new(Event::new());
        let tasks: Vec<_> = (0..5).map(|_| spawn(event.listen())).collect();
        let notifier = event.clone();
        let other = thread::spawn(move || notifier.notify(5));
        for task in tasks {
            task.await.unwrap();
        }
        other.join().unwrap();
        let listener = event.listen();
        assert!(time::timeout(SHORT, listener).await.is_err());
        event.notify(1);
        assert!(event.listen().wait_timeout(Duration::ZERO).is_none());
    });
}

#[test]
fn a_lock_is_held_across_awaits_and_handed_on() {
    run(async {
        let lock = Rc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let lock = lock.clone();
                spawn(async move {
                    let mut held = lock.lock().await;
                    let before = *held;
                    time::sleep(Duration::from_micros(50)).await;
                    *held = before + 1;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*lock.lock().await, 10);
        let shared = RwLock::new(1);
        let (first, second) = (shared.read().await, shared.read().await);
        assert_eq!(*first + *second, 2);
    });
}

#[test]
fn a_lock_between_loops_of_different_threads_is_handed_on() {
    let lock = Arc::new(Mutex::new(0));
    let count = |lock: Arc<Mutex<i32>>| async move {
        for _ in 0..200 {
            *lock.lock().await += 1;
        }
    };
    let other = lock.clone();
    let thread = thread::spawn(move || run(count(other)));
    run(count(lock.clone()));
    thread.join().unwrap();
    assert_eq!(*lock.lock_blocking(), 400);
}

#[test]
fn a_semaphore_lets_in_as_many_as_it_says() {
    run(async {
        let semaphore = Arc::new(Semaphore::new(3));
        let (active, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let (semaphore, active, most) = (semaphore.clone(), active.clone(), most.clone());
                spawn(async move {
                    let _permit = semaphore.acquire().await;
                    active.set(active.get() + 1);
                    most.set(most.get().max(active.get()));
                    time::sleep(Duration::from_micros(50)).await;
                    active.set(active.get() - 1);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(most.get(), 3);
    });
}

#[test]
fn a_barrier_lets_all_go_at_once() {
    run(async {
        let barrier = Rc::new(Barrier::new(4));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let barrier = barrier.clone();
                spawn(async move { barrier.wait().await.is_leader() })
            })
            .collect();
        let mut leaders = 0;
        for task in tasks {
            leaders += usize::from(task.await.unwrap());
        }
        assert_eq!(leaders, 1);
    });
}
