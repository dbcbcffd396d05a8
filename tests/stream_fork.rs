//! Streams in a process that forks.

mod stream_support;
mod support;
mod waker_support;

use ringloop::net::StreamError;
use socket2::SockRef;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use stream_support::{poll_and_drop, poll_once, refusal, run, send, settle, stream, tcp_stream};
use support::{at_end, in_child, new_loop};
use waker_support::Alarm;

#[test]
fn a_stream_of_the_parent_fails_in_the_child_and_goes_on_in_the_parent() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    send(&peer, "before");
    settle(&io_loop);
    let mut stream = Some(stream);
    in_child(|| {
        let stream = stream.take().expect("the child has a copy of it");
        let first = futures::executor::block_on(stream.read_bytes(6));
        assert_eq!(first.unwrap(), b"before");
        assert_eq!(refusal(stream.write("x").queued()), StreamError::LoopClosed);
        let mut read = Box::pin(stream.read_bytes(1));
        drop(poll_once(read.as_mut()));
        drop(read);
        stream.close();
        drop(stream);
        Ok(())
    })
    .unwrap();
    let stream = stream.expect("the parent has kept it");
    peer.set_nonblocking(true).unwrap();
    assert!(!at_end(&peer));
    peer.set_nonblocking(false).unwrap();
    run(&io_loop, async || {
        assert_eq!(stream.read_bytes(6).await.unwrap(), b"before");
        for _ in 0..100 {
            send(&peer, [1; 1000]);
            assert_eq!(stream.read_bytes(1000).await.unwrap(), [1; 1000]);
        }
        stream.write("after").await.unwrap();
    });
}

#[test]
fn a_write_that_fails_in_the_child_tells_those_who_wait_for_the_end() {
    let _io_loop = new_loop();
    let (stream, _peer) = stream();
    let (alarm, waker) = Alarm::new();
    let mut closed = pin!(stream.closed());
    assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    in_child(|| {
        assert_eq!(refusal(stream.write("x").queued()), StreamError::LoopClosed);
        assert_eq!(alarm.rings(), 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_child_that_drops_the_parents_loop_and_streams_does_not_end_them() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    let write = stream.write(vec![7; 4 << 20]);
    settle(&io_loop);
    let mut all = Some((io_loop, stream, write));
    in_child(|| {
        let (io_loop, stream, write) = all.take().expect("the child has a copy of them");
        drop(io_loop);
        drop(stream);
        drop(write);
        Ok(())
    })
    .unwrap();
    let (io_loop, stream, write) = all.expect("the parent has kept them");
    let reader = std::thread::spawn(move || stream_support::read_all(&peer).len());
    run(&io_loop, async || write.await.unwrap());
    drop(stream);
    settle(&io_loop);
    assert_eq!(reader.join().unwrap(), 4 << 20);
}

#[test]
fn a_child_that_drops_a_stream_does_not_limit_the_parents() {
    let io_loop = new_loop();
    let (stream, _peer) = tcp_stream();
    let write = stream.write(vec![7; 12 << 20]);
    settle(&io_loop);
    let mut dropped = Some(stream);
    in_child(|| {
        drop(dropped.take());
        Ok(())
    })
    .unwrap();
    let stream = dropped.expect("the parent has kept it");
    assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), None);
    drop(write);
}
