//! What the tests of servers have in common.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use crate::stress_support::{alone, assert_open_fds, open_fds};
use ringloop::net::{TcpServer, TcpServerBuilder};
use ringloop::{Cause, IoLoop, IoStream, KernelFeatures};
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(2);

/// What the loop was told of failures.
pub(crate) type Reports = Rc<RefCell<Vec<(Cause, String)>>>;

pub(crate) fn build(without: KernelFeatures) -> (IoLoop, Reports) {
    let reports = Reports::default();
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .without(without)
        .panic_hook(move |report| {
            assert!(report.origin.site.unwrap().file().starts_with("tests/server"), "{report}");
            told.borrow_mut().push((report.cause, report.message().to_owned()));
        })
        .build();
    (io_loop.unwrap(), reports)
}

/// Runs a test with and without multishot accept. Nothing is left open in the end.
pub(crate) fn both_ways(test: impl Fn(&IoLoop, &Reports)) {
    let _alone = alone();
    drop(build(KernelFeatures::empty()));
    for without in [KernelFeatures::empty(), KernelFeatures::MULTISHOT_ACCEPT] {
        let before = open_fds();
        let (io_loop, reports) = build(without);
        test(&io_loop, &reports);
        drop(io_loop);
        assert_open_fds(before);
        assert_eq!(*reports.borrow(), [], "failures that no test has looked at");
    }
}

pub(crate) fn run<F, Fut>(io_loop: &IoLoop, body: F) -> Fut::Output
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    io_loop.run_sync(body, Some(Duration::from_secs(30))).unwrap()
}

pub(crate) fn address_of(server: &TcpServer) -> SocketAddr {
    server.local_addrs()[0]
}

pub(crate) fn connect(server: &TcpServer) -> TcpStream {
    let client = TcpStream::connect(address_of(server)).unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// All that comes, to the end of the stream. A reset is an end, too.
pub(crate) fn read_to_end(io_loop: &IoLoop, mut client: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(0) => return text,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                io_loop.turn(Some(SHORT)).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return text;
            }
        }
    }
}

pub(crate) fn is_open(client: &TcpStream) -> bool {
    matches!((&*client).read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

pub(crate) async fn echo_line(stream: IoStream) -> io::Result<()> {
    let line = stream.read_until(b"\n", 1024).await?;
    stream.write(line).await
}

/// A handler that goes on until its client does not.
pub(crate) async fn until_end(stream: IoStream) -> io::Result<()> {
    stream.read_until_close(1024).await.map(drop)
}

pub(crate) fn local() -> TcpServerBuilder {
    TcpServer::builder().listen("127.0.0.1", 0)
}
