//! Tasks: when they run, what drops them, and what they may do.

mod support;

use futures::FutureExt;
use futures::future::poll_fn;
use ringloop::{CallbackKind, Events, IoLoop, JoinHandle, Panics};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use support::{Count, OnDrop, Trace, new_loop, ready_pair, turn, turn_until};

/// Gives way for one turn.
fn yield_now() -> impl Future<Output = ()> {
    let mut woken = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A future that stores its waker, and never ends.
fn parked(waker: &Rc<RefCell<Option<Waker>>>, polls: &Count) -> impl Future<Output = ()> + use<> {
    let (waker, polls) = (waker.clone(), polls.clone());
    poll_fn(move |context| {
        polls.hit();
        waker.replace(Some(context.waker().clone()));
        Poll::Pending
    })
}

async fn pending_with<T>(value: T) {
    let _value = value;
    pending::<()>().await;
}

#[test]
fn a_task_is_polled_in_the_next_turn_and_not_before() {
    let io_loop = new_loop();
    let count = Count::new();
    let hit = count.clone();
    let task = io_loop.spawn(async move { hit.hit() });
    assert_eq!((count.get(), task.is_finished(), io_loop.metrics().tasks), (0, false, 1));
    turn(&io_loop);
    assert_eq!((count.get(), task.is_finished(), io_loop.metrics().tasks), (1, true, 0));
}

#[test]
fn a_future_that_is_neither_send_nor_unpin_runs() {
    let io_loop = new_loop();
    let cell = Rc::new(Cell::new(0));
    let inner = cell.clone();
    io_loop.spawn(async move {
        let value = &1;
        yield_now().await;
        inner.set(*value);
    });
    turn(&io_loop);
    assert_eq!(cell.get(), 0);
    turn(&io_loop);
    assert_eq!(cell.get(), 1);
}

#[test]
fn tasks_and_callbacks_run_in_the_order_in_which_they_were_queued() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let task = |name| {
        let mut mark = trace.mark(name);
        async move { mark() }
    };
    io_loop.add_callback(trace.mark("callback 1"));
    io_loop.spawn(task("task 1"));
    io_loop.add_callback(trace.mark("callback 2"));
    io_loop.spawn(task("task 2"));
    turn(&io_loop);
    assert_eq!(trace.take(), ["callback 1", "task 1", "callback 2", "task 2"]);
}

#[test]
fn a_task_that_wakes_itself_runs_again_in_the_next_turn_behind_what_was_queued_before() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (mut first, mut second) = (trace.mark("first"), trace.mark("second"));
    io_loop.spawn(async move {
        first();
        yield_now().await;
        second();
    });
    io_loop.add_callback({
        let trace = trace.clone();
        move || IoLoop::current().add_callback(trace.mark("callback"))
    });
    turn(&io_loop);
    assert_eq!(trace.take(), ["first"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["second", "callback"]);
}

#[test]
fn tasks_that_always_wake_themselves_starve_neither_handlers_nor_timeouts_nor_callbacks() {
    let io_loop = new_loop();
    for _ in 0..10 {
        io_loop.spawn(async {
            loop {
                yield_now().await;
            }
        });
    }
    let count = Count::new();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, count.handler::<UnixStream>()).unwrap();
    io_loop.call_later(Duration::ZERO, count.counter());
    io_loop.add_callback(count.counter());
    turn(&io_loop);
    assert_eq!(count.get(), 3);
}

#[test]
fn a_handler_that_is_always_ready_starves_no_task() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap();
    let count = Count::new();
    let hit = count.clone();
    io_loop.spawn(async move {
        loop {
            hit.hit();
            yield_now().await;
        }
    });
    (0..10).for_each(|_| turn(&io_loop));
    assert_eq!(count.get(), 10);
}

#[test]
fn a_handler_wakes_a_task_which_runs_in_the_next_turn() {
    let io_loop = new_loop();
    let (sender, receiver) = async_channel::unbounded();
    let (stream, _peer) = ready_pair();
    let handler = move |stream: &mut UnixStream, _| {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
        sender.try_send(()).unwrap();
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    let task = io_loop.spawn(async move { receiver.recv().await.unwrap() });
    turn(&io_loop);
    assert!(!task.is_finished());
    turn(&io_loop);
    assert!(task.is_finished());
}

#[test]
fn many_wake_ups_before_a_poll_make_one_poll() {
    let io_loop = new_loop();
    let (waker, polls) = (Rc::default(), Count::new());
    io_loop.spawn(parked(&waker, &polls));
    turn(&io_loop);
    for _ in 0..3 {
        let woken = waker.borrow().clone().unwrap();
        (0..10).for_each(|_| woken.wake_by_ref());
        thread::spawn(move || woken.wake()).join().unwrap();
        turn(&io_loop);
        turn(&io_loop);
    }
    assert_eq!(polls.get(), 4);
}

#[test]
fn the_current_loop_of_a_task_is_its_own() {
    let io_loop = new_loop();
    let other = new_loop();
    let name = |io_loop: &IoLoop| format!("{io_loop:?}");
    let expected = name(&io_loop);
    let task = io_loop.spawn(async move {
        yield_now().await;
        name(&IoLoop::current()) == expected
    });
    turn(&io_loop);
    turn(&io_loop);
    assert!(task.now_or_never().unwrap().unwrap());
    drop(other);
}

#[test]
fn tasks_may_be_spawned_woken_and_aborted_while_their_loop_is_not_current() {
    let io_loop = new_loop();
    let (waker, polls) = (Rc::default(), Count::new());
    let _other = new_loop();
    let task = io_loop.spawn(parked(&waker, &polls));
    turn(&io_loop);
    waker.take().unwrap().wake();
    turn(&io_loop);
    assert_eq!(polls.get(), 2);
    task.abort();
    turn_until(&io_loop, || task.is_finished());
    assert_eq!(polls.get(), 2);
}

#[test]
fn a_task_wakes_a_task_of_another_loop_of_its_thread() {
    let first = new_loop();
    let second = new_loop();
    let (sender, receiver) = async_channel::bounded(1);
    let received = first.spawn(async move { receiver.recv().await });
    turn(&first);
    second.spawn(async move { sender.send(5).await });
    turn(&second);
    turn(&first);
    assert_eq!(received.now_or_never().unwrap().unwrap(), Ok(5));
}

#[test]
fn a_finished_future_is_dropped_at_once_and_its_output_handed_over() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let on_drop = OnDrop(dropped.counter());
    let output = Count::new();
    let value = OnDrop(output.counter());
    let task = io_loop.spawn(async move {
        let _on_drop = on_drop;
        value
    });
    turn(&io_loop);
    assert_eq!((dropped.get(), output.get()), (1, 0));
    drop(task.now_or_never().unwrap().unwrap());
    assert_eq!(output.get(), 1);
}

#[test]
fn a_detached_task_goes_on_and_its_output_is_dropped_with_it() {
    let io_loop = new_loop();
    let output = Count::new();
    let value = OnDrop(output.counter());
    drop(io_loop.spawn(async move {
        yield_now().await;
        value
    }));
    turn(&io_loop);
    assert_eq!(output.get(), 0);
    turn(&io_loop);
    assert_eq!((output.get(), io_loop.metrics().tasks), (1, 0));
}

#[test]
fn a_detached_task_without_wakers_is_dropped_with_the_loop() {
    let io_loop = new_loop();
    let dropped = Count::new();
    drop(io_loop.spawn(pending_with(OnDrop(dropped.counter()))));
    turn(&io_loop);
    assert_eq!((dropped.get(), io_loop.metrics().tasks), (0, 1));
    drop(io_loop);
    assert_eq!(dropped.get(), 1);
}

/// Drops a loop with a future in each state that a task can be in.
fn pending_futures_are_dropped_once(close: impl FnOnce(IoLoop)) {
    let io_loop = new_loop();
    let dropped = Count::new();
    let task = || pending_with(OnDrop(dropped.counter()));
    let mut handles: Vec<JoinHandle<()>> = Vec::new();
    // Idle, with and without a handle.
    handles.push(io_loop.spawn(task()));
    drop(io_loop.spawn(task()));
    // Idle, with a waker elsewhere.
    let (waker, polls) = (Rc::default(), Count::new());
    let parked = parked(&waker, &polls);
    let on_drop = task();
    handles.push(io_loop.spawn(async move {
        futures::join!(parked, on_drop);
    }));
    turn(&io_loop);
    // Woken, here and on another thread.
    waker.borrow().as_ref().unwrap().wake_by_ref();
    let foreign = Rc::default();
    let parked = self::parked(&foreign, &polls);
    let on_drop = task();
    handles.push(io_loop.spawn(async move {
        futures::join!(parked, on_drop);
    }));
    turn(&io_loop);
    let woken: Waker = foreign.take().unwrap();
    thread::spawn(move || woken.wake()).join().unwrap();
    // Never polled, and aborted.
    handles.push(io_loop.spawn(task()));
    let aborted = io_loop.spawn(task());
    aborted.abort();
    assert_eq!(dropped.get(), 0);
    close(io_loop);
    assert_eq!(dropped.get(), 6);
    for handle in handles {
        assert!(handle.is_finished());
        assert!(handle.now_or_never().unwrap().unwrap_err().is_closed());
    }
    drop((waker, aborted));
    assert_eq!(dropped.get(), 6);
}

#[test]
fn dropping_the_loop_drops_every_pending_future_once() {
    pending_futures_are_dropped_once(drop);
}

#[test]
fn closing_the_loop_drops_every_pending_future_once() {
    pending_futures_are_dropped_once(|io_loop| io_loop.close(false).unwrap());
}

#[test]
fn closing_a_loop_that_is_not_current_drops_every_pending_future_once() {
    pending_futures_are_dropped_once(|io_loop| {
        IoLoop::clear_current();
        io_loop.close(false).unwrap();
    });
}

#[test]
fn a_task_spawned_on_a_closed_loop_is_dropped_at_once() {
    let io_loop = new_loop();
    io_loop.close(false).unwrap();
    let dropped = Count::new();
    let task = io_loop.spawn(pending_with(OnDrop(dropped.counter())));
    assert_eq!((dropped.get(), task.is_finished()), (1, true));
    assert!(task.now_or_never().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_future_may_use_its_loop_while_that_drops_it() {
    let io_loop = new_loop();
    let (own, late) = (io_loop.clone(), Count::new());
    let sibling = Rc::new(io_loop.spawn(pending::<()>()));
    let (other, count) = (sibling.clone(), late.clone());
    let on_drop = OnDrop(move || {
        let on_drop = OnDrop(count.counter());
        assert!(own.spawn(pending_with(on_drop)).is_finished());
        own.add_callback(|| unreachable!());
        let closed = own.handle().add_callback(|| unreachable!());
        own.call_later(Duration::ZERO, || unreachable!());
        other.abort();
        own.close(false).unwrap();
        let _ = closed;
    });
    io_loop.spawn(pending_with(on_drop));
    turn(&io_loop);
    io_loop.close(false).unwrap();
    assert_eq!(late.get(), 1);
    assert!(sibling.is_finished());
}

#[test]
fn a_future_that_wakes_another_as_it_is_dropped_is_fine() {
    let io_loop = new_loop();
    let (waker, polls) = (Rc::default(), Count::new());
    io_loop.spawn(parked(&waker, &polls));
    let on_drop = OnDrop(move || waker.borrow().as_ref().unwrap().wake_by_ref());
    let task = io_loop.spawn(pending_with(on_drop));
    turn(&io_loop);
    task.abort();
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(polls.get(), 2);
    drop(io_loop);
}

#[test]
fn a_task_may_hold_the_last_handle_of_its_loop_and_close_ends_both() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let kept = (io_loop.clone(), OnDrop(dropped.counter()));
    io_loop.spawn(pending_with(kept));
    turn(&io_loop);
    let last = io_loop.clone();
    drop(io_loop);
    assert_eq!(dropped.get(), 0);
    last.close(false).unwrap();
    assert_eq!(dropped.get(), 1);
}

#[test]
fn a_task_may_drop_every_clone_of_its_loop_but_the_running_one() {
    let io_loop = new_loop();
    let kept = io_loop.clone();
    let task = io_loop.spawn(async move { drop(kept) });
    turn(&io_loop);
    drop(io_loop);
    task.now_or_never().unwrap().unwrap();
}

#[test]
fn tasks_may_spawn_tasks() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async {
        let inner = IoLoop::current().spawn(async { 1 });
        inner.await.unwrap() + 1
    });
    turn_until(&io_loop, || task.is_finished());
    assert_eq!(task.now_or_never().unwrap().unwrap(), 2);
}

#[test]
fn a_task_larger_than_a_page_runs() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async {
        let large = [1u8; 5000];
        yield_now().await;
        large.iter().map(|&byte| usize::from(byte)).sum::<usize>()
    });
    turn_until(&io_loop, || task.is_finished());
    assert_eq!(task.now_or_never().unwrap().unwrap(), 5000);
}

/// What the panic hook was told: kind, line and message.
type Reports = Rc<RefCell<Vec<(CallbackKind, u32, String)>>>;

fn catching_loop() -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .panic_hook(move |report| {
            assert!(report.origin.site.unwrap().file().ends_with("tasks.rs"));
            let message = report.message().to_owned();
            told.borrow_mut().push((
                report.origin.kind,
                report.origin.site.unwrap().line(),
                message,
            ));
        })
        .build()
        .unwrap();
    (io_loop, reports)
}

#[track_caller]
fn assert_reported(reports: &Reports, expected: &[(u32, &str)]) {
    let told = reports.take();
    let told: Vec<_> = told
        .iter()
        .map(|(kind, line, text)| {
            assert_eq!(*kind, CallbackKind::Task);
            (*line, &text[..])
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_panic_of_a_detached_task_is_reported_and_the_rest_runs() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    drop(io_loop.spawn(async { panic!("number 1") }));
    let line = line!() - 1;
    io_loop.add_callback(count.counter());
    turn(&io_loop);
    assert_reported(&reports, &[(line, "number 1")]);
    assert_eq!((count.get(), io_loop.metrics().panics, io_loop.metrics().tasks), (1, 1, 0));
}

#[test]
fn a_panic_of_a_task_with_a_handle_is_the_handles_and_counted() {
    let (io_loop, reports) = catching_loop();
    let task = io_loop.spawn(async { panic!("number 1") });
    turn(&io_loop);
    assert_eq!(io_loop.metrics().panics, 1);
    let error = task.now_or_never().unwrap().unwrap_err();
    assert!(error.is_panic() && !error.is_aborted() && !error.is_closed());
    assert_eq!(error.to_string(), "the task panicked: number 1");
    assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"number 1"));
    turn(&io_loop);
    assert_reported(&reports, &[]);
}

#[test]
fn a_panic_that_no_handle_was_asked_for_is_reported_when_the_handle_is_dropped() {
    let (io_loop, reports) = catching_loop();
    let first = io_loop.spawn(async { panic!("first") });
    let line = line!() - 1;
    let second = io_loop.spawn(async { panic!("second") });
    turn(&io_loop);
    assert_reported(&reports, &[]);
    drop(first);
    thread::spawn(move || drop(second)).join().unwrap();
    turn(&io_loop);
    assert_reported(&reports, &[(line, "first"), (line + 2, "second")]);
}

#[test]
fn a_panic_of_a_futures_destructor_is_reported_however_the_task_ends() {
    let (io_loop, reports) = catching_loop();
    let explosive = |what: &'static str| OnDrop(move || panic!("{what}"));
    let (done, aborted, closed) = (explosive("done"), explosive("aborted"), explosive("closed"));
    let line = line!();
    let done = io_loop.spawn(poll_fn(move |_| {
        let _ = &done;
        Poll::Ready(1)
    }));
    let ended = io_loop.spawn(pending_with(aborted));
    io_loop.spawn(pending_with(closed));
    turn(&io_loop);
    ended.abort();
    turn(&io_loop);
    // What the task does is not changed by it.
    assert_eq!(done.now_or_never().unwrap().unwrap(), 1);
    assert!(ended.now_or_never().unwrap().unwrap_err().is_aborted());
    assert_eq!(io_loop.metrics().panics, 2);
    assert_reported(&reports, &[(line + 1, "done"), (line + 5, "aborted")]);
    io_loop.close(false).unwrap();
    assert_reported(&reports, &[(line + 6, "closed")]);
}

#[test]
fn a_panic_of_an_outputs_destructor_is_reported() {
    let (io_loop, reports) = catching_loop();
    let explosive = OnDrop(|| panic!("output"));
    drop(io_loop.spawn(async { explosive }));
    let line = line!() - 1;
    turn(&io_loop);
    assert_reported(&reports, &[(line, "output")]);
}

#[test]
fn a_task_that_panics_twice_is_reported_twice() {
    let (io_loop, reports) = catching_loop();
    let explosive = OnDrop(|| panic!("destructor"));
    drop(io_loop.spawn(poll_fn::<(), _>(move |_| {
        let _ = &explosive;
        panic!("poll")
    })));
    let line = line!() - 4;
    turn(&io_loop);
    assert_reported(&reports, &[(line, "destructor"), (line, "poll")]);
}

#[test]
fn with_propagate_a_panic_of_a_detached_task_is_let_out_and_the_rest_is_kept() {
    let io_loop = new_loop();
    let count = Count::new();
    drop(io_loop.spawn(async { panic!("out") }));
    io_loop.add_callback(count.counter());
    let turned = std::panic::AssertUnwindSafe(|| turn(&io_loop));
    let payload = std::panic::catch_unwind(turned).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"out"));
    assert_eq!((count.get(), io_loop.metrics().tasks), (0, 0));
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}

#[test]
fn with_propagate_a_panic_of_a_task_with_a_handle_is_the_handles() {
    let io_loop = new_loop();
    let task = io_loop.spawn(async { panic!("in") });
    turn(&io_loop);
    assert!(task.now_or_never().unwrap().unwrap_err().is_panic());
}

#[test]
fn with_propagate_the_first_panic_of_a_destructor_comes_out_of_close_after_all_are_dropped() {
    let io_loop = new_loop();
    let dropped = Count::new();
    for number in 0..3 {
        let count = dropped.clone();
        let on_drop = OnDrop(move || {
            count.hit();
            panic!("number {number}");
        });
        drop(io_loop.spawn(pending_with(on_drop)));
    }
    let close = std::panic::AssertUnwindSafe(|| io_loop.close(false));
    let payload = std::panic::catch_unwind(close).unwrap_err();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), "number 0");
    assert_eq!(dropped.get(), 3);
}

#[test]
fn a_slow_poll_is_reported_with_the_place_that_spawned_the_task() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .panics(Panics::Propagate)
        .slow_callback(Duration::from_millis(1), move |report| {
            told.borrow_mut().push((report.origin.kind, report.origin.site.unwrap().line()));
        })
        .build()
        .unwrap();
    io_loop.spawn(async { thread::sleep(Duration::from_millis(3)) });
    let line = line!() - 1;
    turn(&io_loop);
    assert_eq!(reports.take(), [(CallbackKind::Task, line)]);
}

/// A future that is dropped while it is polled would be unsound; this one would notice.
struct Fragile {
    polling: Rc<Cell<bool>>,
    act: Box<dyn FnMut()>,
}

impl Future for Fragile {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.polling.set(true);
        (self.act)();
        self.polling.set(false);
        Poll::Pending
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.polling.get());
    }
}

#[test]
fn a_task_that_aborts_itself_ends_after_its_poll() {
    let io_loop = new_loop();
    let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
    let (handle, count) = (own.clone(), Count::new());
    let hit = count.clone();
    let act = move || {
        handle.borrow().as_ref().unwrap().abort();
        hit.hit();
    };
    let task = io_loop.spawn(Fragile { polling: Rc::default(), act: Box::new(act) });
    own.replace(Some(task));
    turn(&io_loop);
    assert!(!own.borrow().as_ref().unwrap().is_finished());
    turn(&io_loop);
    let task = own.take().unwrap();
    assert!(task.now_or_never().unwrap().unwrap_err().is_aborted());
    assert_eq!(count.get(), 1);
}

#[test]
fn a_task_may_drop_its_own_handle() {
    let io_loop = new_loop();
    let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
    let handle = own.clone();
    let act = move || drop(handle.take());
    own.replace(Some(io_loop.spawn(Fragile { polling: Rc::default(), act: Box::new(act) })));
    turn(&io_loop);
    assert!(own.borrow().is_none());
    assert_eq!(io_loop.metrics().tasks, 1);
}
