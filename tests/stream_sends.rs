//! How streams send: with how many requests and system calls, and in how many segments.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream, KernelFeatures, Payload};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use stream_support::{poll_once, read_all, run, send, settle, stream, tcp_pair, tcp_stream};
use support::new_loop;

fn sends_silently(io_loop: &IoLoop) -> bool {
    let silent = KernelFeatures::SILENT_SEND | KernelFeatures::CQE_SKIP;
    io_loop.metrics().features.contains(silent)
}

#[test]
fn a_round_trip_of_an_echo_takes_one_system_call() {
    const ROUND_TRIPS: u64 = 200;
    let io_loop = new_loop();
    let (stream, mut peer) = tcp_stream();
    let client = std::thread::spawn(move || {
        for number in 0..ROUND_TRIPS {
            peer.write_all(&[number as u8; 64]).unwrap();
            let mut echo = [0; 64];
            peer.read_exact(&mut echo).unwrap();
            assert_eq!(echo, [number as u8; 64]);
        }
    });
    let before = io_loop.metrics().enters;
    run(&io_loop, async || {
        while let Some(piece) = stream.chunk().await.unwrap() {
            stream.write(piece).buffered().await.unwrap();
        }
    });
    client.join().unwrap();
    let enters = io_loop.metrics().enters - before;
    // Some at the beginning and at the end.
    let most = if sends_silently(&io_loop) { ROUND_TRIPS + 10 } else { 3 * ROUND_TRIPS };
    assert!((ROUND_TRIPS..=most).contains(&enters), "{enters} for {ROUND_TRIPS} round trips");
}

#[test]
fn what_a_turn_writes_is_sent_by_one_request() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    settle(&io_loop);
    let before = io_loop.metrics().submissions;
    for _ in 0..10 {
        stream.write(Payload::from_static(b"one and ")).queued().unwrap();
        stream.write("two, ").queued().unwrap();
    }
    settle(&io_loop);
    assert_eq!(io_loop.metrics().submissions - before, 1);
    drop(stream);
    settle(&io_loop);
    assert_eq!(read_all(&peer), b"one and two, ".repeat(10));
}

#[test]
fn more_payloads_than_a_request_takes_arrive_in_order() {
    for kind in [true, false] {
        let io_loop = new_loop();
        let (sent, received): (IoStream, Box<dyn Read + Send>) = match kind {
            true => {
                let (stream, peer) = stream();
                (stream, Box::new(peer))
            }
            false => {
                let (reader, writer) = std::io::pipe().unwrap();
                (IoStream::new(writer).unwrap(), Box::new(reader))
            }
        };
        let reader = std::thread::spawn(move || read_all(received));
        let pieces: Vec<Vec<u8>> = (0..300).map(|number| vec![number as u8; 3000]).collect();
        run(&io_loop, async || sent.write_vectored(pieces.clone()).await.unwrap());
        drop(sent);
        settle(&io_loop);
        assert!(reader.join().unwrap() == pieces.concat());
    }
}

#[test]
fn what_cannot_be_sent_at_once_is_sent_when_there_is_room() {
    let io_loop = new_loop();
    let (stream, mut peer) = tcp_stream();
    // One after the other, until one is sent in part, and one not at all.
    let mut written = 0;
    while !stream.writing() || written == 0 {
        stream.write(vec![written as u8; 50_000]).queued().unwrap();
        written += 1;
        settle(&io_loop);
    }
    stream.write(vec![written as u8; 50_000]).queued().unwrap();
    written += 1;
    let reader = std::thread::spawn(move || {
        for number in 0..written {
            let mut piece = vec![0; 50_000];
            peer.read_exact(&mut piece).unwrap();
            assert!(piece == vec![number as u8; 50_000], "piece {number}");
        }
    });
    run(&io_loop, async || stream.flush().await.unwrap());
    reader.join().unwrap();
}

#[test]
fn much_that_was_sent_is_let_go_of_without_waiting_for_other_news() {
    let io_loop = new_loop();
    let streams: Vec<_> = (0..8).map(|_| stream()).collect();
    let data: Arc<[u8]> = vec![1; 64 * 1024].into();
    for (stream, _peer) in &streams {
        stream.write(data.clone()).queued().unwrap();
    }
    let handle = io_loop.handle();
    let watcher = std::thread::spawn(move || {
        while Arc::strong_count(&data) > 1 {
            std::thread::yield_now();
        }
        handle.stop();
    });
    io_loop.start().unwrap();
    watcher.join().unwrap();
}

#[test]
fn a_buffered_write_waits_only_for_what_is_beyond_its_bound() {
    const BOUND: usize = 256 * 1024;
    let io_loop = new_loop();
    let (stream, peer) = stream();
    // Nothing has been sent: the loop has not turned.
    let mut write = std::pin::pin!(stream.write(vec![0; BOUND]).buffered());
    assert!(poll_once(write.as_mut()).is_ready());
    let mut write = std::pin::pin!(stream.write("x").buffered());
    assert!(poll_once(write.as_mut()).is_pending());
    let reader = std::thread::spawn(move || read_all(&peer).len());
    run(&io_loop, async || write.await.unwrap());
    drop(stream);
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), BOUND + 1);
}

/// Segments that a socket has received, from `tcp_info`.
fn segments(socket: &TcpStream) -> u32 {
    const SEGS_IN: usize = 140;
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer is as long as `length` says, and any bytes are valid in it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    assert_eq!(result, 0);
    assert!(length as usize >= SEGS_IN + 4, "this kernel does not tell");
    u32::from_ne_bytes(info[SEGS_IN..SEGS_IN + 4].try_into().unwrap())
}

/// How many segments a last message comes in, end included.
fn segments_of_last_words(io_loop: &IoLoop, speak: impl AsyncFn(IoStream)) -> u32 {
    let (stream, peer) = tcp_stream();
    let before = segments(&peer);
    run(io_loop, async || speak(stream).await);
    settle(io_loop);
    assert_eq!(read_all(&peer), b"last words");
    segments(&peer) - before
}

#[test]
fn the_last_data_of_a_stream_shares_a_segment_with_its_end() {
    let io_loop = new_loop();
    let apart = segments_of_last_words(&io_loop, async |stream| {
        stream.write("last words").await.unwrap();
    });
    let dropped = segments_of_last_words(&io_loop, async |stream| {
        stream.write("last words").queued().unwrap();
    });
    let shut_down = segments_of_last_words(&io_loop, async |stream| {
        stream.write("last words").queued().unwrap();
        stream.shutdown(std::net::Shutdown::Write);
        stream.flush().await.unwrap();
    });
    assert_eq!(apart, 2);
    let together = if sends_silently(&io_loop) { 1 } else { 2 };
    assert_eq!((dropped, shut_down), (together, together));
}

#[test]
fn the_last_data_arrives_also_if_the_socket_stays_open_elsewhere() {
    let io_loop = new_loop();
    let (socket, mut peer) = tcp_pair();
    let elsewhere = socket.try_clone().unwrap();
    let stream = IoStream::new(socket).unwrap();
    run(&io_loop, async || {
        stream.write("last words").queued().unwrap();
        drop(stream);
    });
    let mut received = [0; 10];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"last words");
    drop(elsewhere);
    assert_eq!(read_all(&peer), b"");
}

#[test]
fn a_loop_that_stops_has_sent_what_was_written_and_closed_what_was_dropped() {
    let io_loop = new_loop();
    let (kept, mut peer) = stream();
    let (dropped, other) = stream();
    run(&io_loop, async || {
        kept.write("sent").queued().unwrap();
        drop(dropped);
    });
    // On this thread: nobody turns the loop meanwhile.
    let mut received = [0; 4];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"sent");
    assert_eq!(read_all(&other), b"");
}

/// Writes payloads that are not copied together.
fn write_one_by_one(stream: &IoStream, payloads: usize) {
    for number in 0..payloads {
        stream.write(Arc::<[u8]>::from([number as u8])).queued().unwrap();
    }
}

#[test]
fn a_loop_that_stops_has_sent_however_many_payloads_there_are() {
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    run(&io_loop, async || write_one_by_one(&stream, 3000));
    peer.set_nonblocking(true).unwrap();
    let mut received = vec![0; 4000];
    assert_eq!(peer.read(&mut received).unwrap(), 3000);
    assert!(received.iter().take(3000).enumerate().all(|(number, byte)| number as u8 == *byte));
}

#[test]
fn a_loop_that_is_closed_has_sent_however_many_payloads_there_are() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    write_one_by_one(&stream, 3000);
    drop(stream);
    io_loop.close(false).unwrap();
    assert_eq!(read_all(&peer).len(), 3000);
}

#[test]
fn a_loop_that_is_dropped_has_sent_as_many_payloads_as_a_request_takes() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    write_one_by_one(&stream, 1000);
    drop((stream, io_loop));
    assert_eq!(read_all(&peer).len(), 1000);
}

#[test]
fn a_write_that_is_awaited_is_done_though_nothing_else_happens() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        for _ in 0..100 {
            let write = stream.write("x");
            ringloop::time::timeout(Duration::from_secs(30), write).await.unwrap().unwrap();
        }
    });
    drop(stream);
    settle(&io_loop);
    assert_eq!(read_all(&peer).len(), 100);
}

#[test]
fn a_dropped_stream_is_closed_before_the_loop_sleeps() {
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    peer.set_nonblocking(true).unwrap();
    send(&peer, "hello");
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(5).await.unwrap(), b"hello");
        drop(stream);
        ringloop::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn what_finds_no_room_at_all_is_sent_when_there_is_some() {
    let io_loop = new_loop();
    let (full, peer) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(count) = (&full).write(&[b'.'; 4096]) {
        filled += count;
    }
    let stream = IoStream::new(full).unwrap();
    stream.write("the rest").queued().unwrap();
    settle(&io_loop);
    assert!(stream.writing());
    let reader = std::thread::spawn(move || read_all(peer));
    run(&io_loop, async || stream.flush().await).unwrap();
    drop(stream);
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), [&vec![b'.'; filled], b"the rest".as_slice()].concat());
}
