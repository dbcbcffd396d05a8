//! What is asked of all servers alike.

use crate::harness::Workload;
use crate::harness::shared::Counter;
use std::io;

/// Bytes to read at a time, if messages are not longer.
const BUFFER: usize = 4096;

/// What a server is to do with its connections.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    pub(crate) manner: Manner,
    message: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Close,
    /// Answer once, and close.
    Answer,
    /// Answer until the peer closes.
    Echo,
}

impl Service {
    pub(crate) fn of(workload: &Workload) -> io::Result<Service> {
        let manner = match workload {
            Workload::AcceptClose => Manner::Close,
            Workload::AcceptReplyClose => Manner::Answer,
            Workload::Echo { .. } => Manner::Echo,
            Workload::Chain { .. } => return Err(io::Error::other("the peers do not serve this")),
        };
        Ok(Service { manner, message: workload.message() })
    }

    /// Bytes to read at a time.
    pub(crate) fn buffer(self) -> usize {
        self.message.max(BUFFER)
    }

    /// Counts a connection that was closed unasked.
    pub(crate) fn closed(self) {
        Counter::of_this_server().add(1);
    }

    /// Counts the messages of one connection.
    pub(crate) fn meter(self) -> Meter {
        Meter { message: self.message, bytes: 0 }
    }

    /// Whether there is more to do for a connection that has been answered.
    pub(crate) fn goes_on(self) -> bool {
        self.manner == Manner::Echo
    }
}

pub(crate) struct Meter {
    message: usize,
    /// Of a message that has not been answered in whole.
    bytes: usize,
}

impl Meter {
    #[inline]
    pub(crate) fn answered(&mut self, length: usize) {
        self.bytes += length;
        if self.bytes >= self.message {
            Counter::of_this_server().add((self.bytes / self.message) as u64);
            self.bytes %= self.message;
        }
    }
}
