//! Futures that are dropped: nothing is lost, and nothing is left behind.

mod meddling;
mod stream_support;
mod support;
mod waker_support;

use futures::FutureExt;
use meddling::meddling_waker;
use ringloop::net::StreamError;
use ringloop::time::timeout;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use stream_support::{noise, poll_and_drop, poll_once, refusal, run, send, settle, stream};
use support::new_loop;
use waker_support::Alarm;

#[test]
fn reads_that_timed_out_leave_every_byte_for_the_next() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        for _ in 0..3 {
            timeout(Duration::from_millis(1), stream.read_bytes(4)).await.unwrap_err();
        }
        // No read is posted when this arrives.
        send(&peer, "kept");
        ringloop::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"kept");
    });
}

#[test]
fn a_read_that_is_done_in_the_kernel_and_dropped_unpolled_leaves_every_byte() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut read = Box::pin(stream.chunk());
    assert!(poll_once(read.as_mut()).is_pending());
    send(&peer, "kept");
    settle(&io_loop);
    drop(read);
    run(&io_loop, async || assert_eq!(stream.read_bytes(4).await.unwrap(), b"kept"));
}

#[test]
fn a_read_that_loses_a_select_leaves_every_byte() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let mut received = Vec::new();
        for round in 0..100u8 {
            send(&peer, [round; 3]);
            futures::select_biased! {
                () = std::future::ready(()).fuse() => {}
                bytes = stream.read_bytes(3).fuse() => received.extend(bytes.unwrap()),
            }
            futures::select_biased! {
                bytes = stream.read_bytes(2).fuse() => received.extend(bytes.unwrap()),
                () = ringloop::time::sleep(Duration::ZERO).fuse() => {}
            }
        }
        received.extend(stream.read_bytes(300 - received.len()).await.unwrap());
        assert!(received.chunks(3).zip(0..).all(|(part, round)| part == [round; 3]));
    });
}

/// Polls a read `polls` times, with a byte arriving in between, and drops it unless it is done.
fn dropped_after<T: std::fmt::Debug>(
    polls: usize,
    read: impl for<'a> Fn(
        &'a ringloop::IoStream,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<T>> + 'a>>,
) {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut future = read(&stream);
    for byte in 0..polls {
        assert!(poll_once(future.as_mut()).is_pending(), "poll {byte}");
        send(&peer, [byte as u8]);
        settle(&io_loop);
    }
    drop(future);
    assert!(!stream.reading());
    send(&peer, "end");
    drop(peer);
    let mut expected: Vec<u8> = (0..polls as u8).collect();
    expected.extend(b"end");
    run(&io_loop, async || {
        assert_eq!(stream.read_until_close(100).await.unwrap(), expected);
    });
}

#[test]
fn every_read_can_be_dropped_after_any_number_of_polls() {
    for polls in 0..6 {
        dropped_after(polls, |stream| Box::pin(stream.read_bytes(50)));
        dropped_after(polls, |stream| Box::pin(stream.read_until(b"nowhere", 50)));
        dropped_after(polls, |stream| Box::pin(stream.read_until_close(50)));
        dropped_after(polls, |stream| {
            Box::pin(async { stream.read_into(&mut [0; 50]).await.map(drop) })
        });
    }
    for polls in 0..2 {
        dropped_after(polls, |stream| Box::pin(stream.read_partial(50)));
        dropped_after(polls, |stream| Box::pin(stream.chunk()));
        dropped_after(polls, |stream| {
            Box::pin(async { stream.read_into_partial(&mut [0; 50]).await })
        });
    }
}

#[test]
fn reads_dropped_at_random_lose_nothing_of_a_long_stream() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(30_000);
    let sent = noise(2 << 20, 10);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || send(&peer, copy));
    run(&io_loop, async || {
        let mut random = fastrand::Rng::with_seed(11);
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let count = random.usize(1..=40_000).min(sent.len() - received.len());
            let patience = Duration::from_micros(random.u64(..200));
            if let Ok(bytes) = timeout(patience, stream.read_bytes(count)).await {
                received.extend(bytes.unwrap());
            }
        }
        assert!(received == sent);
    });
    writer.join().unwrap();
}

#[test]
fn a_read_that_was_leaked_keeps_others_out_and_loses_nothing() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let mut read = Box::pin(stream.read_bytes(2));
    assert!(poll_once(read.as_mut()).is_pending());
    std::mem::forget(read);
    send(&peer, "ab");
    settle(&io_loop);
    run(&io_loop, async || {
        assert_eq!(refusal(stream.chunk().await), StreamError::AlreadyReading);
    });
}

#[test]
fn a_stream_may_be_dropped_whatever_it_is_doing() {
    for steps in 0..4 {
        for sending in [false, true] {
            let io_loop = new_loop();
            let (stream, peer) = stream();
            stream.set_max_buffer_size(3);
            assert!(poll_and_drop(stream.read_bytes(2)).is_pending());
            if sending {
                drop(stream.write(vec![0; 4 << 20]));
            }
            for step in 0..steps {
                send(&peer, [step]);
                settle(&io_loop);
            }
            drop(stream);
            if !sending {
                settle(&io_loop);
            }
            drop(peer);
            io_loop.close(false).unwrap();
        }
    }
}

#[test]
fn wakers_may_use_the_stream_whenever_they_are_cloned_woken_or_dropped() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let stream = Rc::new(stream);
    let meddled = support::Count::new();
    let (count, meddled_with) = (meddled.clone(), stream.clone());
    let waker = meddling_waker(move || {
        count.hit();
        drop(poll_and_drop(meddled_with.read_bytes(100_000)));
        drop(meddled_with.write("x"));
        drop(poll_and_drop(meddled_with.flush()));
        drop(poll_and_drop(meddled_with.closed()));
        meddled_with.set_close_callback(|_| {});
    });
    let context = &mut Context::from_waker(&waker);
    for _ in 0..3 {
        let mut read = Box::pin(stream.read_bytes(100_000));
        let mut write = Box::pin(stream.flush());
        let mut closed = Box::pin(stream.closed());
        for _ in 0..2 {
            drop(read.as_mut().poll(context));
            drop(write.as_mut().poll(context));
            drop(closed.as_mut().poll(context));
        }
        send(&peer, "some");
        settle(&io_loop);
    }
    let mut closed = Box::pin(stream.closed());
    assert!(closed.as_mut().poll(context).is_pending());
    stream.close();
    settle(&io_loop);
    assert!(meddled.get() > 10);
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

/// Of two streams that end in the same turn, the one that hears of it first closes the other, and has
/// a third one receive, which may be known to the driver by the number that the other had.
#[test]
fn a_stream_closed_before_it_hears_of_its_end_does_not_stop_another() {
    let io_loop = new_loop();
    let (ending, peers): (Vec<_>, Vec<_>) = (0..2).map(|_| stream()).unzip();
    let (third, third_peer) = stream();
    let (ending, third) = (Rc::new(ending), Rc::new(third));
    let is_due = Rc::new(Cell::new(false));
    let mut reads = [0, 1].map(|own| {
        let (streams, third, is_due) = (ending.clone(), third.clone(), is_due.clone());
        let waker = meddling_waker(move || {
            if is_due.take() {
                assert!(poll_and_drop(third.read_bytes(1)).is_pending());
                streams[1 - own].close();
            }
        });
        (waker, Box::pin(ending[own].read_bytes(1)))
    });
    for (waker, read) in &mut reads {
        assert!(read.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    settle(&io_loop);
    is_due.set(true);
    drop(peers);
    settle(&io_loop);
    assert!(!is_due.get());
    send(&third_peer, "x");
    run(&io_loop, async || assert_eq!(third.read_bytes(1).await.unwrap(), b"x"));
}

#[test]
fn a_waker_that_panics_is_reported_and_harms_no_other_stream() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = reports.clone();
    let io_loop = ringloop::IoLoop::builder()
        .panic_hook(move |report| seen.borrow_mut().push(report.message().to_owned()))
        .build()
        .unwrap();
    let pairs: Vec<_> = (0..10).map(|_| stream()).collect();
    let waker = Waker::from(Arc::new(Panicking));
    let mut reads: Vec<_> =
        pairs.iter().map(|(stream, _)| Box::pin(stream.read_bytes(1))).collect();
    for read in &mut reads {
        assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    for (_, peer) in &pairs {
        send(peer, "x");
    }
    settle(&io_loop);
    assert_eq!(*reports.borrow(), vec!["on purpose"; 10]);
    assert_eq!(io_loop.metrics().panics, 10);
    for read in &mut reads {
        assert!(matches!(poll_once(read.as_mut()), Poll::Ready(Ok(_))));
    }
}

#[test]
fn closing_a_loop_survives_wakers_that_panic() {
    let io_loop = ringloop::IoLoop::builder().panic_hook(|_| {}).build().unwrap();
    let (first, _peer) = stream();
    let (second, _peer) = stream();
    let waker = Waker::from(Arc::new(Panicking));
    let mut reads = [Box::pin(first.read_bytes(1)), Box::pin(second.read_bytes(1))];
    for read in &mut reads {
        assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    settle(&io_loop);
    io_loop.close(false).unwrap();
    assert_eq!(io_loop.metrics().panics, 2);
    for read in reads {
        let result = futures::executor::block_on(read);
        assert_eq!(refusal(result), StreamError::LoopClosed);
    }
}

#[test]
fn a_write_that_is_given_up_keeps_no_waker() {
    let _loop = new_loop();
    let (stream, _peer) = stream();
    let (alarm, waker) = Alarm::new();
    let mut write = Box::pin(stream.write("data"));
    assert!(write.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop((write, waker));
    assert_eq!(Arc::strong_count(&alarm), 1);
}
