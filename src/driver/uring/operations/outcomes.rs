//! What comes of operations: completions, and what follows from them.

use super::{By, Operations, Slot, State, cancelled, failure};
use crate::buffer::Chunk;
use crate::driver::notices::Notices;
use crate::driver::operation::{Operation, Outcome, Owner, PoolId, StreamKind};
use crate::driver::uring::requests;
use crate::driver::uring::ring::Completion;
use crate::features::KernelFeatures as Features;
use crate::sys;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

/// Connections accepted per readiness, where there is no multishot accept: Tornado's number.
const ACCEPTS_PER_POLL: usize = 128;

/// What becomes of an operation whose request is over, with something left to do.
enum Sequel {
    Again(By),
    /// Again, when there is a buffer.
    Park(PoolId),
    /// Again, without what the kernel does not have.
    Without(Features),
    End(i32),
}

impl Operations {
    /// Takes in the completion of a request. False if it is none's.
    pub(in crate::driver::uring) fn complete(&mut self, completion: Completion) -> bool {
        let slot = completion.token.slot();
        let Some(entry) = self.slots.get(slot as usize) else { return false };
        if entry.stamp != completion.token.stamp() {
            return false;
        }
        match entry.operation {
            _ if entry.polling => self.polled(slot, completion.result),
            Operation::Receive { pool, .. } => self.received(slot, pool, completion),
            _ => self.done(slot, completion),
        }
        true
    }

    /// A request to receive has come to something: to data, or to an end.
    #[inline]
    fn received(&mut self, slot: u32, pool: PoolId, completion: Completion) {
        let Completion { result, .. } = completion;
        let Operations { slots, pools, notices, bytes_received, .. } = self;
        let pool = &mut pools[usize::from(pool.0)].pool;
        if let Some(buffer) = completion.buffer()
            && (result > 0 || pool.gives_up_unfilled())
        {
            let (length, is_more) = (result.max(0) as usize, completion.has_rest());
            *bytes_received += length;
            // SAFETY: the buffer is this completion's, which is taken in once.
            let chunk = unsafe { pool.filled(buffer, length, is_more) };
            if result > 0 {
                let Slot { state, owner, .. } = &mut slots[slot as usize];
                if *state == State::Unparked {
                    *state = State::Armed;
                }
                hand_over(chunk, pool.is_scarce(), owner, notices);
            }
        }
        if completion.has_more() {
            return;
        }
        match result {
            0 => self.end(slot, Ok(())),
            _ => self.finished(slot, result),
        }
    }

    /// Another request has come to something.
    fn done(&mut self, slot: u32, completion: Completion) {
        let Completion { result, .. } = completion;
        let is_over = match &mut self.slots[slot as usize].operation {
            _ if result < 0 => false,
            Operation::Accept { .. } => {
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                self.tell(slot, Outcome::Accepted(socket));
                false
            }
            Operation::Send { data, sent, .. } => {
                *sent += result as usize;
                *sent >= data.len()
            }
            Operation::AwaitConnection { .. } | Operation::Connect { .. } => true,
            Operation::Receive { .. } => false,
        };
        if is_over {
            self.end(slot, Ok(()));
        } else if !completion.has_more() {
            self.finished(slot, result);
        }
    }

    /// The request of an operation is over, with something left to do.
    fn finished(&mut self, slot: u32, result: i32) {
        let entry = &self.slots[slot as usize];
        let sequel = self.sequel(&entry.operation, -result);
        if entry.state.is_ending() {
            return self.end(
                slot,
                match sequel {
                    // The socket has told of it, and does not tell again.
                    Sequel::End(errno) => failure(errno),
                    Sequel::Again(_) | Sequel::Park(_) | Sequel::Without(_) => cancelled(),
                },
            );
        }
        match sequel {
            Sequel::Again(by) => self.arm_later(slot, by),
            Sequel::Park(pool) => self.park(slot, pool),
            Sequel::Without(features) => {
                self.features -= features;
                self.arm_later(slot, By::Request);
            }
            Sequel::End(errno) => self.end(slot, failure(errno)),
        }
    }

    fn sequel(&self, operation: &Operation, errno: i32) -> Sequel {
        match (operation, errno) {
            (_, ..=0 | libc::EINTR) => Sequel::Again(By::Request),
            // Older kernels take the descriptor's own non-blocking mode for the request's.
            (_, libc::EAGAIN) => Sequel::Again(By::Poll),
            (Operation::Connect { .. }, libc::EINPROGRESS | libc::EALREADY) => {
                Sequel::Again(By::Poll)
            }
            (Operation::Accept { .. }, libc::ECONNABORTED) => Sequel::Again(By::Request),
            (&Operation::Receive { pool, .. }, libc::ENOBUFS) => Sequel::Park(pool),
            (operation, libc::EINVAL) => {
                match requests::multishot(operation) & self.features {
                    // It may be the kernel that does not know the request, or the socket.
                    features if features.is_empty() => Sequel::End(errno),
                    _ if !is_possible(operation) => Sequel::End(errno),
                    features => Sequel::Without(features),
                }
            }
            _ => Sequel::End(errno),
        }
    }

    /// The poll of an operation has fired, or failed.
    fn polled(&mut self, slot: u32, result: i32) {
        if self.slots[slot as usize].state.is_ending() {
            return self.end(slot, cancelled());
        }
        match -result {
            ..=0 if self.is_native(slot) => self.arm_later(slot, By::Request),
            ..=0 => self.attempt(slot),
            libc::EINTR | libc::EAGAIN | libc::ENOMEM => self.arm_later(slot, By::Poll),
            errno => self.end(slot, failure(errno)),
        }
    }

    /// Does what the kernel has no request for, on a file that is ready.
    fn attempt(&mut self, slot: u32) {
        match &mut self.slots[slot as usize].operation {
            Operation::Accept { .. } => self.attempt_accept(slot),
            Operation::AwaitConnection { .. } => self.end(slot, Ok(())),
            Operation::Receive { .. } => self.attempt_receive(slot),
            // Every kernel has requests for these.
            Operation::Send { .. } | Operation::Connect { .. } => {}
        }
    }

    fn attempt_accept(&mut self, slot: u32) {
        let listener = self.slots[slot as usize].operation.fd();
        for _ in 0..ACCEPTS_PER_POLL {
            match sys::accept(listener) {
                Ok(socket) => self.tell(slot, Outcome::Accepted(socket)),
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
                Err(error) => return self.failed(slot, error),
            }
        }
        self.arm_later(slot, By::Request);
    }

    fn attempt_receive(&mut self, slot: u32) {
        let Operation::Receive { stream, kind, pool } = self.slots[slot as usize].operation else {
            return;
        };
        if kind == StreamKind::PipeWriter {
            return self.end(slot, failure(libc::EPIPE));
        }
        let buffers = &mut self.pools[usize::from(pool.0)].pool;
        match buffers.fill(|buffer| kind.read(stream, buffer)) {
            None => self.park(slot, pool),
            Some(Ok(chunk)) if chunk.is_empty() => self.end(slot, Ok(())),
            Some(Ok(chunk)) => {
                self.bytes_received += chunk.len();
                let scarce = buffers.is_scarce();
                let owner = &self.slots[slot as usize].owner;
                hand_over(chunk, scarce, owner, &mut self.notices);
                self.arm_later(slot, By::Request);
            }
            Some(Err(error)) => self.failed(slot, error),
        }
    }

    /// An attempt has failed, or was made in vain.
    fn failed(&mut self, slot: u32, error: io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                self.arm_later(slot, By::Request)
            }
            _ => self.end(slot, Err(error)),
        }
    }

    fn tell(&mut self, slot: u32, outcome: Outcome) {
        let owner = self.slots[slot as usize].owner.clone();
        self.notices.push_outcome(owner, outcome);
    }

    /// The kernel is done with an operation, which is taken out of its slot.
    pub(super) fn end(&mut self, slot: u32, result: io::Result<()>) {
        let Slot { state, operation, owner, .. } = self.slots.remove(slot as usize);
        self.cancelled -= usize::from(state == State::Cancelled);
        self.remember_keeper(&owner);
        self.notices.push_outcome(owner, operation.ended(result));
    }
}

/// Whether a socket is one that the operation can be done on.
fn is_possible(operation: &Operation) -> bool {
    match *operation {
        Operation::Accept { listener } => sys::is_listening(listener),
        // What came can be received of a TCP connection that is over.
        Operation::Receive { stream, .. } => {
            sys::is_connected(stream) || sys::is_closed_tcp(stream)
        }
        Operation::AwaitConnection { .. } | Operation::Send { .. } | Operation::Connect { .. } => {
            true
        }
    }
}

/// Gives data to its owner.
#[inline]
fn hand_over(chunk: Chunk, scarce: bool, owner: &Rc<dyn Owner>, notices: &mut Notices) {
    if owner.receive(chunk, scarce) {
        notices.push_received(owner.clone());
    }
}
