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

use super::requests;
use super::ring::{Completion, Ring};
use super::token::{Kind, Stamp, Token};
use crate::buffer::{BufferRing, Kind as PoolKind, Pool, PoolSize};
use crate::driver::OperationKey;
use crate::driver::operation::{Completed, Operation, Outcome, Owner, PoolId, StreamKind};
use crate::features::KernelFeatures as Features;
use crate::handle::Shared;
use crate::sys;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// More than this many bytes are not sent silently: until the loop hears of something else, they
/// would take up memory.
const LONGEST_SILENT: usize = 64 * 1024;
/// Requests that older kernels do not have.
pub(super) const OPTIONAL: Features = Features::MULTISHOT_ACCEPT
    .union(Features::MULTISHOT_RECV)
    .union(Features::BUFFER_RING)
    .union(Features::INCREMENTAL);
/// What silent requests take.
const SILENT: Features = Features::CQE_SKIP.union(Features::SILENT_SEND);
/// Connections accepted per readiness, where there is no multishot accept: Tornado's number.
const ACCEPTS_PER_POLL: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request is in the kernel, or on its way.
    Armed,
    /// As `Armed`, and so is its cancellation.
    Cancelled,
    /// Waits for a buffer.
    Parked,
}

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// It is over when the enter that submits it returns, and completes only if it did not do
    /// everything.
    Silent,
    /// It completes when everything is done.
    Patient,
}

struct Slot {
    /// Names the current request.
    stamp: Stamp,
    state: State,
    /// The request is a poll.
    polling: bool,
    effort: Effort,
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
    /// Silent requests that the next enter submits.
    silent: Vec<(u32, Stamp)>,
    /// Somebody waits for one of them to be done.
    awaited: bool,
    /// There are buffers, and operations that wait for one.
    hungry: bool,
    /// Optional requests that this kernel has, as far as is known.
    features: Features,
    pub(super) buffers_exhausted: u64,
}

/// How an operation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By a request of its own, if the kernel has one.
    Request,
    /// By a poll first.
    Poll,
}

/// What becomes of an operation whose request is over, with something left to do.
enum Sequel {
    Again(By),
    /// Again, when there is a buffer.
    Park(PoolId),
    /// Again, without what the kernel does not have.
    Without(Features),
    End(i32),
}

struct BufferPool {
    pool: Pool,
    /// Those that found it empty, in order.
    parked: VecDeque<u32>,
}

impl Operations {
    pub(super) fn new(mut features: Features) -> Operations {
        if !features.contains(Features::BUFFER_RING) {
            features -= Features::INCREMENTAL;
        }
        Operations {
            slots: Slab::new(),
            stamp: Stamp::first(Kind::Operation),
            pools: Vec::new(),
            to_arm: Vec::new(),
            completed: Vec::new(),
            cancelled: 0,
            silent: Vec::new(),
            awaited: false,
            hungry: false,
            features: features & (OPTIONAL | SILENT),
            buffers_exhausted: 0,
        }
    }

    /// # Errors
    ///
    /// If there is no memory for it, or there are too many.
    pub(super) fn add_pool(
        &mut self,
        size: Option<PoolSize>,
        shared: Arc<Shared>,
        ring: &mut Ring,
    ) -> io::Result<PoolId> {
        let id = u16::try_from(self.pools.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many buffer pools"))?;
        let pool = loop {
            let (kind, feature) = self.kind_of_pool();
            let size = size.unwrap_or(PoolSize::usual(kind));
            let register = |buffers: &BufferRing| {
                ring.register_buffers(id, buffers, kind == PoolKind::Incremental)
            };
            match Pool::new(size, kind, shared.clone(), register) {
                // A kernel that has no such rings says so here.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !feature.is_empty() => {
                    self.features -= feature;
                }
                made => break made?,
            }
        };
        self.pools.push(BufferPool { pool, parked: VecDeque::new() });
        Ok(PoolId(id))
    }

    /// The best kind of pool that this kernel has, as far as is known, and the feature it takes.
    fn kind_of_pool(&self) -> (PoolKind, Features) {
        if !self.features.contains(Features::BUFFER_RING) {
            (PoolKind::List, Features::empty())
        } else if self.features.contains(Features::INCREMENTAL) {
            (PoolKind::Incremental, Features::INCREMENTAL)
        } else {
            (PoolKind::Whole, Features::BUFFER_RING)
        }
    }

    /// Optional requests in use.
    pub(super) fn features(&self) -> Features {
        self.features & OPTIONAL
    }

    pub(super) fn submit(
        &mut self,
        operation: Operation,
        owner: Rc<dyn Owner>,
        ring: &mut Ring,
    ) -> OperationKey {
        self.stamp = self.stamp.next();
        let stamp = self.stamp;
        let effort = self.effort(&operation);
        let slot = Slot { stamp, state: State::Armed, polling: false, effort, operation, owner };
        let slot = self.slots.insert(slot) as u32;
        self.request(slot, By::Request, ring);
        OperationKey { slot, generation: stamp.bits() }
    }

    fn effort(&self, operation: &Operation) -> Effort {
        match operation {
            Operation::Send { kind: StreamKind::Socket, data, .. }
                if self.features.contains(SILENT) && data.len() <= LONGEST_SILENT =>
            {
                Effort::Silent
            }
            _ => Effort::Patient,
        }
    }

    /// Hands a request for this slot to the kernel.
    fn request(&mut self, slot: u32, by: By, ring: &mut Ring) {
        let is_native = by == By::Request && self.is_native(slot);
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Armed;
        entry.polling = !is_native;
        let request = match is_native {
            true => requests::native(&mut entry.operation, entry.effort, self.features),
            false => requests::poll(&entry.operation),
        };
        if entry.effort == Effort::Silent {
            self.silent.push((slot, entry.stamp));
            self.awaited |= matches!(entry.operation, Operation::Send { awaited: true, .. });
        }
        let token = Token::new(entry.stamp, slot);
        // SAFETY: what the request refers to, the data of a `Send` or the address of a `Connect`,
        // is on the heap or static, and owned by the operation, which stays in its slot until the
        // terminal completion, or, if that is skipped, until `settle` knows that the request is
        // done; `leak` keeps what has none.
        unsafe { ring.push(request.user_data(token.bits())) };
    }

    /// Whether the kernel has a request that does what a slot is for.
    fn is_native(&self, slot: u32) -> bool {
        let operation = &self.slots[slot as usize].operation;
        let has_ring = match operation {
            Operation::Receive { pool, .. } => self.pools[usize::from(pool.0)].pool.has_ring(),
            _ => false,
        };
        requests::is_native(operation, self.features, has_ring)
    }

    /// Ends what was to be done silently, and was not heard of: it is done. Only after an enter that
    /// has taken in all requests, and all completions of which have been.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.silent.is_empty() {
            self.settle_all();
        }
    }

    /// It could not be told yet what is done.
    #[cold]
    pub(super) fn settle_soon(&mut self) {
        self.awaited = !self.silent.is_empty();
    }

    fn settle_all(&mut self) {
        let mut silent = std::mem::take(&mut self.silent);
        for (slot, stamp) in silent.drain(..) {
            let Some(entry) = self.slots.get_mut(slot as usize) else { continue };
            // One that was heard of has ended, or is done patiently.
            if entry.stamp == stamp
                && entry.effort == Effort::Silent
                && let Operation::Send { data, sent, .. } = &mut entry.operation
            {
                *sent = data.len();
                self.end(slot, Ok(()));
            }
        }
        self.silent = silent;
        self.awaited = false;
    }

    /// Nobody would hear of the end of a silent request, and somebody waits for it, or for what it
    /// keeps.
    fn is_awaited(&self) -> bool {
        !self.silent.is_empty()
            && (self.awaited || self.pools.iter().any(|pool| !pool.parked.is_empty()))
    }

    /// Makes the requests that are due, and gives buffers that came back to those that wait.
    #[inline]
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        self.hungry = false;
        for pool in &mut self.pools {
            pool.replenish(&mut self.to_arm);
            self.hungry |= pool.is_hungry();
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
            && !self.is_due()
            && !self.is_releasing()
            && self.pools.iter().all(|pool| pool.parked.is_empty())
    }

    /// The next turn is due at once.
    pub(super) fn is_due(&self) -> bool {
        self.hungry || !self.completed.is_empty() || self.is_awaited()
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
                    let (length, is_more) = (result.max(0) as usize, completion.has_rest());
                    // SAFETY: the buffer is this completion's, which is taken in once.
                    let chunk = unsafe { pool.filled(buffer, length, is_more) };
                    let scarce = pool.is_scarce();
                    if result > 0 {
                        self.tell(slot, Outcome::Received { chunk, scarce });
                    }
                }
                if result == 0 && !completion.has_more() {
                    self.end(slot, Ok(()));
                    return false;
                }
            }
            Operation::Send { data, sent, .. } if result >= 0 => {
                *sent += result as usize;
                if *sent >= data.len() {
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

    /// The request of an operation is over, with something left to do.
    fn finished(&mut self, slot: u32, result: i32) {
        let entry = &mut self.slots[slot as usize];
        let effort = std::mem::replace(&mut entry.effort, Effort::Patient);
        let entry = &self.slots[slot as usize];
        let sequel = match (effort, -result) {
            (Effort::Silent, libc::EAGAIN) => Sequel::Again(By::Request),
            (_, errno) => self.sequel(&entry.operation, errno),
        };
        if entry.state == State::Cancelled {
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
                    _ if matches!(operation, Operation::Accept { listener }
                        if !sys::is_listening(*listener)) =>
                    {
                        Sequel::End(errno)
                    }
                    features => Sequel::Without(features),
                }
            }
            _ => Sequel::End(errno),
        }
    }

    fn park(&mut self, slot: u32, pool: PoolId) {
        self.buffers_exhausted += 1;
        self.slots[slot as usize].state = State::Parked;
        let pool = &mut self.pools[usize::from(pool.0)];
        pool.pool.exhausted();
        pool.parked.push_back(slot);
    }

    /// The poll of an operation has fired, or failed.
    fn polled(&mut self, slot: u32, result: i32) {
        if self.slots[slot as usize].state == State::Cancelled {
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
        let buffers = &mut self.pools[usize::from(pool.0)].pool;
        match buffers.fill(|buffer| kind.read(stream, buffer)) {
            None => self.park(slot, pool),
            Some(Ok(chunk)) if chunk.is_empty() => self.end(slot, Ok(())),
            Some(Ok(chunk)) => {
                let scarce = buffers.is_scarce();
                self.tell(slot, Outcome::Received { chunk, scarce });
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

    /// Keeps for ever what the kernel has not let go of, and tells the owners that it is over.
    pub(super) fn leak(&mut self) {
        if self.slots.is_empty() {
            return;
        }
        for (_, Slot { operation, owner, .. }) in &self.slots {
            self.completed.push(Completed { owner: owner.clone(), outcome: operation.lost() });
        }
        std::mem::forget(std::mem::take(&mut self.slots));
        std::mem::take(&mut self.pools).into_iter().for_each(|buffers| buffers.pool.leak());
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

    /// Lets as many go on as there are buffers. Who goes on may find that it does not need one.
    #[cold]
    fn unpark(&mut self, to_arm: &mut Vec<(u32, By)>) {
        loop {
            let fed = self.pool.available().min(self.parked.len());
            to_arm.extend(self.parked.drain(..fed).map(|slot| (slot, By::Request)));
            if fed > 0 || self.pool.wait_for_returns() {
                return;
            }
            self.pool.replenish();
        }
    }

    /// Some wait, and there are buffers: those who went on before them may not need them.
    fn is_hungry(&self) -> bool {
        !self.parked.is_empty() && self.pool.available() > 0
    }
}

fn cancelled() -> io::Result<()> {
    failure(libc::ECANCELED)
}

fn failure(errno: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(errno))
}
