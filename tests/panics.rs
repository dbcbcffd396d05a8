//! Panics in user code: caught and reported, or let through.

mod support;
mod waker_support;

use ringloop::time::sleep;
use ringloop::{
    CallbackKind, Events, IoLoop, IoStream, Job, PanicReport, Panics, PeriodicCallback, Trigger,
};
use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::task::Context;
use std::thread;
use std::time::Duration;
use support::{Count, OnDrop, Trace, new_loop, pair, ready_pair, turn, turn_until};
use waker_support::{panics_when_dropped, panics_when_woken};

type Reports = Rc<RefCell<Vec<(CallbackKind, u32, String)>>>;

/// A loop that catches panics, and what its hook was told: kind, line and message.
fn catching_loop() -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .panic_hook(move |report| {
            assert!(report.origin.site.unwrap().file().ends_with("panics.rs"));
            assert!(report.origin.type_name.unwrap().contains("panics::"));
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

/// That all of these panics were reported, in this order, and no others.
#[track_caller]
fn assert_reported(io_loop: &IoLoop, reports: &Reports, expected: &[(CallbackKind, u32, &str)]) {
    let told = reports.take();
    let told: Vec<_> = told.iter().map(|(kind, line, text)| (*kind, *line, &text[..])).collect();
    assert_eq!(told, expected);
    assert!(io_loop.metrics().panics >= expected.len() as u64);
}

#[test]
fn a_panic_in_a_callback_is_reported_and_the_rest_runs() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    io_loop.add_callback(|| panic!("number {}", 1));
    let line = line!() - 1;
    io_loop.add_callback(count.counter());
    turn(&io_loop);
    assert_eq!(count.get(), 1);
    assert_reported(&io_loop, &reports, &[(CallbackKind::Callback, line, "number 1")]);
    assert_eq!(io_loop.metrics().panics, 1);
}

#[test]
fn a_panic_in_a_posted_callback_is_reported() {
    let (io_loop, reports) = catching_loop();
    let (handle, line) = (io_loop.handle(), line!() + 1);
    let post = move || assert!(handle.add_callback(|| panic!("posted")));
    thread::spawn(post).join().unwrap();
    turn(&io_loop);
    assert_reported(&io_loop, &reports, &[(CallbackKind::Callback, line, "posted")]);
}

#[test]
fn a_panic_in_a_timeout_is_reported_and_the_rest_runs() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    io_loop.call_later(Duration::ZERO, || panic!("in a timeout"));
    let line = line!() - 1;
    io_loop.call_later(Duration::ZERO, count.counter());
    turn(&io_loop);
    assert_eq!(count.get(), 1);
    assert_reported(&io_loop, &reports, &[(CallbackKind::Timeout, line, "in a timeout")]);
}

#[test]
fn a_handler_that_panics_every_time_stays_registered_and_holds_nobody_up() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (io_loop, reports) = catching_loop();
        let good = Count::new();
        let (bad_stream, mut bad_peer) = ready_pair();
        let (good_stream, _good_peer) = ready_pair();
        let fd = bad_stream.as_raw_fd();
        let bad = |_: &mut UnixStream, _| panic!("again");
        io_loop.add_handler_with(bad_stream, Events::READ, trigger, bad).unwrap();
        let line = line!() - 1;
        io_loop.add_handler(good_stream, Events::READ, good.handler()).unwrap();
        for turns in 1..=5 {
            std::io::Write::write_all(&mut bad_peer, b"x").unwrap();
            turn(&io_loop);
            assert_eq!(good.get(), turns);
            assert_reported(&io_loop, &reports, &[(CallbackKind::Handler(fd), line, "again")]);
        }
        assert_eq!((io_loop.metrics().handlers, io_loop.metrics().panics), (2, 5));
        assert!(io_loop.remove_handler(&fd));
    }
}

#[test]
fn a_panic_in_a_periodic_callback_does_not_end_the_series() {
    let (io_loop, reports) = catching_loop();
    let panics = || panic!("periodic");
    let periodic = PeriodicCallback::new(panics, Duration::from_millis(1)).unwrap();
    let line = line!() - 1;
    periodic.start().unwrap();
    turn_until(&io_loop, || reports.borrow().len() >= 3);
    assert!(periodic.is_running());
    periodic.stop();
    reports.borrow_mut().truncate(3);
    assert_reported(&io_loop, &reports, &[(CallbackKind::Periodic, line, "periodic"); 3]);
}

#[test]
fn the_default_hook_lets_the_loop_go_on() {
    support::watchdog();
    let io_loop = IoLoop::new().unwrap();
    let count = Count::new();
    io_loop.add_callback(|| panic!("on purpose"));
    io_loop.add_callback(|| panic_any(7));
    io_loop.add_callback(count.counter());
    turn(&io_loop);
    assert_eq!((count.get(), io_loop.metrics().panics), (1, 2));
}

#[test]
fn a_payload_that_is_not_text_is_reported() {
    let (io_loop, reports) = catching_loop();
    io_loop.add_callback(|| panic_any(7));
    turn(&io_loop);
    assert_eq!(reports.borrow()[0].2, "a payload that is not text");
}

#[test]
fn a_panic_after_stop_does_not_undo_the_stop() {
    let (io_loop, reports) = catching_loop();
    io_loop.add_callback(|| {
        IoLoop::current().stop();
        panic!("and out");
    });
    io_loop.start().unwrap();
    assert_eq!(reports.borrow().len(), 1);
}

fn panic_on_drop() -> OnDrop<impl FnMut()> {
    OnDrop(|| panic!("in a destructor"))
}

#[test]
fn a_panic_in_the_destructor_of_what_ran_is_reported() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    let (in_callback, in_timeout) = (panic_on_drop(), panic_on_drop());
    io_loop.add_callback(move || {
        let _ = &in_callback;
    });
    io_loop.call_later(Duration::ZERO, move || {
        let _ = &in_timeout;
    });
    io_loop.add_callback(count.counter());
    io_loop.call_later(Duration::ZERO, count.counter());
    turn(&io_loop);
    assert_eq!((count.get(), reports.borrow().len()), (2, 2));
    assert!(reports.borrow().iter().all(|(_, _, message)| message == "in a destructor"));
}

struct Bomb {
    stream: UnixStream,
    _on_drop: OnDrop<Box<dyn FnMut()>>,
}

impl AsRawFd for Bomb {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

fn ready_bomb() -> (Bomb, UnixStream) {
    let (stream, peer) = ready_pair();
    (Bomb { stream, _on_drop: OnDrop(Box::new(|| panic!("in a source"))) }, peer)
}

#[test]
fn a_panic_in_the_destructor_of_a_source_that_removed_itself_is_reported() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (io_loop, reports) = catching_loop();
        let ((first, _peer), (second, _other_peer)) = (ready_bomb(), ready_bomb());
        for bomb in [first, second] {
            let handler = |bomb: &mut Bomb, _| assert!(IoLoop::current().remove_handler(bomb));
            io_loop.add_handler_with(bomb, Events::READ, trigger, handler).unwrap();
        }
        turn(&io_loop);
        turn(&io_loop);
        assert_eq!((reports.borrow().len(), io_loop.metrics().handlers), (2, 0));
    }
}

#[test]
fn a_panic_in_a_handler_and_one_in_the_destructor_of_its_source_are_both_reported() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (io_loop, reports) = catching_loop();
        let ((bomb, _peer), (stream, _other_peer)) = (ready_bomb(), ready_pair());
        let good = Count::new();
        let handler = |bomb: &mut Bomb, _| {
            assert!(IoLoop::current().remove_handler(bomb));
            panic!("in a handler");
        };
        io_loop.add_handler_with(bomb, Events::READ, trigger, handler).unwrap();
        io_loop.add_handler(stream, Events::READ, good.handler()).unwrap();
        for turns in 1..=2 {
            turn(&io_loop);
            assert_eq!((good.get(), io_loop.metrics().handlers), (turns, 1));
        }
        let messages: Vec<String> = reports.take().into_iter().map(|report| report.2).collect();
        assert_eq!(messages, ["in a handler", "in a source"]);
    }
}

#[test]
fn a_panic_in_the_destructor_of_a_source_that_a_callback_removed_is_reported() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (io_loop, reports) = catching_loop();
        let (bomb, _peer) = ready_bomb();
        let fd = bomb.as_raw_fd();
        io_loop.add_handler_with(bomb, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        io_loop.add_callback(move || assert!(IoLoop::current().remove_handler(&fd)));
        turn(&io_loop);
        assert_eq!((reports.borrow().len(), io_loop.metrics().handlers), (1, 0));
    }
}

#[test]
fn a_panic_in_the_destructor_of_a_cancelled_timeout_goes_to_whoever_cancelled_it() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    let on_drop = panic_on_drop();
    let timeout = io_loop.call_later(Duration::ZERO, move || drop(on_drop));
    let cancel = AssertUnwindSafe(|| io_loop.remove_timeout(timeout));
    assert!(catch_unwind(cancel).is_err());
    io_loop.call_later(Duration::ZERO, count.counter());
    turn(&io_loop);
    assert_eq!((count.get(), reports.borrow().len(), io_loop.metrics().timeouts), (1, 0, 1));
}

#[test]
fn a_hook_that_panics_ends_neither_the_loop_nor_later_reports() {
    support::watchdog();
    let told = Count::new();
    let calls = told.clone();
    let hook = move |_: &PanicReport<'_>| {
        calls.hit();
        panic!("in the hook");
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let ran = Count::new();
    for _ in 0..3 {
        io_loop.add_callback(|| panic!("on purpose"));
        io_loop.add_callback(ran.counter());
    }
    turn(&io_loop);
    assert_eq!((told.get(), ran.get()), (3, 3));
}

#[test]
fn a_hook_that_panics_with_a_payload_whose_destructor_panics_ends_nothing() {
    support::watchdog();
    let hook = |_: &PanicReport<'_>| panic_any(panic_on_drop_sent());
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let ran = Count::new();
    for _ in 0..3 {
        io_loop.add_callback(|| panic!("on purpose"));
        io_loop.add_callback(ran.counter());
    }
    turn(&io_loop);
    assert_eq!((ran.get(), io_loop.metrics().panics), (3, 3));
}

#[test]
fn a_payload_whose_destructor_panics_ends_nothing() {
    let (io_loop, reports) = catching_loop();
    let count = Count::new();
    io_loop.add_callback(|| panic_any(panic_on_drop_sent()));
    io_loop.add_callback(count.counter());
    turn(&io_loop);
    assert_eq!((count.get(), reports.borrow().len()), (1, 1));
}

fn panic_on_drop_sent() -> OnDrop<impl FnMut() + Send> {
    OnDrop(|| panic!("in a payload"))
}

#[test]
fn a_hook_may_use_the_loop_and_remove_the_handler_that_panicked() {
    support::watchdog();
    let count = Count::new();
    let ran = count.clone();
    let hook = move |report: &PanicReport<'_>| {
        let io_loop = IoLoop::current();
        if let CallbackKind::Handler(fd) = report.origin.kind {
            assert!(io_loop.remove_handler(&fd));
        }
        io_loop.add_callback(ran.counter());
        io_loop.call_later(Duration::ZERO, ran.counter());
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    let (stream, peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, |_, _| panic!("on purpose")).unwrap();
    turn(&io_loop);
    drop(peer);
    turn(&io_loop);
    assert_eq!((count.get(), io_loop.metrics().handlers), (2, 0));
}

/// That a panic comes out of `start`, and the loop can be started again.
fn assert_lets_through(io_loop: &IoLoop) {
    let run = AssertUnwindSafe(|| io_loop.start());
    let payload = catch_unwind(run).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"let through"));
    assert_eq!(io_loop.metrics().panics, 0);
}

#[test]
fn a_panic_let_through_loses_no_other_callback_and_no_timeout() {
    let io_loop = new_loop();
    let trace = Trace::new();
    io_loop.add_callback(trace.mark("first"));
    io_loop.add_callback(|| panic!("let through"));
    io_loop.add_callback(trace.mark("second"));
    io_loop.call_later(Duration::ZERO, trace.mark("third"));
    io_loop.call_later(Duration::ZERO, || panic!("let through"));
    io_loop.call_later(Duration::ZERO, trace.mark("fourth"));
    assert_lets_through(&io_loop);
    assert_eq!(trace.take(), ["first"]);
    assert_lets_through(&io_loop);
    assert_eq!(trace.take(), ["second", "third"]);
    io_loop.add_callback(|| IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(trace.take(), ["fourth"]);
}

/// Of two handlers of one batch, the first to be called replaces the other, whose file has nothing to
/// tell any more, and panics.
#[test]
fn what_a_panic_kept_from_a_handler_is_not_told_to_the_one_in_its_place() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let io_loop = new_loop();
        let files = Rc::new([ready_pair(), ready_pair()]);
        let told = Count::new();
        for own in 0..2 {
            let (files, told) = (files.clone(), told.clone());
            let fd = files[own].0.as_raw_fd();
            let handler = move |_: &mut RawFd, _| {
                let (current, other) = (IoLoop::current(), &files[1 - own].0);
                assert!(current.remove_handler(other) && current.remove_handler(&fd));
                assert_eq!(support::drain(other), 1);
                let other = other.as_raw_fd();
                current.add_handler_with(other, Events::READ, trigger, told.handler()).unwrap();
                panic!("let through");
            };
            io_loop.add_handler_with(fd, Events::READ, trigger, handler).unwrap();
        }
        assert_lets_through(&io_loop);
        turn(&io_loop);
        assert_eq!((told.get(), io_loop.metrics().handlers), (0, 1), "{trigger:?}");
    }
}

#[test]
fn a_panic_let_through_keeps_its_handler_and_the_rest_of_the_batch() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let io_loop = new_loop();
        let calls = Count::new();
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (stream, peer) = ready_pair();
            peers.push(peer);
            let calls = calls.clone();
            let handler = move |stream: &mut UnixStream, events| {
                assert_eq!(events, Events::READ);
                support::drain(stream);
                calls.hit();
                panic!("let through");
            };
            io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        }
        for served in 1..=3 {
            assert_lets_through(&io_loop);
            assert_eq!((calls.get(), io_loop.metrics().handlers), (served, 3));
        }
        std::io::Write::write_all(&mut peers[0], b"x").unwrap();
        assert_lets_through(&io_loop);
        assert_eq!(calls.get(), 4);
    }
}

#[test]
fn a_panic_let_through_does_not_end_a_periodic_callback() {
    let io_loop = new_loop();
    let panics = || panic!("let through");
    let periodic = PeriodicCallback::new(panics, Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    for _ in 0..3 {
        assert_lets_through(&io_loop);
    }
    assert!(periodic.is_running());
}

#[test]
fn a_handler_that_removed_itself_and_panicked_is_dropped() {
    for panics in [Panics::Catch, Panics::Propagate] {
        support::watchdog();
        let io_loop = IoLoop::builder().panics(panics).build().unwrap();
        let (stream, peer) = pair();
        let handler = |stream: &mut UnixStream, _| {
            IoLoop::current().remove_handler(stream);
            panic!("let through");
        };
        io_loop.add_handler(stream, Events::WRITE, handler).unwrap();
        let run = AssertUnwindSafe(|| io_loop.turn(Some(Duration::ZERO)));
        assert_eq!(catch_unwind(run).is_err(), panics == Panics::Propagate);
        assert!(support::at_end(&peer));
        turn(&io_loop);
        assert_eq!(io_loop.metrics().handlers, 0);
    }
}
#[test]
fn a_periodic_callback_whose_destructor_panics_inside_its_own_call_is_reported() {
    let (io_loop, reports) = catching_loop();
    let own: Rc<RefCell<Option<PeriodicCallback>>> = Rc::default();
    let (cell, on_drop) = (own.clone(), panic_on_drop());
    let callback = move || {
        let _ = &on_drop;
        drop(cell.take());
    };
    let periodic = PeriodicCallback::new(callback, Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    own.replace(Some(periodic));
    turn_until(&io_loop, || own.borrow().is_none());
    assert_eq!(reports.borrow().len(), 1);
}

/// What is reported, and let out, when a series is dropped by its first call, which then panics, and
/// so does the destructor of its callback.
fn panics_of_a_series_that_ends_itself(panics: Panics, is_async: bool) -> [Vec<String>; 2] {
    support::watchdog();
    let reports: Rc<RefCell<Vec<String>>> = Rc::default();
    let told = reports.clone();
    let hook = move |report: &PanicReport<'_>| {
        assert_eq!(report.origin.kind, CallbackKind::Periodic);
        told.borrow_mut().push(report.message().to_owned());
    };
    let io_loop = IoLoop::builder().panics(panics).panic_hook(hook).build().unwrap();
    let own: Rc<RefCell<Option<PeriodicCallback>>> = Rc::default();
    let (cell, on_drop) = (own.clone(), panic_on_drop());
    let call = move || {
        let _ = &on_drop;
        drop(cell.take());
        panic!("in the call");
    };
    let period = Duration::from_millis(1);
    let periodic = match is_async {
        false => PeriodicCallback::new(call, period),
        true => PeriodicCallback::new_async(
            move || {
                call();
                std::future::ready(())
            },
            period,
        ),
    };
    let periodic = periodic.unwrap();
    periodic.start().unwrap();
    own.replace(Some(periodic));
    let mut let_out = Vec::new();
    while own.borrow().is_some() {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| turn(&io_loop))) {
            let_out.push(payload.downcast_ref::<&str>().unwrap().to_string());
        }
    }
    [reports.take(), let_out]
}

#[test]
fn a_periodic_callback_that_drops_itself_and_panics_does_not_end_the_process() {
    let name = "a_periodic_callback_that_drops_itself_and_panics_does_not_end_the_process";
    support::in_own_process(name, || {
        for is_async in [false, true] {
            let [reports, let_out] = panics_of_a_series_that_ends_itself(Panics::Catch, is_async);
            assert_eq!(reports, ["in the call", "in a destructor"]);
            assert!(let_out.is_empty());
            let [reports, let_out] =
                panics_of_a_series_that_ends_itself(Panics::Propagate, is_async);
            assert_eq!(
                (&reports[..], &let_out[..]),
                (&["in a destructor".to_owned()][..], &["in the call".to_owned()][..])
            );
        }
    });
}

#[test]
fn a_handler_left_over_by_a_panic_is_still_called_once_a_turn() {
    let io_loop = new_loop();
    let (calls, panicked) = (Count::new(), Count::new());
    let mut peers = Vec::new();
    for _ in 0..10 {
        let (stream, peer) = ready_pair();
        peers.push(peer);
        let (calls, panicked) = (calls.clone(), panicked.clone());
        let handler = move |_: &mut UnixStream, _| {
            calls.hit();
            if panicked.get() == 0 {
                panicked.hit();
                panic!("let through");
            }
        };
        io_loop.add_handler(stream, Events::READ, handler).unwrap();
    }
    assert_lets_through(&io_loop);
    assert_eq!(calls.get(), 1);
    for turns in 1..=3 {
        turn(&io_loop);
        assert_eq!(calls.get(), 1 + 10 * turns);
    }
}

#[test]
fn panics_in_several_destructors_that_close_runs_do_not_end_the_process() {
    let name = "panics_in_several_destructors_that_close_runs_do_not_end_the_process";
    support::in_own_process(name, || {
        let (io_loop, reports) = catching_loop();
        for _ in 0..2 {
            let (bomb, _peer) = ready_bomb();
            io_loop.add_handler(bomb, Events::READ, |_, _| {}).unwrap();
            let (in_callback, in_timeout) = (panic_on_drop(), panic_on_drop());
            io_loop.add_callback(move || drop(in_callback));
            io_loop.call_later(Duration::MAX, move || drop(in_timeout));
        }
        io_loop.close(false).unwrap();
        assert_eq!(reports.borrow().len(), 6);
    });
}

type Texts = Rc<RefCell<Vec<(CallbackKind, String)>>>;

/// A loop, and what its hook was told of what was never registered: kind and text.
fn loop_with_texts() -> (IoLoop, Texts) {
    support::watchdog();
    let reports = Texts::default();
    let told = reports.clone();
    let hook = move |report: &PanicReport<'_>| {
        assert!(report.origin.site.is_none() && report.origin.type_name.is_none());
        told.borrow_mut().push((report.origin.kind, report.to_string()));
    };
    (IoLoop::builder().panic_hook(hook).build().unwrap(), reports)
}

#[test]
fn a_panic_of_a_waker_is_reported_as_that_and_names_no_place() {
    let (io_loop, reports) = loop_with_texts();
    let waker = panics_when_woken();
    let mut sleep = Box::pin(sleep(Duration::from_millis(1)));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    turn_until(&io_loop, || !reports.borrow().is_empty());
    assert_eq!(reports.take(), [(CallbackKind::Waker, String::from("a waker panicked: woken"))]);
    let (stream, mut peer) = pair();
    let stream = IoStream::new(stream).unwrap();
    let mut read = Box::pin(stream.read_bytes(1));
    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    turn_until(&io_loop, || !reports.borrow().is_empty());
    assert_eq!(reports.take(), [(CallbackKind::Waker, String::from("a waker panicked: woken"))]);
}

#[test]
fn a_panic_in_the_destructor_of_an_executor_is_reported_as_that_and_names_no_place() {
    let (io_loop, reports) = loop_with_texts();
    let on_drop = panic_on_drop();
    io_loop.set_default_executor(move |job: Job| {
        let _ = &on_drop;
        job();
    });
    io_loop.close(false).unwrap();
    let text = "the destructor of something that the loop dropped panicked: in a destructor";
    assert_eq!(reports.take(), [(CallbackKind::Destructor, text.to_owned())]);
}

#[test]
fn panics_of_several_sleeping_wakers_that_close_drops_do_not_end_the_process() {
    let name = "panics_of_several_sleeping_wakers_that_close_drops_do_not_end_the_process";
    support::in_own_process(name, || {
        let (io_loop, reports) = loop_with_texts();
        let mut sleeps: Vec<_> =
            (0..3).map(|_| Box::pin(sleep(Duration::from_secs(100)))).collect();
        for sleep in &mut sleeps {
            let waker = panics_when_dropped();
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        io_loop.close(false).unwrap();
        assert_eq!(io_loop.metrics().panics, 3);
        assert!(reports.take().into_iter().all(|(kind, _)| kind == CallbackKind::Waker));
    });
}

/// A loop that is ended by `end` when sending what is left also brings something, for somebody whose
/// waker panics.
fn assert_ends_although_a_waker_panics(end: impl FnOnce(IoLoop)) {
    let io_loop = new_loop();
    let (handle, task) = (io_loop.handle(), Count::new());
    let on_end = OnDrop(task.counter());
    io_loop.spawn(async move {
        let _on_end = on_end;
        std::future::pending::<()>().await;
    });
    let [(reading, mut sender), (writing, receiver), (watched, peer)] = [pair(), pair(), pair()];
    io_loop.add_handler(watched, Events::READ, |_, _| {}).unwrap();
    let [reading, writing] = [reading, writing].map(|stream| IoStream::new(stream).unwrap());
    let mut read = Box::pin(reading.chunk());
    let waker = panics_when_woken();
    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    turn(&io_loop);
    std::io::Write::write_all(&mut sender, b"x").unwrap();
    writing.write("y").queued().unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| end(io_loop))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"woken"));
    assert_eq!(support::drain(&receiver), 1);
    assert_eq!(task.get(), 1);
    assert!(support::at_end(&peer));
    assert!(!handle.add_callback(|| {}), "it is open");
}

#[test]
fn a_loop_is_closed_although_a_waker_panics_when_it_sends_what_is_left() {
    assert_ends_although_a_waker_panics(|io_loop| {
        let closed = catch_unwind(AssertUnwindSafe(|| io_loop.close(false)));
        assert!(io_loop.turn(Some(Duration::ZERO)).is_err());
        std::panic::resume_unwind(closed.unwrap_err());
    });
}

#[test]
fn a_dropped_loop_is_closed_although_a_waker_panics_when_it_sends_what_is_left() {
    assert_ends_although_a_waker_panics(drop);
}
