//! How streams end, and who is told what, and when.

mod stream_support;
mod support;
mod waker_support;

use ringloop::net::StreamError;
use ringloop::{IoLoop, IoStream, KernelFeatures, LoopError, Panics};
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use stream_support::{
    errno, poll_and_drop, poll_once, read_all, refusal, reset, run, send, settle, stream,
    tcp_stream,
};
use support::{Trace, new_loop, turn, turn_until};
use waker_support::Alarm;

/// Writes down what a close callback is told.
fn mark_close(stream: &IoStream, trace: &Trace) {
    let trace = trace.clone();
    stream.set_close_callback(move |end| match end {
        Ok(()) => trace.push("closed"),
        Err(error) => trace.push(format!("closed by {:?}", error.kind())),
    });
}

#[test]
fn what_came_with_the_end_can_be_read_before_it_is_told() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abc");
    drop(peer);
    run(&io_loop, async || {
        stream.closed().await.unwrap();
        assert!(stream.is_closed());
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"ab");
        assert_eq!(refusal(stream.read_bytes(2).await), StreamError::Ended);
        assert_eq!(refusal(stream.read_until(b"\n", 100).await), StreamError::Ended);
        // What is there stays there.
        assert_eq!(stream.read_bytes(1).await.unwrap(), b"c");
        assert!(stream.chunk().await.unwrap().is_none());
    });
    assert!(stream.error().is_none());
}

#[test]
fn a_match_at_the_end_of_the_last_piece_is_found() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let mut line = std::pin::pin!(stream.read_until(b"\n", 100));
        assert!(poll_once(line.as_mut()).is_pending());
        send(&peer, "12345678");
        settle_in_task().await;
        send(&peer, "\n");
        drop(peer);
        assert_eq!(line.await.unwrap(), b"12345678\n");
    });
}

async fn settle_in_task() {
    for _ in 0..3 {
        ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn a_reset_is_an_error_and_never_an_end() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    send(&peer, "abc");
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(1).await.unwrap(), b"a");
        reset(peer);
        assert_eq!(errno(stream.closed().await), libc::ECONNRESET);
        assert_eq!(errno(stream.read_until_close(100).await), libc::ECONNRESET);
        assert_eq!(errno(stream.read_bytes(3).await), libc::ECONNRESET);
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"bc");
        assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
    });
    let error = stream.error().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
}

#[test]
fn a_reset_found_while_receiving_is_being_stopped_is_still_told() {
    for _ in 0..20 {
        let io_loop = new_loop();
        let (stream, peer) = tcp_stream();
        stream.set_max_buffer_size(10);
        assert!(poll_and_drop(stream.read_bytes(1)).is_pending());
        settle(&io_loop);
        // The piece is too much. Before the cancellation is submitted, a handler resets.
        send(&peer, [1; 20]);
        let (source, _waker) = support::ready_pair();
        let mut peer = Some(peer);
        let resetting = move |source: &mut _, _| {
            reset(peer.take().expect("it is called once"));
            IoLoop::current().remove_handler(source);
        };
        io_loop.add_handler(source, ringloop::Events::READ, resetting).unwrap();
        turn(&io_loop);
        run(&io_loop, async || {
            assert_eq!(stream.read_partial(100).await.unwrap(), [1; 20]);
            assert_eq!(errno(stream.read_partial(100).await), libc::ECONNRESET);
        });
    }
}

#[test]
fn a_write_to_a_peer_that_is_gone_is_a_broken_pipe() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    drop(peer);
    run(&io_loop, async || {
        assert_eq!(errno(stream.write("x").await), libc::EPIPE);
        assert_eq!(errno(stream.write("x").await), libc::EPIPE);
        assert_eq!(errno(stream.closed().await), libc::EPIPE);
        assert!(stream.chunk().await.unwrap().is_none());
    });
    assert_eq!(stream.error().unwrap().raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn closing_fails_what_waits_and_then_calls_back_once() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let stream = Rc::new(stream);
    let trace = Trace::new();
    mark_close(&stream, &trace);
    let (reader, traced) = (stream.clone(), trace.clone());
    drop(io_loop.spawn(async move {
        traced.push(format!("read {:?}", refusal(reader.read_bytes(1).await)));
    }));
    let (write, traced) = (stream.write(vec![0; 4 << 20]), trace.clone());
    drop(io_loop.spawn(async move {
        traced.push(format!("write {:?}", refusal(write.await)));
    }));
    let (closed, traced) = (stream.closed(), trace.clone());
    drop(io_loop.spawn(async move {
        closed.await.unwrap();
        traced.push("end");
    }));
    settle(&io_loop);
    stream.close();
    stream.close();
    assert_eq!(trace.take(), [] as [&str; 0]);
    settle(&io_loop);
    assert_eq!(trace.take(), ["read Closed", "write Closed", "end", "closed"]);
    assert!(stream.error().is_none());
}

#[test]
fn what_has_come_can_be_read_after_closing() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abc");
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(1).await.unwrap(), b"a");
        stream.close();
        assert_eq!(stream.read_bytes(2).await.unwrap(), b"bc");
        assert_eq!(refusal(stream.read_bytes(1).await), StreamError::Closed);
        assert_eq!(refusal(stream.chunk().await), StreamError::Closed);
    });
}

#[test]
fn the_peer_sees_a_close_at_once() {
    let _io_loop = new_loop();
    let (stream, peer) = stream();
    stream.close();
    assert!(support::at_end(&peer));
    let (stream, peer) = tcp_stream();
    stream.close();
    assert_eq!(io::Read::read(&mut &peer, &mut [0]).unwrap(), 0);
}

#[test]
fn an_idle_stream_with_a_close_callback_notices_the_end() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (ended, peer) = stream();
    mark_close(&ended, &trace);
    drop(peer);
    settle(&io_loop);
    assert_eq!(trace.take(), ["closed"]);
    let (broken, peer) = tcp_stream();
    mark_close(&broken, &trace);
    turn(&io_loop);
    reset(peer);
    turn_until(&io_loop, || broken.is_closed());
    settle(&io_loop);
    assert_eq!(trace.take(), ["closed by ConnectionReset"]);
}

#[test]
fn a_close_callback_that_comes_late_is_called_in_a_later_turn() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let trace = Trace::new();
    stream.close();
    mark_close(&stream, &trace);
    assert_eq!(trace.take(), [] as [&str; 0]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["closed"]);
    turn(&io_loop);
    assert_eq!(trace.take(), [] as [&str; 0]);
}

#[test]
fn the_close_callback_that_was_set_last_is_called() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let trace = Trace::new();
    let first = trace.clone();
    stream.set_close_callback(move |_| first.push("the first"));
    mark_close(&stream, &trace);
    drop(peer);
    settle(&io_loop);
    assert_eq!(trace.take(), ["closed"]);
}

#[test]
fn dropping_a_stream_is_closing_it_to_its_callback_and_futures() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let trace = Trace::new();
    mark_close(&stream, &trace);
    let closed = io_loop.spawn(stream.closed());
    settle(&io_loop);
    drop(stream);
    run(&io_loop, async || closed.await.unwrap().unwrap());
    settle(&io_loop);
    assert_eq!(trace.take(), ["closed"]);
}

#[test]
fn a_wait_for_the_end_that_is_given_up_keeps_no_waker() {
    let _loop = new_loop();
    let (stream, _peer) = stream();
    let (alarm, waker) = Alarm::new();
    let mut closed = Box::pin(stream.closed());
    assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop((closed, waker));
    assert_eq!(Arc::strong_count(&alarm), 1);
}

#[test]
fn a_wait_for_the_end_wakes_who_polled_it_last_and_keeps_no_other_waker() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let ((before, old), (alarm, waker)) = (Alarm::new(), Alarm::new());
    let mut closed = pin!(stream.closed());
    for waker in [old, waker] {
        assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&before), 1);
    drop(peer);
    settle(&io_loop);
    assert_eq!((before.rings(), alarm.rings()), (0, 1));
}

#[test]
fn an_end_does_not_wake_who_has_read_and_reads_no_more() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let (alarm, waker) = Alarm::new();
    let mut context = Context::from_waker(&waker);
    {
        let mut read = pin!(stream.chunk());
        assert!(read.as_mut().poll(&mut context).is_pending());
        send(&peer, "data");
        settle(&io_loop);
        assert!(read.poll(&mut context).is_ready());
    }
    let mut closed = pin!(stream.closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    drop(peer);
    settle(&io_loop);
    assert!(poll_once(closed).is_ready());
    assert_eq!(alarm.rings(), 1);
}

#[test]
fn a_close_callback_runs_after_the_read_that_got_the_last_bytes() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let stream = Rc::new(stream);
    let trace = Trace::new();
    mark_close(&stream, &trace);
    let (reader, traced) = (stream.clone(), trace.clone());
    drop(io_loop.spawn(async move {
        assert_eq!(reader.read_bytes(3).await.unwrap(), b"abc");
        traced.push("read");
    }));
    settle(&io_loop);
    send(&peer, "abc");
    drop(peer);
    settle(&io_loop);
    assert_eq!(trace.take(), ["read", "closed"]);
}

#[test]
fn the_end_comes_later_when_there_is_unread_data_above_the_mark() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(4);
    let mut closed = std::pin::pin!(stream.closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    send(&peer, "abcdefgh");
    settle(&io_loop);
    drop(peer);
    settle(&io_loop);
    assert!(poll_once(closed.as_mut()).is_pending());
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(8).await.unwrap(), b"abcdefgh");
        closed.await.unwrap();
    });
}

#[test]
fn a_closed_loop_ends_its_streams_with_word_of_it() {
    let io_loop = new_loop();
    let (reading, _peer) = stream();
    let (writing, _stuck) = stream();
    let (full, pushing) = stream();
    full.set_max_buffer_size(1);
    let (unused, _peer) = stream();
    let mut read = Box::pin(reading.read_bytes(1));
    let mut write = Box::pin(writing.write(vec![0; 4 << 20]));
    let mut closed = Box::pin(full.closed());
    assert!(poll_once(read.as_mut()).is_pending());
    assert!(poll_once(write.as_mut()).is_pending());
    assert!(poll_once(closed.as_mut()).is_pending());
    send(&pushing, "abc");
    settle(&io_loop);
    let woken = support::Count::new();
    io_loop.close(false).unwrap();
    let end = futures::executor::block_on(async {
        (refusal(read.await), refusal(write.await), refusal(closed.await))
    });
    woken.hit();
    assert_eq!(end, (StreamError::LoopClosed, StreamError::LoopClosed, StreamError::LoopClosed));
    let rest = futures::executor::block_on(full.read_bytes(3)).unwrap();
    assert_eq!(rest, b"abc");
    assert_eq!(refusal(unused.write("x").queued()), StreamError::LoopClosed);
    assert_eq!(refusal(futures::executor::block_on(unused.chunk())), StreamError::LoopClosed);
}

#[test]
fn what_was_written_before_the_loop_is_closed_goes_out() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.write(b"goodbye").queued().unwrap();
    io_loop.close(false).unwrap();
    drop(stream);
    assert_eq!(read_all(&peer), b"goodbye");
}

#[test]
fn a_write_that_fails_on_the_spot_ends_the_stream() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    drop(io_loop);
    assert!(!stream.is_closed());
    for _ in 0..2 {
        assert_eq!(refusal(stream.write(b"late").queued()), StreamError::LoopClosed);
        assert!(stream.is_closed());
    }
}

#[test]
fn foreign_wakers_are_woken_when_the_loop_is_closed() {
    struct Flag(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let io_loop = new_loop();
    let (reading, _peer) = stream();
    let (full, pushing) = stream();
    full.set_max_buffer_size(1);
    let flag = std::sync::Arc::new(Flag(0.into()));
    let waker = std::task::Waker::from(flag.clone());
    let mut context = std::task::Context::from_waker(&waker);
    let mut read = Box::pin(reading.read_bytes(1));
    let mut closed = Box::pin(full.closed());
    assert!(read.as_mut().poll(&mut context).is_pending());
    assert!(closed.as_mut().poll(&mut context).is_pending());
    send(&pushing, "abc");
    settle(&io_loop);
    assert_eq!(flag.0.load(std::sync::atomic::Ordering::Relaxed), 0);
    io_loop.close(false).unwrap();
    assert_eq!(flag.0.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn streams_outlive_their_loop() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    send(&peer, "abc");
    settle(&io_loop);
    drop(io_loop);
    assert_eq!(futures::executor::block_on(stream.read_bytes(3)).unwrap(), b"abc");
    assert_eq!(refusal(futures::executor::block_on(stream.chunk())), StreamError::LoopClosed);
    drop(stream);
    assert!(support::at_end(&peer));
}

#[test]
fn what_is_no_stream_is_refused() {
    let no_loop = std::thread::spawn(|| {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = IoStream::new(socket).unwrap_err();
        assert!(matches!(LoopError::of(&error), Some(LoopError::NoCurrent)), "{error:?}");
    });
    no_loop.join().unwrap();
    let _io_loop = new_loop();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(errno(IoStream::new(datagrams)), libc::EINVAL);
    let (packets, _peer) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    assert_eq!(errno(IoStream::new(packets)), libc::EINVAL);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(errno(IoStream::new(listener)), libc::EINVAL);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert_eq!(errno(IoStream::new(file)), libc::EPERM);
}

#[test]
fn a_write_goes_out_before_the_end_that_follows_it() {
    let io_loop = new_loop();
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let (one, other) = (IoStream::new(one).unwrap(), IoStream::new(other).unwrap());
    let got = Rc::new(RefCell::new(Vec::new()));
    let received = got.clone();
    let reading = io_loop.spawn(async move {
        *received.borrow_mut() = other.read_until_close(1000).await.unwrap();
    });
    run(&io_loop, async || {
        one.write("the last").queued().unwrap();
        one.shutdown(Shutdown::Write);
        reading.await.unwrap();
    });
    assert_eq!(*got.borrow(), b"the last");
    assert!(IoLoop::try_current().is_some());
}

#[test]
fn the_peer_is_told_the_end_of_a_dropped_stream_that_a_write_keeps_open() {
    const LENGTH: usize = 4 << 20;
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let _write = stream.write(vec![1; LENGTH]);
    settle(&io_loop);
    drop(stream);
    let reader = std::thread::spawn(move || read_all(&peer).len());
    turn_until(&io_loop, || reader.is_finished());
    assert_eq!(reader.join().unwrap(), LENGTH);
}

#[test]
fn a_read_that_ends_too_early_leaves_the_bytes_and_says_so_whatever_its_limit() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    send(&peer, "abc");
    drop(peer);
    run(&io_loop, async || {
        let mut buffer = [0; 4];
        assert_eq!(refusal(stream.read_into(&mut buffer).await), StreamError::Ended);
        assert_eq!(buffer, [0; 4]);
        assert_eq!(refusal(stream.read_bytes(4).await), StreamError::Ended);
        assert_eq!(refusal(stream.read_until(b"x", 4).await), StreamError::Ended);
        assert_eq!(stream.read_until_close(3).await.unwrap(), b"abc");
        assert_eq!(stream.read_until_close(3).await.unwrap(), b"");
    });
}

#[test]
fn a_close_callback_that_panics_is_reported_and_the_loop_goes_on() {
    support::watchdog();
    let reports = Trace::new();
    let reported = reports.clone();
    let io_loop = IoLoop::builder()
        .panic_hook(move |report| {
            assert!(report.origin.site.unwrap().file().ends_with("stream_ends.rs"), "{report}");
            reported.push(report.message());
        })
        .build()
        .unwrap();
    let (first, _peer) = stream();
    let (second, _other) = stream();
    first.set_close_callback(|_| panic!("on purpose"));
    mark_close(&second, &reports);
    first.close();
    second.close();
    settle(&io_loop);
    assert_eq!(reports.take(), ["on purpose", "closed"]);
    assert_eq!(io_loop.metrics().panics, 1);
}

#[test]
fn a_close_callback_that_is_set_when_the_loop_is_closed_is_dropped_there_and_then() {
    let io_loop = new_loop();
    let ((first, _peer), (second, _other)) = (stream(), stream());
    first.close();
    io_loop.close(false).unwrap();
    for stream in [first, second] {
        // Kept by the loop, it would keep the loop.
        let held = Rc::new(io_loop.clone());
        let kept = held.clone();
        stream.set_close_callback(move |_| drop(kept));
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

/// The kernel refuses it as it refuses a request that it does not know.
#[test]
fn a_read_of_a_socket_that_is_not_connected_fails_and_costs_no_feature() {
    for without in [KernelFeatures::empty(), KernelFeatures::MULTISHOT_RECV] {
        support::watchdog();
        let builder = IoLoop::builder().panics(Panics::Propagate).without(without);
        let io_loop = builder.build().unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let stream = IoStream::new(socket).unwrap();
        let before = io_loop.metrics().features;
        run(&io_loop, async || assert_eq!(errno(stream.read_bytes(1).await), libc::EINVAL));
        assert_eq!(io_loop.metrics().features, before);
    }
}
