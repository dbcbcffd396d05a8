//! Streams under load, and peers that behave badly.

mod stream_support;
mod support;

use ringloop::IoStream;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;
use stream_support::{noise, read_all, reset, run, send, settle, tcp_pair, tcp_stream};
use support::new_loop;

/// FNV-1a, of eight bytes at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Checksum(u64, usize);

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.1 += bytes.len();
    }
}

#[test]
fn an_echo_of_many_streams_returns_every_byte() {
    const STREAMS: usize = 50;
    const LENGTH: usize = 200_000;
    let io_loop = new_loop();
    let mut peers = Vec::new();
    for number in 0..STREAMS {
        let (socket, peer) = tcp_pair();
        peers.push(std::thread::spawn(move || {
            let sent = noise(LENGTH, number as u64);
            let copy = sent.clone();
            let mut writer = peer.try_clone().unwrap();
            let writing = std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                let mut rest = &copy[..];
                while !rest.is_empty() {
                    let (part, others) = rest.split_at(random.usize(1..=5000).min(rest.len()));
                    writer.write_all(part).unwrap();
                    rest = others;
                }
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let received = read_all(&peer);
            writing.join().unwrap();
            let sum = |bytes: &[u8]| {
                let mut sum = Checksum(0xcbf2_9ce4_8422_2325, 0);
                sum.add(bytes);
                sum
            };
            assert_eq!(sum(&received), sum(&sent));
        }));
        let stream = IoStream::new(socket).unwrap();
        drop(io_loop.spawn(async move {
            while let Some(piece) = stream.chunk().await.unwrap() {
                drop(stream.write(piece));
            }
        }));
    }
    run(&io_loop, async || {
        while peers.iter().any(|peer| !peer.is_finished()) {
            ringloop::time::sleep(Duration::from_millis(1)).await;
        }
    });
    peers.into_iter().for_each(|peer| peer.join().unwrap());
}

/// An echo that goes on as long as it can.
fn serve(io_loop: &ringloop::IoLoop, stream: IoStream) {
    stream.set_max_write_buffer_size(256 * 1024);
    drop(io_loop.spawn(async move {
        while let Ok(Some(piece)) = stream.chunk().await {
            if stream.write(piece).await.is_err() {
                return;
            }
        }
    }));
}

#[test]
fn peers_that_stall_reset_dribble_and_leave_do_not_disturb_the_others() {
    let io_loop = new_loop();
    let mut stalled = Vec::new();
    for _ in 0..10 {
        // Sends and never reads.
        let (stream, mut peer) = tcp_stream();
        peer.set_nonblocking(true).unwrap();
        serve(&io_loop, stream);
        while peer.write(&[1; 65536]).is_ok() {}
        stalled.push(peer);
        // Leaves with a reset, half way.
        let (stream, peer) = tcp_stream();
        serve(&io_loop, stream);
        send(&peer, [2; 100_000]);
        settle(&io_loop);
        reset(peer);
        // Half-closes, and waits for the rest.
        let (stream, peer) = tcp_stream();
        serve(&io_loop, stream);
        send(&peer, "abc");
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        settle(&io_loop);
        assert_eq!(read_all(&peer), b"abc");
    }
    let (stream, mut peer) = tcp_stream();
    serve(&io_loop, stream);
    let dribbler = std::thread::spawn(move || {
        for byte in 0..=255 {
            peer.write_all(&[byte]).unwrap();
            let mut echo = [0];
            peer.read_exact(&mut echo).unwrap();
            assert_eq!(echo, [byte]);
        }
    });
    run(&io_loop, async || {
        while !dribbler.is_finished() {
            ringloop::time::sleep(Duration::from_millis(1)).await;
        }
    });
    dribbler.join().unwrap();
    for peer in &mut stalled {
        peer.set_nonblocking(false).unwrap();
        let mut echo = [0; 1000];
        let turns = std::thread::scope(|scope| {
            let reading = scope.spawn(|| peer.read_exact(&mut echo).unwrap());
            run(&io_loop, async || {
                while !reading.is_finished() {
                    ringloop::time::sleep(Duration::from_millis(1)).await;
                }
            });
            io_loop.metrics().turns
        });
        assert!(turns > 0);
        assert_eq!(echo, [1; 1000]);
    }
}

#[test]
fn a_small_completion_queue_loses_no_byte() {
    support::watchdog();
    let io_loop = ringloop::IoLoop::builder().entries(2).cq_entries(4).build().unwrap();
    let sent = Rc::new(noise(300_000, 21));
    let mut tasks = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..20 {
        let (stream, peer) = tcp_stream();
        let copy = sent.to_vec();
        writers.push(std::thread::spawn(move || send(&peer, copy)));
        let sent = sent.clone();
        tasks.push(io_loop.spawn(async move {
            assert!(stream.read_until_close(1 << 20).await.unwrap() == *sent);
        }));
    }
    run(&io_loop, async || {
        for task in tasks {
            task.await.unwrap();
        }
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}
