//! What each read returns, and what it leaves.

mod stream_support;
mod support;

use ringloop::net::StreamError;
use std::net::Shutdown;
use std::time::Duration;
use stream_support::{noise, poll_and_drop, refusal, run, send, settle, stream};
use support::new_loop;

#[test]
fn read_bytes_returns_exactly_as_many_as_asked_for() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"ab");
        assert_eq!(stream.read_bytes(3).await.unwrap(), b"cde");
        let more = stream.read_bytes(3);
        send(&peer, "gh");
        assert_eq!(more.await.unwrap(), b"fgh");
    });
}

#[test]
fn reading_no_bytes_is_done_at_once_also_when_closed() {
    let _io_loop = new_loop();
    let (stream, _peer) = stream();
    assert!(
        matches!(poll_and_drop(stream.read_bytes(0)), std::task::Poll::Ready(Ok(b)) if b.is_empty())
    );
    assert!(
        matches!(poll_and_drop(stream.read_partial(0)), std::task::Poll::Ready(Ok(b)) if b.is_empty())
    );
    stream.close();
    assert!(
        matches!(poll_and_drop(stream.read_bytes(0)), std::task::Poll::Ready(Ok(b)) if b.is_empty())
    );
    assert!(
        matches!(poll_and_drop(stream.read_partial(0)), std::task::Poll::Ready(Ok(b)) if b.is_empty())
    );
    let mut nothing = [];
    assert!(matches!(
        poll_and_drop(stream.read_into(&mut nothing)),
        std::task::Poll::Ready(Ok(()))
    ));
}

#[test]
fn read_partial_returns_what_is_there_and_at_least_one_byte() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        assert_eq!(stream.read_partial(4).await.unwrap(), b"abcd");
        assert_eq!(stream.read_partial(4).await.unwrap(), b"ef");
        drop(peer);
        assert_eq!(stream.read_partial(4).await.unwrap(), b"");
    });
}

#[test]
fn read_until_returns_up_to_and_with_the_delimiter() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "one\r\ntwo\r\nrest");
    run(&io_loop, async || {
        assert_eq!(stream.read_until(b"\r\n", 100).await.unwrap(), b"one\r\n");
        assert_eq!(stream.read_until(b"\r\n", 100).await.unwrap(), b"two\r\n");
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"rest");
    });
}

#[test]
fn a_delimiter_may_come_in_several_pieces() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let io_stream = &stream;
    run(&io_loop, async || {
        let line = async { io_stream.read_until(b"--end--", 100).await.unwrap() };
        let writer = async {
            for byte in "text-----end--more".chars() {
                send(&peer, byte.to_string());
                ringloop::time::sleep(Duration::from_micros(10)).await;
            }
        };
        let (line, ()) = futures::join!(line, writer);
        assert_eq!(line, b"text-----end--");
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"more");
    });
}

#[test]
fn a_search_that_was_given_up_does_not_hide_what_it_has_passed() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "a;b");
    assert!(poll_and_drop(stream.read_until(b"\n", 100)).is_pending());
    settle(&io_loop);
    assert!(poll_and_drop(stream.read_until(b"\n", 100)).is_pending());
    run(&io_loop, async || {
        assert_eq!(stream.read_until(b";", 100).await.unwrap(), b"a;");
    });
}

#[test]
fn read_into_fills_the_buffer_and_keeps_what_does_not_fit() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abcdefg");
    run(&io_loop, async || {
        let mut buffer = [0; 3];
        stream.read_into(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"abc");
        let mut buffer = [0; 8];
        assert_eq!(stream.read_into_partial(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"defg");
        send(&peer, "12345678");
        stream.read_into(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"12345678");
        drop(peer);
        assert_eq!(stream.read_into_partial(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn read_until_close_returns_everything() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let sent = noise(300_000, 1);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || {
        let received = stream.read_until_close(usize::MAX).await.unwrap();
        assert!(received == sent);
        assert_eq!(stream.read_until_close(10).await.unwrap(), b"");
    });
    writer.join().unwrap();
}

#[test]
fn chunk_hands_out_what_has_come_as_it_is() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let next = stream.chunk();
        send(&peer, "abc");
        let piece = next.await.unwrap().unwrap();
        assert_eq!(&*piece, b"abc");
        assert!(piece.is_lent());
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(stream.chunk().await.unwrap().is_none());
        assert!(stream.chunk().await.unwrap().is_none());
    });
}

#[test]
fn a_piece_that_is_lent_gives_up_its_ends() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut piece = run(&io_loop, async || {
        let next = stream.chunk();
        send(&peer, "abcdef");
        next.await.unwrap().unwrap()
    });
    assert!(piece.is_lent());
    piece.advance(2);
    piece.truncate(3);
    assert_eq!(&*piece, b"cde");
    piece.truncate(usize::MAX);
    assert_eq!(&*piece, b"cde");
    piece.advance(1);
    assert_eq!(&*piece, b"de");
    piece.advance(usize::MAX);
    assert!(piece.is_empty());
}

#[test]
fn pieces_that_wait_together_come_in_order() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    for text in ["one", "two", "three"] {
        send(&peer, text);
        settle(&io_loop);
    }
    drop(peer);
    run(&io_loop, async || {
        let mut all = Vec::new();
        while let Some(piece) = stream.chunk().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, b"onetwothree");
    });
}

#[test]
fn two_reads_at_once_are_refused() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let mut first = std::pin::pin!(stream.read_bytes(3));
        assert!(stream_support::poll_once(first.as_mut()).is_pending());
        assert!(stream.reading());
        assert_eq!(refusal(stream.read_bytes(1).await), StreamError::AlreadyReading);
        assert_eq!(refusal(stream.chunk().await), StreamError::AlreadyReading);
        send(&peer, "abc");
        assert_eq!(first.await.unwrap(), b"abc");
        assert!(!stream.reading());
    });
}

#[test]
fn a_second_read_of_a_closed_stream_says_that_it_is_closed() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let mut first = std::pin::pin!(stream.read_bytes(1));
    assert!(stream_support::poll_once(first.as_mut()).is_pending());
    stream.close();
    run(&io_loop, async || {
        assert_eq!(refusal(stream.read_bytes(1).await), StreamError::Closed);
        assert_eq!(refusal(first.await), StreamError::Closed);
    });
}

#[test]
fn many_mixed_reads_see_every_byte_once() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let sent = noise(1 << 20, 2);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || {
        let mut random = fastrand::Rng::with_seed(3);
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let left = sent.len() - received.len();
            let count = random.usize(1..=20_000).min(left);
            match random.u8(..6) {
                0 => received.extend(stream.read_bytes(count).await.unwrap()),
                1 => received.extend(stream.read_partial(count).await.unwrap()),
                2 => {
                    let mut buffer = vec![0; count];
                    stream.read_into(&mut buffer).await.unwrap();
                    received.extend(buffer);
                }
                3 => {
                    let mut buffer = vec![0; count];
                    let count = stream.read_into_partial(&mut buffer).await.unwrap();
                    received.extend_from_slice(&buffer[..count]);
                }
                4 => received.extend_from_slice(&stream.chunk().await.unwrap().unwrap()),
                _ => match stream.read_until(&[random.u8(..)], count).await {
                    Ok(bytes) => received.extend(bytes),
                    Err(error) => assert!(matches!(
                        StreamError::of(&error),
                        Some(StreamError::ReadLimit(_) | StreamError::Ended)
                    )),
                },
            }
        }
        assert!(received == sent);
        assert!(stream.chunk().await.unwrap().is_none());
    });
    writer.join().unwrap();
}

#[test]
fn streams_read_and_write_over_pipes() {
    let io_loop = new_loop();
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = ringloop::IoStream::new(reader).unwrap();
    let writer = ringloop::IoStream::new(writer).unwrap();
    let sent = noise(1 << 20, 4);
    let copy = sent.clone();
    run(&io_loop, async || {
        let write = async move {
            writer.write(copy).await.unwrap();
            drop(writer);
        };
        let (received, ()) = futures::join!(reader.read_until_close(usize::MAX), write);
        assert!(received.unwrap() == sent);
    });
}
