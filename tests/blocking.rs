//! The detector of callbacks that hold the loop for too long.

mod support;

use ringloop::{CallbackKind, Events, IoLoop, Panics, PeriodicCallback, SlowReport};
use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Count, drain, ready_pair, turn, turn_until};

const LIMIT: Duration = Duration::from_millis(3);

type Reports = Rc<RefCell<Vec<SlowReport>>>;

/// A loop with a limit, and what its hook was told.
fn watched_loop(limit: Duration) -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let hook = move |report: &SlowReport| told.borrow_mut().push(*report);
    (IoLoop::builder().slow_callback(limit, hook).build().unwrap(), reports)
}

/// Holds the loop for longer than the limit.
fn dawdle() {
    let began = Instant::now();
    while began.elapsed() <= LIMIT {
        std::hint::spin_loop();
    }
}

/// That the one report, which is taken, is of this kind and names this line.
#[track_caller]
fn assert_reported(reports: &Reports, kind: CallbackKind, line: u32) {
    let [report] = reports.take()[..] else { panic!("one report") };
    assert_eq!((report.origin.kind, report.origin.site.unwrap().line()), (kind, line));
    assert!(report.held > LIMIT);
    assert!(report.origin.type_name.unwrap().contains("blocking::"), "{report}");
    let text = report.to_string();
    assert!(text.contains(&format!("blocking.rs:{line}:")) && text.contains("held"), "{text}");
}

#[test]
fn a_slow_callback_is_reported_with_its_name_and_place() {
    let (io_loop, reports) = watched_loop(LIMIT);
    io_loop.add_callback(dawdle);
    let line = line!() - 1;
    turn(&io_loop);
    assert_reported(&reports, CallbackKind::Callback, line);
    assert_eq!(io_loop.metrics().slow_callbacks, 1);
}

#[test]
fn a_slow_callback_of_another_thread_is_reported() {
    let (io_loop, reports) = watched_loop(LIMIT);
    let (handle, line) = (io_loop.handle(), line!() + 1);
    std::thread::spawn(move || handle.add_callback(dawdle)).join().unwrap();
    turn(&io_loop);
    assert_reported(&reports, CallbackKind::Callback, line);
}

#[test]
fn a_slow_timeout_is_reported() {
    let (io_loop, reports) = watched_loop(LIMIT);
    io_loop.call_later(Duration::ZERO, dawdle);
    let line = line!() - 1;
    turn(&io_loop);
    assert_reported(&reports, CallbackKind::Timeout, line);
}

#[test]
fn a_slow_handler_is_reported_at_every_call() {
    let (io_loop, reports) = watched_loop(LIMIT);
    let (stream, _peer) = ready_pair();
    let fd = stream.as_raw_fd();
    io_loop.add_handler(stream, Events::READ, |_, _| dawdle()).unwrap();
    let line = line!() - 1;
    for calls in 1..=3 {
        turn(&io_loop);
        assert_reported(&reports, CallbackKind::Handler(fd), line);
        assert_eq!(io_loop.metrics().slow_callbacks, calls);
    }
}

#[test]
fn a_slow_periodic_callback_is_reported() {
    let (io_loop, reports) = watched_loop(LIMIT);
    let periodic = PeriodicCallback::new(dawdle, Duration::from_millis(1)).unwrap();
    let line = line!() - 1;
    periodic.start().unwrap();
    turn_until(&io_loop, || !reports.borrow().is_empty());
    assert_reported(&reports, CallbackKind::Periodic, line);
}

#[test]
fn what_is_quick_enough_is_not_reported() {
    let (io_loop, reports) = watched_loop(Duration::from_secs(50));
    let (stream, _peer) = ready_pair();
    let ran = Count::new();
    io_loop.add_handler(stream, Events::READ, ran.handler()).unwrap();
    io_loop.add_callback(ran.counter());
    io_loop.call_later(Duration::ZERO, ran.counter());
    turn(&io_loop);
    assert_eq!((ran.get(), reports.borrow().len()), (3, 0));
    assert_eq!(io_loop.metrics().slow_callbacks, 0);
}

#[test]
fn the_time_that_the_loop_sleeps_is_not_held_against_anyone() {
    let (io_loop, reports) = watched_loop(Duration::ZERO);
    for _ in 0..5 {
        io_loop.call_later(10 * LIMIT, || IoLoop::current().stop());
        io_loop.start().unwrap();
    }
    let held: Vec<Duration> = reports.take().iter().map(|report| report.held).collect();
    assert_eq!(held.len(), 5);
    assert!(held.iter().any(|held| *held < 10 * LIMIT), "{held:?}");
}

#[test]
fn a_slow_callback_that_panics_is_reported_as_both() {
    support::watchdog();
    let told = Rc::new(RefCell::new(Vec::new()));
    let (slow, failed) = (told.clone(), told.clone());
    let io_loop = IoLoop::builder()
        .slow_callback(LIMIT, move |_| slow.borrow_mut().push("slow"))
        .panic_hook(move |_| failed.borrow_mut().push("panicked"))
        .build()
        .unwrap();
    io_loop.add_callback(|| {
        dawdle();
        panic!("on purpose");
    });
    turn(&io_loop);
    assert_eq!(told.take(), ["panicked", "slow"]);
}

#[test]
fn a_hook_that_panics_is_reported_and_the_loop_goes_on() {
    support::watchdog();
    let (panics, ran) = (Count::new(), Count::new());
    let counted = panics.clone();
    let io_loop = IoLoop::builder()
        .slow_callback(LIMIT, |_| panic!("in the hook"))
        .panic_hook(move |report| {
            assert_eq!(report.message(), "in the hook");
            counted.hit();
        })
        .build()
        .unwrap();
    io_loop.add_callback(dawdle);
    io_loop.add_callback(ran.counter());
    turn(&io_loop);
    assert_eq!((panics.get(), ran.get(), io_loop.metrics().panics), (1, 1, 1));
}

#[test]
fn a_hook_whose_panic_is_let_out_hides_no_error_of_the_task_it_was_told_of() {
    support::watchdog();
    let errors = Rc::new(RefCell::new(Vec::new()));
    let told = errors.clone();
    let io_loop = IoLoop::builder()
        .panics(Panics::Propagate)
        .slow_callback(LIMIT, |_| panic!("in the hook"))
        .panic_hook(move |report| told.borrow_mut().push(report.message().to_owned()))
        .build()
        .unwrap();
    io_loop.spawn_callback(|| async {
        dawdle();
        Err::<(), _>("in the task")
    });
    let payload = catch_unwind(AssertUnwindSafe(|| turn(&io_loop))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"in the hook"));
    assert_eq!((errors.take(), io_loop.metrics().task_errors), (vec!["in the task".to_owned()], 1));
}

#[test]
fn a_hook_may_use_the_loop() {
    support::watchdog();
    let count = Count::new();
    let ran = count.clone();
    let hook = move |report: &SlowReport| {
        let io_loop = IoLoop::current();
        if let CallbackKind::Handler(fd) = report.origin.kind {
            assert!(io_loop.remove_handler(&fd));
        }
        io_loop.add_callback(ran.counter());
    };
    let io_loop = IoLoop::builder().slow_callback(LIMIT, hook).build().unwrap();
    let (stream, _peer) = ready_pair();
    let handler = |stream: &mut UnixStream, _| {
        drain(stream);
        dawdle();
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!((count.get(), io_loop.metrics().handlers), (1, 0));
}
