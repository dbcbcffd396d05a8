//! A stream, and what its peer gets of what is written to it.

use crate::net::{StreamError, Write};
use crate::{IoLoop, IoStream, KernelFeatures, Panics};
use socket2::{SockRef, Socket};
use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Of a socket's buffer for what is sent, as far as that can be told.
const SMALL_BUFFER: usize = 8 * 1024;

pub(super) fn new_loop(entries: u32, cq_entries: u32) -> IoLoop {
    let builder = IoLoop::builder().entries(entries).cq_entries(cq_entries);
    builder.panics(Panics::Propagate).build().unwrap()
}

/// The same, if sends that have sent everything have no completion.
pub(super) fn new_silent_loop(entries: u32, cq_entries: u32) -> Option<IoLoop> {
    let io_loop = new_loop(entries, cq_entries);
    let silent = KernelFeatures::SILENT_SEND | KernelFeatures::CQE_SKIP;
    io_loop.metrics().features.contains(silent).then_some(io_loop)
}

/// Runs the loop for a future.
pub(super) fn run<T>(io_loop: &IoLoop, body: impl AsyncFnOnce() -> T) -> T {
    io_loop.run_sync(async || body().await, None).unwrap()
}

/// Lets a turn go by.
pub(super) async fn next_turn() {
    let mut has_turned = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_turned, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One turn that does not wait.
pub(super) fn turn(io_loop: &IoLoop) -> io::Result<()> {
    io_loop.turn(Some(Duration::ZERO))
}

pub(super) struct Line {
    /// `None` once it is dropped.
    pub(super) stream: Option<IoStream>,
    peer: Socket,
    /// The peer has at once what the kernel has taken.
    is_local: bool,
    written: Vec<u8>,
    received: Vec<u8>,
    has_ended: bool,
    /// Writes that are waited for, and where they end.
    writes: Vec<(usize, Write)>,
    /// How much is known to be sent, and what has gone wrong.
    pub(super) sent: usize,
    pub(super) error: Option<io::Error>,
}

impl Line {
    /// Over a Unix socket, with little room in it.
    pub(super) fn new() -> Line {
        let (stream, peer) = UnixStream::pair().unwrap();
        Line::between(OwnedFd::from(stream).into(), OwnedFd::from(peer).into(), true)
    }

    pub(super) fn over_tcp() -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        Line::between(stream.into(), peer.into(), false)
    }

    /// Without any room, until the peer receives.
    pub(super) fn full() -> Line {
        let mut line = Line::new();
        let bytes = line.noise(1000);
        while let Ok(length) = SockRef::from(line.stream()).send(&bytes) {
            line.written.extend(&bytes[..length]);
        }
        line
    }

    fn between(stream: Socket, peer: Socket, is_local: bool) -> Line {
        stream.set_send_buffer_size(SMALL_BUFFER).unwrap();
        peer.set_nonblocking(true).unwrap();
        Line {
            stream: Some(IoStream::new(stream).unwrap()),
            peer,
            is_local,
            written: Vec::new(),
            received: Vec::new(),
            has_ended: false,
            writes: Vec::new(),
            sent: 0,
            error: None,
        }
    }

    pub(super) fn stream(&self) -> &IoStream {
        self.stream.as_ref().unwrap()
    }

    /// Bytes that are no pattern, and are never the same.
    fn noise(&self, length: usize) -> Vec<u8> {
        let seed = self.peer.as_raw_fd() as u64 ^ (self.written.len() as u64) << 32;
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    }

    /// Writes that much. Whoever drops what this returns does not wait for it.
    pub(super) fn write(&mut self, length: usize) -> Write {
        let bytes = self.noise(length);
        self.write_shared(&bytes.into())
    }

    pub(super) fn write_shared(&mut self, bytes: &Arc<[u8]>) -> Write {
        let write = self.stream().write(bytes.clone());
        self.written.extend(&**bytes);
        write
    }

    /// Has this write waited for.
    pub(super) fn wait_for(&mut self, write: Write) {
        self.writes.push((self.written.len(), write));
        self.poll();
    }

    /// Writes that much, and has that waited for.
    pub(super) fn write_and_wait(&mut self, length: usize) {
        let write = self.write(length);
        self.wait_for(write);
    }

    /// Finds out what has come of the writes that are waited for.
    pub(super) fn poll(&mut self) {
        let Line { writes, sent, error, .. } = self;
        writes.retain_mut(|(end, write)| {
            match Pin::new(write).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) => *sent = *end,
                Poll::Ready(Err(failure)) => *error = Some(failure),
            }
            false
        });
    }

    /// What is there for the peer, in pieces of up to `most` bytes, and so many of these.
    pub(super) fn receive(&mut self, pieces: usize, most: usize) {
        let mut piece = vec![0; most];
        for _ in 0..pieces {
            match (&self.peer).read(&mut piece) {
                Ok(0) => self.has_ended = true,
                Ok(length) => self.received.extend(&piece[..length]),
                Err(error) => {
                    self.has_ended |= error.raw_os_error() == Some(libc::ECONNRESET);
                    return;
                }
            }
            if self.has_ended {
                return;
            }
        }
    }

    pub(super) fn receive_all(&mut self) {
        self.receive(usize::MAX, 64 * 1024);
    }

    pub(super) fn received(&self) -> usize {
        self.received.len()
    }

    /// Nothing was lost, doubled or disordered, and nothing counts as sent that was not.
    #[track_caller]
    pub(super) fn check(&mut self) {
        self.poll();
        self.receive_all();
        assert!(self.written.starts_with(&self.received), "not what was written");
        if self.is_local {
            let (received, sent) = (self.received.len(), self.sent);
            assert!(received >= sent, "{received} bytes have arrived, {sent} are said to");
        }
    }

    /// As `check`, and all has been sent that was written.
    #[track_caller]
    pub(super) fn check_all(&mut self) {
        self.check();
        let (received, written) = (self.received.len(), self.written.len());
        assert!(received == written, "{received} bytes of {written} have arrived");
    }

    /// Turns until the peer has all that was written, or the end.
    #[track_caller]
    pub(super) fn drain(&mut self, io_loop: &IoLoop) {
        self.turn_until(io_loop, |line| line.received.len() == line.written.len());
    }

    /// Turns until the peer has the end.
    #[track_caller]
    pub(super) fn drain_to_end(&mut self, io_loop: &IoLoop) {
        self.turn_until(io_loop, |_| false);
    }

    #[track_caller]
    fn turn_until(&mut self, io_loop: &IoLoop, is_done: impl Fn(&Line) -> bool) {
        self.check();
        while !self.has_ended && !is_done(self) {
            io_loop.turn(Some(Duration::from_millis(5))).unwrap();
            self.check();
        }
    }

    /// Why it does not send any more.
    #[track_caller]
    pub(super) fn refusal(&mut self) -> Option<StreamError> {
        self.poll();
        let error = self.error.as_ref()?;
        Some(StreamError::of(error).unwrap_or_else(|| panic!("not a StreamError: {error:?}")))
    }
}
