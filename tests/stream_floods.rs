//! Many streams that receive more than they can take, and what a turn does about it.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream};
use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use stream_support::{poll_and_drop, run, settle, stream};
use support::new_loop;

/// More than the kernel serves in one system call.
const STREAMS: usize = 300;
const FLOOD: usize = 64 * 1024;

/// Streams that wait for data, and their peers.
fn waiting_streams(io_loop: &IoLoop) -> Vec<(IoStream, UnixStream)> {
    let streams: Vec<_> = (0..STREAMS).map(|_| stream()).collect();
    for (stream, peer) in &streams {
        peer.set_nonblocking(true).unwrap();
        assert!(poll_and_drop(stream.chunk()).is_pending());
    }
    settle(io_loop);
    streams
}

#[test]
fn a_turn_does_not_receive_for_all_others_before_it_closes_a_stream() {
    let io_loop = new_loop();
    let (dropped, _peer) = waiting_streams(&io_loop).remove(0);
    let mut flooded = waiting_streams(&io_loop);
    for (_, peer) in &mut flooded {
        peer.write_all(&vec![7; FLOOD]).unwrap();
    }
    let enters = Rc::new(Cell::new(0));
    io_loop.add_callback({
        let (io_loop, enters) = (io_loop.clone(), enters.clone());
        move || {
            // Its end is asked for in this turn, and waited for in the next.
            drop(dropped);
            let before = io_loop.metrics().enters;
            let later = io_loop.clone();
            io_loop.add_callback(move || {
                enters.set(later.metrics().enters - before);
                later.stop();
            });
        }
    });
    io_loop.start().unwrap();
    assert!((1..=8).contains(&enters.get()), "{} system calls", enters.get());
}

#[test]
fn a_stream_that_has_received_too_much_costs_no_system_call_of_its_own() {
    const PIECES: u64 = 100;
    let io_loop = new_loop();
    let before = io_loop.metrics();
    run(&io_loop, async || {
        let (stream, mut peer) = stream();
        stream.set_max_buffer_size(1);
        for _ in 0..PIECES {
            peer.write_all(b"a piece").unwrap();
            assert_eq!(&*stream.chunk().await.unwrap().unwrap(), b"a piece");
        }
    });
    let after = io_loop.metrics();
    let (turns, enters) = (after.turns - before.turns, after.enters - before.enters);
    assert!(enters <= turns + 10, "{enters} system calls in {turns} turns");
    assert!(turns >= PIECES, "it has not stopped after each piece");
}
