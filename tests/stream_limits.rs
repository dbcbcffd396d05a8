//! Limits of reads and writes, and back-pressure.

mod stream_support;
mod support;

use ringloop::KernelFeatures;
use ringloop::net::StreamError;
use std::array;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use stream_support::{
    errno, noise, poll_and_drop, poll_once, read_all, refusal, run, send, settle, stream,
    tcp_stream,
};
use support::new_loop;

#[test]
fn a_delimiter_that_ends_within_the_limit_is_found_whatever_follows() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "12345\n7890");
    run(&io_loop, async || {
        assert_eq!(stream.read_until(b"\n", 6).await.unwrap(), b"12345\n");
    });
}

#[test]
fn a_delimiter_beyond_the_limit_is_refused_and_the_bytes_stay() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "12345\n");
    run(&io_loop, async || {
        assert_eq!(refusal(stream.read_until(b"\n", 5).await), StreamError::ReadLimit(5));
        assert!(!stream.is_closed());
        assert_eq!(stream.read_until(b"\n", 6).await.unwrap(), b"12345\n");
    });
}

#[test]
fn a_limit_reached_without_a_delimiter_is_told_at_once() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "12345");
    run(&io_loop, async || {
        assert_eq!(refusal(stream.read_until(b"\n", 5).await), StreamError::ReadLimit(5));
        assert_eq!(stream.read_bytes(5).await.unwrap(), b"12345");
    });
}

#[test]
fn read_until_close_has_a_limit_and_leaves_what_is_beyond_it() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "123456");
    run(&io_loop, async || {
        assert_eq!(refusal(stream.read_until_close(5).await), StreamError::ReadLimit(5));
        drop(peer);
        assert_eq!(stream.read_until_close(6).await.unwrap(), b"123456");
    });
}

#[test]
fn a_write_beyond_the_limit_is_refused_whole_and_the_stream_goes_on() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_write_buffer_size(10);
    stream.write("12345678").queued().unwrap();
    assert_eq!(refusal(stream.write("901").queued()), StreamError::WriteLimit(10));
    assert_eq!(refusal(stream.write_vectored(["9", "01"]).queued()), StreamError::WriteLimit(10));
    stream.write("90").queued().unwrap();
    run(&io_loop, async || stream.flush().await.unwrap());
    stream.write("abcdefghij").queued().unwrap();
    drop(stream);
    settle(&io_loop);
    assert_eq!(read_all(&peer), b"1234567890abcdefghij");
}

#[test]
fn sixteen_mebibytes_may_wait_to_be_sent_unless_told_otherwise() {
    const MOST: usize = 16 << 20;
    let _io_loop = new_loop();
    let (stream, _peer) = stream();
    let data: Arc<[u8]> = vec![7; MOST / 16].into();
    (0..16).for_each(|_| stream.write(data.clone()).queued().unwrap());
    assert_eq!(refusal(stream.write("x").queued()), StreamError::WriteLimit(MOST));
}

#[test]
fn a_write_is_done_although_much_that_was_written_after_it_cannot_be_sent() {
    const LARGE: usize = 64 * 1024;
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    peer.set_nonblocking(true).unwrap();
    let mut first = pin!(stream.write("first"));
    assert!(poll_once(first.as_mut()).is_pending());
    let data: Arc<[u8]> = vec![7; LARGE].into();
    (0..64).for_each(|_| stream.write(data.clone()).queued().unwrap());
    // As much as the kernel keeps for a peer that does not read may be too little for a request.
    let mut received = 0;
    while received < 4 * LARGE {
        settle(&io_loop);
        received += peer.read(&mut [0; 4096]).unwrap();
    }
    settle(&io_loop);
    assert!(poll_once(first.as_mut()).is_ready());
    assert!(poll_and_drop(stream.flush()).is_pending());
}

#[test]
fn a_write_that_was_refused_is_refused_whenever_it_is_polled() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_write_buffer_size(1);
    let mut too_long = pin!(stream.write("two"));
    let polls: [_; 3] = array::from_fn(|_| poll_once(too_long.as_mut()));
    for poll in polls {
        assert_eq!(refusal(at_once(poll)), StreamError::WriteLimit(1));
    }
    drop(peer);
    run(&io_loop, async || assert_eq!(errno(stream.write("1").await), libc::EPIPE));
    let mut broken = pin!(stream.write("2"));
    let polls: [_; 3] = array::from_fn(|_| poll_once(broken.as_mut()));
    for poll in polls {
        assert_eq!(errno(at_once(poll)), libc::EPIPE);
    }
}

#[track_caller]
fn at_once<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

/// How much a peer that does not block gets rid of while nobody reads.
fn pushed(io_loop: &ringloop::IoLoop, mut peer: impl Write) -> usize {
    let (mut total, piece) = (0, [7; 4096]);
    loop {
        match peer.write(&piece) {
            Ok(count) => total += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let before = io_loop.metrics().completions;
                settle(io_loop);
                if io_loop.metrics().completions <= before {
                    return total;
                }
            }
        }
    }
}

#[test]
fn above_the_mark_a_stream_stops_and_at_half_of_it_goes_on() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    peer.set_nonblocking(true).unwrap();
    stream.set_max_buffer_size(100_000);
    assert!(poll_and_drop(stream.chunk()).is_pending());
    let total = pushed(&io_loop, &peer);
    // The peer is stuck, with what the kernel holds beside what the stream does.
    assert!((100_000..3_000_000).contains(&total), "{total}");
    let mut left = total;
    // Down to half of the mark, the stream does not receive.
    run(&io_loop, async || {
        let more = stream.read_partial(10_000).await.unwrap().len();
        left -= more;
    });
    assert_eq!(io_loop.metrics().buffers_exhausted, 0);
    // From there on it does, and everything comes.
    peer.shutdown(Shutdown::Write).unwrap();
    run(&io_loop, async || {
        assert_eq!(stream.read_until_close(usize::MAX).await.unwrap().len(), left);
    });
}

#[test]
fn a_mark_that_is_raised_has_a_stream_go_on_that_has_stopped() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let mut closed = pin!(stream.closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    send(&peer, "abc");
    settle(&io_loop);
    drop(peer);
    settle(&io_loop);
    assert!(poll_once(closed.as_mut()).is_pending(), "it has stopped");
    stream.set_max_buffer_size(5);
    settle(&io_loop);
    assert!(!stream.is_closed(), "more than half of that waits to be read");
    stream.set_max_buffer_size(6);
    settle(&io_loop);
    assert!(stream.is_closed());
    assert!(poll_once(closed.as_mut()).is_ready());
    assert_eq!(at_once(poll_and_drop(stream.read_bytes(3))).unwrap(), b"abc");
}

#[test]
fn a_stream_that_nobody_tells_how_much_to_keep_stops_at_128_kib() {
    const PIECE: usize = 4096;
    const MARK: usize = 128 * 1024;
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    peer.set_nonblocking(true).unwrap();
    send(&peer, "first");
    run(&io_loop, async || assert_eq!(stream.read_bytes(5).await.unwrap(), b"first"));
    // In small pieces, of which none comes before the one before it is received.
    let is_received = || {
        let before = io_loop.metrics().completions;
        peer.write_all(&[7; PIECE]).unwrap();
        settle(&io_loop);
        io_loop.metrics().completions > before
    };
    let received = std::iter::repeat_with(is_received).take_while(|received| *received).count();
    assert_eq!(received * PIECE, MARK);
    // Now the kernel keeps what it can, and then the peer has to wait.
    assert!(pushed(&io_loop, &peer) > 0);
    let Poll::Ready(kept) = poll_and_drop(stream.read_partial(usize::MAX)) else { panic!() };
    assert_eq!(kept.unwrap().len(), MARK);
}

#[test]
fn a_stream_that_has_stopped_waits_until_half_is_read() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1000);
    assert!(poll_and_drop(stream.chunk()).is_pending());
    send(&peer, [1; 2000]);
    settle(&io_loop);
    send(&peer, [2; 10]);
    let received = |count| {
        assert!(poll_and_drop(stream.read_bytes(count)).is_ready());
        let before = io_loop.metrics().completions;
        settle(&io_loop);
        io_loop.metrics().completions > before
    };
    assert!(!received(1100));
    assert!(!received(399));
    assert!(received(1));
}

#[test]
fn a_hundred_kilobytes_pass_through_a_limit_of_ten() {
    passes_through(100_000, 10_000);
}

#[test]
fn ten_megabytes_pass_through_a_limit_of_five() {
    passes_through(10_000_000, 5_000_000);
}

fn passes_through(length: usize, limit: usize) {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    stream.set_max_buffer_size(limit);
    let sent = noise(length, 5);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || {
        let mut received = Vec::new();
        while received.len() < length {
            received.extend(stream.read_partial(3_000).await.unwrap());
        }
        assert!(received == sent);
    });
    writer.join().unwrap();
}

#[test]
fn a_turn_collects_no_more_data_than_stays_in_the_cache() {
    const STREAMS: usize = 100;
    const LENGTH: usize = 8 * 1024;
    let io_loop = new_loop();
    // On others the kernel has put all that there is into the ring before the turn.
    let is_asked_for = io_loop.metrics().features.contains(KernelFeatures::DEFER_TASKRUN);
    let (streams, mut peers): (Vec<_>, Vec<_>) = (0..STREAMS).map(|_| stream()).unzip();
    for stream in &streams {
        assert!(poll_and_drop(stream.chunk()).is_pending());
    }
    settle(&io_loop);
    peers.iter_mut().for_each(|peer| peer.write_all(&[1; LENGTH]).unwrap());
    let mut came = 0;
    for turns in 1.. {
        io_loop.turn(Some(Duration::ZERO)).unwrap();
        let before = came;
        for stream in &streams {
            while let Poll::Ready(piece) = poll_and_drop(stream.chunk()) {
                came += piece.unwrap().unwrap().len();
            }
        }
        // What one enter collects comes on top of what there was.
        assert!(came - before <= 256 * 1024 + 20 * LENGTH || !is_asked_for, "{}", came - before);
        if came == STREAMS * LENGTH {
            assert!(turns > 1 || !is_asked_for);
            return;
        }
    }
}

#[test]
fn a_read_may_ask_for_more_than_the_limit() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let sent = noise(500_000, 6);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || assert!(stream.read_bytes(sent.len()).await.unwrap() == sent));
    writer.join().unwrap();
}

#[test]
fn a_buffer_to_be_filled_may_be_larger_than_the_limit() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let sent = noise(500_000, 7);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    let mut buffer = vec![0; sent.len()];
    run(&io_loop, async || stream.read_into(&mut buffer).await.unwrap());
    assert!(buffer == sent);
    writer.join().unwrap();
}

#[test]
fn a_read_until_close_of_no_more_than_its_limit_sees_the_end_whatever_the_mark() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let mut read = pin!(stream.read_until_close(4));
    assert!(poll_once(read.as_mut()).is_pending());
    send(&peer, "abcd");
    settle(&io_loop);
    drop(peer);
    run(&io_loop, async || assert_eq!(read.await.unwrap(), b"abcd"));
}

#[test]
fn small_reads_and_lines_come_out_of_a_large_buffer() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(10 * 1024);
    let writer = std::thread::spawn(move || {
        send(&peer, b"12\n".repeat(100_000));
    });
    run(&io_loop, async || {
        for number in 0..100_000 {
            let line = match number % 2 {
                0 => stream.read_bytes(3).await,
                _ => stream.read_until(b"\n", 3).await,
            };
            assert_eq!(line.unwrap(), b"12\n");
        }
    });
    writer.join().unwrap();
}

#[test]
fn a_large_line_is_found_without_searching_again_and_again() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut sent = vec![b'x'; 4 << 20];
    sent.extend(b"\r\n");
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || {
        assert!(stream.read_until(b"\r\n", 8 << 20).await.unwrap() == sent);
    });
    writer.join().unwrap();
}

#[test]
fn a_stream_that_nobody_reads_receives_nothing() {
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    peer.set_nonblocking(true).unwrap();
    send(&peer, "unasked for");
    let before = io_loop.metrics().completions;
    settle(&io_loop);
    assert_eq!(io_loop.metrics().completions, before);
    stream.close();
    assert!(matches!(peer.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn reading_does_not_begin_before_the_first_read_is_polled() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abc");
    let read = stream.read_bytes(3);
    settle(&io_loop);
    let mut read = pin!(read);
    assert!(poll_once(read.as_mut()).is_pending());
    settle(&io_loop);
    assert!(matches!(poll_once(read.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn what_comes_while_the_loop_does_not_run_stays_in_order() {
    support::watchdog();
    let io_loop = ringloop::IoLoop::builder().buffers(1024, 100).build().unwrap();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let (other, _peer) = stream_support::stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    assert!(poll_and_drop(other.chunk()).is_pending());
    settle(&io_loop);
    // More pieces than come in one go. The first is too much, and what follows from that must not
    // overtake the second.
    let sent = noise(60_000, 14);
    send(&peer, &sent);
    drop(other);
    run(&io_loop, async || assert!(stream.read_bytes(sent.len()).await.unwrap() == sent));
}
