//! Closing a loop, and dropping one.

mod support;

use ringloop::{Events, IoLoop, LoopError, LoopHandle, PeriodicCallback, Trigger};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use support::{Count, OnDrop, Trace, at_end, close_raw, move_to, new_loop, pair, ready_pair, turn};

const TRIGGERS: [Trigger; 2] = [Trigger::Level, Trigger::Edge];

/// A source whose destructor is noticed.
struct Owner {
    stream: UnixStream,
    _dropped: OnDrop<Box<dyn FnMut()>>,
}

impl Owner {
    fn new(stream: UnixStream, dropped: &Count) -> Owner {
        Owner { stream, _dropped: OnDrop(Box::new(dropped.counter())) }
    }
}

impl AsRawFd for Owner {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[test]
fn close_drops_owned_sources_and_leaves_bare_numbers_open() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let dropped = Count::new();
        let (owned, owned_peer) = pair();
        let (bare, bare_peer) = pair();
        let (owned, bare) = (Owner::new(owned, &dropped), bare.into_raw_fd());
        io_loop.add_handler_with(owned, Events::READ, trigger, |_, _| {}).unwrap();
        io_loop.add_handler_with(bare, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        io_loop.close(false).unwrap();
        assert_eq!(dropped.get(), 1);
        assert!(at_end(&owned_peer) && !at_end(&bare_peer));
        close_raw(bare);
        assert!(at_end(&bare_peer));
    }
}

#[test]
fn close_of_all_fds_closes_bare_numbers_too_and_owned_sources_once() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let dropped = Count::new();
        let (owned, owned_peer) = pair();
        let (bare, bare_peer) = pair();
        let owned = Owner::new(owned, &dropped);
        io_loop.add_handler_with(owned, Events::READ, trigger, |_, _| {}).unwrap();
        let handler = |_: &mut RawFd, _| {};
        io_loop.add_handler_with(bare.into_raw_fd(), Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        io_loop.close(true).unwrap();
        assert_eq!(dropped.get(), 1);
        assert!(at_end(&owned_peer) && at_end(&bare_peer));
    }
}

/// A handler registered by number, whose closure owns the stream. As it goes it says good-bye, and
/// once the stream is closed, `after` is called.
fn add_by_number(io_loop: &IoLoop, stream: OwnedFd, after: impl FnMut() + 'static) -> RawFd {
    let number = stream.as_raw_fd();
    let (mut stream, mut after) = (Some(UnixStream::from(stream)), after);
    let owner = OnDrop(move || {
        let mut stream = stream.take().unwrap();
        stream.write_all(b"bye").unwrap();
        drop(stream);
        after();
    });
    let handler = move |_: &mut RawFd, _| {
        let _ = &owner;
    };
    io_loop.add_handler(number, Events::READ, handler).unwrap();
    number
}

#[test]
fn close_of_all_fds_leaves_alone_whoever_has_the_number_of_a_stream_that_a_closure_owned() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let stream = move_to(stream, 600);
    let (stranger, stranger_peer) = pair();
    let (mut stranger, taken) = (Some(stranger), Rc::new(RefCell::new(None)));
    let put = taken.clone();
    add_by_number(&io_loop, stream, move || {
        *put.borrow_mut() = Some(move_to(stranger.take().unwrap(), 600));
    });
    turn(&io_loop);
    io_loop.close(true).unwrap();
    let mut said = String::new();
    peer.read_to_string(&mut said).unwrap();
    assert_eq!(said, "bye");
    assert!(!at_end(&stranger_peer));
    assert_eq!(taken.borrow().as_ref().unwrap().as_raw_fd(), 600);
    drop(taken.take());
    assert!(at_end(&stranger_peer));
}

#[test]
fn close_of_all_fds_closes_bare_numbers_although_a_destructor_panics() {
    let io_loop = new_loop();
    let (stream, _peer) = pair();
    let (bare, bare_peer) = pair();
    io_loop.add_handler(bare.into_raw_fd(), Events::READ, |_, _| {}).unwrap();
    add_by_number(&io_loop, stream.into(), || panic!("on purpose"));
    let close = || io_loop.close(true);
    assert!(catch_unwind(AssertUnwindSafe(close)).is_err());
    assert!(at_end(&bare_peer));
}

#[test]
fn close_drops_callbacks_timeouts_and_handlers_without_running_them() {
    let io_loop = new_loop();
    let (run, dropped) = (Count::new(), Count::new());
    let callback = || {
        let (run, on_drop) = (run.clone(), OnDrop(dropped.counter()));
        move || {
            run.hit();
            drop(on_drop);
        }
    };
    io_loop.add_callback(callback());
    io_loop.call_later(Duration::ZERO, callback());
    io_loop.call_later(Duration::MAX, callback());
    let (stream, _peer) = ready_pair();
    let (calls, on_drop) = (run.clone(), OnDrop(dropped.counter()));
    let handler = move |_: &mut UnixStream, _| {
        let _ = &on_drop;
        calls.hit();
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    io_loop.close(false).unwrap();
    assert_eq!((run.get(), dropped.get()), (0, 4));
}

#[test]
fn close_may_be_repeated() {
    let io_loop = new_loop();
    for all_fds in [false, true, false] {
        io_loop.close(all_fds).unwrap();
    }
}

#[test]
fn what_a_loop_has_counted_can_be_read_after_it_is_closed() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap();
    (0..3).for_each(|_| turn(&io_loop));
    let before = io_loop.metrics();
    assert!(before.enters >= 3 && before.submissions >= 3 && before.completions >= 3);
    io_loop.close(false).unwrap();
    let after = io_loop.metrics();
    assert_eq!((after.driver, after.handlers, after.turns), ("closed", 0, 3));
    assert!(after.enters >= before.enters, "{after:?}");
    assert!(after.submissions >= before.submissions, "{after:?}");
    assert!(after.completions >= before.completions, "{after:?}");
}

#[test]
fn close_forgets_a_stop_and_never_runs_again() {
    let io_loop = new_loop();
    io_loop.stop();
    io_loop.close(false).unwrap();
    let error = io_loop.start().unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::Closed));
}

#[test]
fn a_port_is_free_when_close_returns() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        io_loop.add_handler_with(listener, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        io_loop.close(false).unwrap();
        drop(TcpListener::bind(address).unwrap());
    }
}

#[test]
fn close_after_a_turn_with_undelivered_wake_ups_is_clean() {
    let io_loop = new_loop();
    let mut peers = Vec::new();
    for index in 0..100 {
        let (stream, peer) = ready_pair();
        let trigger = TRIGGERS[index % 2];
        io_loop.add_handler_with(stream, Events::READ, trigger, |_, _| {}).unwrap();
        peers.push(peer);
    }
    turn(&io_loop);
    (0..10).for_each(|_| io_loop.handle().wake());
    io_loop.close(false).unwrap();
    let reset = |mut peer: UnixStream| std::io::Read::read(&mut peer, &mut [0]);
    for peer in peers {
        let kind = reset(peer).unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    }
}

/// Does everything that a destructor may do with a loop that is closing.
fn use_everything(io_loop: &IoLoop, trace: &Trace) {
    io_loop.add_callback(trace.mark("callback run"));
    let timeout = io_loop.call_later(Duration::ZERO, trace.mark("timeout run"));
    io_loop.remove_timeout(timeout);
    let (stream, _peer) = pair();
    assert!(io_loop.update_handler(&stream, Events::READ).is_err());
    assert!(!io_loop.remove_handler(&stream));
    assert!(io_loop.add_handler(stream, Events::READ, |_, _| {}).is_err());
    assert!(!io_loop.handle().add_callback(|| {}));
    io_loop.close(true).unwrap();
    trace.push("dropped");
}

#[test]
fn what_close_drops_may_use_the_loop_as_it_goes() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let on_drop = || {
        let (io_loop, trace) = (io_loop.clone(), trace.clone());
        OnDrop(move || use_everything(&io_loop, &trace))
    };
    let (in_callback, in_timeout, in_handler) = (on_drop(), on_drop(), on_drop());
    io_loop.add_callback(move || drop(in_callback));
    io_loop.call_later(Duration::ZERO, move || drop(in_timeout));
    let (stream, _peer) = pair();
    let handler = move |_: &mut UnixStream, _| {
        let _ = &in_handler;
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    io_loop.close(false).unwrap();
    assert_eq!(trace.take(), ["dropped"; 3]);
    assert!(io_loop.start().is_err());
}

#[test]
fn dropping_the_last_clone_closes_the_loop() {
    let io_loop = new_loop();
    let (dropped, handle) = (Count::new(), io_loop.handle());
    let (owned, owned_peer) = pair();
    let (bare, bare_peer) = pair();
    let (owned, bare) = (Owner::new(owned, &dropped), bare.into_raw_fd());
    io_loop.add_handler(owned, Events::READ, |_, _| {}).unwrap();
    io_loop.add_handler(bare, Events::READ, |_, _| {}).unwrap();
    let on_drop = OnDrop(dropped.counter());
    io_loop.add_callback(move || drop(on_drop));
    turn(&io_loop);
    let on_drop = OnDrop(dropped.counter());
    io_loop.add_callback(move || drop(on_drop));
    let clone = io_loop.clone();
    drop(io_loop);
    assert_eq!(dropped.get(), 1);
    assert!(handle.add_callback(|| {}));
    drop(clone);
    assert_eq!(dropped.get(), 3);
    assert!(!handle.add_callback(|| {}));
    assert!(at_end(&owned_peer) && !at_end(&bare_peer));
    close_raw(bare);
}

#[test]
fn a_clone_dropped_by_a_callback_leaves_the_running_loop_alone() {
    let io_loop = new_loop();
    let count = Count::new();
    let (clone, hit) = (io_loop.clone(), count.clone());
    io_loop.add_callback(move || {
        drop(clone);
        hit.hit();
        IoLoop::current().add_callback(move || hit.hit());
    });
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(count.get(), 2);
}

#[test]
fn a_loop_whose_only_owner_is_its_own_callback_is_gone_after_it() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    let owner = Rc::new(RefCell::new(Some(io_loop.clone())));
    let taken = owner.clone();
    io_loop.add_callback(move || {
        drop(taken.take());
        assert!(IoLoop::try_current().is_some());
        IoLoop::current().stop();
    });
    io_loop.start().unwrap();
    drop(io_loop);
    assert!(owner.borrow().is_none());
    assert!(IoLoop::try_current().is_none());
    assert!(!handle.add_callback(|| {}));
}

#[test]
fn another_loop_dropped_inside_a_callback_is_closed_there() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let other = new_loop();
    let (stream, peer) = pair();
    let on_drop = OnDrop(trace.mark("handler dropped"));
    let handler = move |_: &mut UnixStream, _| {
        let _ = &on_drop;
    };
    other.add_handler(stream, Events::READ, handler).unwrap();
    turn(&other);
    let told = trace.clone();
    io_loop.add_callback(move || {
        drop(other);
        assert!(at_end(&peer));
        told.push("loop dropped");
    });
    turn(&io_loop);
    assert_eq!(trace.take(), ["handler dropped", "loop dropped"]);
}

#[test]
fn a_periodic_callback_outlives_its_loop() {
    let io_loop = new_loop();
    let count = Count::new();
    let periodic = PeriodicCallback::new(count.counter(), Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    assert!(periodic.is_running());
    drop(io_loop);
    assert!(!periodic.is_running());
    periodic.stop();
    assert!(!periodic.is_running());
    let error = periodic.start().unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    drop(periodic);
    assert_eq!(count.get(), 0);
}

/// Posts 1,000 callbacks; how many were taken.
fn post_many(handle: &LoopHandle, dropped: &Arc<AtomicUsize>, started: mpsc::Sender<()>) -> usize {
    let mut taken = 0;
    for _ in 0..1000 {
        let count = dropped.clone();
        let on_drop = OnDrop(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        taken += usize::from(handle.add_callback(move || drop(on_drop)));
        let _ = started.send(());
    }
    taken
}

#[test]
fn what_a_task_that_is_ended_by_close_posts_is_accepted_and_dropped_by_it() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    let (accepted, dropped) = (Rc::new(Cell::new(None)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (accepted.clone(), dropped.clone());
    let on_drop = move || {
        let count = count.clone();
        OnDrop(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
    };
    let last_words = OnDrop(move || {
        let (callback, function) = (on_drop(), on_drop());
        let posted = handle.add_callback(move || drop(callback));
        let spawned = handle.spawn(move || async move { drop(function) });
        told.set(Some((posted, spawned)));
    });
    drop(io_loop.spawn(async move { drop(last_words) }));
    io_loop.close(false).unwrap();
    assert_eq!((accepted.get(), dropped.load(Ordering::Relaxed)), (Some((true, true)), 2));
    let handle = io_loop.handle();
    assert!(!handle.add_callback(|| ()) && !handle.spawn(|| async {}));
}

#[test]
fn posts_that_race_with_close_are_dropped_or_run_but_never_lost() {
    let mut all_taken = 0;
    for wait_for in (0..1000).step_by(50) {
        let io_loop = new_loop();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (handle, count) = (io_loop.handle(), dropped.clone());
        let (sender, receiver) = mpsc::channel();
        let poster = thread::spawn(move || post_many(&handle, &count, sender));
        receiver.iter().take(wait_for).for_each(|()| ());
        io_loop.close(false).unwrap();
        let taken = poster.join().unwrap();
        assert!(taken >= wait_for.min(1000));
        assert_eq!(dropped.load(Ordering::Relaxed), 1000);
        all_taken += taken;
    }
    assert!(all_taken > 0);
}

#[test]
fn loops_are_made_and_closed_on_many_threads_at_once() {
    support::watchdog();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let ran = Rc::new(Cell::new(0));
                for _ in 0..25 {
                    let io_loop = IoLoop::new().unwrap();
                    let count = ran.clone();
                    io_loop.add_callback(move || count.set(count.get() + 1));
                    turn(&io_loop);
                    io_loop.close(true).unwrap();
                }
                ran.get()
            })
        })
        .collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>(), 100);
}
