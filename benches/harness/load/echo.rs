//! Connections that each send a message as soon as the last one has come back.

use super::{Load, sys};
use crate::harness::MESSAGE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const REQUEST: [u8; MESSAGE] = [b'.'; MESSAGE];
/// How often the clock is looked at.
const BURST: usize = 32;
const EVENTS: usize = 256;

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) struct Single {
    stream: TcpStream,
}

impl Single {
    pub(super) fn new(server: SocketAddr) -> io::Result<Single> {
        Ok(Single { stream: connect(server)? })
    }
}

impl Load for Single {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..BURST {
                self.stream.write_all(&REQUEST)?;
                self.stream.read_exact(&mut [0; MESSAGE])?;
            }
        }
        Ok(())
    }
}

pub(super) struct Many {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    started: bool,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the message that are still to come back.
    missing: usize,
}

impl Many {
    pub(super) fn new(server: SocketAddr, count: usize) -> io::Result<Many> {
        // SAFETY: no memory is passed; the descriptor is new.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let stream = connect(server)?;
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number as u64 };
            let (epoll, fd) = (epoll.as_raw_fd(), stream.as_raw_fd());
            // SAFETY: the event is valid to read.
            sys::check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
            connections.push(Connection { stream, missing: MESSAGE });
        }
        Ok(Many { epoll, connections, started: false })
    }

    fn start(&mut self) -> io::Result<()> {
        self.started = true;
        self.connections.iter().try_for_each(|connection| (&connection.stream).write_all(&REQUEST))
    }

    fn answer(&mut self, events: &mut [libc::epoll_event]) -> io::Result<()> {
        let (epoll, capacity) = (self.epoll.as_raw_fd(), events.len() as libc::c_int);
        // SAFETY: the events are valid to write to, as many as it says.
        let ready =
            sys::check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, 100) })?;
        for event in &events[..ready as usize] {
            self.connections[event.u64 as usize].ready()?;
        }
        Ok(())
    }
}

impl Connection {
    fn ready(&mut self) -> io::Result<()> {
        let length = self.stream.read(&mut [0; MESSAGE][..self.missing])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.missing -= length;
        if self.missing == 0 {
            self.missing = MESSAGE;
            self.stream.write_all(&REQUEST)?;
        }
        Ok(())
    }
}

impl Load for Many {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        if !self.started {
            self.start()?;
        }
        while Instant::now() < end {
            self.answer(&mut events)?;
        }
        Ok(())
    }
}
