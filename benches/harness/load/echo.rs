//! Connections that each keep some messages under way. What comes back must be what was sent.

use super::{Load, sys};
use crate::harness::LONGEST;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How often the clock is looked at.
const BURST: usize = 32;
const EVENTS: usize = 256;

/// What a connection sends is these bytes again and again. As their number is prime, messages
/// differ, and whatever is lost, doubled or out of order is found.
const PERIOD: usize = 251;

static BYTES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..PERIOD + LONGEST).map(|place| (place % PERIOD) as u8).collect());

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A place in the bytes that a connection sends, or has got back.
#[derive(Clone, Copy)]
struct Place(usize);

impl Place {
    /// The bytes from here on.
    fn bytes(self, length: usize) -> &'static [u8] {
        &BYTES[self.0..][..length]
    }

    fn advance(&mut self, length: usize) {
        self.0 = (self.0 + length) % PERIOD;
    }

    fn check(&mut self, answer: &[u8]) -> io::Result<()> {
        if answer != self.bytes(answer.len()) {
            return Err(io::Error::other("a wrong answer"));
        }
        self.advance(answer.len());
        Ok(())
    }
}

/// One connection and one message, which needs no waiting for events.
pub(super) struct Single {
    stream: TcpStream,
    size: usize,
    place: Place,
    answer: Vec<u8>,
}

impl Single {
    pub(super) fn new(server: SocketAddr, size: usize) -> io::Result<Single> {
        Ok(Single { stream: connect(server)?, size, place: Place(0), answer: vec![0; size] })
    }
}

impl Load for Single {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..BURST {
                self.stream.write_all(self.place.bytes(self.size))?;
                self.stream.read_exact(&mut self.answer)?;
                self.place.check(&self.answer)?;
            }
        }
        Ok(())
    }
}

pub(super) struct Many {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    answer: Vec<u8>,
    started: bool,
}

struct Connection {
    stream: TcpStream,
    size: usize,
    sent: Place,
    /// Bytes that may be sent now.
    to_send: usize,
    received: Place,
    /// Bytes of the message that is coming back.
    partial: usize,
}

impl Many {
    pub(super) fn new(
        server: SocketAddr,
        count: usize,
        size: usize,
        depth: usize,
    ) -> io::Result<Many> {
        // SAFETY: no memory is passed; the descriptor is new.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let stream = connect(server)?;
            stream.set_nonblocking(true)?;
            let edges = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET;
            let mut event = libc::epoll_event { events: edges as u32, u64: number as u64 };
            let (epoll, fd) = (epoll.as_raw_fd(), stream.as_raw_fd());
            // SAFETY: the event is valid to read.
            sys::check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
            connections.push(Connection::new(stream, number, size, depth));
        }
        Ok(Many { epoll, connections, answer: vec![0; LONGEST], started: false })
    }

    fn answer(&mut self, events: &mut [libc::epoll_event]) -> io::Result<()> {
        let (epoll, capacity) = (self.epoll.as_raw_fd(), events.len() as libc::c_int);
        // SAFETY: the events are valid to write to, as many as it says.
        let ready =
            sys::check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, 100) })?;
        for event in &events[..ready as usize] {
            let connection = &mut self.connections[event.u64 as usize];
            if event.events & libc::EPOLLIN as u32 != 0 {
                connection.receive(&mut self.answer)?;
            }
            connection.send()?;
        }
        Ok(())
    }
}

impl Connection {
    fn new(stream: TcpStream, number: usize, size: usize, depth: usize) -> Connection {
        let start = Place(number % PERIOD);
        Connection { stream, size, sent: start, to_send: depth * size, received: start, partial: 0 }
    }

    /// Takes what has come back. Every message makes room for another.
    fn receive(&mut self, answer: &mut [u8]) -> io::Result<()> {
        loop {
            let length = match self.stream.read(answer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.received.check(&answer[..length])?;
            self.partial += length;
            self.to_send += self.partial / self.size * self.size;
            self.partial %= self.size;
            if length < answer.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.to_send > 0 {
            match self.stream.write(self.sent.bytes(self.to_send.min(LONGEST))) {
                Ok(length) => {
                    self.sent.advance(length);
                    self.to_send -= length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Load for Many {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        if !self.started {
            self.started = true;
            self.connections.iter_mut().try_for_each(Connection::send)?;
        }
        while Instant::now() < end {
            self.answer(&mut events)?;
        }
        Ok(())
    }
}
