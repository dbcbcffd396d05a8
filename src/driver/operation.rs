//! Operations that complete: what they ask for, and what they come to.

use crate::buffer::{Chunk, Gather};
use crate::events::Events;
use crate::sys;
use socket2::SockAddr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

/// What is asked of the kernel.
///
/// An operation owns all memory that the kernel may touch, and lives where it was submitted until
/// the kernel is done with it. Its descriptor belongs to its [`Owner`], which lives as long.
pub(crate) enum Operation {
    /// Connections of a listening socket, one after the other, until cancelled.
    Accept { listener: RawFd },
    /// Until there is a connection to be accepted, which is not.
    AwaitConnection { listener: RawFd },
    /// Data of a stream, piece by piece into buffers of a pool, until the end or until cancelled.
    /// While the pool has no buffer, it waits for one, behind those that have waited for longer; those
    /// that were just served may be served again before it, for some turns.
    Receive { stream: RawFd, kind: StreamKind, pool: PoolId },
    /// All of the data from `sent` on. Only one at a time per stream keeps the order.
    Send { stream: RawFd, kind: StreamKind, data: Gather, sent: usize },
    /// A connection, made.
    Connect { socket: RawFd, address: Box<SockAddr> },
}

/// Data of a socket is to be sent as far as there is room for it: a send that does not wait.
///
/// It is over when the driver enters the kernel next. As long as it waits for that, and while the
/// kernel reads the data, the driver keeps that and its owner.
#[derive(Clone, Copy)]
pub(crate) struct QuickSend {
    pub(crate) stream: RawFd,
    /// Of the data.
    pub(crate) length: u32,
    /// The outcome comes as soon as the send is over, else perhaps only when something else
    /// happens.
    pub(crate) awaited: bool,
    /// The end of the stream follows at once.
    pub(crate) last: bool,
}

/// Which system calls a stream takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// `recv(2)` and `send(2)`.
    Socket,
    /// `read(2)` and `write(2)`: pipes, and what else can be watched.
    Pipe,
    /// The same, only to be written to. Nothing is received, but the end of whoever reads it.
    PipeWriter,
}

/// A pool of buffers, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolId(pub(crate) u16);

/// The error of what may have been done or not, as the kernel has dropped the completion.
pub(crate) const LOST_COMPLETION: i32 = libc::EBADR;

/// What an operation has come to.
pub(crate) enum Outcome {
    /// A connection. More may follow.
    Accepted(OwnedFd),
    /// No more connections will follow; or there is one to be accepted, if that was awaited.
    AcceptEnded(io::Result<()>),
    /// No more data will follow: it is the end of the stream, or it was not to be had.
    ReceiveEnded(io::Result<()>),
    /// The data, and how much of it was sent. All of it, if nothing went wrong.
    Sent { data: Gather, sent: usize, result: io::Result<()> },
    /// There was no room for more than `sent` bytes of what was not to wait.
    SentInPart { data: Gather, sent: usize },
    /// The connection is made, or it cannot be.
    Connected(io::Result<()>),
}

/// Whom the outcome concerns. It owns the descriptor, and is kept alive until the kernel is done.
///
/// What comes often is told at once, by the driver: it is only taken down, and nobody is called,
/// the driver least of all. The rest is told by the loop, with nothing borrowed.
pub(crate) trait Owner {
    /// Called by the loop. Calls no user code but wakers.
    fn complete(self: Rc<Self>, outcome: Outcome);

    /// Called by the driver: data has come, and more may follow. If the buffers of the pool are
    /// `scarce`, they are not to be kept. True if [`received`](Self::received) is to be called.
    fn receive(&self, chunk: Chunk, scarce: bool) -> bool {
        let _ = (chunk, scarce);
        false
    }

    /// Called by the loop. Wakes who has waited for data, and stops receiving if it is too much.
    fn received(&self) {}

    /// Called by the driver: others wait for a buffer, and what has come is to be kept elsewhere.
    fn give_back(&self) {}

    /// Whether there is anything to give back.
    fn keeps_buffers(&self) -> bool {
        false
    }

    /// Called by the driver: a quick send has sent all of its bytes. True if that is all there is to
    /// it, and its outcome need not be told. Only if something else holds the owner, too: the
    /// driver then drops it without closing anything.
    fn sent_all(&self, bytes: usize) -> bool {
        let _ = bytes;
        false
    }
}

impl Operation {
    /// What it means to the owner that the operation is over.
    pub(super) fn ended(self, result: io::Result<()>) -> Outcome {
        match self {
            Operation::Accept { .. } | Operation::AwaitConnection { .. } => {
                Outcome::AcceptEnded(result)
            }
            Operation::Receive { .. } => Outcome::ReceiveEnded(result),
            Operation::Send { data, sent, .. } => Outcome::Sent { data, sent, result },
            Operation::Connect { .. } => Outcome::Connected(result),
        }
    }

    /// What it means to the owner that nothing will be heard of the operation any more. What the
    /// kernel may touch stays where it is.
    pub(super) fn lost(&self) -> Outcome {
        let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
        match *self {
            Operation::Accept { .. } | Operation::AwaitConnection { .. } => {
                Outcome::AcceptEnded(result)
            }
            Operation::Receive { .. } => Outcome::ReceiveEnded(result),
            Operation::Send { sent, .. } => Outcome::Sent { data: Gather::default(), sent, result },
            Operation::Connect { .. } => Outcome::Connected(result),
        }
    }

    /// What a file has to be ready for, where an operation is attempted when it is.
    pub(super) fn readiness(&self) -> u32 {
        let events = match self {
            // Ends and errors are always told.
            Operation::Receive { kind: StreamKind::PipeWriter, .. } => Events::NONE,
            Operation::Accept { .. }
            | Operation::AwaitConnection { .. }
            | Operation::Receive { .. } => Events::READ,
            Operation::Send { .. } | Operation::Connect { .. } => Events::WRITE,
        };
        events.bits()
    }

    pub(super) fn fd(&self) -> RawFd {
        match *self {
            Operation::Accept { listener: fd }
            | Operation::AwaitConnection { listener: fd }
            | Operation::Receive { stream: fd, .. }
            | Operation::Send { stream: fd, .. }
            | Operation::Connect { socket: fd, .. } => fd,
        }
    }
}

impl StreamKind {
    /// Reads what is there, without waiting.
    pub(super) fn read(self, stream: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            StreamKind::Socket => sys::recv(stream, buffer),
            StreamKind::Pipe => sys::read(stream, buffer),
            StreamKind::PipeWriter => Err(io::Error::from_raw_os_error(libc::EPIPE)),
        }
    }
}
