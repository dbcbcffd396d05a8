//! Edge-triggered handlers: once per wake-up, and nothing lost.

mod support;

use ringloop::{Events, IoLoop, KernelFeatures, Trigger};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use support::{Count, Masks, drain, new_loop, pair, ready_pair, turn, turn_until};

#[test]
fn an_edge_handler_is_not_called_again_for_what_it_left_unread() {
    let io_loop = new_loop();
    let (stream, mut peer) = ready_pair();
    let count = Count::new();
    io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, count.handler()).unwrap();
    for _ in 0..5 {
        turn(&io_loop);
        assert_eq!(count.get(), 1);
    }
    for wake_ups in 2..=5 {
        peer.write_all(b"more").unwrap();
        for _ in 0..3 {
            turn(&io_loop);
            assert_eq!(count.get(), wake_ups);
        }
    }
}

#[test]
fn a_level_handler_added_with_its_trigger_is_called_again() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let count = Count::new();
    io_loop.add_handler_with(stream, Events::READ, Trigger::Level, count.handler()).unwrap();
    for turns in 1..=5 {
        turn(&io_loop);
        assert_eq!(count.get(), turns);
    }
}

#[test]
fn wake_ups_of_one_turn_come_as_one_call_with_a_merged_mask() {
    support::watchdog();
    // Without these, the kernel posts every wake-up for itself.
    let merging = KernelFeatures::DEFER_TASKRUN | KernelFeatures::COOP_TASKRUN;
    for without in [KernelFeatures::empty(), merging] {
        let io_loop = IoLoop::builder().without(without).build().unwrap();
        let mut lines = [(); 3].map(|()| {
            let (stream, peer) = pair();
            let masks = Masks::new();
            io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, masks.handler()).unwrap();
            (masks, Some(peer))
        });
        turn(&io_loop);
        for (masks, peer) in &mut lines {
            assert!(masks.take().is_empty());
            let peer = peer.as_mut().unwrap();
            peer.write_all(b"one").unwrap();
            peer.write_all(b"two").unwrap();
        }
        lines[1].1 = None;
        turn(&io_loop);
        let told = lines.each_ref().map(|(masks, _)| masks.take());
        let hung_up = vec![Events::READ | Events::ERROR];
        assert_eq!(told, [vec![Events::READ], hung_up, vec![Events::READ]]);
        turn(&io_loop);
        assert!(lines.iter().all(|(masks, _)| masks.take().is_empty()));
    }
}

#[test]
fn an_edge_handler_that_drains_gets_every_byte() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let (bytes, wanted) = (Count::new(), 100_000);
    let got = bytes.clone();
    let handler = move |stream: &mut _, _| {
        for _ in 0..drain(stream) {
            got.hit();
        }
        if got.get() == wanted {
            IoLoop::current().stop();
        }
    };
    io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, handler).unwrap();
    let writer = std::thread::spawn(move || {
        peer.set_nonblocking(false).unwrap();
        for piece in [0; 100_000].chunks(777) {
            peer.write_all(piece).unwrap();
        }
        peer
    });
    io_loop.start().unwrap();
    assert_eq!(bytes.get(), wanted);
    drop(writer.join().unwrap());
}

#[test]
fn updating_an_edge_handler_reports_again_what_is_ready() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (masks, fd) = (Masks::new(), stream.as_raw_fd());
    io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, masks.handler()).unwrap();
    for asked in [Events::READ, Events::READ, Events::READ | Events::WRITE] {
        turn(&io_loop);
        let told = masks.take();
        assert!(matches!(told[..], [events] if events.contains(Events::READ)), "{told:?}");
        turn(&io_loop);
        assert!(masks.take().is_empty());
        io_loop.update_handler(&fd, asked).unwrap();
    }
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ | Events::WRITE]);
}

#[test]
fn an_edge_handler_is_told_only_what_it_asked_for() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let masks = Masks::new();
    io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, masks.handler()).unwrap();
    for _ in 0..3 {
        turn(&io_loop);
        assert!(masks.take().is_empty());
        peer.write_all(b"x").unwrap();
        turn(&io_loop);
        assert_eq!(masks.take(), [Events::READ]);
    }
}

#[test]
fn room_to_write_is_an_edge_for_a_full_socket() {
    let io_loop = new_loop();
    let (mut stream, mut peer) = pair();
    while stream.write(&[0; 4096]).is_ok() {}
    let masks = Masks::new();
    io_loop.add_handler_with(stream, Events::WRITE, Trigger::Edge, masks.handler()).unwrap();
    turn(&io_loop);
    assert!(masks.take().is_empty());
    while peer.read(&mut [0; 65536]).is_ok() {}
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::WRITE]);
}

#[test]
fn a_hang_up_reaches_an_edge_handler_that_is_paused() {
    let io_loop = new_loop();
    let (stream, peer) = pair();
    let masks = Masks::new();
    io_loop.add_handler_with(stream, Events::NONE, Trigger::Edge, masks.handler()).unwrap();
    turn(&io_loop);
    drop(peer);
    for _ in 0..5 {
        turn(&io_loop);
    }
    assert_eq!(masks.take(), [Events::ERROR]);
}

#[test]
fn a_paused_edge_handler_is_told_of_what_came_meanwhile_when_it_is_resumed() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let (masks, fd) = (Masks::new(), stream.as_raw_fd());
    io_loop.add_handler_with(stream, Events::READ, Trigger::Edge, masks.handler()).unwrap();
    turn(&io_loop);
    io_loop.update_handler(&fd, Events::NONE).unwrap();
    peer.write_all(b"meanwhile").unwrap();
    turn(&io_loop);
    assert!(masks.take().is_empty());
    io_loop.update_handler(&fd, Events::READ).unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
}

/// What nobody asked for, the peer's half-close, takes the poll out of its usual way of arming.
#[test]
fn a_level_writer_whose_peer_has_half_closed_is_called_every_turn_once_it_has_room() {
    let io_loop = new_loop();
    let (mut stream, peer) = pair();
    let written = fill(&mut stream);
    let count = Count::new();
    io_loop.add_handler(stream, Events::WRITE, count.handler()).unwrap();
    turn(&io_loop);
    peer.shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        turn(&io_loop);
    }
    assert_eq!(count.get(), 0);
    assert_eq!(drain(&peer), written);
    for calls in 1..=5 {
        turn(&io_loop);
        assert_eq!(count.get(), calls);
    }
}

/// Takes in what the polls find of what `act` does, without a turn: another file is removed.
fn find_between_turns(io_loop: &IoLoop, act: impl FnOnce()) {
    let (removed, _peer) = pair();
    let fd = removed.as_raw_fd();
    io_loop.add_handler(removed, Events::READ, |_, _| {}).unwrap();
    turn(io_loop);
    act();
    assert!(io_loop.remove_handler(&fd));
}

#[test]
fn what_is_found_between_turns_comes_with_what_follows_to_whom_it_concerns() {
    let io_loop = new_loop();
    let mut lines = Vec::new();
    for trigger in [Trigger::Level, Trigger::Edge].into_iter().cycle().take(10) {
        let (stream, peer) = pair();
        let masks = Masks::new();
        io_loop.add_handler_with(stream, Events::READ, trigger, masks.handler()).unwrap();
        lines.push((trigger, masks, peer));
    }
    find_between_turns(&io_loop, || {
        lines.iter_mut().for_each(|(.., peer)| peer.write_all(b"x").unwrap());
    });
    let edges = lines.extract_if(.., |(trigger, ..)| *trigger == Trigger::Edge);
    let edges: Vec<_> = edges.map(|(_, masks, _)| masks).collect();
    turn(&io_loop);
    edges.iter().for_each(|masks| assert_eq!(masks.take(), [Events::READ | Events::ERROR]));
    lines.iter().for_each(|(_, masks, _)| assert_eq!(masks.take(), [Events::READ]));
}

#[test]
fn an_edge_handler_in_place_of_one_that_was_not_told_yet_is_told() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let fd = stream.as_raw_fd();
    io_loop.add_handler_with(fd, Events::READ, Trigger::Edge, |_, _| {}).unwrap();
    find_between_turns(&io_loop, || peer.write_all(b"x").unwrap());
    assert!(io_loop.remove_handler(&fd));
    let masks = Masks::new();
    io_loop.add_handler_with(fd, Events::READ, Trigger::Edge, masks.handler()).unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
}

/// What nobody asked for, the half-close of many peers at once, does not fit into the queue either.
#[test]
fn a_completion_queue_that_is_too_small_costs_nobody_a_later_edge() {
    support::watchdog();
    let io_loop = IoLoop::builder().entries(2).cq_entries(4).build().unwrap();
    let mut lines = Vec::new();
    for _ in 0..40 {
        let (mut stream, peer) = pair();
        let count = Count::new();
        fill(&mut stream);
        io_loop.add_handler_with(stream, Events::WRITE, Trigger::Edge, count.handler()).unwrap();
        lines.push((count, peer));
    }
    turn(&io_loop);
    lines.iter().for_each(|(_, peer)| peer.shutdown(Shutdown::Write).unwrap());
    for _ in 0..lines.len() {
        turn(&io_loop);
    }
    assert!(io_loop.metrics().completion_overflows > 0);
    lines.iter().for_each(|(count, peer)| {
        assert_eq!(count.get(), 0);
        drain(peer);
    });
    turn_until(&io_loop, || lines.iter().all(|(count, _)| count.get() > 0));
}

fn fill(stream: &mut UnixStream) -> usize {
    let mut written = 0;
    loop {
        match stream.write(&[0; 4096]) {
            Ok(length) => written += length,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return written;
            }
        }
    }
}
