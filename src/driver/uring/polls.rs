//! One poll per registered fd: arming, re-arming, cancelling, merging.
//!
//! The kernel has no repeating level-triggered poll. Level is made of one-shot polls, armed again
//! in the turn after they fired: arming checks the file's state, so an fd that is still ready
//! fires at once, with its true mask, within the turn's one enter. An edge trigger is a multishot
//! poll, armed once. `uring-sys-notes/level-triggering.md` has the measurements behind this.
//!
//! Interests change in the table at once and in the kernel when the turn is submitted, so what
//! changes back and forth within a turn costs nothing.

use super::ring::{self, Completion, Ring};
use super::token::{Kind, Token, next_generation};
use crate::driver::Readiness;
use crate::events::{Events, Trigger};
use crate::sys;
use io_uring::squeue::Entry;
use std::io;
use std::os::fd::RawFd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not registered.
    Vacant,
    /// Registered, nothing in the kernel.
    Idle,
    /// A one-shot poll is in the kernel.
    OneShot,
    /// A multishot poll is in the kernel.
    Multishot,
    /// The kernel refused the poll for good.
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Names the current arming.
    generation: u32,
    /// Names the current registration.
    registration: u32,
    /// The batch in which this fd was reported last, and where.
    batch: u32,
    position: u32,
    interest: Events,
    trigger: Trigger,
    state: State,
    /// Stands in `to_arm`.
    queued: bool,
    /// Ready only with what nobody asked for: the next arming must not fire at once again.
    parked: bool,
}

impl Slot {
    const VACANT: Slot = Slot {
        generation: 0,
        registration: 0,
        batch: 0,
        position: 0,
        interest: Events::NONE,
        trigger: Trigger::Level,
        state: State::Vacant,
        queued: false,
        parked: false,
    };

    fn is_armed(&self) -> bool {
        matches!(self.state, State::OneShot | State::Multishot)
    }

    fn token(&self, fd: RawFd) -> Token {
        Token::new(Kind::Poll, self.generation, fd as u32)
    }

    /// The mask to arm. Wake-ups for urgent data are filtered by the kernel as if they were for
    /// ordinary data, so whoever wants the one must listen for the other.
    fn mask(&self) -> u32 {
        match self.interest.contains(Events::PRIORITY) {
            true => self.interest.bits() | Events::READ.bits(),
            false => self.interest.bits(),
        }
    }

    /// What of a completion's mask goes to the handler.
    #[inline]
    fn deliverable(&self, fd: RawFd, mut mask: u32) -> Events {
        if self.interest.contains(Events::PRIORITY) {
            // The mask of a wake-up says "urgent" for ordinary data, too.
            mask = sys::poll_now(fd, self.interest.bits());
        }
        Events::from_poll(mask) & (self.interest | Events::ERROR)
    }

    /// The submission that arms this slot, if it is to be armed.
    #[inline]
    fn arm(&mut self, fd: RawFd) -> Option<Entry> {
        self.queued = false;
        if self.state != State::Idle {
            return None;
        }
        let multishot = self.trigger == Trigger::Edge || self.parked;
        self.state = if multishot { State::Multishot } else { State::OneShot };
        self.parked = false;
        self.generation = next_generation(self.generation);
        Some(ring::poll(fd, self.mask(), multishot, self.token(fd)))
    }

    /// Adds events to what `ready`, the batch of number `batch`, says of this fd.
    #[inline]
    fn report(&mut self, fd: RawFd, events: Events, batch: u32, ready: &mut Vec<Readiness>) {
        if self.batch == batch {
            ready[self.position as usize].events |= events;
            return;
        }
        self.batch = batch;
        self.position = ready.len() as u32;
        ready.push(Readiness { fd, registration: self.registration, events });
    }
}

pub(super) struct Polls {
    /// By fd number.
    slots: Vec<Slot>,
    /// Fds whose poll has to be armed, or armed anew, before the next wait.
    to_arm: Vec<RawFd>,
    /// Parked level polls that found something: they go back to one-shot arming.
    to_unpark: Vec<RawFd>,
    ready: Vec<Readiness>,
    /// Number of the batch that `ready` is becoming.
    batch: u32,
    /// Polls in the kernel that belong to a registration.
    armed: usize,
    /// Polls in the kernel, with those cancelled whose last completion is to come.
    in_flight: usize,
}

impl Polls {
    pub(super) fn new() -> Polls {
        Polls {
            slots: Vec::new(),
            to_arm: Vec::new(),
            to_unpark: Vec::new(),
            ready: Vec::new(),
            batch: 1,
            armed: 0,
            in_flight: 0,
        }
    }

    pub(super) fn add(&mut self, fd: RawFd, interest: Events, trigger: Trigger) -> u32 {
        let index = fd as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::VACANT);
        }
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.state, State::Vacant);
        // Zero is no registration.
        slot.registration = slot.registration.checked_add(1).unwrap_or(1);
        slot.interest = interest;
        slot.trigger = trigger;
        slot.state = State::Idle;
        slot.parked = false;
        let registration = slot.registration;
        self.queue(fd);
        registration
    }

    pub(super) fn modify(
        &mut self,
        fd: RawFd,
        interest: Events,
        ring: &mut Ring,
    ) -> io::Result<()> {
        let slot = &mut self.slots[fd as usize];
        if slot.state == State::Dead {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if slot.interest == interest && slot.trigger == Trigger::Level {
            return Ok(());
        }
        slot.interest = interest;
        slot.parked = false;
        self.disarm(fd, ring);
        self.queue(fd);
        Ok(())
    }

    /// True while the kernel may still pin the file.
    pub(super) fn remove(&mut self, fd: RawFd, ring: &mut Ring) -> bool {
        self.disarm(fd, ring);
        let slot = &mut self.slots[fd as usize];
        slot.state = State::Vacant;
        if slot.batch == self.batch {
            self.ready[slot.position as usize].events = Events::NONE;
            slot.batch = 0;
        }
        self.releasing()
    }

    /// True while a cancelled poll may still pin its file.
    pub(super) fn releasing(&self) -> bool {
        self.in_flight > self.armed
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self, batch: &mut Vec<Readiness>) {
        batch.append(&mut self.ready);
        // Zero is never a batch: it marks slots that are in none.
        self.batch = self.batch.checked_add(1).unwrap_or(1);
    }

    pub(super) fn disarm_all(&mut self, ring: &mut Ring) {
        for fd in 0..self.slots.len() as RawFd {
            self.disarm(fd, ring);
        }
    }

    /// Queues the submissions that bring the kernel up to date with the table.
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        while let Some(fd) = self.to_unpark.pop() {
            self.disarm(fd, ring);
            self.queue(fd);
        }
        let Polls { slots, to_arm, armed, .. } = self;
        let before = *armed;
        ring.push_all(to_arm.drain(..).filter_map(|fd| {
            let entry = slots[fd as usize].arm(fd);
            *armed += usize::from(entry.is_some());
            entry
        }));
        self.in_flight += self.armed - before;
    }

    fn disarm(&mut self, fd: RawFd, ring: &mut Ring) {
        let slot = &mut self.slots[fd as usize];
        if slot.is_armed() {
            ring.push_cancel(slot.token(fd));
            // From here on its completions are an earlier generation's.
            slot.generation = next_generation(slot.generation);
            slot.state = State::Idle;
            self.armed -= 1;
        }
    }

    fn queue(&mut self, fd: RawFd) {
        let slot = &mut self.slots[fd as usize];
        if !slot.queued {
            slot.queued = true;
            self.to_arm.push(fd);
        }
    }

    /// Takes in a poll's completion. False for one of an earlier generation.
    #[inline]
    pub(super) fn complete(&mut self, completion: Completion) -> bool {
        let Completion { token, result, more } = completion;
        self.in_flight -= usize::from(!more);
        let fd = token.slot() as RawFd;
        let slot = &mut self.slots[fd as usize];
        if slot.generation != token.generation() || !slot.is_armed() {
            return false;
        }
        if !more {
            slot.state = State::Idle;
            self.armed -= 1;
        }
        if result < 0 {
            self.fail(fd, -result);
            return true;
        }
        let events = slot.deliverable(fd, result as u32);
        if !more {
            slot.parked = events.is_empty();
            if !slot.queued {
                slot.queued = true;
                self.to_arm.push(fd);
            }
        } else if slot.trigger == Trigger::Level && !events.is_empty() {
            self.to_unpark.push(fd);
        }
        if !events.is_empty() {
            slot.report(fd, events, self.batch, &mut self.ready);
        }
        true
    }

    #[cold]
    fn fail(&mut self, fd: RawFd, errno: i32) {
        if matches!(errno, libc::ECANCELED | libc::ENOMEM | libc::EAGAIN | libc::EINTR) {
            self.queue(fd);
            return;
        }
        // The number was closed behind our back: say so once, and stay quiet until it is removed.
        let slot = &mut self.slots[fd as usize];
        slot.state = State::Dead;
        slot.report(fd, Events::ERROR, self.batch, &mut self.ready);
    }
}
