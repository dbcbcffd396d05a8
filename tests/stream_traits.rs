//! The traits of `futures-io`, used by crates that know nothing of this one.
#![cfg(feature = "futures-io")]

mod stream_support;
mod support;
mod waker_support;

use asynchronous_codec::{Framed, LinesCodec};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures::{SinkExt, StreamExt};
use ringloop::net::{ReadHalf, WriteHalf};
use ringloop::{IoLoop, IoStream};
use std::future::Future;
use std::io::IoSlice;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use stream_support::{noise, poll_and_drop, poll_once, read_all, run, send, settle, stream};
use support::{new_loop, turn};
use waker_support::runs_when_cloned;

fn pair() -> (IoStream, IoStream) {
    let (one, other) = UnixStream::pair().unwrap();
    (IoStream::new(one).unwrap(), IoStream::new(other).unwrap())
}

#[test]
fn a_codec_talks_lines_over_a_stream() {
    let io_loop = new_loop();
    let (server, client) = pair();
    let serving = io_loop.spawn(async move {
        let mut lines = Framed::new(server, LinesCodec);
        while let Some(line) = lines.next().await {
            lines.send(format!("> {}", line.unwrap())).await.unwrap();
        }
    });
    run(&io_loop, async || {
        let mut lines = Framed::new(client, LinesCodec);
        for word in ["one\n", "two\n", "three\n"] {
            lines.send(word.to_owned()).await.unwrap();
            assert_eq!(lines.next().await.unwrap().unwrap(), format!("> {word}"));
        }
        drop(lines);
        serving.await.unwrap();
    });
}

#[test]
fn what_is_shown_is_where_the_kernel_has_put_it() {
    let io_loop = IoLoop::builder().buffers(1, 6).build().unwrap();
    let (mut stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        assert_eq!(stream.fill_buf().await.unwrap(), b"abcdef");
        // Nothing was copied: it keeps the only buffer, and there is none for what comes now.
        send(&peer, "more");
        ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
        assert!(io_loop.metrics().buffers_exhausted > 0);
        stream.consume_unpin(6);
        assert_eq!(stream.fill_buf().await.unwrap(), b"more");
    });
}

#[test]
fn what_is_not_consumed_is_shown_again_where_it_was() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        let shown = stream.fill_buf().await.unwrap().as_ptr_range();
        stream.consume_unpin(2);
        let rest = stream.fill_buf().await.unwrap();
        assert_eq!(rest, b"cdef");
        assert_eq!(rest.as_ptr_range(), shown.start.wrapping_add(2)..shown.end);
    });
}

#[test]
fn what_was_shown_and_not_consumed_is_there_for_other_reads() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        assert_eq!(stream.fill_buf().await.unwrap(), b"abcdef");
        stream.consume_unpin(1);
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"bc");
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"de");
        stream.fill_buf().await.unwrap();
        let (reader, _writer) = stream.split();
        assert_eq!(reader.read_bytes(1).await.unwrap(), b"f");
    });
}

#[test]
fn what_a_stream_has_shown_is_shown_by_its_half() {
    let io_loop = new_loop();
    for consumed in [None, Some(5)] {
        let (mut stream, peer) = stream();
        send(&peer, "line\nrest");
        drop(peer);
        run(&io_loop, async || {
            assert_eq!(stream.fill_buf().await.unwrap(), b"line\nrest");
            if let Some(consumed) = consumed {
                stream.consume_unpin(consumed);
            }
            let (mut reader, _writer) = stream.split();
            let mut rest = String::new();
            reader.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, &"line\nrest"[consumed.unwrap_or(0)..]);
        });
    }
}

#[test]
fn what_a_half_has_shown_comes_first_however_it_is_read() {
    type Read = fn(ReadHalf, WriteHalf) -> Pin<Box<dyn Future<Output = Vec<u8>>>>;
    let ways: [Read; 4] = [
        |reader, _writer| Box::pin(async move { reader.read_bytes(10).await.unwrap() }),
        |reader, _writer| Box::pin(async move { reader.as_ref().read_bytes(10).await.unwrap() }),
        |mut reader, _writer| {
            Box::pin(async move {
                let mut all = vec![0; 10];
                reader.read_exact(&mut all).await.unwrap();
                all
            })
        },
        |reader, writer| {
            drop(reader);
            Box::pin(async move { writer.as_ref().read_bytes(10).await.unwrap() })
        },
    ];
    let io_loop = new_loop();
    for read in ways {
        for sent in ["first", "-first"] {
            let (stream, peer) = stream();
            let (mut reader, writer) = stream.split();
            send(&peer, sent);
            run(&io_loop, async || {
                reader.fill_buf().await.unwrap();
                if sent.starts_with('-') {
                    reader.consume_unpin(1);
                }
                send(&peer, "later");
                assert_eq!(read(reader, writer).await, b"firstlater");
            });
        }
    }
}

#[test]
fn what_a_half_puts_back_is_told_to_a_read_of_the_stream_that_waits() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let (mut reader, writer) = stream.split();
    send(&peer, "abc");
    run(&io_loop, async || {
        reader.fill_buf().await.unwrap();
        let read = writer.as_ref().read_bytes(3);
        let put_back = async { reader.consume_unpin(0) };
        assert_eq!(futures::join!(read, put_back).0.unwrap(), b"abc");
    });
}

#[test]
fn a_search_that_waits_finds_what_a_half_puts_back() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let (mut reader, writer) = stream.split();
    send(&peer, "one\ntwo");
    run(&io_loop, async || assert_eq!(reader.fill_buf().await.unwrap(), b"one\ntwo"));
    let mut read = Box::pin(writer.as_ref().read_until(b"\n", 100));
    send(&peer, ", three");
    assert!(poll_once(read.as_mut()).is_pending());
    settle(&io_loop);
    assert!(poll_once(read.as_mut()).is_pending());
    reader.consume_unpin(0);
    send(&peer, "\n");
    settle(&io_loop);
    run(&io_loop, async || {
        assert_eq!(read.await.unwrap(), b"one\n");
        assert_eq!(writer.as_ref().read_until(b"\n", 100).await.unwrap(), b"two, three\n");
    });
}

#[test]
fn the_halves_copy_both_ways() {
    let io_loop = new_loop();
    let (echo, client) = pair();
    drop(io_loop.spawn(async move {
        let (reader, mut writer) = echo.split();
        futures::io::copy_buf(reader, &mut writer).await.unwrap();
        writer.close().await.unwrap();
    }));
    let sent = noise(300_000, 30);
    let copy = sent.clone();
    run(&io_loop, async || {
        let (mut reader, mut writer) = client.split();
        let writing = async move {
            writer.write_all(&copy).await.unwrap();
            writer.close().await.unwrap();
        };
        let mut received = Vec::new();
        let reading = reader.read_to_end(&mut received);
        let ((), length) = futures::join!(writing, reading);
        assert_eq!(length.unwrap(), sent.len());
        assert!(received == sent);
    });
}

#[test]
fn writing_waits_for_room_instead_of_being_refused() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    stream.set_max_write_buffer_size(1000);
    let reader = std::thread::spawn(move || read_all(&peer).len());
    run(&io_loop, async || {
        stream.write_all(&[5; 100_000]).await.unwrap();
        stream.flush().await.unwrap();
        assert!(!stream.writing());
        AsyncWriteExt::close(&mut stream).await.unwrap();
    });
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), 100_000);
}

#[test]
fn writing_goes_on_when_there_is_more_room_than_before() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let (reader, mut writer) = stream.split();
    reader.as_ref().set_max_write_buffer_size(4 << 20);
    writer.write(vec![0; 4 << 20]).queued().unwrap();
    settle(&io_loop);
    run(&io_loop, async || {
        // Until there is no room, and nobody receives.
        while writer.as_ref().write("x").queued().is_ok() {}
        let write = AsyncWriteExt::write(&mut writer, b"more");
        let raise = async { reader.as_ref().set_max_write_buffer_size(8 << 20) };
        assert_eq!(futures::join!(write, raise).0.unwrap(), 4);
    });
}

#[test]
fn several_pieces_are_taken_as_far_as_there_is_room_and_not_further() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    stream.set_max_write_buffer_size(5);
    let pieces = ["abc", "def", "ghi"].map(|piece| IoSlice::new(piece.as_bytes()));
    run(&io_loop, async || {
        assert_eq!(AsyncWriteExt::write_vectored(&mut stream, &pieces).await.unwrap(), 5);
        AsyncWriteExt::close(&mut stream).await.unwrap();
    });
    assert_eq!(read_all(&peer), b"abcde");
}

#[test]
fn to_write_nothing_needs_no_room() {
    let _loop = new_loop();
    let (mut stream, _peer) = stream();
    stream.set_max_write_buffer_size(3);
    assert!(matches!(
        poll_and_drop(AsyncWriteExt::write(&mut stream, b"abcd")),
        Poll::Ready(Ok(3))
    ));
    assert!(poll_and_drop(AsyncWriteExt::write(&mut stream, b"d")).is_pending());
    assert!(matches!(poll_and_drop(AsyncWriteExt::write(&mut stream, b"")), Poll::Ready(Ok(0))));
}

#[test]
fn a_poll_that_waits_keeps_no_other_read_out() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    let mut buffer = [0; 4];
    assert!(poll_and_drop(stream.read_exact(&mut buffer)).is_pending());
    assert!(poll_and_drop(stream.fill_buf()).is_pending());
    send(&peer, "abcd");
    run(&io_loop, async || assert_eq!(stream.read_bytes(4).await.unwrap(), b"abcd"));
}

#[test]
fn a_read_that_is_never_polled_leaves_what_is_shown() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    send(&peer, "abcdef");
    run(&io_loop, async || {
        assert_eq!(stream.fill_buf().await.unwrap(), b"abcdef");
        drop(stream.chunk());
        stream.consume_unpin(2);
        assert_eq!(stream.fill_buf().await.unwrap(), b"cdef");
    });
}

#[test]
fn room_that_comes_while_the_waker_of_who_waits_for_it_is_cloned_is_taken() {
    let io_loop = new_loop();
    let (mut stream, _peer) = stream();
    stream.set_max_write_buffer_size(1);
    stream.write("x").queued().unwrap();
    let running = io_loop.clone();
    let (alarm, waker) = runs_when_cloned(move || turn(&running));
    let mut context = Context::from_waker(&waker);
    let polled = AsyncWrite::poll_write(Pin::new(&mut stream), &mut context, b"y");
    (0..3).for_each(|_| turn(&io_loop));
    assert!(polled.is_ready() || alarm.rings() > 0);
}
