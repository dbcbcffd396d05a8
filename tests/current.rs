//! Which loop is current, on which thread, and for how long.

mod support;

use ringloop::{Events, IoLoop, Panics};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;
use support::{Count, OnDrop, new_loop, ready_pair, turn};

/// Loops are told apart by what their `Debug` says.
fn name(io_loop: &IoLoop) -> String {
    format!("{io_loop:?}")
}

fn current() -> Option<String> {
    IoLoop::try_current().as_ref().map(name)
}

fn quiet_loop() -> IoLoop {
    support::watchdog();
    IoLoop::builder().make_current(false).build().unwrap()
}

#[test]
fn a_thread_without_a_loop_has_no_current_one() {
    support::watchdog();
    assert_eq!(current(), None);
    let payload = catch_unwind(IoLoop::current).unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.contains("no loop is current on this thread"), "{message}");
}

#[test]
fn a_new_loop_becomes_current_and_replaces_the_one_before() {
    support::watchdog();
    let first = IoLoop::new().unwrap();
    assert_eq!(current(), Some(name(&first)));
    let second = IoLoop::new().unwrap();
    assert_ne!(name(&first), name(&second));
    assert_eq!(name(&IoLoop::current()), name(&second));
    first.make_current();
    assert_eq!(current(), Some(name(&first)));
}

#[test]
fn a_loop_told_not_to_become_current_leaves_the_present_one() {
    let quiet = quiet_loop();
    assert_eq!(current(), None);
    let first = new_loop();
    let _other = quiet_loop();
    assert_eq!(current(), Some(name(&first)));
    quiet.make_current();
    assert_eq!(current(), Some(name(&quiet)));
}

#[test]
fn clearing_leaves_the_thread_without_and_may_be_repeated() {
    let _first = new_loop();
    IoLoop::clear_current();
    assert_eq!(current(), None);
    IoLoop::clear_current();
    assert_eq!(current(), None);
}

#[test]
fn being_current_does_not_keep_a_loop_alive() {
    let first = new_loop();
    let handle = first.handle();
    drop(first);
    assert_eq!(current(), None);
    assert!(!handle.add_callback(|| {}));
}

#[test]
fn each_thread_has_a_current_loop_of_its_own() {
    let first = new_loop();
    let other = thread::spawn(|| {
        assert_eq!(current(), None);
        let second = new_loop();
        assert_eq!(current(), Some(name(&second)));
        name(&second)
    });
    assert_ne!(other.join().unwrap(), name(&first));
    assert_eq!(current(), Some(name(&first)));
}

/// A callback that asserts that `expected` is current, and counts.
fn expecting(expected: &IoLoop, count: &Count) -> impl FnOnce() + use<> {
    let (expected, count) = (name(expected), count.clone());
    move || {
        assert_eq!(current(), Some(expected));
        count.hit();
    }
}

#[test]
fn a_loop_is_current_while_it_runs_and_the_previous_one_is_restored() {
    let first = new_loop();
    let second = quiet_loop();
    let count = Count::new();
    for runs in 1..=3 {
        second.add_callback(expecting(&second, &count));
        second.add_callback(|| IoLoop::current().stop());
        second.start().unwrap();
        assert_eq!((current(), count.get()), (Some(name(&first)), runs));
    }
    second.add_callback(expecting(&second, &count));
    turn(&second);
    assert_eq!((current(), count.get()), (Some(name(&first)), 4));
}

#[test]
fn a_thread_has_no_current_loop_after_running_one_that_was_not() {
    let quiet = quiet_loop();
    let count = Count::new();
    quiet.add_callback(expecting(&quiet, &count));
    turn(&quiet);
    assert_eq!((current(), count.get()), (None, 1));
}

#[test]
fn a_loop_run_inside_another_is_current_until_it_ends() {
    let outer = new_loop();
    let inner = quiet_loop();
    let count = Count::new();
    let before = expecting(&outer, &count);
    let within = expecting(&inner, &count);
    let after = expecting(&outer, &count);
    outer.add_callback(move || {
        before();
        inner.add_callback(within);
        turn(&inner);
        after();
    });
    turn(&outer);
    assert_eq!(count.get(), 3);
}

#[test]
fn a_running_loop_stays_current_whatever_a_callback_makes_current() {
    let outer = new_loop();
    let other = quiet_loop();
    let count = Count::new();
    let made = other.clone();
    outer.add_callback(move || made.make_current());
    outer.add_callback(expecting(&outer, &count));
    outer.add_callback(IoLoop::clear_current);
    outer.add_callback(expecting(&outer, &count));
    turn(&outer);
    assert_eq!((current(), count.get()), (Some(name(&outer)), 2));
}

#[test]
fn a_callback_may_run_a_loop_of_its_own_and_go_on_with_the_outer_one() {
    let outer = new_loop();
    outer.add_callback(|| {
        let answer = IoLoop::new().unwrap().run_sync(|| async { 42 }, None).unwrap();
        assert_eq!(answer, 42);
        IoLoop::current().call_later(Duration::ZERO, || IoLoop::current().stop());
    });
    outer.start().unwrap();
    assert_eq!(current(), Some(name(&outer)));
}

#[test]
fn a_refused_start_leaves_the_current_loop_alone() {
    let first = new_loop();
    let closed = quiet_loop();
    closed.close(false).unwrap();
    assert!(closed.start().is_err());
    assert_eq!(current(), Some(name(&first)));
}

#[test]
fn the_previous_loop_is_restored_when_a_panic_leaves_the_run() {
    let first = new_loop();
    let second = new_loop();
    first.make_current();
    second.add_callback(|| panic!("on purpose"));
    let run = std::panic::AssertUnwindSafe(|| second.start());
    assert!(catch_unwind(run).is_err());
    assert_eq!(current(), Some(name(&first)));
    let count = Count::new();
    second.add_callback(expecting(&second, &count));
    turn(&second);
    assert_eq!(count.get(), 1);
}

/// A stream that runs a closure as it is dropped.
struct Source(UnixStream, #[expect(dead_code, reason = "it is there to be dropped")] OnDrop<Look>);

type Look = Box<dyn FnMut()>;

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[test]
fn a_loop_is_current_for_what_it_drops_also_when_a_panic_leaves_the_run() {
    support::watchdog();
    let builder = IoLoop::builder().make_current(false).panics(Panics::Propagate);
    let io_loop = builder.build().unwrap();
    let dropped = Count::new();
    for panics in [false, true] {
        let (stream, _peer) = ready_pair();
        let (expected, count) = (name(&io_loop), dropped.clone());
        let look: Look = Box::new(move || {
            count.hit();
            assert_eq!(current(), Some(expected.clone()));
        });
        let handler = move |source: &mut Source, _| {
            assert!(IoLoop::current().remove_handler(source));
            if panics {
                panic!("on purpose");
            }
        };
        io_loop.add_handler(Source(stream, OnDrop(look)), Events::READ, handler).unwrap();
        let run = catch_unwind(AssertUnwindSafe(|| turn(&io_loop)));
        assert_eq!((run.is_err(), io_loop.metrics().panics), (panics, 0));
    }
    assert_eq!(dropped.get(), 2);
}
