//! What the tests of streams share.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use ringloop::net::StreamError;
use ringloop::{IoLoop, IoStream};
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A stream of the current loop, and its peer, which blocks.
pub(crate) fn stream() -> (IoStream, UnixStream) {
    let (stream, peer) = UnixStream::pair().unwrap();
    (IoStream::new(stream).unwrap(), peer)
}

/// The same over TCP.
pub(crate) fn tcp_stream() -> (IoStream, TcpStream) {
    let (stream, peer) = tcp_pair();
    (IoStream::new(stream).unwrap(), peer)
}

pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, peer)
}

/// Runs the loop for a future.
#[track_caller]
pub(crate) fn run<F: AsyncFnOnce() -> T, T>(io_loop: &IoLoop, body: F) -> T {
    io_loop.run_sync(async || body().await, None).unwrap()
}

/// Closes a TCP connection with a reset.
pub(crate) fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future once, and drops it.
pub(crate) fn poll_and_drop<F: Future>(future: F) -> Poll<F::Output> {
    poll_once(pin!(future))
}

/// Turns until the stream's kernel side has seen all there is: until a turn brings nothing.
pub(crate) fn settle(io_loop: &IoLoop) {
    // What is sent at once has no completion.
    let progress = || {
        let metrics = io_loop.metrics();
        (metrics.submissions, metrics.completions, metrics.task_polls)
    };
    loop {
        let before = progress();
        io_loop.turn(Some(Duration::ZERO)).unwrap();
        if progress() == before {
            return;
        }
    }
}

/// Why a stream refused.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(result: io::Result<T>) -> StreamError {
    let error = result.unwrap_err();
    StreamError::of(&error).unwrap_or_else(|| panic!("not a StreamError: {error:?}"))
}

/// The number of an error of the operating system's.
#[track_caller]
pub(crate) fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    let error = result.unwrap_err();
    error.raw_os_error().unwrap_or_else(|| panic!("not of the operating system: {error:?}"))
}

/// All that a peer gets, to the end.
#[track_caller]
pub(crate) fn read_all(mut peer: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn send(mut peer: impl Write, bytes: impl AsRef<[u8]>) {
    peer.write_all(bytes.as_ref()).unwrap();
}

/// Bytes that are no pattern.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
