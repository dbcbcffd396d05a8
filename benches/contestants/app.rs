//! The application that every contestant serves: what to do with a descriptor that is ready.

use crate::harness::shared::Counter;
use crate::harness::{LONGEST, Workload};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

pub(crate) const READ: u32 = libc::POLLIN as u32;
pub(crate) const WRITE: u32 = libc::POLLOUT as u32;
pub(crate) const ERROR: u32 = (libc::POLLERR | libc::POLLHUP) as u32;
/// The peer will send no more. Only edge-triggered contestants need to tell.
pub(crate) const READ_CLOSED: u32 = libc::POLLRDHUP as u32;

/// How much to read when something can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What one call gives: what is left is told again.
    Once,
    /// Everything: what is left is never told again. A short read has found everything, but for
    /// the end of the stream, of which [`READ_CLOSED`] tells.
    UntilEmpty,
    /// Everything, with nothing that tells of the end of the stream.
    UntilRefused,
}

/// What is to become of a source.
pub(crate) enum Next {
    /// Tell when it is ready for this.
    Wait(u32),
    Close,
}

/// Something to wait for, with what the application keeps of it.
pub(crate) enum Source {
    Listener(TcpListener),
    Connection(TcpStream, Unsent),
    /// A reading end of the chain, and the number of the writing end that comes next.
    Link(UnixStream, usize),
}

/// What a peer has not taken yet.
#[derive(Default)]
pub(crate) struct Unsent(Vec<u8>);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Source::Listener(listener) => listener.as_raw_fd(),
            Source::Connection(stream, _) => stream.as_raw_fd(),
            Source::Link(reader, _) => reader.as_raw_fd(),
        }
    }
}

pub(crate) struct App {
    workload: Workload,
    reading: Reading,
    buffer: Vec<u8>,
    /// The writing ends of the chain.
    writers: Vec<UnixStream>,
    operations: Messages,
}

impl App {
    /// With what it waits for at first.
    pub(crate) fn new(
        workload: &Workload,
        listener: TcpListener,
        reading: Reading,
    ) -> io::Result<(App, Vec<Source>)> {
        let mut app = App {
            workload: *workload,
            reading,
            buffer: vec![0; LONGEST],
            writers: Vec::new(),
            operations: Messages::of(workload),
        };
        let sources = match *workload {
            Workload::Chain { pairs, active } => app.chain(pairs, active)?,
            _ => vec![Source::Listener(listener)],
        };
        Ok((app, sources))
    }

    fn chain(&mut self, pairs: usize, active: usize) -> io::Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(pairs);
        for number in 0..pairs {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            sources.push(Source::Link(reader, (number + 1) % pairs));
            self.writers.push(writer);
        }
        for number in 0..active {
            (&self.writers[number * pairs / active]).write_all(b".")?;
        }
        Ok(sources)
    }

    /// Serves a source that is ready. New ones go to `born`.
    pub(crate) fn ready(
        &mut self,
        source: &mut Source,
        events: u32,
        born: &mut Vec<Source>,
    ) -> io::Result<Next> {
        match source {
            Source::Listener(listener) => self.accept(listener, born),
            Source::Connection(stream, unsent) => Ok(self.converse(stream, unsent, events)),
            Source::Link(reader, next) => self.hand_on(reader, *next),
        }
    }

    pub(crate) fn accept(
        &mut self,
        listener: &TcpListener,
        born: &mut Vec<Source>,
    ) -> io::Result<Next> {
        while let Some(stream) = accept(listener)? {
            if self.workload == Workload::AcceptClose {
                self.operations.add(1);
            } else {
                born.push(Source::Connection(stream, Unsent::default()));
            }
        }
        Ok(Next::Wait(READ))
    }

    pub(crate) fn converse(
        &mut self,
        stream: &TcpStream,
        unsent: &mut Unsent,
        events: u32,
    ) -> Next {
        if events & WRITE != 0 && !unsent.flush(stream) {
            return Next::Wait(WRITE);
        }
        loop {
            let length = match (&*stream).read(&mut self.buffer) {
                Ok(0) => return Next::Close,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait(READ),
                Err(_) => return Next::Close,
            };
            match unsent.send(stream, &self.buffer[..length]) {
                Ok(true) => {}
                Ok(false) => return Next::Wait(WRITE),
                Err(_) => return Next::Close,
            }
            self.operations.received(length);
            if self.workload == Workload::AcceptReplyClose {
                return Next::Close;
            }
            let emptied = length < self.buffer.len() && events & (READ_CLOSED | ERROR) == 0;
            match self.reading {
                Reading::Once => return Next::Wait(READ),
                Reading::UntilEmpty if emptied => return Next::Wait(READ),
                Reading::UntilEmpty | Reading::UntilRefused => {}
            }
        }
    }

    /// A byte at a time is handed on. Whoever must leave nothing asks for two, to see whether one
    /// was all.
    pub(crate) fn hand_on(&mut self, reader: &UnixStream, next: usize) -> io::Result<Next> {
        let mut bytes = [0; 2];
        let wanted = if self.reading == Reading::Once { 1 } else { 2 };
        loop {
            let length = match (&*reader).read(&mut bytes[..wanted]) {
                Ok(0) => return Ok(Next::Close),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            for byte in bytes[..length].chunks(1) {
                (&self.writers[next]).write_all(byte)?;
            }
            self.operations.add(length as u64);
            if self.reading == Reading::Once || length < wanted {
                return Ok(Next::Wait(READ));
            }
        }
    }
}

/// Counts messages by their bytes, whoever they are from.
pub(crate) struct Messages {
    size: usize,
    partial: usize,
    counter: Counter,
}

impl Messages {
    pub(crate) fn of(workload: &Workload) -> Messages {
        let counter = Counter::of_this_server();
        Messages { size: workload.message(), partial: 0, counter }
    }

    #[inline]
    pub(crate) fn received(&mut self, length: usize) {
        self.partial += length;
        if self.partial >= self.size {
            self.counter.add((self.partial / self.size) as u64);
            self.partial %= self.size;
        }
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.counter.add(count);
    }
}

impl Unsent {
    /// True if all of it is sent; what is not waits.
    fn send(&mut self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<bool> {
        let sent = match stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.0.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    /// True if nothing is left to send.
    fn flush(&mut self, mut stream: &TcpStream) -> bool {
        let sent = stream.write(&self.0).unwrap_or(0);
        self.0.drain(..sent);
        self.0.is_empty()
    }
}

/// As `TcpListener::accept`, but the connection is non-blocking from the start.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (nowhere, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers ask for no address; the descriptor is new.
    let accepted = unsafe {
        let fd = libc::accept4(listener.as_raw_fd(), nowhere, no_length, flags);
        crate::harness::sys::owned(fd)
    };
    match accepted {
        Ok(socket) => Ok(Some(TcpStream::from(socket))),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            io::ErrorKind::ConnectionAborted => accept(listener),
            _ => Err(error),
        },
    }
}
