//! Users of the kind one hopes not to have: destructors that work, closures that end their own
//! world, numbers that change hands.

mod support;

use ringloop::{Events, IoLoop, LoopError, PanicReport, Panics, Trigger};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use support::{Count, OnDrop, Trace, at_end, close_raw, move_to, new_loop, pair, ready_pair, turn};

const TRIGGERS: [Trigger; 2] = [Trigger::Level, Trigger::Edge];

/// The smallest loop there is.
fn tiny_loop() -> IoLoop {
    support::watchdog();
    IoLoop::builder().entries(2).cq_entries(2).panics(Panics::Propagate).build().unwrap()
}

/// A stream that, as it is dropped, does something else first.
struct Source {
    stream: UnixStream,
    last_will: OnDrop<Box<dyn FnMut()>>,
}

impl Source {
    fn new(stream: UnixStream, last_will: impl FnMut() + 'static) -> Source {
        Source { stream, last_will: OnDrop(Box::new(last_will)) }
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        let _ = &self.last_will;
        self.stream.as_raw_fd()
    }
}

/// Handlers each of which removes the one before it as its source is dropped; the last one's number,
/// and all the peers.
fn chain(io_loop: &IoLoop, trigger: Trigger, length: usize) -> (RawFd, Vec<UnixStream>) {
    let (mut previous, mut peers) = (None, Vec::new());
    for _ in 0..length {
        let (stream, peer) = pair();
        peers.push(peer);
        let (fd, before) = (stream.as_raw_fd(), previous);
        let source = Source::new(stream, move || {
            if let Some(before) = before {
                assert!(IoLoop::current().remove_handler(&before));
            }
        });
        io_loop.add_handler_with(source, Events::READ, trigger, |_, _| {}).unwrap();
        previous = Some(fd);
    }
    (previous.unwrap(), peers)
}

#[test]
fn sources_that_remove_each_other_as_they_are_dropped_are_all_released_by_the_end_of_the_turn() {
    for (make_loop, trigger) in [new_loop, tiny_loop].into_iter().zip(TRIGGERS) {
        let io_loop = make_loop();
        for from_callback in [false, true] {
            let (last, peers) = chain(&io_loop, trigger, 20);
            turn(&io_loop);
            if from_callback {
                io_loop.add_callback(move || assert!(IoLoop::current().remove_handler(&last)));
                turn(&io_loop);
            } else {
                assert!(io_loop.remove_handler(&last));
            }
            assert!(peers.iter().all(at_end), "{trigger:?}, from a callback: {from_callback}");
            assert_eq!(io_loop.metrics().handlers, 0);
        }
    }
}

#[test]
fn a_handler_that_removes_itself_starts_a_chain_that_is_released_by_the_end_of_the_turn() {
    for trigger in TRIGGERS {
        let io_loop = tiny_loop();
        let (last, peers) = chain(&io_loop, trigger, 20);
        turn(&io_loop);
        let (stream, _peer) = ready_pair();
        let source = Source::new(stream, move || assert!(IoLoop::current().remove_handler(&last)));
        let handler = |source: &mut Source, _| assert!(IoLoop::current().remove_handler(source));
        io_loop.add_handler_with(source, Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        assert!(peers.iter().all(at_end), "{trigger:?}");
    }
}

#[test]
fn hundreds_of_sources_removed_by_a_callback_are_dropped_only_after_the_kernel_let_go_of_them() {
    const SOURCES: usize = 200;
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let (released, fds) = (Count::new(), Rc::new(RefCell::new(Vec::new())));
        for _ in 0..SOURCES {
            let (stream, peer) = pair();
            let (count, fd) = (released.clone(), stream.as_raw_fd());
            fds.borrow_mut().push(fd);
            let keep = Rc::new(Cell::new(Some(stream)));
            let closing = keep.clone();
            let last_will = OnDrop(move || {
                drop(closing.take());
                if at_end(&peer) {
                    count.hit();
                }
            });
            let handler = move |_: &mut RawFd, _| {
                let _ = (&keep, &last_will);
            };
            io_loop.add_handler_with(fd, Events::READ, trigger, handler).unwrap();
        }
        turn(&io_loop);
        turn(&io_loop);
        io_loop.add_callback(move || {
            fds.take().iter().for_each(|fd| assert!(IoLoop::current().remove_handler(fd)));
        });
        turn(&io_loop);
        assert_eq!(released.get(), SOURCES, "{trigger:?}");
    }
}

/// Runs a loop whose one handler closes its own number, and another that is not ready; `then` is
/// given a look at the other's peer, to be taken as soon as possible.
fn close_and_look(then: impl Fn(Box<dyn FnOnce() + Send>) + Copy + 'static) {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let (own, _own_peer) = ready_pair();
        let (idle, idle_peer) = pair();
        let (own, idle) = (own.into_raw_fd(), idle.into_raw_fd());
        io_loop.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
        let (told, mut idle_peer, handle) = (seen.clone(), Some(idle_peer), io_loop.handle());
        let handler = move |_: &mut RawFd, _| {
            for number in [own, idle] {
                assert!(IoLoop::current().remove_handler(&number));
                close_raw(number);
            }
            let (told, peer, handle) = (told.clone(), idle_peer.take().unwrap(), handle.clone());
            then(Box::new(move || {
                *told.lock().unwrap() = Some(at_end(&peer));
                handle.stop();
            }));
        };
        io_loop.add_handler_with(own, Events::READ, trigger, handler).unwrap();
        io_loop.start().unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(true), "{trigger:?}");
    }
}

#[test]
fn a_number_closed_by_a_handler_is_seen_closed_by_a_timeout_of_the_next_turn() {
    close_and_look(|look| {
        IoLoop::current().call_later(Duration::ZERO, look);
    });
}

#[test]
fn a_number_closed_by_a_handler_is_seen_closed_by_a_posted_callback_of_the_next_turn() {
    close_and_look(|look| assert!(IoLoop::current().handle().add_callback(look)));
}

#[test]
fn a_source_whose_destructor_gives_its_number_to_another_that_is_added_at_once() {
    for trigger in TRIGGERS {
        let io_loop = tiny_loop();
        let (stream, old_peer) = pair();
        let fd = move_to(stream, 800).into_raw_fd();
        let (fresh, mut fresh_peer) = pair();
        let (mut fresh, masks) = (Some(fresh), support::Masks::new());
        let handler = masks.handler();
        let mut handler = Some(handler);
        let itself = io_loop.clone();
        let will = OnDrop(move || {
            close_raw(fd);
            let fresh = move_to(fresh.take().unwrap(), fd);
            let handler = handler.take().unwrap();
            itself.add_handler_with(fresh, Events::READ, trigger, handler).unwrap();
        });
        let old = move |_: &mut RawFd, _| {
            let _ = &will;
        };
        io_loop.add_handler_with(fd, Events::READ, trigger, old).unwrap();
        turn(&io_loop);
        io_loop.add_callback(move || assert!(IoLoop::current().remove_handler(&fd)));
        turn(&io_loop);
        assert!(at_end(&old_peer));
        fresh_peer.write_all(b"x").unwrap();
        turn(&io_loop);
        assert_eq!((masks.take(), io_loop.metrics().handlers), (vec![Events::READ], 1));
        assert!(io_loop.remove_handler(&fd));
    }
}

#[test]
fn a_handler_turns_another_loop_that_removes_the_handlers_of_both() {
    for trigger in TRIGGERS {
        let (outer, inner) = (tiny_loop(), tiny_loop());
        let (own, own_peer) = ready_pair();
        let (idle, idle_peer) = pair();
        let (there, there_peer) = ready_pair();
        let fds = [own.as_raw_fd(), idle.as_raw_fd()];
        outer.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
        let (outer_too, inner_too) = (outer.clone(), inner.clone());
        let handler = move |there: &mut UnixStream, _| {
            assert_eq!(support::drain(&*there), 1);
            let error = outer_too.turn(None).unwrap_err();
            assert_eq!(LoopError::of(&error), Some(&LoopError::AlreadyRunning));
            assert!(outer_too.take_handler::<UnixStream>(&fds[0]).is_none());
            assert_eq!(fds.map(|fd| outer_too.remove_handler(&fd)), [true, true]);
            assert!(IoLoop::current().remove_handler(there));
        };
        inner.add_handler_with(there, Events::READ, trigger, handler).unwrap();
        let handler = move |own: &mut UnixStream, _| {
            turn(&inner_too);
            assert_eq!(support::drain(own), 1);
        };
        outer.add_handler_with(own, Events::READ, trigger, handler).unwrap();
        turn(&outer);
        assert!([&own_peer, &idle_peer, &there_peer].into_iter().all(at_end), "{trigger:?}");
        assert_eq!((outer.metrics().handlers, inner.metrics().handlers), (0, 0));
        inner.close(false).unwrap();
    }
}

#[test]
fn a_handler_that_puts_another_in_its_place_and_panics_is_reported_and_replaced() {
    for trigger in TRIGGERS {
        support::watchdog();
        let reports = Trace::new();
        let told = reports.clone();
        let hook = move |report: &PanicReport<'_>| {
            told.push(format!("{:?}: {}", report.origin.kind, report.message()));
        };
        let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
        let (stream, _peer) = ready_pair();
        let (fd, masks) = (stream.as_raw_fd(), support::Masks::new());
        let second = masks.handler();
        let (mut second, dropped) = (Some(second), Count::new());
        let will = OnDrop(dropped.counter());
        let handler = move |fd: &mut RawFd, _| {
            let _ = &will;
            assert!(IoLoop::current().remove_handler(fd));
            let second = second.take().unwrap();
            IoLoop::current().add_handler_with(*fd, Events::READ, trigger, second).unwrap();
            panic!("on purpose");
        };
        io_loop.add_handler_with(fd, Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        assert_eq!(reports.take(), [format!("Handler({fd}): on purpose")]);
        assert_eq!((dropped.get(), masks.take().len()), (1, 0));
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::READ]);
        assert!(io_loop.remove_handler(&fd));
    }
}

/// Its panic leaves the run before the callbacks that were queued have their turn.
#[test]
fn a_destructor_that_panics_between_two_turns_loses_no_callback_and_no_timeout() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let trace = Trace::new();
        let (idle, idle_peer) = pair();
        let idle_fd = idle.as_raw_fd();
        let source = Source::new(idle, || panic!("on purpose"));
        io_loop.add_handler_with(source, Events::READ, trigger, |_, _| {}).unwrap();
        let (stream, _peer) = ready_pair();
        let told = trace.clone();
        let handler = move |stream: &mut UnixStream, _| {
            assert_eq!(support::drain(stream), 1);
            let io_loop = IoLoop::current();
            assert!(io_loop.remove_handler(&idle_fd));
            io_loop.add_callback(told.mark("callback"));
            io_loop.call_later(Duration::ZERO, told.mark("timeout"));
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        let start = AssertUnwindSafe(|| io_loop.start());
        assert!(catch_unwind(start).is_err());
        assert!(at_end(&idle_peer) && trace.take().is_empty());
        turn(&io_loop);
        assert_eq!(trace.take(), ["callback", "timeout"]);
    }
}

#[test]
fn bits_that_are_no_events_are_ignored() {
    let io_loop = new_loop();
    // EPOLLRDHUP, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLET and all the rest.
    let junk = Events::from_bits_retain(!Events::all().bits());
    for trigger in TRIGGERS {
        let (stream, mut peer) = ready_pair();
        let (masks, fd) = (support::Masks::new(), stream.as_raw_fd());
        let interest = Events::READ | junk;
        io_loop.add_handler_with(stream, interest, trigger, masks.handler()).unwrap();
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::READ]);
        io_loop.update_handler(&fd, junk).unwrap();
        turn(&io_loop);
        assert!(masks.take().is_empty());
        io_loop.update_handler(&fd, junk | Events::WRITE).unwrap();
        peer.write_all(b"x").unwrap();
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::WRITE]);
        assert!(io_loop.remove_handler(&fd));
    }
}

#[test]
fn a_closure_that_uses_the_loop_as_a_taken_source_leaves_it() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (stream, peer) = pair();
    let fd = stream.as_raw_fd();
    let (itself, told) = (io_loop.clone(), trace.clone());
    let will = OnDrop(move || {
        assert!(!itself.remove_handler(&fd));
        itself.add_handler(fd, Events::READ, |_, _| {}).unwrap();
        assert!(itself.remove_handler(&fd));
        told.push("closure dropped");
    });
    let handler = move |_: &mut UnixStream, _| {
        let _ = &will;
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    turn(&io_loop);
    let stream: UnixStream = io_loop.take_handler(&fd).unwrap();
    assert_eq!((trace.take().len(), io_loop.metrics().handlers), (1, 0));
    drop(stream);
    assert!(at_end(&peer));
}

#[test]
fn a_cancelled_timeout_that_adds_and_cancels_others_as_it_is_dropped() {
    let io_loop = new_loop();
    let count = Count::new();
    let late = io_loop.call_later(Duration::from_secs(3600), count.counter());
    let (itself, run) = (io_loop.clone(), count.clone());
    let will = OnDrop(move || {
        itself.remove_timeout(late);
        itself.call_later(Duration::ZERO, run.counter());
    });
    let first = io_loop.call_later(Duration::ZERO, move || drop(will));
    io_loop.add_callback(move || IoLoop::current().remove_timeout(first));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!((count.get(), io_loop.metrics().timeouts_pending), (1, 0));
}

#[test]
fn builders_take_any_size() {
    support::watchdog();
    for size in [0, 1, 3, u32::MAX] {
        let io_loop = IoLoop::builder().entries(size).cq_entries(size).build().unwrap();
        let (stream, _peer) = ready_pair();
        let count = Count::new();
        io_loop.add_handler(stream, Events::READ, count.handler()).unwrap();
        turn(&io_loop);
        assert_eq!(count.get(), 1);
    }
}

/// A thread's storage outlives most of what it may want to use as it goes.
#[test]
fn a_loop_in_thread_local_storage_is_closed_with_its_thread() {
    thread_local! {
        static LOOP: RefCell<Option<IoLoop>> = const { RefCell::new(None) };
    }
    let (stream, peer) = pair();
    let fd = stream.into_raw_fd();
    std::thread::spawn(move || {
        // SAFETY: the test has given the descriptor up.
        let stream = unsafe { OwnedFd::from_raw_fd(fd) };
        let io_loop = new_loop();
        io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap();
        let will = OnDrop(|| assert!(IoLoop::try_current().is_none()));
        io_loop.call_later(Duration::from_secs(3600), move || drop(will));
        turn(&io_loop);
        LOOP.set(Some(io_loop));
    })
    .join()
    .unwrap();
    assert!(at_end(&peer));
}
