//! Wakers are user code: what they may do to streams while these tell what has come.

mod stream_support;
mod support;

use ringloop::net::Write;
use ringloop::{IoLoop, IoStream, Panics};
use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use stream_support::{poll_and_drop, poll_once, reset, run, send, settle, stream, tcp_stream};
use support::new_loop;

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
