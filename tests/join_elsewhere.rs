//! Joining a task where its loop is not current: on another thread, or beside another loop.

mod support;
mod waker_support;

use futures::FutureExt;
use ringloop::{IoLoop, JoinError, JoinHandle};
use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;
use support::{in_own_process, turn};
use waker_support::{Alarm, panics_when_dropped, panics_when_woken};

fn poll_with<T>(waker: &Waker, task: &mut JoinHandle<T>) -> Poll<Result<T, JoinError>> {
    task.poll_unpin(&mut Context::from_waker(waker))
}

/// Runs `body` where no loop is current.
fn elsewhere<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(body).join().unwrap())
}

type Reports = Rc<RefCell<Vec<String>>>;

/// A loop, current or not, and the panics that its hook was told of.
fn reporting_loop(is_current: bool) -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        told.borrow_mut().push(report.message().to_owned());
    };
    let builder = IoLoop::builder().make_current(is_current).panic_hook(hook);
    (builder.build().unwrap(), reports)
}

fn panics_when_cloned() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        panic!("cloned");
    }
    fn ignore(_: *const ()) {}
    const VTABLE: RawWakerVTable = RawWakerVTable::new(clone, ignore, ignore, ignore);

    // SAFETY: it has no data.
    unsafe { Waker::new(std::ptr::null(), &VTABLE) }
}

#[track_caller]
fn assert_panics(expected: &str, body: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(body)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&expected));
}

#[test]
fn a_panic_of_a_waker_that_awaits_a_task_on_another_thread_is_reported() {
    in_own_process("a_panic_of_a_waker_that_awaits_a_task_on_another_thread_is_reported", || {
        for waker in [panics_when_woken, panics_when_dropped] {
            let (io_loop, reports) = reporting_loop(true);
            let mut task = io_loop.spawn(async {});
            elsewhere(|| assert!(poll_with(&waker(), &mut task).is_pending()));
            turn(&io_loop);
            assert_eq!((reports.borrow().len(), io_loop.metrics().panics), (1, 1));
            assert!(task.now_or_never().unwrap().is_ok());
        }
    });
}

#[test]
fn a_panic_of_a_waker_that_awaits_a_task_beside_another_loop_is_reported() {
    in_own_process("a_panic_of_a_waker_that_awaits_a_task_beside_another_loop_is_reported", || {
        for waker in [panics_when_woken, panics_when_dropped] {
            let (io_loop, reports) = reporting_loop(false);
            let _other = IoLoop::new().unwrap();
            let mut task = io_loop.spawn(async {});
            assert!(poll_with(&waker(), &mut task).is_pending());
            turn(&io_loop);
            assert_eq!((reports.borrow().len(), io_loop.metrics().panics), (1, 1));
            assert!(task.now_or_never().unwrap().is_ok());
        }
    });
}

#[test]
fn a_panic_of_a_waker_that_awaits_a_task_elsewhere_is_reported_when_that_is_aborted() {
    let name = "a_panic_of_a_waker_that_awaits_a_task_elsewhere_is_reported_when_that_is_aborted";
    in_own_process(name, || {
        let (io_loop, reports) = reporting_loop(true);
        let mut task = io_loop.spawn(pending::<()>());
        elsewhere(|| assert!(poll_with(&panics_when_dropped(), &mut task).is_pending()));
        task.abort();
        turn(&io_loop);
        assert_eq!(reports.take(), ["dropped"]);
        assert!(task.now_or_never().unwrap().unwrap_err().is_aborted());
    });
}

#[test]
fn a_panic_of_a_waker_that_awaits_a_task_elsewhere_is_reported_when_the_loop_closes() {
    let name = "a_panic_of_a_waker_that_awaits_a_task_elsewhere_is_reported_when_the_loop_closes";
    in_own_process(name, || {
        let (io_loop, reports) = reporting_loop(true);
        let mut task = io_loop.spawn(pending::<()>());
        elsewhere(|| assert!(poll_with(&panics_when_woken(), &mut task).is_pending()));
        io_loop.close(false).unwrap();
        assert_eq!(reports.take(), ["woken"]);
        assert!(task.now_or_never().unwrap().unwrap_err().is_closed());
    });
}

#[test]
fn a_panic_as_a_waker_is_cloned_elsewhere_goes_to_whoever_polls() {
    in_own_process("a_panic_as_a_waker_is_cloned_elsewhere_goes_to_whoever_polls", || {
        let (io_loop, reports) = reporting_loop(false);
        let mut task = io_loop.spawn(async { 1 });
        for first in [None, Some(Waker::noop())] {
            if let Some(waker) = first {
                assert!(poll_with(waker, &mut task).is_pending());
            }
            let poll = || drop(poll_with(&panics_when_cloned(), &mut task));
            assert_panics("cloned", poll);
        }
        turn(&io_loop);
        assert_eq!(task.now_or_never().unwrap().unwrap(), 1);
        assert_eq!(reports.take().len(), 0);
    });
}

#[test]
fn a_panic_as_a_waker_is_replaced_elsewhere_is_reported() {
    in_own_process("a_panic_as_a_waker_is_replaced_elsewhere_is_reported", || {
        let (io_loop, reports) = reporting_loop(true);
        let (alarm, waker) = Alarm::new();
        let mut task = io_loop.spawn(async { 1 });
        elsewhere(|| {
            assert!(poll_with(&panics_when_dropped(), &mut task).is_pending());
            assert!(poll_with(&waker, &mut task).is_pending());
        });
        turn(&io_loop);
        assert_eq!(task.now_or_never().unwrap().unwrap(), 1);
        assert_eq!((alarm.rings(), reports.take()), (1, vec![String::from("dropped")]));
    });
}

#[test]
fn a_panic_of_a_waker_whose_handle_is_dropped_elsewhere_is_reported() {
    in_own_process("a_panic_of_a_waker_whose_handle_is_dropped_elsewhere_is_reported", || {
        let (io_loop, reports) = reporting_loop(true);
        let mut task = io_loop.spawn(pending::<()>());
        elsewhere(|| {
            assert!(poll_with(&panics_when_dropped(), &mut task).is_pending());
            drop(task);
        });
        turn(&io_loop);
        assert_eq!((reports.take().len(), io_loop.metrics().tasks), (1, 1));
    });
}

#[test]
fn a_handle_dropped_elsewhere_keeps_nobodys_waker() {
    let (io_loop, _reports) = reporting_loop(true);
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(pending::<()>());
    elsewhere(move || {
        assert!(poll_with(&waker, &mut task).is_pending());
        drop(task);
    });
    assert_eq!((Arc::strong_count(&alarm), io_loop.metrics().tasks), (1, 1));
}

#[test]
fn a_handle_wakes_whoever_has_polled_it_last_wherever_that_was() {
    let (io_loop, _reports) = reporting_loop(true);
    let (there, waker_there) = Alarm::new();
    let (here, waker_here) = Alarm::new();
    let mut first = io_loop.spawn(async {});
    elsewhere(|| {
        for _ in 0..3 {
            assert!(poll_with(&waker_there, &mut first).is_pending());
        }
    });
    assert!(poll_with(&waker_here, &mut first).is_pending());
    turn(&io_loop);
    assert_eq!((there.rings(), here.rings()), (0, 1));
    drop(waker_there);
    assert_eq!(Arc::strong_count(&there), 1);
}

#[test]
fn a_handle_ready_elsewhere_keeps_nobodys_waker() {
    let (io_loop, _reports) = reporting_loop(true);
    let (alarm, waker) = Alarm::new();
    let mut task = io_loop.spawn(async { 1 });
    elsewhere(|| assert!(poll_with(&waker, &mut task).is_pending()));
    turn(&io_loop);
    let output = elsewhere(|| poll_with(&waker, &mut task));
    assert!(matches!(output, Poll::Ready(Ok(1))));
    drop(waker);
    assert_eq!((alarm.rings(), Arc::strong_count(&alarm)), (1, 1));
}
