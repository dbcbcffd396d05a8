//! Which events a handler is called for, how often, and with what.

mod support;

use ringloop::{Events, IoLoop, Panics};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use support::{Count, Masks, drain, new_loop, pair, ready_pair, turn, turn_until};

#[test]
fn a_handler_that_leaves_data_unread_is_called_again_every_turn_until_it_drains() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let (calls, draining) = (Count::new(), Rc::new(Cell::new(false)));
    let (count, drains) = (calls.clone(), draining.clone());
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            count.hit();
            if drains.get() {
                drain(stream);
            }
        })
        .unwrap();
    peer.write_all(b"unread").unwrap();
    for turns in 1..=5 {
        turn(&io_loop);
        assert_eq!(calls.get(), turns);
    }
    draining.set(true);
    for _ in 0..5 {
        turn(&io_loop);
        assert_eq!(calls.get(), 6);
    }
    peer.write_all(b"more").unwrap();
    turn(&io_loop);
    assert_eq!(calls.get(), 7);
}

#[test]
fn a_handler_that_reads_a_part_is_called_again_for_the_rest() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let got = Rc::new(Cell::new(0));
    let total = got.clone();
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            total.set(total.get() + stream.read(&mut [0; 3]).unwrap());
            if total.get() == 10 {
                IoLoop::current().stop();
            }
        })
        .unwrap();
    peer.write_all(b"0123456789").unwrap();
    io_loop.start().unwrap();
    assert_eq!((got.get(), io_loop.metrics().handler_calls), (10, 4));
}

#[test]
fn write_interest_is_reported_in_every_turn_with_room_to_write() {
    let io_loop = new_loop();
    let (mut stream, peer) = pair();
    while stream.write(&[0; 4096]).is_ok() {}
    let masks = Masks::new();
    io_loop.add_handler(stream, Events::WRITE, masks.handler()).unwrap();
    turn(&io_loop);
    assert!(masks.take().is_empty());
    assert!(drain(&peer) > 0);
    for _ in 0..3 {
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::WRITE]);
    }
}

#[test]
fn only_events_asked_for_arrive() {
    let io_loop = new_loop();
    let both = Events::READ | Events::WRITE;
    let mut peers = Vec::new();
    for (asked, told) in [
        (Events::READ, Some(Events::READ)),
        (Events::WRITE, Some(Events::WRITE)),
        (both, Some(both)),
        (Events::NONE, None),
        (Events::ERROR, None),
        (Events::PRIORITY, None),
    ] {
        let (stream, peer) = ready_pair();
        peers.push(peer);
        let (masks, fd) = (Masks::new(), stream.as_raw_fd());
        io_loop.add_handler(stream, asked, masks.handler()).unwrap();
        for _ in 0..3 {
            turn(&io_loop);
            assert_eq!(masks.take(), Vec::from_iter(told), "asked for {asked:?}");
        }
        io_loop.remove_handler(&fd);
    }
}

#[test]
fn a_hang_up_is_reported_whatever_was_asked() {
    let io_loop = new_loop();
    for asked in [Events::NONE, Events::WRITE, Events::READ, Events::ERROR, Events::PRIORITY] {
        let (stream, peer) = pair();
        let (masks, fd) = (Masks::new(), stream.as_raw_fd());
        io_loop.add_handler(stream, asked, masks.handler()).unwrap();
        turn(&io_loop);
        masks.take();
        drop(peer);
        for _ in 0..3 {
            turn(&io_loop);
            let expected = Events::ERROR | (asked & (Events::READ | Events::WRITE));
            assert_eq!(masks.take(), [expected], "asked for {asked:?}");
        }
        io_loop.remove_handler(&fd);
    }
}

#[test]
fn the_broken_end_of_a_pipe_is_reported_to_a_paused_handler() {
    let io_loop = new_loop();
    let (reader, writer) = io::pipe().unwrap();
    let masks = Masks::new();
    io_loop.add_handler(writer, Events::NONE, masks.handler()).unwrap();
    turn(&io_loop);
    assert!(masks.take().is_empty());
    drop(reader);
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::ERROR]);
}

#[test]
fn a_reset_connection_is_reported_as_an_error_to_a_paused_handler() {
    let io_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.write_all(b"never read").unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.peek(&mut [0]).unwrap();
    let failed = Rc::new(Cell::new(None));
    let told = failed.clone();
    io_loop
        .add_handler(stream, Events::NONE, move |stream, events| {
            assert_eq!(events, Events::ERROR);
            told.set(stream.read(&mut [0]).err().map(|error| error.kind()));
            IoLoop::current().remove_handler(stream);
        })
        .unwrap();
    // Closing with data unread resets the connection.
    io_loop.add_callback(move || drop(accepted));
    turn_until(&io_loop, || io_loop.metrics().handlers == 0);
    assert_eq!(failed.get(), Some(io::ErrorKind::ConnectionReset));
}

#[test]
fn half_a_close_by_the_peer_is_readable_and_not_an_error() {
    let io_loop = new_loop();
    let (stream, peer) = pair();
    let masks = Masks::new();
    io_loop.add_handler(stream, Events::READ | Events::WRITE, masks.handler()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ | Events::WRITE]);
}

#[test]
fn all_that_is_ready_comes_in_one_call() {
    let io_loop = new_loop();
    let (stream, peer) = ready_pair();
    drop(peer);
    let masks = Masks::new();
    io_loop.add_handler(stream, Events::READ | Events::WRITE, masks.handler()).unwrap();
    for _ in 0..3 {
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::READ | Events::WRITE | Events::ERROR]);
    }
}

#[test]
fn several_wake_ups_of_one_fd_make_one_call_a_turn() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let masks = Masks::new();
    io_loop.add_handler(stream, Events::READ, masks.handler()).unwrap();
    turn(&io_loop);
    peer.write_all(b"one").unwrap();
    peer.write_all(b"two").unwrap();
    drop(peer);
    // The first call may tell of the first wake-up alone.
    turn(&io_loop);
    let told = masks.take();
    assert!(matches!(told[..], [events] if events.contains(Events::READ)), "{told:?}");
    for _ in 0..3 {
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::READ | Events::ERROR]);
    }
}

/// Calls of the handlers of 50 ready fds, by fd, after each of 20 turns.
fn calls_of_many(io_loop: &IoLoop) -> Vec<[usize; 50]> {
    let calls = Rc::new(Cell::new([0; 50]));
    let mut peers = Vec::new();
    for index in 0..50 {
        let (stream, peer) = ready_pair();
        peers.push(peer);
        let calls = calls.clone();
        io_loop
            .add_handler(stream, Events::READ, move |_, _| {
                let mut all = calls.get();
                all[index] += 1;
                calls.set(all);
            })
            .unwrap();
    }
    let count = |_| {
        turn(io_loop);
        calls.get()
    };
    (0..20).map(count).collect()
}

#[test]
fn every_ready_fd_of_many_is_called_once_a_turn() {
    support::watchdog();
    let io_loop = IoLoop::builder().panics(Panics::Propagate).entries(2).build().unwrap();
    for (turn, calls) in calls_of_many(&io_loop).into_iter().enumerate() {
        assert_eq!(calls, [turn + 1; 50]);
    }
}

#[test]
fn a_completion_queue_that_is_too_small_starves_nobody() {
    support::watchdog();
    let io_loop =
        IoLoop::builder().panics(Panics::Propagate).entries(2).cq_entries(2).build().unwrap();
    for (turn, calls) in calls_of_many(&io_loop).into_iter().enumerate() {
        assert!(calls.iter().all(|calls| (turn / 4..=turn + 1).contains(calls)), "{calls:?}");
    }
}

struct Wrapper {
    stream: UnixStream,
    name: &'static str,
}

impl AsRawFd for Wrapper {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[test]
fn a_handler_is_given_exactly_what_was_registered() {
    let io_loop = new_loop();
    let seen = Count::new();
    let (stream, _peer) = ready_pair();
    let (wrapped, calls) = (Wrapper { stream, name: "the one" }, seen.clone());
    let handler = move |wrapped: &mut Wrapper, _| {
        assert_eq!((wrapped.name, drain(&wrapped.stream)), ("the one", 1));
        calls.hit();
    };
    io_loop.add_handler(wrapped, Events::READ, handler).unwrap();

    let (stream, _other_peer) = ready_pair();
    let (number, calls) = (stream.as_raw_fd(), seen.clone());
    let handler = move |fd: &mut RawFd, _| {
        assert_eq!(*fd, number);
        calls.hit();
    };
    io_loop.add_handler(number, Events::READ, handler).unwrap();
    turn(&io_loop);
    assert_eq!(seen.get(), 2);
    io_loop.remove_handler(&number);
}

#[test]
fn update_handler_changes_what_is_reported_and_keeps_the_handler() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (masks, fd) = (Masks::new(), stream.as_raw_fd());
    io_loop.add_handler(stream, Events::READ, masks.handler()).unwrap();
    for asked in [Events::WRITE, Events::READ | Events::WRITE, Events::READ] {
        io_loop.update_handler(&fd, asked).unwrap();
        for _ in 0..2 {
            turn(&io_loop);
            assert_eq!(masks.take(), [asked]);
        }
    }
}

#[test]
fn a_paused_handler_is_not_called_until_it_is_resumed() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let (masks, fd) = (Masks::new(), stream.as_raw_fd());
    io_loop.add_handler(stream, Events::READ, masks.handler()).unwrap();
    turn(&io_loop);
    io_loop.update_handler(&fd, Events::NONE).unwrap();
    for _ in 0..5 {
        peer.write_all(b"x").unwrap();
        turn(&io_loop);
    }
    assert!(masks.take().is_empty());
    io_loop.update_handler(&fd, Events::READ).unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
}

#[test]
fn a_paused_handler_lets_the_loop_sleep_although_data_waits() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let fd = stream.as_raw_fd();
    let pause = move |_: &mut UnixStream, _| {
        IoLoop::current().update_handler(&fd, Events::NONE).unwrap();
    };
    io_loop.add_handler(stream, Events::READ, pause).unwrap();
    io_loop.call_later(Duration::from_millis(20), || IoLoop::current().stop());
    io_loop.start().unwrap();
    let metrics = io_loop.metrics();
    assert_eq!(metrics.handler_calls, 1);
    assert!(metrics.turns < 10, "{metrics:?}");
}

#[test]
fn a_handler_for_urgent_data_lets_the_loop_sleep_although_ordinary_data_waits() {
    let io_loop = new_loop();
    let (stream, peer) = ready_pair();
    let (count, mut writer) = (Count::new(), peer.try_clone().unwrap());
    io_loop.add_handler(stream, Events::PRIORITY, count.handler()).unwrap();
    io_loop.call_later(Duration::from_millis(10), move || writer.write_all(b"more").unwrap());
    io_loop.call_later(Duration::from_millis(20), || IoLoop::current().stop());
    io_loop.start().unwrap();
    let metrics = io_loop.metrics();
    assert!(count.get() == 0 && metrics.turns < 10, "{metrics:?}");
}

#[test]
fn update_from_the_handler_itself_holds_for_the_next_turn() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (told, fd) = (support::Trace::new(), stream.as_raw_fd());
    let trace = told.clone();
    io_loop
        .add_handler(stream, Events::READ, move |_, events| {
            trace.push(format!("{events:?}"));
            let next = (Events::READ | Events::WRITE) - events;
            IoLoop::current().update_handler(&fd, next).unwrap();
        })
        .unwrap();
    for _ in 0..4 {
        turn(&io_loop);
    }
    let (read, write) = ("Events(READ)", "Events(WRITE)");
    assert_eq!(told.take(), [read, write, read, write]);
}

#[test]
fn a_handler_added_by_a_handler_is_called_from_the_next_turn_on() {
    let io_loop = new_loop();
    let trace = support::Trace::new();
    let (outer, mut outer_peer) = pair();
    let (inner, _inner_peer) = ready_pair();
    let (told, mut inner) = (trace.clone(), Some(inner));
    io_loop
        .add_handler(outer, Events::READ, move |outer, _| {
            drain(outer);
            told.push("outer");
            let inner = inner.take().unwrap();
            IoLoop::current().add_handler(inner, Events::READ, told.handler("inner")).unwrap();
        })
        .unwrap();
    outer_peer.write_all(b"x").unwrap();
    turn(&io_loop);
    assert_eq!(trace.take(), ["outer"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["inner"]);
}

#[test]
fn a_handler_paused_by_another_of_the_same_batch_is_not_called() {
    let io_loop = new_loop();
    let (streams, _peers): (Vec<_>, Vec<_>) = (0..2).map(|_| ready_pair()).unzip();
    let numbers = [streams[0].as_raw_fd(), streams[1].as_raw_fd()];
    let count = Count::new();
    for (stream, other) in streams.into_iter().zip([numbers[1], numbers[0]]) {
        let count = count.clone();
        let pause_other = move |_: &mut UnixStream, _| {
            count.hit();
            IoLoop::current().update_handler(&other, Events::NONE).unwrap();
        };
        io_loop.add_handler(stream, Events::READ, pause_other).unwrap();
    }
    for _ in 0..3 {
        turn(&io_loop);
    }
    assert_eq!(count.get(), 3);
}
