//! Wakers are user code: what they may do to streams while these tell what has come.

mod stream_support;
mod support;
mod waker_support;

use ringloop::net::Write;
use ringloop::{Events, IoLoop, IoStream, KernelFeatures, Panics, Trigger};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use stream_support::{poll_and_drop, poll_once, reset, run, send, settle, stream, tcp_stream};
use support::{new_loop, turn};
use waker_support::{Alarm, runs_when_cloned};

type OnWake = Rc<dyn Fn(usize)>;

thread_local! {
    static ON_WAKE: RefCell<Option<OnWake>> = const { RefCell::new(None) };
}

/// Calls what is set, with its number.
struct Numbered(usize);

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        let on_wake = ON_WAKE.with_borrow(|on_wake| on_wake.clone());
        if let Some(on_wake) = on_wake {
            on_wake(self.0);
        }
    }
}

/// A stream that receives, and can be closed with something to cancel.
fn receiving() -> (IoStream, UnixStream) {
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    (stream, peer)
}

#[test]
fn what_a_waker_brings_about_is_told_after_the_rest_and_not_while_it_runs() {
    let io_loop = new_loop();
    let streams: Vec<_> = (0..3).map(|_| stream()).collect();
    let mut reads = Vec::new();
    for (number, (stream, _)) in streams.iter().enumerate() {
        let waker = Waker::from(Arc::new(Numbered(number)));
        let mut read = Box::pin(stream.chunk());
        assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        reads.push(read);
    }
    let ((first, _one), (second, _other)) = (receiving(), receiving());
    settle(&io_loop);
    let trace: Rc<RefCell<Vec<String>>> = Rc::default();
    let (woken, second) = (trace.clone(), RefCell::new(Some(second)));
    let late = streams[2].1.try_clone().unwrap();
    ON_WAKE.set(Some(Rc::new(move |number| {
        woken.borrow_mut().push(format!("{number} is woken"));
        if let Some(second) = second.take() {
            // Of a loop that does not run, it collects what there is.
            send(&late, "later");
            second.close();
        }
        woken.borrow_mut().push(format!("{number} was woken"));
    })));
    send(&streams[0].1, "a");
    send(&streams[1].1, "b");
    first.close();
    settle(&io_loop);
    ON_WAKE.set(None);
    let trace = trace.take();
    let order: Vec<_> = trace.chunks(2).map(|pair| &pair[0][..1]).collect();
    assert!(order == ["0", "1", "2"] || order == ["1", "0", "2"], "{trace:?}");
    for pair in trace.chunks(2) {
        assert_eq!(pair[0].replace(" is ", " was "), pair[1], "{trace:?}");
    }
}

#[test]
fn a_stream_closed_by_a_callback_tells_nobody_before_the_callback_returns() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let (alarm, waker) = Alarm::new();
    let mut read = Box::pin(stream.chunk());
    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (closed, _peer) = receiving();
    settle(&io_loop);
    let told = alarm.clone();
    io_loop.add_callback(move || {
        send(&peer, "x");
        closed.close();
        assert_eq!(told.rings(), 0);
    });
    settle(&io_loop);
    assert_eq!(alarm.rings(), 1);
}

#[test]
fn what_could_not_be_sent_at_once_is_not_sent_after_a_close() {
    let io_loop = new_loop();
    let silent = KernelFeatures::SILENT_SEND | KernelFeatures::CQE_SKIP;
    if !io_loop.metrics().features.contains(silent) {
        return;
    }
    let ((first, _one), (second, _other)) = (stream(), stream());
    while socket2::SockRef::from(&second).send(&[0; 4096]).is_ok() {}
    settle(&io_loop);
    let before = io_loop.metrics().submissions;
    let waker = Waker::from(Arc::new(Numbered(0)));
    let mut write = Box::pin(first.write("x"));
    assert!(write.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let data: Arc<[u8]> = b"y"[..].into();
    second.write(data.clone()).queued().unwrap();
    // Told of the first, before the second is told that there was no room.
    ON_WAKE.set(Some(Rc::new(move |_| second.close())));
    turn(&io_loop);
    settle(&io_loop);
    ON_WAKE.set(None);
    assert!(poll_once(write.as_mut()).is_ready());
    assert_eq!(io_loop.metrics().submissions - before, 2);
    assert_eq!(Arc::strong_count(&data), 1);
}

/// Panics.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

/// A write too large to be sent, by an executor whose wakers panic.
fn write_of_bomb(stream: &IoStream) -> Pin<Box<Write>> {
    let mut write = Box::pin(stream.write(vec![0; 8 << 20]));
    let bomb = Waker::from(Arc::new(Bomb));
    assert!(write.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    write
}

fn catching_loop() -> IoLoop {
    support::watchdog();
    IoLoop::builder().panics(Panics::Catch).panic_hook(|_| {}).build().unwrap()
}

#[test]
fn a_writer_whose_waker_panics_does_not_keep_a_failure_from_the_others() {
    let io_loop = catching_loop();
    let (stream, peer) = tcp_stream();
    let _first = write_of_bomb(&stream);
    let second = run(&io_loop, async || {
        let mut second = Box::pin(stream.write("more"));
        assert!(poll_once(second.as_mut()).is_pending());
        reset(peer);
        second.await
    });
    assert!(second.is_err());
    assert_eq!(io_loop.metrics().panics, 1);
}

#[test]
fn a_writer_whose_waker_panics_does_not_keep_a_failure_from_the_close_callback() {
    let io_loop = catching_loop();
    let (stream, peer) = tcp_stream();
    // It receives no more, so only the send can tell.
    stream.set_max_buffer_size(1);
    send(&peer, "full");
    assert!(poll_and_drop(stream.read_bytes(1)).is_pending());
    settle(&io_loop);
    let called = Rc::new(Cell::new(false));
    let set = called.clone();
    stream.set_close_callback(move |_| set.set(true));
    let _write = write_of_bomb(&stream);
    settle(&io_loop);
    reset(peer);
    while stream.error().is_none() {
        io_loop.turn(None).unwrap();
    }
    settle(&io_loop);
    assert!(called.get());
    assert_eq!(io_loop.metrics().panics, 1);
}

/// A read by an executor whose wakers panic.
fn read_of_bomb(stream: &IoStream) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    let mut read: Pin<Box<dyn Future<Output = ()>>> =
        Box::pin(async { drop(stream.chunk().await) });
    let bomb = Waker::from(Arc::new(Bomb));
    assert!(read.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    read
}

fn panics(body: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

#[test]
fn a_stream_that_a_panic_drops_wakes_others_who_panic_and_the_process_goes_on() {
    let _io_loop = new_loop();
    let (stream, _peer) = stream();
    let (mut first, mut second) = (Box::pin(stream.closed()), Box::pin(stream.closed()));
    let (alarm, waker) = Alarm::new();
    for (closed, waker) in [(&mut first, &Waker::from(Arc::new(Bomb))), (&mut second, &waker)] {
        assert!(closed.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    assert!(panics(|| {
        let _stream = stream;
        panic!("on purpose, too");
    }));
    assert_eq!(alarm.rings(), 1);
}

#[test]
fn what_a_panic_of_a_waker_leaves_untold_is_told_in_the_next_turn() {
    let io_loop = new_loop();
    let ((first, one), (second, other)) = (stream(), stream());
    let _first_read = read_of_bomb(&first);
    let woken = Rc::new(Cell::new(0));
    let count = woken.clone();
    ON_WAKE.set(Some(Rc::new(move |_| count.set(count.get() + 1))));
    let waker = Waker::from(Arc::new(Numbered(0)));
    let mut read = Box::pin(second.chunk());
    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    settle(&io_loop);
    send(&one, "x");
    send(&other, "y");
    assert!(panics(|| turn(&io_loop)));
    assert_eq!(woken.get(), 0);
    // Nothing else would end this turn.
    io_loop.turn(None).unwrap();
    assert_eq!(woken.get(), 1);
    ON_WAKE.set(None);
}

#[test]
fn an_edge_found_with_what_a_panicking_waker_is_told_is_told_later() {
    let io_loop = new_loop();
    let ((first, one), (watched, other)) = (stream(), UnixStream::pair().unwrap());
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    io_loop
        .add_handler_with(watched, Events::READ, Trigger::Edge, move |_, _| {
            count.set(count.get() + 1);
        })
        .unwrap();
    let _read = read_of_bomb(&first);
    settle(&io_loop);
    send(&one, "x");
    send(&other, "y");
    assert!(panics(|| turn(&io_loop)));
    assert_eq!(calls.get(), 0);
    turn(&io_loop);
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_write_that_is_done_while_its_waker_is_cloned_is_told() {
    let io_loop = new_loop();
    let (stream, _peer) = stream();
    let running = io_loop.clone();
    let mut write = stream.write("x");
    let (alarm, waker) = runs_when_cloned(move || turn(&running));
    let polled = Pin::new(&mut write).poll(&mut Context::from_waker(&waker));
    (0..3).for_each(|_| turn(&io_loop));
    assert!(polled.is_ready() || alarm.rings() > 0);
}

#[test]
fn an_end_that_comes_while_the_waker_of_who_waits_for_it_is_cloned_is_told() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let running = io_loop.clone();
    let mut closed = stream.closed();
    let (alarm, waker) = runs_when_cloned(move || {
        drop(peer);
        settle(&running);
    });
    let polled = Pin::new(&mut closed).poll(&mut Context::from_waker(&waker));
    (0..3).for_each(|_| turn(&io_loop));
    assert!(stream.is_closed());
    assert!(polled.is_ready() || alarm.rings() > 0);
}

#[test]
fn a_waker_that_runs_the_loop_that_wakes_it_has_it_wake_others() {
    let io_loop = new_loop();
    let ((first, one), (second, other), (third, _peer)) = (stream(), stream(), receiving());
    let (alarm, waker) = Alarm::new();
    let (mut read, mut others_read) = (Box::pin(first.chunk()), Box::pin(second.chunk()));
    let runs = Waker::from(Arc::new(Numbered(0)));
    assert!(read.as_mut().poll(&mut Context::from_waker(&runs)).is_pending());
    assert!(others_read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    settle(&io_loop);
    let (heard, is_run) = (Rc::new(Cell::new(0)), io_loop.clone());
    let hears = heard.clone();
    ON_WAKE.set(Some(Rc::new(move |_| {
        send(&other, "y");
        settle(&is_run);
        hears.set(alarm.rings());
    })));
    send(&one, "x");
    // Of a loop that does not run, it collects what there is.
    third.close();
    ON_WAKE.set(None);
    assert_eq!(heard.get(), 1);
}
