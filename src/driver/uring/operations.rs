//! Completion operations: submitting, re-arming, cancelling, translating what comes of them.
//!
//! An operation sits in a slot with its owner from its submission to its terminal completion, and so
//! does all memory that the kernel may touch for it. Multishot requests that end for a reason of the
//! kernel's own (a full completion queue, no buffer) are armed again here; owners see one stream of
//! outcomes that ends once. All requests of an operation carry the same token, for there is never
//! more than one at a time.
//!
//! Where the kernel has no such request, a slot is a one-shot poll, and the operation is attempted
//! with a system call when the poll fires.

use super::ring::{Completion, Ring};
use super::token::{Kind, Stamp, Token};
use crate::buffer::{Pool, PoolSize};
use crate::driver::OperationKey;
use crate::driver::operation::{Completed, Operation, Outcome, Owner, PoolId, StreamKind};
use crate::features::KernelFeatures as Features;
use crate::handle::Shared;
use crate::sys;
use io_uring::{opcode, squeue, types};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// Requests that older kernels do not have.
pub(super) const OPTIONAL: Features =
    Features::MULTISHOT_ACCEPT.union(Features::MULTISHOT_RECV).union(Features::BUFFER_RING);
/// Connections accepted per readiness, where there is no multishot accept: Tornado's number.
const ACCEPTS_PER_POLL: usize = 128;
/// What one system call writes at most (`MAX_RW_COUNT`).
const LONGEST_WRITE: usize = 0x7fff_f000;
/// The length of a read into a buffer yet to be chosen, which has its own.
const WHOLE_BUFFER: u32 = LONGEST_WRITE as u32;
/// Reads and writes where the file stands.
const NO_OFFSET: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request is in the kernel, or on its way.
    Armed,
    /// As `Armed`, and so is its cancellation.
    Cancelled,
    /// Waits for a buffer.
    Parked,
}

struct Slot {
    /// Names the current request.
    stamp: Stamp,
    state: State,
    /// The request is a poll.
    polling: bool,
    operation: Operation,
    owner: Rc<dyn Owner>,
}

pub(super) struct Operations {
    slots: Slab<Slot>,
    stamp: Stamp,
    pools: Vec<BufferPool>,
    /// Requests to be made before the next wait, or polls.
    to_arm: Vec<(u32, By)>,
    /// What is to be told when the turn ends.
    completed: Vec<Completed>,
    cancelled: usize,
    /// Optional requests that this kernel has, as far as is known.
    features: Features,
    pub(super) buffers_exhausted: u64,
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A request of its own, if the kernel has one.
    Request,
    /// A poll, and an attempt when it fires.
    Poll,
}

struct BufferPool {
    pool: Pool,
    /// Those that found it empty, in order.
    parked: VecDeque<u32>,
}

impl Operations {
    pub(super) fn new(features: Features) -> Operations {
        Operations {
            slots: Slab::new(),
            stamp: Stamp::first(Kind::Operation),
            pools: Vec::new(),
            to_arm: Vec::new(),
            completed: Vec::new(),
            cancelled: 0,
            features: features & OPTIONAL,
            buffers_exhausted: 0,
        }
    }

    /// # Errors
    ///
    /// If there is no memory for it, or there are too many.
    pub(super) fn add_pool(
        &mut self,
        size: PoolSize,
        shared: Arc<Shared>,
        ring: &mut Ring,
    ) -> io::Result<PoolId> {
        let id = u16::try_from(self.pools.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many buffer pools"))?;
        let mut pool = Pool::new(size, shared)?;
        // A kernel without buffer rings says so here. Then the pool is read into by hand.
        if self.features.contains(Features::BUFFER_RING)
            && pool.make_ring(|buffers| ring.register_buffers(id, buffers)).is_err()
        {
            self.features -= Features::BUFFER_RING;
        }
        self.pools.push(BufferPool { pool, parked: VecDeque::new() });
        Ok(PoolId(id))
    }

    /// Optional requests in use.
    pub(super) fn features(&self) -> Features {
        self.features
    }

    pub(super) fn submit(
        &mut self,
        operation: Operation,
        owner: Rc<dyn Owner>,
        ring: &mut Ring,
    ) -> OperationKey {
        self.stamp = self.stamp.next();
        let stamp = self.stamp;
        let slot = Slot { stamp, state: State::Armed, polling: false, operation, owner };
        let slot = self.slots.insert(slot) as u32;
        self.request(slot, By::Request, ring);
        OperationKey { slot, generation: stamp.bits() }
    }

    /// Hands a request for this slot to the kernel.
    fn request(&mut self, slot: u32, by: By, ring: &mut Ring) {
        let entry = &mut self.slots[slot as usize];
        let request = match by {
            By::Request => native(&entry.operation, self.features),
            By::Poll => None,
        };
        entry.state = State::Armed;
        entry.polling = request.is_none();
        let request = request.unwrap_or_else(|| poll(&entry.operation));
        let token = Token::new(entry.stamp, slot);
        // SAFETY: what the request refers to, the payload of a `Send` or the address of a
        // `Connect`, is on the heap or static, and owned by the operation, which stays in its slot
        // until the terminal completion; `leak` keeps what has none.
        unsafe { ring.push(request.user_data(token.bits())) };
    }

    /// Makes the requests that are due, and gives buffers that came back to those that wait.
    #[inline]
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        for pool in &mut self.pools {
            pool.replenish(&mut self.to_arm);
        }
        if !self.to_arm.is_empty() {
            self.request_all(ring);
        }
    }

    fn request_all(&mut self, ring: &mut Ring) {
        let mut to_arm = std::mem::take(&mut self.to_arm);
        for (slot, by) in to_arm.drain(..) {
            match self.slots[slot as usize].state {
                State::Cancelled => self.end(slot, cancelled()),
                State::Armed | State::Parked => self.request(slot, by, ring),
            }
        }
        self.to_arm = to_arm;
    }

    /// Has a request made before the next wait.
    fn arm_later(&mut self, slot: u32, by: By) {
        self.slots[slot as usize].state = State::Armed;
        self.to_arm.push((slot, by));
    }

    /// Asks for an end. The outcome says when it has come.
    pub(super) fn cancel(&mut self, key: OperationKey, ring: &mut Ring) {
        let Some(slot) = self.slots.get_mut(key.slot as usize) else { return };
        if slot.stamp.bits() != key.generation {
            return;
        }
        match slot.state {
            State::Cancelled => {}
            State::Armed => {
                // If the request is yet to be made, this finds nothing, and it is not made.
                slot.state = State::Cancelled;
                self.cancelled += 1;
                ring.push_cancel(Token::new(slot.stamp, key.slot));
            }
            State::Parked => {
                for pool in &mut self.pools {
                    pool.parked.retain(|&parked| parked != key.slot);
                }
                self.end(key.slot, cancelled());
            }
        }
    }

    pub(super) fn cancel_all(&mut self, ring: &mut Ring) {
        let keys: Vec<_> = (self.slots.iter())
            .map(|(slot, entry)| OperationKey { slot: slot as u32, generation: entry.stamp.bits() })
            .collect();
        keys.into_iter().for_each(|key| self.cancel(key, ring));
    }

    /// True while a cancelled operation may still pin its file.
    pub(super) fn is_releasing(&self) -> bool {
        self.cancelled > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// True if nothing is to be armed, released or told, and nobody waits for a buffer.
    pub(super) fn is_quiet(&self) -> bool {
        self.to_arm.is_empty()
            && !self.has_completed()
            && !self.is_releasing()
            && self.pools.iter().all(|pool| pool.parked.is_empty())
    }

    pub(super) fn has_completed(&self) -> bool {
        !self.completed.is_empty()
    }

    /// Moves what there is to tell to `completed`.
    #[inline]
    pub(super) fn report(&mut self, completed: &mut Vec<Completed>) {
        if !self.completed.is_empty() {
            completed.append(&mut self.completed);
        }
    }

    /// Takes in the completion of a request. False if it is none's.
    pub(super) fn complete(&mut self, completion: Completion) -> bool {
        let slot = completion.token.slot();
        match self.slots.get(slot as usize) {
            Some(entry) if entry.stamp == completion.token.stamp() => {}
            _ => return false,
        }
        if self.slots[slot as usize].polling {
            self.polled(slot, completion.result);
        } else if self.deliver(slot, completion) && !completion.has_more() {
            self.finished(slot, completion.result);
        }
        true
    }

    /// Tells the owner what a request came to, or part of it. False if the operation is over.
    fn deliver(&mut self, slot: u32, completion: Completion) -> bool {
        let Completion { result, .. } = completion;
        let entry = &mut self.slots[slot as usize];
        match &mut entry.operation {
            Operation::Accept { .. } if result >= 0 => {
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                self.tell(slot, Outcome::Accepted(socket));
            }
            Operation::Receive { pool, .. } => {
                let pool = *pool;
                if let Some(buffer) = completion.buffer() {
                    let pool = &mut self.pools[usize::from(pool.0)].pool;
                    // SAFETY: the buffer is this completion's, which is taken in once.
                    let chunk = unsafe { pool.filled(buffer, result.max(0) as usize) };
                    if result > 0 {
                        self.tell(slot, Outcome::Received(chunk));
                    }
                }
                if result == 0 && !completion.has_more() {
                    self.end(slot, Ok(()));
                    return false;
                }
            }
            Operation::Send { payload, sent, .. } if result >= 0 => {
                *sent += result as usize;
                if *sent >= payload.len() {
                    self.end(slot, Ok(()));
                    return false;
                }
            }
            Operation::Connect { .. } if result >= 0 => {
                self.end(slot, Ok(()));
                return false;
            }
            Operation::Accept { .. } | Operation::Send { .. } | Operation::Connect { .. } => {}
        }
        true
    }

    /// What becomes of an operation whose request is over, with something left to do.
    fn finished(&mut self, slot: u32, result: i32) {
        let entry = &mut self.slots[slot as usize];
        if entry.state == State::Cancelled {
            return self.end(slot, cancelled());
        }
        match (&entry.operation, -result) {
            (_, ..=0 | libc::EINTR) => self.arm_later(slot, By::Request),
            (Operation::Accept { .. }, libc::ECONNABORTED) => self.arm_later(slot, By::Request),
            // Older kernels take the descriptor's own non-blocking mode for the request's.
            (Operation::Accept { .. } | Operation::Send { .. }, libc::EAGAIN) => {
                self.arm_later(slot, By::Poll);
            }
            (Operation::Receive { pool, .. }, libc::ENOBUFS) => {
                let pool = *pool;
                self.park(slot, pool);
            }
            (operation, libc::EINVAL) if self.features.intersects(optional(operation)) => {
                self.features -= optional(operation);
                self.arm_later(slot, By::Request);
            }
            (_, errno) => self.end(slot, Err(io::Error::from_raw_os_error(errno))),
        }
    }

    fn park(&mut self, slot: u32, pool: PoolId) {
        self.buffers_exhausted += 1;
        self.slots[slot as usize].state = State::Parked;
        self.pools[usize::from(pool.0)].parked.push_back(slot);
    }

    /// The poll of an operation without a request of its own has fired, or failed.
    fn polled(&mut self, slot: u32, result: i32) {
        if self.slots[slot as usize].state == State::Cancelled {
            return self.end(slot, cancelled());
        }
        match -result {
            ..=0 => self.attempt(slot),
            libc::EINTR | libc::EAGAIN | libc::ENOMEM => self.arm_later(slot, By::Request),
            errno => self.end(slot, Err(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Does what the kernel has no request for, on a file that is ready.
    fn attempt(&mut self, slot: u32) {
        match &mut self.slots[slot as usize].operation {
            Operation::Accept { .. } => self.attempt_accept(slot),
            Operation::Receive { .. } => self.attempt_receive(slot),
            Operation::Send { stream, kind, payload, sent } => {
                match kind.write(*stream, &payload[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) => return self.failed(slot, error),
                }
                if *sent < payload.len() {
                    return self.arm_later(slot, By::Request);
                }
                self.end(slot, Ok(()));
            }
            Operation::Connect { .. } => {}
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
        let buffers = &mut self.pools[usize::from(pool.0)].pool;
        match buffers.fill(|buffer| kind.read(stream, buffer)) {
            None => self.park(slot, pool),
            Some(Ok(chunk)) if chunk.is_empty() => self.end(slot, Ok(())),
            Some(Ok(chunk)) => {
                self.tell(slot, Outcome::Received(chunk));
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
        self.completed.push(Completed { owner, outcome });
    }

    /// The kernel is done with an operation, which is taken out of its slot.
    fn end(&mut self, slot: u32, result: io::Result<()>) {
        let Slot { state, operation, owner, .. } = self.slots.remove(slot as usize);
        self.cancelled -= usize::from(state == State::Cancelled);
        self.completed.push(Completed { owner, outcome: operation.ended(result) });
    }

    /// Keeps for ever what the kernel has not let go of.
    pub(super) fn leak(&mut self) {
        if !self.slots.is_empty() {
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::take(&mut self.pools).into_iter().for_each(|buffers| buffers.pool.leak());
        }
    }
}

impl BufferPool {
    /// Makes buffers that came back available, and lets those that wait for them go on.
    #[inline]
    fn replenish(&mut self, to_arm: &mut Vec<(u32, By)>) {
        self.pool.replenish();
        if !self.parked.is_empty() {
            self.unpark(to_arm);
        }
    }

    #[cold]
    fn unpark(&mut self, to_arm: &mut Vec<(u32, By)>) {
        loop {
            let fed = self.pool.available().min(self.parked.len());
            to_arm.extend(self.parked.drain(..fed).map(|slot| (slot, By::Request)));
            if self.parked.is_empty() || self.pool.wait_for_returns() {
                return;
            }
            self.pool.replenish();
        }
    }
}

fn cancelled() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ECANCELED))
}

/// For what the kernel has no request.
fn poll(operation: &Operation) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(operation.fd()), operation.readiness()).build()
}

/// The optional request by which an operation is done.
fn optional(operation: &Operation) -> Features {
    match operation {
        Operation::Accept { .. } => Features::MULTISHOT_ACCEPT,
        Operation::Receive { kind: StreamKind::Socket, .. } => {
            Features::MULTISHOT_RECV.union(Features::BUFFER_RING)
        }
        Operation::Receive { kind: StreamKind::Pipe, .. } => Features::BUFFER_RING,
        Operation::Send { .. } | Operation::Connect { .. } => Features::empty(),
    }
}

/// The request for an operation, if the kernel has one.
fn native(operation: &Operation, features: Features) -> Option<squeue::Entry> {
    if !features.contains(optional(operation)) {
        return None;
    }
    match *operation {
        Operation::Accept { listener } => {
            Some(opcode::AcceptMulti::new(types::Fd(listener)).flags(sys::ACCEPT_FLAGS).build())
        }
        Operation::Receive { stream, kind: StreamKind::Socket, pool } => {
            Some(opcode::RecvMulti::new(types::Fd(stream), pool.0).build())
        }
        Operation::Receive { stream, kind: StreamKind::Pipe, pool } => {
            let read = opcode::Read::new(types::Fd(stream), std::ptr::null_mut(), WHOLE_BUFFER);
            let read = read.offset(NO_OFFSET).buf_group(pool.0).build();
            Some(read.flags(squeue::Flags::BUFFER_SELECT))
        }
        Operation::Send { stream, kind, ref payload, sent } => {
            let rest = &payload[sent..];
            let (stream, address) = (types::Fd(stream), rest.as_ptr());
            let length = rest.len().min(LONGEST_WRITE) as u32;
            Some(match kind {
                StreamKind::Socket => {
                    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                    opcode::Send::new(stream, address, length).flags(flags).build()
                }
                StreamKind::Pipe => {
                    opcode::Write::new(stream, address, length).offset(NO_OFFSET).build()
                }
            })
        }
        Operation::Connect { socket, ref address } => {
            let (pointer, length) = (address.as_ptr().cast(), address.len());
            Some(opcode::Connect::new(types::Fd(socket), pointer, length).build())
        }
    }
}
