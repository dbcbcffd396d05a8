//! Running the loop for one future: `run_sync`.

mod support;

use ringloop::{IoLoop, LoopError, RunSyncError};
use std::cell::RefCell;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use support::{Count, OnDrop, Trace, new_loop, thread_id, turn, wait_until_asleep};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn it_returns_the_value() {
    let io_loop = new_loop();
    assert_eq!(io_loop.run_sync(|| async { 6 * 7 }, None).unwrap(), 42);
    assert_eq!(io_loop.run_sync(|| ready("again"), Some(LONG)).unwrap(), "again");
}

#[test]
fn a_timeout_that_was_not_needed_is_removed() {
    let io_loop = new_loop();
    io_loop.run_sync(|| ready(()), Some(LONG)).unwrap();
    let metrics = io_loop.metrics();
    assert_eq!((metrics.timeouts_pending, metrics.tasks), (0, 0));
}

#[test]
fn the_function_and_the_future_may_borrow() {
    let io_loop = new_loop();
    let (mut log, name) = (Vec::new(), String::from("borrowed"));
    let length = io_loop.run_sync(
        || async {
            log.push(&name[..]);
            let mut first = true;
            futures::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                match std::mem::take(&mut first) {
                    true => std::task::Poll::Pending,
                    false => std::task::Poll::Ready(()),
                }
            })
            .await;
            log.push("twice");
            log.len()
        },
        None,
    );
    assert_eq!(length.unwrap(), 2);
    assert_eq!(log, ["borrowed", "twice"]);
}

#[test]
fn the_function_is_called_inside_the_loop_in_line_with_the_callbacks() {
    let other = new_loop();
    let io_loop = new_loop();
    other.make_current();
    let trace = Trace::new();
    io_loop.add_callback(trace.mark("before"));
    let inside = io_loop
        .run_sync(
            || {
                trace.push("function");
                IoLoop::current().add_callback(trace.mark("after"));
                let name = format!("{:?}", IoLoop::current());
                let trace = trace.clone();
                async move {
                    trace.push("future");
                    name
                }
            },
            None,
        )
        .unwrap();
    assert_eq!(inside, format!("{io_loop:?}"));
    assert_eq!(format!("{:?}", IoLoop::current()), format!("{other:?}"));
    assert_eq!(trace.take(), ["before", "function", "future"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["after"]);
}

#[test]
fn everything_else_on_the_loop_runs_meanwhile() {
    let io_loop = new_loop();
    let count = Count::new();
    let (sender, receiver) = async_channel::bounded(1);
    io_loop.add_callback(count.counter());
    let hit = count.clone();
    io_loop.spawn(async move { hit.hit() });
    io_loop.call_later(SHORT, move || sender.try_send(7).unwrap());
    assert_eq!(io_loop.run_sync(|| async { receiver.recv().await }, None).unwrap(), Ok(7));
    assert_eq!(count.get(), 2);
}

#[test]
fn what_is_left_on_the_loop_stays_for_the_next_run() {
    let io_loop = new_loop();
    let (sender, receiver) = async_channel::bounded(1);
    let left = RefCell::new(None);
    let spawn = || async {
        left.replace(Some(IoLoop::current().spawn(async move { receiver.recv().await })));
    };
    io_loop.run_sync(spawn, None).unwrap();
    sender.try_send(5).unwrap();
    let task = left.take().unwrap();
    assert_eq!(io_loop.run_sync(|| task, None).unwrap().unwrap(), Ok(5));
}

#[test]
fn a_panic_of_the_future_is_the_error_whatever_the_loop_does_about_panics() {
    let reported = Count::new();
    let count = reported.clone();
    let catching = IoLoop::builder().panic_hook(move |_| count.hit()).build().unwrap();
    for io_loop in [new_loop(), catching] {
        let dropped = Count::new();
        let on_drop = OnDrop(dropped.counter());
        let result: Result<(), _> = io_loop.run_sync(
            || async move {
                let _on_drop = on_drop;
                panic!("on purpose")
            },
            None,
        );
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "run_sync: the task panicked: on purpose");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "the task panicked: on purpose");
        let RunSyncError::Panicked(error) = error else { panic!("{error:?}") };
        assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"on purpose"));
        assert_eq!(dropped.get(), 1);
        assert_eq!(io_loop.run_sync(|| ready(1), None).unwrap(), 1);
    }
    assert_eq!(reported.get(), 0);
}

#[test]
fn a_panic_of_the_function_is_the_error() {
    let io_loop = new_loop();
    let panic = || -> std::future::Ready<()> { panic!("on purpose") };
    assert!(matches!(io_loop.run_sync(panic, None), Err(RunSyncError::Panicked(_))));
}

#[test]
fn it_times_out_and_drops_the_future() {
    let io_loop = new_loop();
    let (began, dropped) = (Instant::now(), Count::new());
    let on_drop = OnDrop(dropped.counter());
    let result = io_loop.run_sync(
        || async move {
            let _on_drop = on_drop;
            pending::<()>().await;
        },
        Some(SHORT),
    );
    assert!(began.elapsed() >= SHORT);
    assert!(matches!(result, Err(RunSyncError::TimedOut(SHORT))), "{result:?}");
    assert_eq!(result.unwrap_err().to_string(), "run_sync: timed out after 5ms");
    assert_eq!((dropped.get(), io_loop.metrics().tasks), (1, 0));
}

#[test]
fn a_panic_in_the_destructor_of_a_future_that_timed_out_is_reported() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        told.borrow_mut().push((report.origin.site.unwrap().line(), report.message().to_owned()));
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let on_drop = OnDrop(|| panic!("in the destructor"));
    let run = || async move {
        let _on_drop = on_drop;
        pending::<()>().await;
    };
    let result = io_loop.run_sync(run, Some(SHORT));
    let line = line!() - 1;
    assert!(matches!(result, Err(RunSyncError::TimedOut(SHORT))), "{result:?}");
    assert_eq!(reports.take(), [(line, "in the destructor".to_owned())]);
}

#[test]
fn a_future_that_is_done_in_its_first_turn_is_never_too_late() {
    let io_loop = new_loop();
    assert_eq!(io_loop.run_sync(|| ready(3), Some(Duration::ZERO)).unwrap(), 3);
}

#[test]
fn a_loop_stopped_before_the_future_finished_is_told_from_a_timeout() {
    for timeout in [None, Some(LONG)] {
        let io_loop = new_loop();
        let dropped = Count::new();
        let on_drop = OnDrop(dropped.counter());
        let result = io_loop.run_sync(
            || async move {
                let _on_drop = on_drop;
                IoLoop::current().stop();
                pending::<()>().await;
            },
            timeout,
        );
        assert!(matches!(result, Err(RunSyncError::Stopped)), "{result:?}");
        let message = result.unwrap_err().to_string();
        assert_eq!(message, "run_sync: the loop was stopped before the future finished");
        assert_eq!((dropped.get(), io_loop.metrics().timeouts_pending), (1, 0));
        turn(&io_loop);
        assert_eq!(io_loop.metrics().tasks, 0);
    }
}

#[test]
fn a_waker_of_a_future_that_was_left_behind_is_harmless() {
    let io_loop = new_loop();
    let mut waker = None;
    let result = io_loop.run_sync(
        || {
            std::future::poll_fn(|context| -> std::task::Poll<()> {
                waker = Some(context.waker().clone());
                IoLoop::current().stop();
                std::task::Poll::Pending
            })
        },
        None,
    );
    assert!(matches!(result, Err(RunSyncError::Stopped)));
    waker.unwrap().wake();
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(io_loop.metrics().tasks, 0);
}

#[test]
fn a_stop_that_came_before_ends_it_before_the_function_is_called() {
    let io_loop = new_loop();
    io_loop.stop();
    let result = io_loop.run_sync(|| -> std::future::Ready<()> { unreachable!() }, None);
    assert!(matches!(result, Err(RunSyncError::Stopped)), "{result:?}");
    assert_eq!(io_loop.run_sync(|| ready(1), None).unwrap(), 1);
}

#[test]
fn a_stop_in_the_turn_in_which_the_future_ends_does_not_hide_its_value() {
    let io_loop = new_loop();
    let value = io_loop.run_sync(
        || async {
            IoLoop::current().stop();
            8
        },
        None,
    );
    assert_eq!(value.unwrap(), 8);
    // And is done with.
    assert_eq!(io_loop.run_sync(|| ready(9), None).unwrap(), 9);
}

#[test]
fn stop_from_another_thread_ends_it() {
    let io_loop = new_loop();
    let (handle, sleeper) = (io_loop.handle(), thread_id());
    let stopper = thread::spawn(move || {
        wait_until_asleep(sleeper);
        handle.stop();
    });
    let result = io_loop.run_sync(pending::<()>, None);
    assert!(matches!(result, Err(RunSyncError::Stopped)), "{result:?}");
    stopper.join().unwrap();
}

#[test]
fn inside_the_running_loop_it_is_an_error() {
    let io_loop = new_loop();
    let result = io_loop
        .run_sync(|| async { IoLoop::current().run_sync(|| ready(()), None) }, None)
        .unwrap();
    let RunSyncError::Loop(error) = result.unwrap_err() else { panic!() };
    assert_eq!(LoopError::of(&error), Some(&LoopError::AlreadyRunning));
}

#[test]
fn another_loop_may_be_run_inside() {
    let outer = new_loop();
    let inner = new_loop();
    let value = outer.run_sync(|| async { inner.run_sync(|| ready(4), None).unwrap() }, None);
    assert_eq!(value.unwrap(), 4);
}

#[test]
fn on_a_closed_loop_it_is_an_error() {
    let io_loop = new_loop();
    io_loop.close(false).unwrap();
    let RunSyncError::Loop(error) = io_loop.run_sync(|| ready(()), None).unwrap_err() else {
        panic!()
    };
    assert_eq!(LoopError::of(&error), Some(&LoopError::Closed));
}

#[test]
fn a_panic_of_a_finished_futures_destructor_is_reported_and_costs_no_value() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        told.borrow_mut().push(report.message().to_owned());
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let on_drop = OnDrop(|| panic!("in the destructor"));
    let run = || {
        poll_fn(move |_| {
            let _ = &on_drop;
            Poll::Ready(7)
        })
    };
    assert_eq!(io_loop.run_sync(run, None).unwrap(), 7);
    assert_eq!(reports.take(), ["in the destructor"]);
}

#[test]
fn a_panic_let_out_of_the_loop_drops_the_future_first() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let on_drop = OnDrop(dropped.counter());
    io_loop.call_later(Duration::ZERO, || panic!("elsewhere"));
    let run = AssertUnwindSafe(|| {
        io_loop.run_sync(
            || async move {
                let _on_drop = on_drop;
                pending::<()>().await;
            },
            Some(LONG),
        )
    });
    let payload = catch_unwind(run).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"elsewhere"));
    assert_eq!((dropped.get(), io_loop.metrics().timeouts_pending), (1, 0));
    turn(&io_loop);
    assert_eq!(io_loop.metrics().tasks, 0);
}

#[test]
fn its_errors_turn_into_io_errors() {
    let io_loop = new_loop();
    let timed_out: io::Error = io_loop.run_sync(pending::<()>, Some(SHORT)).unwrap_err().into();
    assert_eq!(timed_out.kind(), io::ErrorKind::TimedOut);
    io_loop.close(false).unwrap();
    let closed: io::Error = io_loop.run_sync(pending::<()>, None).unwrap_err().into();
    assert_eq!(LoopError::of(&closed), Some(&LoopError::Closed));
}
