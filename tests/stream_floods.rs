//! Many streams that receive more than they can take, and what a turn does about it.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream, Panics};
use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use stream_support::{poll_and_drop, poll_once, run, send, settle, stream};
use support::{new_loop, turn, watchdog};

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

/// Streams whose readers keep up, and whose peers always have more to send.
struct Floods(Vec<UnixStream>);

impl Floods {
    fn new(io_loop: &IoLoop, count: usize, mark: usize) -> Floods {
        let peers = (0..count).map(|_| {
            let (stream, peer) = stream();
            stream.set_max_buffer_size(mark);
            peer.set_nonblocking(true).unwrap();
            io_loop.spawn(async move { while let Ok(Some(_)) = stream.chunk().await {} });
            peer
        });
        let floods = Floods(peers.collect());
        (0..20).for_each(|_| floods.turn(io_loop, Duration::ZERO));
        floods
    }

    fn turn(&self, io_loop: &IoLoop, wait: Duration) {
        for mut peer in &self.0 {
            while peer.write(&[7; 16 * 1024]).is_ok() {}
        }
        io_loop.turn(Some(wait)).unwrap();
    }

    /// How many turns a stream waits for its data.
    fn turns_until_served(&self, io_loop: &IoLoop, victim: IoStream) -> usize {
        const ENOUGH: usize = 1000;
        let read = io_loop.spawn(async move { victim.chunk().await.unwrap().is_some() });
        let mut turns = 0;
        while !read.is_finished() && turns < ENOUGH {
            self.turn(io_loop, Duration::from_millis(1));
            turns += 1;
        }
        turns
    }
}

#[test]
fn floods_overtake_a_stream_that_waits_for_a_buffer_in_eight_turns_at_most() {
    /// Turns in which a flood may overtake, and one for whoever is parked.
    const TURNS: usize = 8 + 1;
    for (count, size) in [(1, 4096), (4, 65536), (128, 65536), (16, 1 << 20)] {
        for floods in [1, 4, 20] {
            for mark in [1, size, 128 * 1024] {
                watchdog();
                let io_loop = IoLoop::builder().panics(Panics::Propagate).buffers(count, size);
                let io_loop = io_loop.build().unwrap();
                let flooding = Floods::new(&io_loop, floods, mark);
                let (victim, peer) = stream();
                send(&peer, "ping");
                let turns = flooding.turns_until_served(&io_loop, victim);
                let context = format!("{count} x {size}, {floods} floods, mark {mark}");
                assert!(turns <= TURNS * (floods + 2), "{turns} turns: {context}");
            }
        }
    }
}

#[test]
fn a_busy_pool_does_not_keep_the_streams_of_another_waiting() {
    let io_loop = new_loop();
    let pool = io_loop.add_buffers(1, 64).unwrap();
    let (keeper, keepers_peer) = stream();
    keeper.set_buffers(pool).unwrap();
    // It is woken, and never polled again.
    let mut read = pin!(keeper.chunk());
    assert!(poll_once(read.as_mut()).is_pending());
    send(&keepers_peer, [1; 64]);
    turn(&io_loop);
    let flooding = Floods::new(&io_loop, 8, 128 * 1024);
    let (parked, peer) = stream();
    parked.set_buffers(pool).unwrap();
    send(&peer, [2; 64]);
    let turns = flooding.turns_until_served(&io_loop, parked);
    assert!(turns <= 20, "{turns} turns");
}
