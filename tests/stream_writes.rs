//! Writing: order, what is sent when a future or the stream is dropped, and half a close.

mod stream_support;
mod support;

use ringloop::net::StreamError;
use ringloop::{IoStream, Payload};
use socket2::Socket;
use std::cell::RefCell;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use stream_support::{
    noise, poll_and_drop, poll_once, read_all, refusal, run, send, settle, stream, tcp_stream,
};
use support::new_loop;

#[test]
fn writes_arrive_in_order_whatever_they_are_made_of() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let shared: Arc<[u8]> = Arc::from(&b"shared "[..]);
    stream.write(vec![b'o', b'w', b'n', b' ']).queued().unwrap();
    stream.write(shared.clone()).queued().unwrap();
    stream.write(Payload::from_static(b"static ")).queued().unwrap();
    stream.write(b"array ").queued().unwrap();
    stream.write("").queued().unwrap();
    stream.write(String::from("string ")).queued().unwrap();
    stream.write_vectored(["and ", "pieces"]).queued().unwrap();
    run(&io_loop, async || stream.flush().await.unwrap());
    assert_eq!(Arc::strong_count(&shared), 1);
    drop(stream);
    assert_eq!(read_all(&peer), b"own shared static array string and pieces");
}

#[test]
fn writes_are_done_in_order_each_when_its_bytes_are_taken() {
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    let order = Rc::new(RefCell::new(Vec::new()));
    // More than the kernel takes at once.
    for number in 0..4 {
        let write = stream.write(vec![number; 1 << 20]);
        let order = order.clone();
        drop(io_loop.spawn(async move {
            write.await.unwrap();
            order.borrow_mut().push(number);
        }));
    }
    settle(&io_loop);
    assert_eq!(*order.borrow(), []);
    assert!(stream.writing());
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 4 << 20];
        peer.read_exact(&mut all).unwrap();
        all
    });
    run(&io_loop, async || stream.flush().await.unwrap());
    settle(&io_loop);
    assert_eq!(*order.borrow(), [0, 1, 2, 3]);
    assert!(!stream.writing());
    let all = reader.join().unwrap();
    assert!(all.chunks(1 << 20).zip(0..).all(|(part, number)| part.iter().all(|b| *b == number)));
}

#[test]
fn nothing_is_written_after_everything_before_it() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || stream.write("").await.unwrap());
    stream.write(vec![0; 4 << 20]).queued().unwrap();
    let mut nothing = std::pin::pin!(stream.write(""));
    assert!(poll_once(nothing.as_mut()).is_pending());
    settle(&io_loop);
    assert!(poll_once(nothing.as_mut()).is_pending());
    let reader = std::thread::spawn(move || read_all(&peer).len());
    run(&io_loop, async || nothing.await.unwrap());
    drop(stream);
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), 4 << 20);
}

#[test]
fn a_long_write_is_sent_in_parts_between_which_others_have_their_turn() {
    const LENGTH: usize = 64 << 20;
    let io_loop = new_loop();
    for last in ["", "more"] {
        let (stream, peer) = stream();
        stream.set_max_write_buffer_size(2 * LENGTH);
        let reading = std::thread::spawn(move || std::io::copy(&mut &peer, &mut std::io::sink()));
        let before = io_loop.metrics();
        run(&io_loop, async || {
            stream.write(vec![0; LENGTH]).queued().unwrap();
            stream.write(last).await.unwrap();
        });
        let after = io_loop.metrics();
        // However fast the peer is.
        assert!(after.submissions - before.submissions >= 16);
        assert!(after.turns - before.turns >= 16);
        drop(stream);
        settle(&io_loop);
        assert_eq!(reading.join().unwrap().unwrap(), (LENGTH + last.len()) as u64);
    }
}

#[test]
fn what_was_written_is_sent_though_its_future_is_dropped_at_any_poll() {
    for polls in 0..4 {
        let io_loop = new_loop();
        let (stream, peer) = stream();
        let mut write = Box::pin(stream.write(vec![polls; 1 << 20]));
        for _ in 0..polls {
            assert!(poll_once(write.as_mut()).is_pending());
            settle(&io_loop);
        }
        drop(write);
        let reader = std::thread::spawn(move || read_all(&peer));
        drop(stream);
        while io_loop.metrics().completions == 0 {
            settle(&io_loop);
        }
        run(&io_loop, async || {
            while !reader.is_finished() {
                ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        });
        assert_eq!(reader.join().unwrap(), vec![polls; 1 << 20]);
    }
}

#[test]
fn a_dropped_stream_is_closed_when_everything_is_sent() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    let sent = noise(8 << 20, 7);
    let write = stream.write(sent.clone());
    drop(stream);
    let reader = std::thread::spawn(move || read_all(&peer));
    run(&io_loop, async || write.await.unwrap());
    settle(&io_loop);
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn a_peer_that_does_not_receive_from_a_dropped_stream_is_given_up_in_time() {
    let io_loop = new_loop();
    for dropped_first in [false, true] {
        let (stream, _peer) = tcp_stream();
        let socket = Socket::from(stream.as_fd().try_clone_to_owned().unwrap());
        let write = stream.write(noise(12 << 20, 7));
        if !dropped_first {
            settle(&io_loop);
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
        drop(stream);
        settle(&io_loop);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
        drop(write);
    }
}

#[test]
fn a_limit_of_the_users_own_is_kept_and_ends_a_dropped_stream() {
    let io_loop = new_loop();
    let (stream, _peer) = tcp_stream();
    let own = Some(Duration::from_millis(10));
    let socket = Socket::from(stream.as_fd().try_clone_to_owned().unwrap());
    socket.set_tcp_user_timeout(own).unwrap();
    let write = stream.write(noise(12 << 20, 7));
    drop(stream);
    settle(&io_loop);
    assert_eq!(socket.tcp_user_timeout().unwrap(), own);
    assert!(run(&io_loop, async || write.await).is_err());
}

#[test]
fn a_stream_dropped_just_before_its_loop_has_sent_what_the_kernel_takes_at_once() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.write("last words").queued().unwrap();
    drop(stream);
    drop(io_loop);
    assert_eq!(read_all(&peer), b"last words");
}

#[test]
fn close_discards_what_is_not_sent() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut write = std::pin::pin!(stream.write(vec![1; 4 << 20]));
    assert!(poll_once(write.as_mut()).is_pending());
    settle(&io_loop);
    stream.close();
    assert!(!stream.writing());
    run(&io_loop, async || assert_eq!(refusal(write.await), StreamError::Closed));
    settle(&io_loop);
    assert!(read_all(&peer).len() < 4 << 20);
}

#[test]
fn nothing_can_be_written_to_a_closed_stream() {
    let _io_loop = new_loop();
    let (stream, _peer) = stream();
    stream.close();
    assert_eq!(refusal(stream.write("x").queued()), StreamError::Closed);
    let flush = poll_and_drop(stream.flush());
    assert!(matches!(flush, Poll::Ready(Ok(()))), "nothing is left to send");
}

#[test]
fn the_other_sides_end_ends_reading_and_not_writing() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    peer.shutdown(Shutdown::Write).unwrap();
    let sent = noise(4 << 20, 8);
    let copy = sent.clone();
    let reader = std::thread::spawn(move || read_all(&peer));
    run(&io_loop, async || {
        assert!(stream.chunk().await.unwrap().is_none());
        stream.write(copy).await.unwrap();
        drop(stream);
    });
    settle(&io_loop);
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn shutting_writing_down_ends_what_the_other_side_reads_after_everything_is_sent() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    stream.write(vec![9; 4 << 20]).queued().unwrap();
    stream.shutdown(Shutdown::Write);
    assert_eq!(refusal(stream.write("more").queued()), StreamError::Closed);
    let reader = std::thread::spawn(move || {
        let length = read_all(&peer).len();
        send(&peer, "answer");
        length
    });
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(6).await.unwrap(), b"answer");
    });
    assert_eq!(reader.join().unwrap(), 4 << 20);
}

#[test]
fn shutting_an_idle_stream_down_is_seen_at_once() {
    let _io_loop = new_loop();
    let (stream, mut peer) = stream();
    stream.shutdown(Shutdown::Write);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn shutting_reading_down_ends_reading_after_what_has_come() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abc");
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(1).await.unwrap(), b"a");
        stream.shutdown(Shutdown::Read);
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"bc");
        assert!(stream.chunk().await.unwrap().is_none());
        stream.write("still there").await.unwrap();
    });
}

#[test]
fn two_tasks_use_the_two_halves() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    let (reader, writer) = stream.split();
    let sent = noise(2 << 20, 9);
    let copy = sent.clone();
    let echo = std::thread::spawn(move || {
        std::io::copy(&mut &peer, &mut &peer).unwrap();
    });
    let writing = io_loop.spawn(async move {
        for part in copy.chunks(10_000) {
            writer.write(part).await.unwrap();
        }
        // Dropping it ends what the peer reads.
    });
    run(&io_loop, async || {
        let received = reader.read_until_close(usize::MAX).await.unwrap();
        assert!(received == sent);
        writing.await.unwrap();
    });
    echo.join().unwrap();
}

#[test]
fn a_stream_in_two_halves_is_closed_with_the_second() {
    let io_loop = new_loop();
    let (stream, mut peer) = stream();
    let (reader, writer) = stream.split();
    drop(reader);
    writer.write("x").queued().unwrap();
    settle(&io_loop);
    assert_eq!(peer.read(&mut [0; 2]).unwrap(), 1);
    drop(writer);
    settle(&io_loop);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ten_tasks_write_a_thousand_pieces_each_and_all_are_done() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    let stream = Rc::new(stream);
    let reader = std::thread::spawn(move || read_all(&peer).len());
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let stream: Rc<IoStream> = stream.clone();
            io_loop.spawn(async move {
                for _ in 0..1000 {
                    stream.write(vec![b'a'; 5000]).await.unwrap();
                }
            })
        })
        .collect();
    drop(stream);
    run(&io_loop, async || {
        for task in tasks {
            task.await.unwrap();
        }
    });
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), 10 * 1000 * 5000);
}

#[test]
fn nodelay_is_set_on_tcp_and_ignored_elsewhere() {
    let _io_loop = new_loop();
    let (tcp, _peer) = tcp_stream();
    tcp.set_nodelay(true).unwrap();
    assert!(socket2::SockRef::from(&tcp).tcp_nodelay().unwrap());
    tcp.set_nodelay(false).unwrap();
    assert!(!socket2::SockRef::from(&tcp).tcp_nodelay().unwrap());
    stream().0.set_nodelay(true).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    IoStream::new(reader).unwrap().set_nodelay(true).unwrap();
}

#[test]
fn addresses_are_those_of_the_socket() {
    let _io_loop = new_loop();
    let (tcp, peer) = tcp_stream();
    assert_eq!(tcp.peer_addr().unwrap(), peer.local_addr().unwrap());
    assert_eq!(tcp.local_addr().unwrap(), peer.peer_addr().unwrap());
    let unsupported = stream().0.peer_addr().unwrap_err();
    assert_eq!(unsupported.kind(), std::io::ErrorKind::Unsupported);
}
