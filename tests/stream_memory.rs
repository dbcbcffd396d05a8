//! What streams allocate, and what they cost when they have nothing to do.

mod counting;
mod stream_support;
mod support;

use counting::{allocations, growth};
use ringloop::{IoLoop, IoStream, Payload};
use socket2::SockRef;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;
use stream_support::{poll_and_drop, poll_once, run, settle, stream};
use support::{move_to, turn, watchdog};

/// An echo that runs as a task, and the other end of it.
fn echo(io_loop: &IoLoop) -> UnixStream {
    let (stream, peer) = stream();
    drop(io_loop.spawn(async move {
        while let Some(piece) = stream.chunk().await.unwrap() {
            stream.write(piece).await.unwrap();
        }
    }));
    peer
}

fn loop_of_buffers() -> IoLoop {
    watchdog();
    IoLoop::builder().buffers(256, 1024).build().unwrap()
}

#[test]
fn receiving_and_sending_allocates_nothing() {
    let io_loop = loop_of_buffers();
    let mut peers: Vec<_> = (0..20).map(|_| echo(&io_loop)).collect();
    turn(&io_loop);
    let mut round = || {
        for peer in &mut peers {
            peer.write_all(&[1; 64]).unwrap();
        }
        for _ in 0..3 {
            turn(&io_loop);
        }
        for peer in &mut peers {
            peer.read_exact(&mut [0; 64]).unwrap();
        }
    };
    // Tables and queues find their size.
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0);
}

#[test]
fn a_line_allocates_its_vector_and_nothing_else() {
    let io_loop = loop_of_buffers();
    let (stream, mut peer) = stream();
    let mut round = || {
        peer.write_all(b"a line\n").unwrap();
        // The first poll asks, the turn brings it, the second poll takes it.
        assert!(poll_and_drop(stream.read_until(b"\n", 100)).is_pending());
        turn(&io_loop);
        assert!(poll_and_drop(stream.read_until(b"\n", 100)).is_ready());
    };
    (0..10).for_each(|_| round());
    // What was read for in vain was copied out of its buffer.
    assert!(allocations(|| (0..100).for_each(|_| round())) <= 100);
}

#[test]
fn an_idle_stream_costs_no_more_than_512_bytes() {
    // They fill a table that doubles.
    const STREAMS: usize = 250;
    let io_loop = loop_of_buffers();
    let pairs: Vec<_> = (0..STREAMS).map(|_| UnixStream::pair().unwrap()).collect();
    let (mut streams, mut peers) = (Vec::with_capacity(STREAMS), Vec::with_capacity(STREAMS));
    // The loop's own tables are made by the first.
    let (_first, _peer) = stream();
    assert!(poll_and_drop(_first.chunk()).is_pending());
    settle(&io_loop);
    let grown = growth(|| {
        for (socket, peer) in pairs {
            let stream = IoStream::new(socket).unwrap();
            peers.push(peer);
            streams.push(stream);
        }
        for (stream, peer) in streams.iter().zip(&mut peers) {
            // It has been used, and waits for more.
            // A length that pieces of a buffer have, up to its end.
            peer.write_all(&[1; 8]).unwrap();
            assert!(poll_and_drop(stream.chunk()).is_pending());
            settle(&io_loop);
            run(&io_loop, async || {
                let piece = stream.chunk().await.unwrap().unwrap();
                stream.write(piece).await.unwrap();
            });
            assert!(poll_and_drop(stream.chunk()).is_pending());
            settle(&io_loop);
        }
    });
    let each = grown / STREAMS as isize;
    assert!(each <= 512, "{each} bytes");
}

/// The pages that this process has mapped, used or not.
fn mapped() -> usize {
    let memory = std::fs::read_to_string("/proc/self/statm").unwrap();
    memory.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_buffers_of_a_loop_that_is_gone_are_unmapped() {
    const LOOPS: usize = 16;
    const SIZE: usize = 256 << 20;
    watchdog();
    let before = mapped();
    for _ in 0..LOOPS {
        let io_loop = IoLoop::builder().buffers(256, SIZE / 256).build().unwrap();
        let (stream, mut peer) = stream();
        peer.write_all(b"x").unwrap();
        assert_eq!(run(&io_loop, || stream.read_bytes(1)).unwrap(), b"x");
    }
    // SAFETY: passes no memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let grown = mapped().saturating_sub(before) * page;
    // The other tests of this process map something, too.
    assert!(grown < LOOPS * SIZE / 2, "{grown} bytes");
}

#[test]
fn small_writes_that_wait_take_up_little_more_than_their_bytes() {
    const WRITES: usize = 100_000;
    let io_loop = loop_of_buffers();
    let (stream, _peer) = stream();
    stream.write(vec![0; 4 << 20]).queued().unwrap();
    settle(&io_loop);
    let shared: Arc<[u8]> = b"x"[..].into();
    let makes: [&dyn Fn() -> Payload; 3] =
        [&|| Payload::from_static(b"x"), &|| shared.clone().into(), &|| "x".into()];
    for make in makes {
        let grown = growth(|| (0..WRITES).for_each(|_| stream.write(make()).queued().unwrap()));
        assert!(grown <= 2 * WRITES as isize, "{grown} bytes");
    }
}

#[test]
fn streams_that_come_and_go_leave_nothing() {
    let io_loop = loop_of_buffers();
    let come_and_go = |(stream, mut peer): (IoStream, UnixStream)| {
        peer.write_all(&[1; 5000]).unwrap();
        assert!(poll_and_drop(stream.read_bytes(6000)).is_pending());
        settle(&io_loop);
        drop(stream.write(vec![2; 5000]));
        drop(stream);
        settle(&io_loop);
    };
    // The table of files reaches to the highest number that has sent, and the other tests of this
    // process decide which numbers are free.
    let (socket, peer) = UnixStream::pair().unwrap();
    come_and_go((IoStream::new(UnixStream::from(move_to(socket, 1000))).unwrap(), peer));
    let round = || come_and_go(stream());
    (0..10).for_each(|_| round());
    assert_eq!(growth(|| (0..100).for_each(|_| round())), 0);
}

#[test]
fn streams_that_end_with_something_to_read_leave_nothing() {
    const ROUNDS: usize = 1024;
    let io_loop = loop_of_buffers();
    let rounds = || {
        for _ in 0..ROUNDS {
            let (stream, mut peer) = stream();
            peer.write_all(&[1; 8]).unwrap();
            drop(peer);
            run(&io_loop, async || drop(stream.read_bytes(4).await.unwrap()));
        }
    };
    rounds();
    assert_eq!(growth(rounds), 0);
}

#[test]
fn a_stream_that_stops_and_goes_on_leaves_nothing_either() {
    const ROUNDS: usize = 1024;
    let io_loop = loop_of_buffers();
    let (stream, mut peer) = stream();
    stream.set_max_buffer_size(16);
    let mut rounds = || {
        for _ in 0..ROUNDS {
            let mut read = Box::pin(stream.read_bytes(8));
            assert!(poll_once(read.as_mut()).is_pending());
            // Eight times the mark.
            peer.write_all(&[1; 128]).unwrap();
            settle(&io_loop);
            assert!(poll_once(read.as_mut()).is_ready());
            drop(read);
            assert!(poll_and_drop(stream.read_bytes(120)).is_ready());
        }
    };
    rounds();
    assert_eq!(growth(&mut rounds), 0);
}

#[test]
fn streams_and_listeners_that_wait_and_go_leave_nothing() {
    let io_loop = loop_of_buffers();
    let round = || {
        let (stream, _peer) = stream();
        assert!(poll_and_drop(stream.closed()).is_pending());
        settle(&io_loop);
        drop(stream);
        let listener = ringloop::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(listener);
        settle(&io_loop);
    };
    (0..100).for_each(|_| round());
    assert_eq!(growth(|| (0..400).for_each(|_| round())), 0);
}

/// The kernel has a thread wait for the connection, and lets go of it later than of the rest.
#[test]
fn a_loop_that_is_closed_leaves_nothing_of_what_the_kernel_was_about() {
    let path = std::env::temp_dir().join(format!("ringloop-{}-closed", std::process::id()));
    let full = UnixListener::bind(&path).unwrap();
    // No more than one that waits.
    SockRef::from(&full).listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let round = |turns| {
        let io_loop = loop_of_buffers();
        let connecting = io_loop.spawn(IoStream::connect_unix(path.clone()));
        let listener = ringloop::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let accepting = io_loop.spawn(async move { listener.accept().await.map(drop) });
        let lines = [stream(), stream()];
        for (stream, _peer) in &lines {
            assert!(poll_and_drop(stream.read_bytes(1)).is_pending());
            stream.write(vec![1; 4 << 20]).queued().unwrap();
        }
        (0..turns).for_each(|_| io_loop.turn(Some(Duration::ZERO)).unwrap());
        io_loop.close(false).unwrap();
        drop((connecting, accepting));
    };
    let rounds = || (0..4).for_each(round);
    rounds();
    assert_eq!(growth(rounds), 0);
    std::fs::remove_file(&path).unwrap();
}
