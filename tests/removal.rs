//! Removing handlers: at once, from anywhere, and without pinning what they watched.

mod support;

use ringloop::{Events, IoLoop, Trigger};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Count, Masks, OnDrop, Trace, at_end, close_raw, move_to, new_loop, pair, ready_pair, turn,
};

const TRIGGERS: [Trigger; 2] = [Trigger::Level, Trigger::Edge];

#[test]
fn removing_an_unknown_fd_is_no_error() {
    let io_loop = new_loop();
    let (stream, _peer) = pair();
    assert!(!io_loop.remove_handler(&stream));
    for number in [-1, RawFd::MIN, RawFd::MAX, 1 << 20] {
        assert!(!io_loop.remove_handler(&number));
        assert!(io_loop.take_handler::<RawFd>(&number).is_none());
    }
    turn(&io_loop);
}

#[test]
fn what_completes_for_a_removed_handler_or_a_closed_loop_is_counted_as_that() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let (stream, _peer) = pair();
        let fd = stream.as_raw_fd();
        io_loop.add_handler_with(stream, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        assert_eq!(io_loop.metrics().stale_completions, 0);
        assert!(io_loop.remove_handler(&fd));
        assert_eq!(io_loop.metrics().stale_completions, 1);
        io_loop.close(false).unwrap();
        let metrics = io_loop.metrics();
        assert_eq!((metrics.stale_completions, metrics.wakeups), (1, 0));
    }
}

#[test]
fn a_removed_handler_is_not_called_although_its_fd_is_ready() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (stream, _peer) = ready_pair();
        let (count, fd) = (Count::new(), stream.as_raw_fd());
        io_loop.add_handler_with(stream, Events::READ, trigger, count.handler()).unwrap();
        assert!(io_loop.remove_handler(&fd));
        assert!(!io_loop.remove_handler(&fd));
        turn(&io_loop);
        assert_eq!(count.get(), 0);
    }
    assert_eq!(io_loop.metrics().handlers, 0);
}

#[test]
fn a_callback_removes_a_handler_before_its_call_in_the_same_turn() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (stream, mut peer) = pair();
        let (count, fd) = (Count::new(), stream.as_raw_fd());
        io_loop.add_handler_with(stream, Events::READ, trigger, count.handler()).unwrap();
        turn(&io_loop);
        // The kernel has found it ready by the time it is removed.
        peer.write_all(b"x").unwrap();
        io_loop.add_callback(move || assert!(IoLoop::current().remove_handler(&fd)));
        turn(&io_loop);
        turn(&io_loop);
        assert_eq!(count.get(), 0);
    }
}

#[test]
fn a_handler_removes_another_one_that_is_ready_in_the_same_batch() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let count = Count::new();
        let pairs = [ready_pair(), ready_pair()];
        let fds = [0, 1].map(|index: usize| pairs[index].0.as_raw_fd());
        let mut peers = Vec::new();
        for (index, (stream, peer)) in pairs.into_iter().enumerate() {
            peers.push(peer);
            let (calls, other) = (count.clone(), fds[1 - index]);
            let handler = move |_: &mut UnixStream, _| {
                calls.hit();
                assert!(IoLoop::current().remove_handler(&other));
            };
            io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        }
        turn(&io_loop);
        assert_eq!((count.get(), io_loop.metrics().handlers), (1, 1));
        assert_eq!(fds.map(|fd| io_loop.remove_handler(&fd)).iter().filter(|it| **it).count(), 1);
    }
}

#[test]
fn a_handler_removes_itself_and_is_dropped_when_it_returns() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let trace = Trace::new();
        let (stream, peer) = ready_pair();
        let (told, dropped) = (trace.clone(), OnDrop(trace.mark("dropped")));
        let handler = move |stream: &mut UnixStream, _| {
            let _ = &dropped;
            assert!(IoLoop::current().remove_handler(stream));
            assert!(!IoLoop::current().remove_handler(stream));
            assert_eq!(support::drain(stream), 1);
            told.push("returns");
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        assert_eq!(trace.take(), ["returns", "dropped"]);
        assert!(at_end(&peer));
        turn(&io_loop);
        assert_eq!((trace.take().len(), io_loop.metrics().handlers), (0, 0));
    }
}

#[test]
fn a_handler_replaces_itself() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (stream, _peer) = ready_pair();
    let (fd, told) = (stream.as_raw_fd(), trace.clone());
    let second = trace.handler("second");
    let mut second = Some(second);
    let handler = move |fd: &mut RawFd, _| {
        told.push("first");
        let io_loop = IoLoop::current();
        assert!(io_loop.remove_handler(fd));
        io_loop.add_handler(*fd, Events::READ, second.take().unwrap()).unwrap();
    };
    io_loop.add_handler(fd, Events::READ, handler).unwrap();
    turn(&io_loop);
    assert_eq!(trace.take(), ["first"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["second"]);
    assert!(io_loop.remove_handler(&fd));
}

/// The first handler called closes the other's file and gives its number to a file that is not
/// ready.
fn reuse_number_in_a_batch(first: RawFd, trigger: Trigger) {
    let io_loop = new_loop();
    let (old, new) = (Count::new(), Masks::new());
    let (fresh, mut fresh_peer) = pair();
    let fresh = Rc::new(RefCell::new(Some(fresh)));
    let numbers = [first, first + 1];
    let mut peers = Vec::new();
    for (index, number) in numbers.into_iter().enumerate() {
        let (stream, peer) = ready_pair();
        peers.push(peer);
        let number = move_to(stream, number).into_raw_fd();
        let other = numbers[1 - index];
        let (calls, masks, fresh) = (old.clone(), new.clone(), fresh.clone());
        let handler = move |_: &mut RawFd, _| {
            calls.hit();
            let Some(fresh) = fresh.take() else { return };
            let io_loop = IoLoop::current();
            assert!(io_loop.remove_handler(&other));
            close_raw(other);
            let fresh = move_to(fresh, other);
            io_loop.add_handler_with(fresh, Events::READ, trigger, masks.handler()).unwrap();
        };
        io_loop.add_handler_with(number, Events::READ, trigger, handler).unwrap();
    }
    for _ in 0..3 {
        turn(&io_loop);
        assert!(new.take().is_empty());
    }
    assert_eq!(old.get(), if trigger == Trigger::Level { 3 } else { 1 });
    fresh_peer.write_all(b"x").unwrap();
    turn(&io_loop);
    assert_eq!(new.take(), [Events::READ]);
    io_loop.close(true).unwrap();
}

#[test]
fn a_file_with_a_reused_number_never_gets_the_old_files_event() {
    reuse_number_in_a_batch(600, Trigger::Level);
}

#[test]
fn an_edge_triggered_file_with_a_reused_number_never_gets_the_old_files_event() {
    reuse_number_in_a_batch(610, Trigger::Edge);
}

#[test]
fn an_event_that_the_kernel_has_posted_is_not_given_to_a_file_with_a_reused_number() {
    for (number, trigger) in [(620, Trigger::Level), (621, Trigger::Edge)] {
        let io_loop = new_loop();
        let (stream, mut peer) = pair();
        let number = move_to(stream, number).into_raw_fd();
        let (old, new) = (Count::new(), Count::new());
        io_loop.add_handler_with(number, Events::READ, trigger, old.handler()).unwrap();
        turn(&io_loop);
        peer.write_all(b"x").unwrap();
        io_loop.remove_handler(&number);
        close_raw(number);
        let (fresh, mut fresh_peer) = pair();
        let fresh = move_to(fresh, number);
        io_loop.add_handler_with(fresh, Events::READ, trigger, new.handler()).unwrap();
        for _ in 0..3 {
            turn(&io_loop);
            assert_eq!((old.get(), new.get()), (0, 0));
        }
        fresh_peer.write_all(b"x").unwrap();
        turn(&io_loop);
        assert_eq!((old.get(), new.get()), (0, 1));
    }
}

#[test]
fn a_number_closed_after_removal_is_seen_closed_at_once_while_the_loop_does_not_run() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (stream, peer) = pair();
        let number = stream.into_raw_fd();
        io_loop.add_handler_with(number, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        assert!(io_loop.remove_handler(&number));
        close_raw(number);
        assert!(at_end(&peer), "{trigger:?}");
    }
}

#[test]
fn a_number_closed_by_a_callback_after_removal_is_seen_closed_by_the_end_of_the_turn() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (stream, peer) = pair();
        let number = stream.into_raw_fd();
        io_loop.add_handler_with(number, Events::READ, trigger, |_, _| {}).unwrap();
        turn(&io_loop);
        io_loop.add_callback(move || {
            assert!(IoLoop::current().remove_handler(&number));
            close_raw(number);
        });
        turn(&io_loop);
        assert!(at_end(&peer), "{trigger:?}");
    }
}

/// A handler that closes its own number, and that of a connection that is not ready.
fn closing_handler(own: RawFd, idle: RawFd) -> impl FnMut(&mut RawFd, Events) {
    move |_, _| {
        for number in [own, idle] {
            assert!(IoLoop::current().remove_handler(&number));
            close_raw(number);
        }
    }
}

#[test]
fn a_number_closed_by_a_handler_after_removal_is_seen_closed_by_the_end_of_the_turn() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (idle, idle_peer) = pair();
        let (own, own_peer) = ready_pair();
        let (idle, own) = (idle.into_raw_fd(), own.into_raw_fd());
        io_loop.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
        io_loop.add_handler_with(own, Events::READ, trigger, closing_handler(own, idle)).unwrap();
        turn(&io_loop);
        assert_eq!(io_loop.metrics().handlers, 0);
        assert!(at_end_or_reset(&own_peer) && at_end(&idle_peer), "{trigger:?}");
    }
}

/// As `at_end`, for a side that closed with data unread.
fn at_end_or_reset(mut peer: &UnixStream) -> bool {
    match peer.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_number_closed_by_a_handler_is_seen_closed_before_the_next_turns_callbacks_run() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (idle, peer) = pair();
        let (own, _own_peer) = ready_pair();
        let (idle, own) = (idle.into_raw_fd(), own.into_raw_fd());
        let seen = Rc::new(Cell::new(false));
        let (told, mut peer) = (seen.clone(), Some(peer));
        let mut close_both = closing_handler(own, idle);
        io_loop.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
        let handler = move |fd: &mut RawFd, events| {
            close_both(fd, events);
            let (told, peer) = (told.clone(), peer.take().unwrap());
            IoLoop::current().add_callback(move || {
                told.set(at_end(&peer));
                IoLoop::current().stop();
            });
        };
        io_loop.add_handler_with(own, Events::READ, trigger, handler).unwrap();
        io_loop.start().unwrap();
        assert!(seen.get(), "{trigger:?}");
    }
}

#[test]
fn a_number_closed_by_a_handler_is_seen_closed_although_the_loop_then_sleeps() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (idle, mut peer) = pair();
        let (own, _own_peer) = ready_pair();
        let (idle, own) = (idle.into_raw_fd(), own.into_raw_fd());
        io_loop.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
        io_loop.add_handler_with(own, Events::READ, trigger, closing_handler(own, idle)).unwrap();
        let handle = io_loop.handle();
        let reader = std::thread::spawn(move || {
            peer.set_nonblocking(false).unwrap();
            let result = peer.read(&mut [0]).unwrap();
            handle.stop();
            result
        });
        io_loop.start().unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    }
}

#[test]
fn an_owned_source_that_a_handler_removes_is_dropped_although_the_loop_then_sleeps() {
    for trigger in TRIGGERS {
        for removes_itself in [false, true] {
            let io_loop = new_loop();
            let (idle, idle_peer) = pair();
            let (own, own_peer) = ready_pair();
            let (removed, mut peer, _other) = match removes_itself {
                true => (own.as_raw_fd(), own_peer, idle_peer),
                false => (idle.as_raw_fd(), idle_peer, own_peer),
            };
            io_loop.add_handler_with(idle, Events::READ, trigger, |_, _| {}).unwrap();
            let handler = move |own: &mut UnixStream, _| {
                let _ = own.read(&mut [0; 8]);
                IoLoop::current().remove_handler(&removed);
            };
            io_loop.add_handler_with(own, Events::READ, trigger, handler).unwrap();
            let handle = io_loop.handle();
            let reader = std::thread::spawn(move || {
                peer.set_nonblocking(false).unwrap();
                let result = peer.read(&mut [0]).unwrap();
                handle.stop();
                result
            });
            io_loop.start().unwrap();
            assert_eq!(reader.join().unwrap(), 0);
        }
    }
}

/// A connection that looks, as soon as it is dropped, whether its peer sees it closed.
struct Watched {
    stream: Option<UnixStream>,
    peer: UnixStream,
    released: Rc<Cell<Option<bool>>>,
}

impl Watched {
    fn new() -> (Watched, Rc<Cell<Option<bool>>>) {
        let (stream, peer) = pair();
        let released = Rc::new(Cell::new(None));
        (Watched { stream: Some(stream), peer, released: released.clone() }, released)
    }
}

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_ref().unwrap().as_raw_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.stream.take());
        self.released.set(Some(at_end(&self.peer)));
    }
}

#[test]
fn an_owned_source_is_dropped_only_after_the_kernel_has_let_go_of_it() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let removals: [fn(&IoLoop, RawFd); 5] = [
            |io_loop, fd| assert!(io_loop.remove_handler(&fd)),
            |io_loop, fd| {
                io_loop.add_callback(move || assert!(IoLoop::current().remove_handler(&fd)));
            },
            |io_loop, fd| {
                let remove = move || assert!(IoLoop::current().remove_handler(&fd));
                io_loop.call_later(Duration::ZERO, remove);
            },
            |io_loop, fd| {
                let (ready, _) = ready_pair();
                let remove = move |ready: &mut UnixStream, _| {
                    assert!(IoLoop::current().remove_handler(&fd));
                    assert!(IoLoop::current().remove_handler(ready));
                };
                io_loop.add_handler(ready, Events::READ, remove).unwrap();
            },
            |io_loop, _| io_loop.close(false).unwrap(),
        ];
        let io_loop = if trigger == Trigger::Level { io_loop.clone() } else { new_loop() };
        for (index, remove) in removals.into_iter().enumerate() {
            let (source, released) = Watched::new();
            let fd = source.as_raw_fd();
            io_loop.add_handler_with(source, Events::READ, trigger, |_, _| {}).unwrap();
            turn(&io_loop);
            assert_eq!(released.get(), None);
            remove(&io_loop, fd);
            if index != 4 {
                turn(&io_loop);
            }
            assert_eq!(released.get(), Some(true), "{trigger:?}, removal {index}");
        }
    }
}

#[test]
fn an_owned_source_that_removes_itself_is_dropped_only_after_the_kernel_has_let_go_of_it() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let (source, released) = Watched::new();
        let handler = |source: &mut Watched, _| assert!(IoLoop::current().remove_handler(source));
        io_loop.add_handler_with(source, Events::WRITE, trigger, handler).unwrap();
        turn(&io_loop);
        assert_eq!(released.get(), Some(true), "{trigger:?}");
    }
}

#[test]
fn a_source_taken_back_can_be_used_and_its_handler_is_dropped() {
    let io_loop = new_loop();
    for trigger in TRIGGERS {
        let trace = Trace::new();
        let (stream, mut peer) = ready_pair();
        let (fd, dropped) = (stream.as_raw_fd(), OnDrop(trace.mark("dropped")));
        let handler = move |_: &mut UnixStream, _| {
            let _ = &dropped;
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        assert!(io_loop.take_handler::<RawFd>(&fd).is_none(), "it is another type");
        assert_eq!((trace.take().len(), io_loop.metrics().handlers), (0, 1));

        let stream: UnixStream = io_loop.take_handler(&fd).unwrap();
        assert_eq!(trace.take(), ["dropped"]);
        assert!(io_loop.take_handler::<UnixStream>(&fd).is_none());
        peer.write_all(b"yz").unwrap();
        let calls = io_loop.metrics().handler_calls;
        turn(&io_loop);
        assert_eq!(io_loop.metrics().handler_calls, calls);
        assert_eq!(support::drain(&stream), 3);
        drop(stream);
        assert!(at_end(&peer));
    }
}

#[test]
fn a_running_handler_cannot_be_taken() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let fd = stream.as_raw_fd();
    let handler = move |stream: &mut UnixStream, _| {
        assert!(IoLoop::current().take_handler::<UnixStream>(stream).is_none());
        assert_eq!(support::drain(stream), 1);
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    turn(&io_loop);
    assert_eq!(io_loop.metrics().panics, 0);
    assert!(io_loop.take_handler::<UnixStream>(&fd).is_some());
}

#[test]
fn a_handler_takes_another_source_of_its_batch_and_registers_it_anew() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let taken = Rc::new(Cell::new(false));
    let pairs = [ready_pair(), ready_pair()];
    let fds = [0, 1].map(|index: usize| pairs[index].0.as_raw_fd());
    let mut peers = Vec::new();
    for (index, (stream, peer)) in pairs.into_iter().enumerate() {
        peers.push(peer);
        let (trace, taken, other) = (trace.clone(), taken.clone(), fds[1 - index]);
        let handler = move |_: &mut UnixStream, _| {
            trace.push("first owner");
            if !taken.replace(true) {
                let io_loop = IoLoop::current();
                let source: UnixStream = io_loop.take_handler(&other).unwrap();
                io_loop.add_handler(source, Events::READ, trace.handler("second owner")).unwrap();
            }
        };
        io_loop.add_handler(stream, Events::READ, handler).unwrap();
    }
    turn(&io_loop);
    assert_eq!(trace.take(), ["first owner"]);
    turn(&io_loop);
    let mut told = trace.take();
    told.sort();
    assert_eq!(told, ["first owner", "second owner"]);
}

/// Each removal looks at the kernel, and what a poll for urgent data finds there is for the next turn.
#[test]
fn removals_while_the_loop_does_not_run_lose_and_mix_up_nothing() {
    let io_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let urgent = support::Masks::new();
    io_loop.add_handler(listener.accept().unwrap().0, Events::PRIORITY, urgent.handler()).unwrap();
    let others: Vec<_> = (0..3).map(|_| pair()).collect();
    for (stream, _) in &others {
        io_loop.add_handler(stream.as_raw_fd(), Events::READ, |_, _| {}).unwrap();
    }
    peer.write_all(b"ordinary").unwrap();
    for _ in 0..3 {
        turn(&io_loop);
    }
    assert!(urgent.take().is_empty());
    for (stream, _) in &others {
        // SAFETY: the descriptor is open, and one byte is read from a static string.
        let sent = unsafe { libc::send(peer.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(sent, 1);
        assert!(io_loop.remove_handler(stream));
    }
    turn(&io_loop);
    assert_eq!(urgent.take(), [Events::PRIORITY]);
}

/// What is not allowed: the loop goes on watching the descriptor that was added, which the handler
/// has closed.
#[test]
fn a_handler_that_replaces_its_source_harms_nobody_and_is_removed_by_the_first_number() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let (stream, peer) = ready_pair();
        let (other, other_peer) = ready_pair();
        let (stream, other) = (move_to(stream, 640), move_to(other, 641));
        let (mut other, masks) = (Some(other), Rc::new(RefCell::new(Vec::new())));
        let seen = masks.clone();
        let handler = move |stream: &mut OwnedFd, events| {
            seen.borrow_mut().push(events);
            if let Some(other) = other.take() {
                *stream = other;
            }
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        for _ in 0..4 {
            turn(&io_loop);
        }
        match trigger {
            Trigger::Level => assert_eq!(*masks.borrow(), [Events::READ, Events::ERROR]),
            Trigger::Edge => assert_eq!(*masks.borrow(), [Events::READ]),
        }
        assert_eq!(io_loop.metrics().handlers, 1);
        assert!(!io_loop.remove_handler(&641));
        assert!(io_loop.take_handler::<OwnedFd>(&641).is_none());
        // Somebody else's, by now.
        let (stranger, mut stranger_peer) = pair();
        let stranger = move_to(stranger, 640);
        let count = Count::new();
        let again = io_loop.add_handler(640, Events::READ, |_, _| {}).unwrap_err();
        assert_eq!(again.error().raw_os_error(), Some(libc::EEXIST));
        assert!(io_loop.remove_handler(&640));
        assert!(at_end_or_reset(&peer) && at_end_or_reset(&other_peer), "{trigger:?}");
        assert!(!at_end(&stranger_peer));
        io_loop.add_handler(640, Events::READ, count.handler()).unwrap();
        stranger_peer.write_all(b"x").unwrap();
        turn(&io_loop);
        assert_eq!(count.get(), 1);
        assert!(io_loop.remove_handler(&640));
        drop(stranger);
    }
}

#[test]
fn a_replaced_source_can_be_taken_by_the_first_number() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (other, _other_peer) = pair();
    let (fd, other_fd) = (stream.as_raw_fd(), other.as_raw_fd());
    let mut other = Some(other);
    let handler = move |stream: &mut UnixStream, _| {
        if let Some(other) = other.take() {
            *stream = other;
        }
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    turn(&io_loop);
    let stream: UnixStream = io_loop.take_handler(&fd).unwrap();
    assert_eq!((stream.as_raw_fd(), io_loop.metrics().handlers), (other_fd, 0));
}

#[test]
fn a_bare_number_that_its_handler_changed_is_not_closed_with_the_loop() {
    let io_loop = new_loop();
    let (first, first_peer) = ready_pair();
    let (second, second_peer) = pair();
    let (first, second) = (first.into_raw_fd(), second.into_raw_fd());
    io_loop.add_handler(first, Events::READ, move |number, _| *number = second).unwrap();
    turn(&io_loop);
    io_loop.close(true).unwrap();
    assert!(!at_end(&second_peer) && !at_end(&first_peer));
    close_raw(first);
    close_raw(second);
    assert!(at_end_or_reset(&first_peer) && at_end(&second_peer));
}
