//! Completion operations: submitting, re-arming, cancelling. `outcomes` says what comes of them,
//! `pools` has the buffers that they wait for, `quick_sends` what need not complete.
//!
//! An operation sits in a slot with its owner from its submission to its terminal completion, and so
//! does all memory that the kernel may touch for it. Multishot requests that end for a reason of the
//! kernel's own (a full completion queue, no buffer) are armed again here; owners see one stream of
//! outcomes that ends once. All requests of an operation carry the same token, for there is never
//! more than one at a time.
//!
//! Where the kernel has no such request, a slot is a one-shot poll, and the operation is attempted
//! with a system call when the poll fires.

mod outcomes;
mod pools;
mod quick_sends;

use self::pools::PoolQueue;
pub(super) use self::quick_sends::LONGEST as LONGEST_QUICK_SEND;
use self::quick_sends::QuickSends;
#[cfg(test)]
use super::faults::OlderKernel;
use super::requests;
use super::ring::{Completion, Ring};
use super::token::{Kind, Stamp, Token};
use crate::driver::OperationKey;
use crate::driver::notices::Notices;
use crate::driver::operation::{Operation, Owner};
use crate::features::KernelFeatures as Features;
use slab::Slab;
use std::io;
use std::rc::{Rc, Weak};

/// Requests that older kernels do not have.
pub(super) const OPTIONAL: Features = Features::MULTISHOT_ACCEPT
    .union(Features::MULTISHOT_RECV)
    .union(Features::BUFFER_RING)
    .union(Features::INCREMENTAL);

/// A request that was not found as often as this is not in the kernel: its completion is lost.
const MOST_MISSES: u8 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request is in the kernel, or on its way.
    Armed,
    /// As `Armed`, after it was parked: it may find again that there is no buffer for it.
    Unparked,
    /// As `Armed`, and so is its cancellation, which nobody waits for.
    Stopped,
    /// As `Stopped`, but the file is to be let go of.
    Cancelled,
    /// Waits for a buffer.
    Parked,
}

impl State {
    fn is_ending(self) -> bool {
        matches!(self, State::Stopped | State::Cancelled)
    }
}

struct Slot {
    /// Names the operation: all its requests carry it.
    stamp: Stamp,
    state: State,
    /// The request is a poll.
    polling: bool,
    /// Cancellations that have not found it.
    misses: u8,
    operation: Operation,
    owner: Rc<dyn Owner>,
}

pub(super) struct Operations {
    slots: Slab<Slot>,
    stamp: Stamp,
    pools: Vec<PoolQueue>,
    /// Requests to be made before the next wait, or polls.
    to_arm: Vec<(u32, By)>,
    /// Cancellations that have found nothing, and are to be repeated.
    to_cancel: Vec<Token>,
    /// What is to be told when the turn ends.
    notices: Notices,
    cancelled: usize,
    pub(super) quick_sends: QuickSends,
    /// Those whose operation is over, and who keep buffers all the same.
    keepers: Vec<Weak<dyn Owner>>,
    /// Optional requests that this kernel has, as far as is known.
    features: Features,
    pub(super) buffers_exhausted: u64,
    /// In this turn.
    pub(super) bytes_received: usize,
}

/// How an operation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By a request of its own, if the kernel has one.
    Request,
    /// By a poll first.
    Poll,
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
            to_cancel: Vec::new(),
            notices: Notices::default(),
            cancelled: 0,
            quick_sends: QuickSends::new(features),
            keepers: Vec::new(),
            features: features & OPTIONAL,
            buffers_exhausted: 0,
            bytes_received: 0,
        }
    }

    /// Optional requests in use.
    pub(super) fn features(&self) -> Features {
        self.features
    }

    pub(super) fn submit(
        &mut self,
        mut operation: Operation,
        owner: Rc<dyn Owner>,
        ring: &mut Ring,
    ) -> OperationKey {
        if let Operation::Send { data, .. } = &mut operation
            && self.are_buffers_scarce()
        {
            // It waits for a peer that may never receive.
            data.give_back();
        }
        self.stamp = self.stamp.next();
        let stamp = self.stamp;
        let slot = Slot { stamp, state: State::Armed, polling: false, misses: 0, operation, owner };
        let slot = self.slots.insert(slot) as u32;
        match self.queue_for(slot) {
            Some(pool) => self.park(slot, pool),
            None => self.request(slot, By::Request, ring),
        }
        OperationKey { slot, generation: stamp.bits() }
    }

    /// Hands a request for this slot to the kernel.
    fn request(&mut self, slot: u32, by: By, ring: &mut Ring) {
        let is_native = by == By::Request && self.is_native(slot);
        let entry = &mut self.slots[slot as usize];
        entry.state = if entry.state == State::Parked { State::Unparked } else { State::Armed };
        entry.polling = !is_native;
        let request = match is_native {
            true => requests::native(&mut entry.operation, self.features),
            false => requests::poll(&entry.operation),
        };
        #[cfg(test)]
        let request = match is_native {
            true => {
                OlderKernel::request(request, requests::multishot(&entry.operation) & self.features)
            }
            false => request,
        };
        let token = Token::new(entry.stamp, slot);
        // SAFETY: what the request refers to, the data of a `Send` or the address of a `Connect`,
        // is on the heap or static, and owned by the operation, which stays in its slot until the
        // terminal completion; `leak` keeps what has none.
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

    /// Makes the requests that are due, and gives buffers that came back to those that wait.
    #[inline]
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        let due = self.to_arm.len();
        for pool in &mut self.pools {
            pool.replenish(&mut self.to_arm);
        }
        if !self.to_arm.is_empty() || !self.to_cancel.is_empty() {
            self.request_all(due, ring);
        }
    }

    /// The first `due` were so before buffers came back.
    #[inline(never)]
    fn request_all(&mut self, due: usize, ring: &mut Ring) {
        let mut to_arm = std::mem::take(&mut self.to_arm);
        // Those that have waited are before those that had a buffer in the last turn.
        to_arm.rotate_left(due);
        for (slot, by) in to_arm.drain(..) {
            match self.slots[slot as usize].state {
                State::Stopped | State::Cancelled => self.end(slot, cancelled()),
                State::Armed | State::Unparked | State::Parked => self.request(slot, by, ring),
            }
        }
        self.to_arm = to_arm;
        self.cancel_again(ring);
    }

    /// Has a request made before the next wait.
    fn arm_later(&mut self, slot: u32, by: By) {
        self.slots[slot as usize].state = State::Armed;
        self.to_arm.push((slot, by));
    }

    /// Asks for an end. The outcome says when it has come.
    pub(super) fn cancel(&mut self, key: OperationKey, ring: &mut Ring) {
        self.stop(key, ring);
        if let Some(slot) = self.slots.get_mut(key.slot as usize)
            && slot.stamp.bits() == key.generation
            && slot.state == State::Stopped
        {
            slot.state = State::Cancelled;
            self.cancelled += 1;
        }
    }

    /// As `cancel`, but the file may stay pinned until the end has come by itself.
    pub(super) fn stop(&mut self, key: OperationKey, ring: &mut Ring) {
        let Some(slot) = self.slots.get_mut(key.slot as usize) else { return };
        if slot.stamp.bits() != key.generation {
            return;
        }
        match slot.state {
            State::Stopped | State::Cancelled => {}
            State::Armed | State::Unparked => {
                // If the request is yet to be made, this finds nothing, and it is not made.
                slot.state = State::Stopped;
                push_cancel(Token::new(slot.stamp, key.slot), ring);
            }
            State::Parked => {
                self.remove_parked(key.slot);
                self.end(key.slot, cancelled());
            }
        }
    }

    /// Takes in what came of a cancellation that has not cancelled anything. It does not find a request
    /// that the kernel is about to give to a thread that blocks for it, perhaps for ever.
    #[cold]
    pub(super) fn not_cancelled(&mut self, completion: Completion) {
        if completion.result == -libc::ENOENT {
            let stamp = completion.token.stamp().with(Kind::Operation);
            self.to_cancel.push(Token::new(stamp, completion.token.slot()));
        }
    }

    /// Those that have ended meanwhile need it no more.
    fn cancel_again(&mut self, ring: &mut Ring) {
        for token in self.to_cancel.drain(..) {
            let Some(slot) = self.slots.get_mut(token.slot() as usize) else { continue };
            let is_missed = slot.stamp == token.stamp() && slot.state.is_ending();
            if is_missed && slot.misses < MOST_MISSES {
                slot.misses += 1;
                push_cancel(token, ring);
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
        self.slots.is_empty() && self.quick_sends.is_empty()
    }

    /// A part of something long has been sent, and the next one is due.
    pub(super) fn has_parts_to_send(&self) -> bool {
        self.to_arm.iter().any(|&(slot, by)| {
            let operation = &self.slots[slot as usize].operation;
            by == By::Request && matches!(operation, Operation::Send { .. })
        })
    }

    /// There is something to tell.
    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// True if nothing is to be armed, released, reclaimed or told.
    pub(super) fn is_quiet(&self) -> bool {
        self.to_arm.is_empty()
            && self.to_cancel.is_empty()
            && !self.is_due()
            && !self.is_releasing()
            && !self.awaits_returns()
    }

    /// True if a buffer has come back that somebody waits for.
    pub(super) fn has_returns(&self) -> bool {
        self.exhausted_pools().any(|queue| queue.pool.has_returns())
    }

    /// The loop is awake: buffers that come back before it sleeps again need not wake it.
    pub(super) fn stop_waiting(&self) {
        self.exhausted_pools().for_each(|queue| queue.pool.stop_waiting());
    }

    /// The next turn is due at once.
    pub(super) fn is_due(&self) -> bool {
        self.can_unpark() || self.has_notices() || self.is_quick_send_awaited()
    }

    /// Nobody would hear of the end of a quick send, and somebody waits for it, or for the buffer
    /// that it keeps.
    fn is_quick_send_awaited(&self) -> bool {
        !self.quick_sends.is_empty()
            && (self.quick_sends.are_awaited() || self.has_exhausted_pool())
    }

    /// The quick sends are over. Only after an enter that has taken in all requests, and all
    /// completions of which have been.
    #[inline]
    pub(super) fn complete_quick_sends(&mut self) {
        if !self.quick_sends.is_empty() {
            self.quick_sends.complete_all(&mut self.notices);
        }
    }

    /// As `complete_quick_sends`, but completions have been dropped.
    #[cold]
    pub(super) fn complete_quick_sends_after_loss(&mut self) {
        self.quick_sends.complete_all_after_loss(&mut self.notices);
    }

    /// It could not be told yet what is done.
    #[cold]
    pub(super) fn await_quick_sends(&mut self) {
        self.quick_sends.await_all();
    }

    /// Moves what there is to tell to `notices`.
    #[inline]
    pub(super) fn report(&mut self, notices: &mut Notices) {
        self.notices.move_to(notices);
    }

    /// Keeps for ever what the kernel has not let go of, and tells the owners that it is over.
    pub(super) fn leak(&mut self) {
        self.quick_sends.leak(&mut self.notices);
        if self.slots.is_empty() {
            return;
        }
        for (_, Slot { operation, owner, .. }) in &self.slots {
            self.notices.push_outcome(owner.clone(), operation.lost());
        }
        std::mem::forget(std::mem::take(&mut self.slots));
        std::mem::take(&mut self.pools).into_iter().for_each(|queue| queue.pool.leak());
    }
}

fn push_cancel(token: Token, ring: &mut Ring) {
    ring.push_cancel(token, Token::new(token.stamp().with(Kind::Cancel), token.slot()));
}

fn cancelled() -> io::Result<()> {
    failure(libc::ECANCELED)
}

fn failure(errno: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(errno))
}
