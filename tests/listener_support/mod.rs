//! What the tests of listeners share.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use crate::stress_support::{alone, assert_open_fds, open_fds};
use ringloop::net::{IoStream, TcpListener};
use ringloop::{IoLoop, KernelFeatures, Panics};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::MutexGuard;
use std::time::Duration;

pub(crate) const SHORT: Duration = Duration::from_millis(2);

pub(crate) fn build(without: KernelFeatures) -> IoLoop {
    let builder = IoLoop::builder().entries(64).cq_entries(4096).without(without);
    builder.panics(Panics::Propagate).build().unwrap()
}

/// Runs a test on a loop as it is, and on one that has to poll and accept by hand. Nothing is left
/// open in the end.
pub(crate) fn both_ways(test: impl Fn(&IoLoop)) {
    let _alone: MutexGuard<'_, ()> = alone();
    drop(build(KernelFeatures::empty()));
    for without in [KernelFeatures::empty(), KernelFeatures::MULTISHOT_ACCEPT] {
        let before = open_fds();
        let io_loop = build(without);
        test(&io_loop);
        drop(io_loop);
        assert_open_fds(before);
    }
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

pub(crate) fn connect_many(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// True if the other side has closed the connection: nothing was sent on it.
pub(crate) fn is_closed(mut client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    match client.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[track_caller]
pub(crate) fn run<F, Fut>(io_loop: &IoLoop, body: F) -> Fut::Output
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    io_loop.run_sync(body, Some(Duration::from_secs(30))).unwrap()
}

pub(crate) fn assert_same(stream: &IoStream, client: &TcpStream) {
    assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(stream.local_addr().unwrap(), client.peer_addr().unwrap());
}

/// Fails as long as somebody else listens there.
#[track_caller]
pub(crate) fn rebind(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).expect("the port is free")
}

pub(crate) fn blank_socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}
