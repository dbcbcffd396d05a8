//! The other ways of starting tasks: `spawn_callback`, `add_future`, and from other threads.

mod support;

use futures::channel::oneshot;
use ringloop::{CallbackKind, Cause, IoLoop};
use std::cell::RefCell;
use std::future::{pending, poll_fn, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use support::{Count, OnDrop, Trace, new_loop, thread_id, turn, turn_until, wait_until_asleep};

/// What the hook was told: cause, line and message.
type Reports = Rc<RefCell<Vec<(Cause, u32, String)>>>;

fn reporting(builder: ringloop::Builder) -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        assert_eq!(report.origin.kind, CallbackKind::Task);
        assert!(report.origin.type_name.unwrap().contains("spawning::"), "{report}");
        let message = report.message().to_owned();
        told.borrow_mut().push((report.cause, report.origin.site.unwrap().line(), message));
    };
    (builder.panic_hook(hook).build().unwrap(), reports)
}

#[test]
fn spawn_callback_runs_in_the_next_turn_in_line_with_the_callbacks() {
    let io_loop = new_loop();
    let trace = Trace::new();
    io_loop.add_callback(trace.mark("first"));
    let own = trace.clone();
    io_loop.spawn_callback(move || {
        own.push("function");
        async move { own.push("future") }
    });
    io_loop.add_callback(trace.mark("last"));
    assert!(trace.take().is_empty());
    turn(&io_loop);
    assert_eq!(trace.take(), ["first", "function", "future", "last"]);
}

#[test]
fn an_error_of_a_spawned_callback_is_reported_with_its_origin() {
    for builder in [IoLoop::builder(), IoLoop::builder().panics(ringloop::Panics::Propagate)] {
        let (io_loop, reports) = reporting(builder);
        io_loop.spawn_callback(|| async { Err::<(), _>(std::io::Error::other("no luck")) });
        let line = line!() - 1;
        io_loop.spawn_callback(|| ready(Ok::<_, String>(5)));
        turn(&io_loop);
        assert_eq!(reports.take(), [(Cause::Error, line, "no luck".to_owned())]);
        let metrics = io_loop.metrics();
        assert_eq!((metrics.task_errors, metrics.panics, metrics.tasks), (1, 0, 0));
    }
}

#[test]
fn an_error_is_reported_also_if_the_destructor_of_its_future_panics() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    let on_drop = OnDrop(|| panic!("in the destructor"));
    io_loop.spawn_callback(|| {
        poll_fn(move |_| {
            let _ = &on_drop;
            Poll::Ready(Err::<(), _>("no luck"))
        })
    });
    let line = line!() - 6;
    turn(&io_loop);
    let mut told = reports.take();
    told.sort_by_key(|(cause, ..)| *cause == Cause::Panic);
    let expected = [(Cause::Error, "no luck"), (Cause::Panic, "in the destructor")];
    assert_eq!(told, expected.map(|(cause, text)| (cause, line, text.to_owned())));
}

#[test]
fn a_panic_of_an_error_put_into_words_is_caught_like_one_of_the_task() {
    struct Unspeakable;

    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }

    let (io_loop, reports) = reporting(IoLoop::builder());
    io_loop.spawn_callback(|| ready(Err::<(), _>(Unspeakable)));
    let line = line!() - 1;
    turn(&io_loop);
    assert_eq!(reports.take(), [(Cause::Panic, line, "no words".to_owned())]);
    assert_eq!((io_loop.metrics().panics, io_loop.metrics().task_errors), (1, 0));
}

#[test]
fn a_panic_of_a_spawned_callback_is_reported_with_its_origin() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    io_loop.spawn_callback(|| async { panic!("in the future") });
    io_loop.spawn_callback(|| -> std::future::Ready<()> { panic!("in the function") });
    let line = line!() - 1;
    turn(&io_loop);
    let expected = [
        (Cause::Panic, line - 1, "in the future".to_owned()),
        (Cause::Panic, line, "in the function".to_owned()),
    ];
    assert_eq!(reports.take(), expected);
    assert_eq!((io_loop.metrics().panics, io_loop.metrics().task_errors), (2, 0));
}

#[test]
fn a_report_of_an_error_reads_as_one() {
    support::watchdog();
    let text = Rc::new(RefCell::new(String::new()));
    let store = text.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| *store.borrow_mut() = report.to_string();
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    io_loop.spawn_callback(|| async { Err::<(), _>("no luck") });
    turn(&io_loop);
    let text = text.take();
    assert!(text.starts_with("task spawning::") && text.ends_with("failed: no luck"), "{text}");
}

#[test]
fn add_future_calls_back_in_a_later_turn_even_if_the_future_is_done() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let inner = trace.clone();
    io_loop.add_callback(move || {
        let after = inner.clone();
        IoLoop::current().add_future(ready(5), move |value| after.push(format!("got {value}")));
        inner.push("added");
    });
    turn(&io_loop);
    assert_eq!(trace.take(), ["added"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["got 5"]);
}

#[test]
fn add_future_calls_back_on_the_loop_whichever_thread_completes_the_future() {
    let io_loop = new_loop();
    let (sender, receiver) = oneshot::channel();
    let home = thread::current().id();
    let (sleeper, count) = (thread_id(), Count::new());
    let hit = count.clone();
    io_loop.add_future(receiver, move |value| {
        assert_eq!((value, thread::current().id()), (Ok(3), home));
        hit.hit();
        IoLoop::current().stop();
    });
    let other = thread::spawn(move || {
        wait_until_asleep(sleeper);
        sender.send(3).unwrap();
    });
    io_loop.start().unwrap();
    other.join().unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn add_future_drops_the_future_before_it_calls_back() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let guard = OnDrop(dropped.counter());
    let seen = Count::new();
    let mark = seen.clone();
    let future = poll_fn(move |_| {
        let _ = &guard;
        Poll::Ready(())
    });
    io_loop.add_future(future, move |()| {
        assert_eq!(dropped.get(), 1);
        mark.hit();
    });
    turn(&io_loop);
    assert_eq!(seen.get(), 1);
}

#[test]
fn a_panic_of_a_finished_futures_destructor_does_not_keep_the_callback_from_being_called() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    let called = Count::new();
    let mut mark = called.counter();
    let guard = OnDrop(|| panic!("in a destructor"));
    let future = poll_fn(move |_| {
        let _ = &guard;
        Poll::Ready(())
    });
    io_loop.add_future(future, move |()| mark());
    let line = line!() - 1;
    turn(&io_loop);
    assert_eq!(called.get(), 1);
    assert_eq!(reports.take(), [(Cause::Panic, line, "in a destructor".to_owned())]);
}

#[test]
fn a_future_that_panics_is_reported_and_its_callback_dropped_uncalled() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    let dropped = Count::new();
    let on_drop = OnDrop(dropped.counter());
    let failing = async { panic!("on purpose") };
    io_loop.add_future(failing, move |()| {
        let _on_drop = &on_drop;
        unreachable!();
    });
    let line = line!() - 4;
    turn(&io_loop);
    assert_eq!(dropped.get(), 1);
    assert_eq!(reports.take(), [(Cause::Panic, line, "on purpose".to_owned())]);
}

#[test]
fn a_callback_added_to_a_spawned_future_is_called_also_if_that_panics() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    let told = Trace::new();
    let trace = told.clone();
    io_loop.add_future(io_loop.spawn(async { panic!("on purpose") }), move |result| {
        let Err(error) = result;
        trace.push(error.to_string());
    });
    turn_until(&io_loop, || io_loop.metrics().tasks == 0);
    assert_eq!(told.take(), ["the task panicked: on purpose"]);
    assert!(reports.take().is_empty());
}

#[test]
fn a_panic_of_the_callback_of_a_future_is_reported_where_it_was_added() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    io_loop.add_future(ready(1), |_| panic!("called back"));
    let line = line!() - 1;
    turn(&io_loop);
    assert_eq!(reports.take(), [(Cause::Panic, line, "called back".to_owned())]);
}

#[test]
fn a_loop_that_closes_drops_future_and_callback() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let on_drop = OnDrop(dropped.counter());
    io_loop.add_future(pending::<()>(), move |()| drop(on_drop));
    turn(&io_loop);
    drop(io_loop);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn a_handle_spawns_futures_that_are_not_send_on_the_loops_thread() {
    let io_loop = new_loop();
    let (handle, sleeper, home) = (io_loop.handle(), thread_id(), thread::current().id());
    let other = thread::spawn(move || {
        wait_until_asleep(sleeper);
        handle.spawn(move || {
            let local = Rc::new(home);
            async move {
                assert_eq!(thread::current().id(), *local);
                IoLoop::current().stop();
            }
        })
    });
    io_loop.start().unwrap();
    assert!(other.join().unwrap());
}

#[test]
fn a_handle_spawns_on_its_own_loop_whichever_is_current() {
    let io_loop = new_loop();
    let other = new_loop();
    io_loop.add_callback({
        let other = other.clone();
        move || other.make_current()
    });
    io_loop.handle().spawn(pending::<()>);
    turn(&io_loop);
    assert_eq!((io_loop.metrics().tasks, other.metrics().tasks), (1, 0));
}

#[test]
fn a_handle_of_a_loop_that_is_gone_drops_what_it_is_to_spawn() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    drop(io_loop);
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let on_drop = OnDrop(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert!(!handle.spawn(move || async move { drop(on_drop) }));
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert!(!handle.spawn_callback(|| async {}));
}

#[test]
fn failures_of_a_callback_spawned_from_another_thread_are_reported_with_their_origin() {
    let (io_loop, reports) = reporting(IoLoop::builder());
    let handle = io_loop.handle();
    let line = line!() + 2;
    let post = move || {
        assert!(handle.spawn_callback(|| async { Err::<(), _>("no luck") }));
        assert!(handle.spawn_callback(|| async { assert_eq!(1, 2, "on purpose") }));
        assert!(handle.spawn_callback(|| ready(Ok::<_, String>(5))));
        // Errors of this are nobody's.
        assert!(handle.spawn(|| ready(Err::<(), _>("unheard"))));
    };
    thread::spawn(post).join().unwrap();
    // The functions, and then the futures.
    (0..2).for_each(|_| turn(&io_loop));
    let told = reports.take();
    assert_eq!(told[0], (Cause::Error, line, "no luck".to_owned()));
    assert_eq!((told[1].0, told[1].1), (Cause::Panic, line + 1));
    let metrics = io_loop.metrics();
    assert_eq!((told.len(), metrics.task_errors, metrics.panics, metrics.tasks), (2, 1, 1, 0));
}

#[test]
fn a_panic_of_the_function_that_a_handle_posts_is_reported() {
    support::watchdog();
    let reports = Count::new();
    let hit = reports.clone();
    let io_loop = IoLoop::builder().panic_hook(move |_| hit.hit()).build().unwrap();
    let posted = io_loop.handle().spawn(|| -> std::future::Ready<()> { panic!("on purpose") });
    assert!(posted);
    turn_until(&io_loop, || reports.get() == 1);
    assert_eq!(io_loop.metrics().tasks, 0);
}
