//! Joining tasks: what a handle gives, and when.

mod support;
mod waker_support;

use futures::FutureExt;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use ringloop::{IoLoop, JoinError, JoinHandle};
use std::cell::RefCell;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use support::{Count, OnDrop, new_loop, thread_id, turn, turn_until, wait_until_asleep};
use waker_support::{Alarm, panics_when_woken, runs_when_cloned};

/// Runs the loop until the task is over.
fn join<T>(io_loop: &IoLoop, task: JoinHandle<T>) -> Result<T, JoinError> {
    turn_until(io_loop, || task.is_finished());
    task.now_or_never().expect("it is finished")
}

#[test]
fn a_handle_gives_the_tasks_output() {
    let io_loop = new_loop();
    let task = io_loop.spawn(ready(String::from("output")));
    assert_eq!(join(&io_loop, task).unwrap(), "output");
}

#[test]
fn a_task_that_awaits_another_goes_on_in_the_turn_after_that_ends() {
    let io_loop = new_loop();
    let (sender, receiver) = async_channel::bounded::<()>(1);
    let inner = io_loop.spawn(async move { receiver.recv().await });
    let outer = io_loop.spawn(inner);
    turn(&io_loop);
    sender.try_send(()).unwrap();
    turn(&io_loop);
    assert!(!outer.is_finished());
    turn(&io_loop);
    assert_eq!(outer.now_or_never().unwrap().unwrap().unwrap(), Ok(()));
}

#[test]
fn a_handle_of_a_finished_task_is_ready_at_once() {
    let io_loop = new_loop();
    let task = io_loop.spawn(ready(1));
    turn(&io_loop);
    assert!(task.is_finished());
    assert_eq!(task.now_or_never().unwrap().unwrap(), 1);
}

#[test]
fn a_handle_polled_after_it_was_ready_panics_and_says_so() {
    let io_loop = new_loop();
    let mut task = io_loop.spawn(ready(1));
    turn(&io_loop);
    assert_eq!((&mut task).now_or_never().unwrap().unwrap(), 1);
    assert!(task.is_finished());
    task.abort();
    let again = catch_unwind(AssertUnwindSafe(|| (&mut task).now_or_never()));
    let payload = again.unwrap_err();
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap();
    assert!(message.contains("polled after it was ready"), "{message}");
}

#[test]
fn an_aborted_task_is_not_polled_again_and_its_future_dropped_in_the_next_turn() {
    let io_loop = new_loop();
    let (polls, dropped) = (Count::new(), Count::new());
    let (hit, on_drop) = (polls.clone(), OnDrop(dropped.counter()));
    let task = io_loop.spawn(async move {
        let _on_drop = on_drop;
        hit.hit();
        pending::<()>().await;
    });
    turn(&io_loop);
    task.abort();
    task.abort();
    assert_eq!((dropped.get(), task.is_finished()), (0, false));
    turn(&io_loop);
    assert_eq!((dropped.get(), task.is_finished(), polls.get()), (1, true, 1));
    let error = join(&io_loop, task).unwrap_err();
    assert!(error.is_aborted() && !error.is_panic() && !error.is_closed());
    assert_eq!(error.to_string(), "the task was aborted");
    assert!(error.try_into_panic().unwrap_err().is_aborted());
}

#[test]
fn a_task_aborted_before_its_first_poll_is_never_polled() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async { unreachable!() });
    task.abort();
    assert!(join(&io_loop, task).unwrap_err().is_aborted());
}

#[test]
fn a_finished_task_keeps_its_output_when_it_is_aborted() {
    let io_loop = new_loop();
    let task = io_loop.spawn(ready(1));
    turn(&io_loop);
    task.abort();
    turn(&io_loop);
    assert_eq!(join(&io_loop, task).unwrap(), 1);
}

#[test]
fn abort_from_another_thread_wakes_a_sleeping_loop() {
    let io_loop = new_loop();
    let task = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    let sleeper = thread_id();
    let other = thread::spawn(move || {
        wait_until_asleep(sleeper);
        task.abort();
        task
    });
    io_loop.turn(None).unwrap();
    turn_until(&io_loop, || io_loop.metrics().tasks == 0);
    let error = other.join().unwrap().now_or_never().unwrap().unwrap_err();
    assert!(error.is_aborted());
}

#[test]
fn a_task_aborted_from_another_thread_is_not_polled_again_and_dropped_within_two_turns() {
    let io_loop = new_loop();
    let polls = Rc::new(Count::new());
    let hit = polls.clone();
    let task = io_loop.spawn(async move {
        hit.hit();
        pending::<()>().await;
    });
    turn(&io_loop);
    let task = thread::spawn(move || {
        task.abort();
        task
    });
    let task = task.join().unwrap();
    (0..2).for_each(|_| turn(&io_loop));
    assert!(task.now_or_never().unwrap().unwrap_err().is_aborted());
    assert_eq!(polls.get(), 1);
}

#[test]
fn abort_from_another_thread_at_any_moment_is_not_lost() {
    let io_loop = new_loop();
    for _ in 0..300 {
        // Always scheduled, running, or both.
        let task = io_loop.spawn(async {
            loop {
                futures::pending!();
            }
        });
        let busy = io_loop.spawn(std::future::poll_fn(|context| -> std::task::Poll<()> {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }));
        let other = thread::spawn(move || {
            busy.abort();
            task.abort();
        });
        while io_loop.metrics().tasks > 0 {
            turn(&io_loop);
        }
        other.join().unwrap();
    }
}

#[test]
fn a_handle_may_be_awaited_on_another_thread() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    let task = io_loop.spawn(async { 7 });
    let other = thread::spawn(move || {
        let output = futures::executor::block_on(task).unwrap();
        handle.stop();
        output
    });
    io_loop.start().unwrap();
    assert_eq!(other.join().unwrap(), 7);
}

fn poll_with<T>(waker: &Waker, task: &mut JoinHandle<T>) -> Poll<Result<T, JoinError>> {
    task.poll_unpin(&mut Context::from_waker(waker))
}

#[test]
fn the_waker_that_a_handle_was_polled_with_last_is_woken_once() {
    let io_loop = new_loop();
    let (first, first_waker) = Alarm::new();
    let (last, last_waker) = Alarm::new();
    let mut task = io_loop.spawn(ready(1));
    for waker in [&first_waker, &first_waker, &last_waker] {
        assert!(poll_with(waker, &mut task).is_pending());
    }
    assert_eq!(Arc::strong_count(&first), 2, "no other waker is kept");
    turn(&io_loop);
    assert_eq!((first.rings(), last.rings()), (0, 1));
    assert_eq!(Arc::strong_count(&last), 2);
    assert_eq!(join(&io_loop, task).unwrap(), 1);
}

#[test]
fn a_handle_that_goes_to_another_thread_after_a_poll_is_heard_there() {
    let io_loop = new_loop();
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    assert!(poll_with(&waker, &mut task).is_pending());
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        sender.send(thread_id()).unwrap();
        futures::executor::block_on(task)
    });
    wait_until_asleep(receiver.recv().unwrap());
    drop(io_loop);
    assert!(other.join().unwrap().unwrap_err().is_closed());
    assert!(alarm.rings() <= 1);
}

#[test]
fn a_handle_that_comes_from_another_thread_is_heard_here() {
    let io_loop = new_loop();
    let (there, there_waker) = Alarm::new();
    let (here, here_waker) = Alarm::new();
    let mut task = io_loop.spawn(ready(1));
    let other = thread::spawn(move || {
        assert!(poll_with(&there_waker, &mut task).is_pending());
        task
    });
    let mut task = other.join().unwrap();
    assert!(poll_with(&here_waker, &mut task).is_pending());
    turn(&io_loop);
    assert_eq!(here.rings(), 1);
    assert!(there.rings() <= 1);
    assert_eq!(join(&io_loop, task).unwrap(), 1);
}

#[test]
fn a_dropped_handle_keeps_nobodys_waker() {
    let io_loop = new_loop();
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    assert!(poll_with(&waker, &mut task).is_pending());
    drop((task, waker));
    assert_eq!(Arc::strong_count(&alarm), 1);
    assert_eq!(io_loop.metrics().tasks, 1);
}

#[test]
fn a_handle_awaited_and_then_dropped_on_another_thread_keeps_nobodys_waker() {
    let io_loop = new_loop();
    io_loop.make_current();
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    assert!(poll_with(&waker, &mut task).is_pending());
    drop(waker);
    thread::spawn(move || drop(task)).join().unwrap();
    turn(&io_loop);
    assert_eq!(Arc::strong_count(&alarm), 1);
    assert_eq!(io_loop.metrics().tasks, 1);
}

#[test]
fn a_handle_awaited_and_then_awaited_on_another_thread_keeps_only_the_latter_waker() {
    let io_loop = new_loop();
    io_loop.make_current();
    let (here, waker_here) = Alarm::new();
    let (there, waker_there) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    assert!(poll_with(&waker_here, &mut task).is_pending());
    drop(waker_here);
    let poll = || assert!(poll_with(&waker_there, &mut task).is_pending());
    thread::scope(|scope| scope.spawn(poll).join().unwrap());
    turn(&io_loop);
    assert_eq!(Arc::strong_count(&here), 1);
    let before = here.rings();
    task.abort();
    turn(&io_loop);
    assert_eq!((here.rings(), there.rings()), (before, 1));
}

#[test]
fn a_handle_dropped_on_another_thread_keeps_no_later_task_from_telling_who_awaits_it() {
    let io_loop = new_loop();
    io_loop.make_current();
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    assert!(poll_with(Waker::noop(), &mut task).is_pending());
    // In the next turn: the task ends, another one takes its place, and word comes of the handle.
    task.abort();
    let later = Rc::new(RefCell::new(None));
    let spawned = later.clone();
    io_loop.add_callback(move || {
        let mut task = IoLoop::current().spawn(ready(1));
        assert!(poll_with(&waker, &mut task).is_pending());
        *spawned.borrow_mut() = Some(task);
    });
    thread::spawn(move || drop(task)).join().unwrap();
    turn(&io_loop);
    turn(&io_loop);
    assert!(alarm.rings() > 0);
    assert_eq!(join(&io_loop, later.take().unwrap()).unwrap(), 1);
}

#[test]
fn a_panic_of_the_waker_of_whoever_joins_is_reported_and_the_task_ends() {
    support::watchdog();
    let reports: Rc<RefCell<Vec<String>>> = Rc::default();
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        told.borrow_mut().push(report.message().to_owned());
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let mut task = io_loop.spawn(ready(1));
    assert!(poll_with(&panics_when_woken(), &mut task).is_pending());
    turn(&io_loop);
    assert_eq!(reports.take(), ["woken"]);
    assert_eq!(join(&io_loop, task).unwrap(), 1);
}

/// What a waker does when it is woken, on the thread that made it.
struct Inline(Box<dyn Fn()>);

// SAFETY: the tests that make one wake and drop it on their own thread only.
unsafe impl Send for Inline {}
// SAFETY: as above.
unsafe impl Sync for Inline {}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.0();
    }
}

/// Polls `task` with a waker that runs `on_wake` on the spot.
fn poll_inline<T>(task: &mut JoinHandle<T>, on_wake: impl Fn() + 'static) {
    let waker = Arc::new(Inline(Box::new(on_wake))).into();
    assert!(poll_with(&waker, task).is_pending());
}

#[test]
fn a_handle_polled_while_its_task_ends_is_not_taken_for_that_of_a_task_spawned_then() {
    let io_loop = new_loop();
    let (alarm, waker) = Alarm::new();
    let (later_alarm, later_waker) = Alarm::new();
    let task = Rc::new(RefCell::new(io_loop.spawn(ready(1))));
    let later = Rc::new(RefCell::new(None));
    let on_wake = {
        let (task, later, waker) = (task.clone(), later.clone(), waker.clone());
        move || {
            let mut spawned = IoLoop::current().spawn(pending::<()>());
            assert!(poll_with(&later_waker, &mut spawned).is_pending());
            assert!(poll_with(&waker, &mut task.borrow_mut()).is_pending());
            *later.borrow_mut() = Some(spawned);
        }
    };
    poll_inline(&mut task.borrow_mut(), on_wake);
    turn(&io_loop);
    assert_eq!(alarm.rings(), 1);
    let task = Rc::into_inner(task).map(RefCell::into_inner);
    assert_eq!(join(&io_loop, task.expect("the waker is dropped")).unwrap(), 1);
    let later = later.take().unwrap();
    later.abort();
    assert!(join(&io_loop, later).unwrap_err().is_aborted());
    assert_eq!(later_alarm.rings(), 1);
}

#[test]
fn a_handle_dropped_while_its_task_ends_takes_nobody_elses_waker_along() {
    let io_loop = new_loop();
    let (alarm, waker) = Alarm::new();
    let task = Rc::new(RefCell::new(Some(io_loop.spawn(ready(1)))));
    let later = Rc::new(RefCell::new(None));
    let on_wake = {
        let (task, later) = (task.clone(), later.clone());
        move || {
            let mut spawned = IoLoop::current().spawn(ready(2));
            assert!(poll_with(&waker, &mut spawned).is_pending());
            drop(task.take());
            *later.borrow_mut() = Some(spawned);
        }
    };
    poll_inline(task.borrow_mut().as_mut().unwrap(), on_wake);
    turn(&io_loop);
    assert_eq!(join(&io_loop, later.take().unwrap()).unwrap(), 2);
    assert_eq!(alarm.rings(), 1);
}

/// A waker whose destructor runs a closure.
fn waker_with_destructor(on_drop: impl Fn() + 'static) -> Waker {
    struct Fragile(Inline);

    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            self.0.0();
        }
    }

    Arc::new(Fragile(Inline(Box::new(on_drop)))).into()
}

#[test]
fn a_loop_may_be_closed_again_by_a_waker_that_its_closing_wakes() {
    let io_loop = Rc::new(new_loop());
    let mut task = io_loop.spawn(pending::<()>());
    let _other = io_loop.spawn(pending::<()>());
    let closing = io_loop.clone();
    poll_inline(&mut task, move || closing.close(false).unwrap());
    io_loop.close(false).unwrap();
    assert!(task.now_or_never().unwrap().unwrap_err().is_closed());
    assert_eq!(io_loop.metrics().tasks, 0);
}

#[test]
fn a_waker_that_closes_the_loop_as_it_is_cloned_hears_of_the_end() {
    fn clone(data: *const ()) -> RawWaker {
        IoLoop::current().close(false).unwrap();
        RawWaker::new(data, &VTABLE)
    }
    fn look_at_tasks(_: *const ()) {
        assert_eq!(IoLoop::current().metrics().tasks, 0);
    }
    const VTABLE: RawWakerVTable =
        RawWakerVTable::new(clone, look_at_tasks, look_at_tasks, look_at_tasks);

    let io_loop = new_loop();
    io_loop.make_current();
    let mut task = io_loop.spawn(pending::<()>());
    // SAFETY: it has no data.
    let waker = unsafe { Waker::new(std::ptr::null(), &VTABLE) };
    let Poll::Ready(output) = poll_with(&waker, &mut task) else { panic!("the loop is closed") };
    assert!(output.unwrap_err().is_closed());
}

#[test]
fn a_waker_that_runs_the_loop_as_it_is_cloned_is_not_left_with_another_task() {
    let io_loop = new_loop();
    let mut task = io_loop.spawn(ready(1));
    // In the turn of the clone, it takes the place of the other.
    io_loop.add_callback(|| drop(IoLoop::current().spawn(pending::<()>())));
    let running = io_loop.clone();
    let (alarm, waker) = runs_when_cloned(move || turn(&running));
    let Poll::Ready(output) = poll_with(&waker, &mut task) else { panic!("the task is finished") };
    assert_eq!((output.unwrap(), alarm.rings()), (1, 0));
    assert_eq!(io_loop.metrics().tasks, 1);
}

#[test]
fn a_waker_that_runs_the_loop_as_it_is_dropped_takes_no_output_along() {
    let io_loop = new_loop();
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = io_loop.spawn(async move { receiver.recv().await });
    turn(&io_loop);
    let running = io_loop.clone();
    let waker = waker_with_destructor(move || turn(&running));
    IoLoop::clear_current();
    assert!(poll_with(&waker, &mut task).is_pending());
    drop(waker);
    io_loop.make_current();
    sender.try_send(1).unwrap();
    let Poll::Ready(output) = poll_with(Waker::noop(), &mut task) else {
        panic!("the task is finished")
    };
    assert_eq!(output.unwrap(), Ok(1));
}

#[test]
fn a_handle_detaches_its_task_also_if_the_waker_it_keeps_panics() {
    let io_loop = new_loop();
    let ran = Rc::new(Count::new());
    let hit = ran.clone();
    let mut task = io_loop.spawn(async move { hit.hit() });
    let waker = waker_with_destructor(|| panic!("a broken waker"));
    assert!(poll_with(&waker, &mut task).is_pending());
    drop(waker);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
    turn(&io_loop);
    assert_eq!(ran.get(), 1);
}

#[test]
fn a_task_aborted_and_dropped_with_a_broken_waker_ends_no_other() {
    let io_loop = new_loop();
    let mut task = io_loop.spawn(pending::<()>());
    let other = io_loop.spawn(ready(1));
    let waker = waker_with_destructor(|| panic!("a broken waker"));
    assert!(poll_with(&waker, &mut task).is_pending());
    drop(waker);
    task.abort();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
    assert_eq!(join(&io_loop, other).unwrap(), 1);
}

#[test]
fn awaiting_a_task_that_is_dropped_with_its_loop_gives_an_error() {
    let io_loop = new_loop();
    let inner = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    let other = new_loop();
    let outer = other.spawn(inner);
    turn(&other);
    drop(io_loop);
    let error = join(&other, outer).unwrap().unwrap_err();
    assert!(error.is_closed() && !error.is_aborted() && !error.is_panic());
    assert_eq!(error.to_string(), "the loop was closed before the task finished");
}

#[test]
fn a_thread_that_waits_for_a_task_hears_when_the_loop_is_dropped() {
    let io_loop = new_loop();
    let inner = io_loop.spawn(pending::<()>());
    turn(&io_loop);
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        sender.send(thread_id()).unwrap();
        futures::executor::block_on(inner)
    });
    wait_until_asleep(receiver.recv().unwrap());
    drop(io_loop);
    assert!(other.join().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_panic_with_any_payload_is_the_error_of_the_join() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async { std::panic::panic_any(5) });
    let error = join(&io_loop, task).unwrap_err();
    assert_eq!(error.to_string(), "the task panicked: a payload that is not text");
    assert_eq!(error.into_panic().downcast_ref::<i32>(), Some(&5));
}

#[test]
fn into_panic_of_another_error_panics_and_says_which() {
    let io_loop = new_loop();
    let task = io_loop.spawn(pending::<()>());
    task.abort();
    let error = join(&io_loop, task).unwrap_err();
    let payload = catch_unwind(AssertUnwindSafe(|| error.into_panic())).unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.contains("the task was aborted"), "{message}");
}

#[test]
fn errors_of_joins_are_errors_as_others_are() {
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    assert_error::<JoinError>();
    fn assert_send<T: Send>() {}
    assert_send::<JoinHandle<String>>();
}

#[test]
fn a_dropped_handle_of_a_finished_task_drops_the_output_there_and_then() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let output = OnDrop(dropped.counter());
    let task = io_loop.spawn(async move { output });
    turn(&io_loop);
    drop(task);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn two_tasks_may_hold_each_others_handles() {
    let io_loop = new_loop();
    let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
    let other = slot.clone();
    let first = io_loop.spawn(async move {
        let other = other.take().unwrap();
        drop(other.await);
    });
    slot.replace(Some(io_loop.spawn(async move { drop(first.await) })));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(io_loop.metrics().tasks, 2);
    drop(io_loop);
}

#[test]
fn many_tasks_are_joined_in_order_and_as_they_come() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async {
        let io_loop = IoLoop::current();
        let squares =
            join_all((0..100).map(|number| io_loop.spawn(async move { number * number })));
        let sum: usize = squares.await.into_iter().map(Result::unwrap).sum();
        let mut cubes: FuturesUnordered<_> =
            (0..10).map(|number| io_loop.spawn(async move { number * number * number })).collect();
        let mut total = 0;
        while let Some(cube) = cubes.next().await {
            total += cube.unwrap();
        }
        (sum, total)
    });
    assert_eq!(join(&io_loop, task).unwrap(), (328_350, 2025));
}
