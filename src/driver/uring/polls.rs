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
use super::token::{Kind, Stamp, Token};
use crate::driver::Readiness;
use crate::events::{Events, Trigger};
use crate::sys;
use io_uring::squeue::Entry;
use std::io;
use std::mem;
use std::os::fd::RawFd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not registered.
    Vacant,
    /// Registered, nothing in the kernel.
    Idle,
    /// A poll is in the kernel.
    Armed,
    /// The kernel refused the poll for good.
    Dead,
}

/// What a completion of a poll means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The poll is over, and its mask is the file's state.
    OneShot,
    /// The poll goes on, as a rule, and its mask is what has just happened.
    Multishot,
    /// Nothing but that it is worth a look: for the urgent data of a socket, the kernel's masks are
    /// not to be believed.
    Hint,
    /// Something that is true, and that asking the file again may not bring back. There may be more.
    Told,
}

/// Two to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Slot {
    /// Names the current arming; moves on when that is cancelled.
    stamp: Stamp,
    /// Names the current registration.
    registration: u32,
    interest: Events,
    /// What the kernel is asked for.
    mask: u32,
    /// The batch in which a multishot poll reported this fd last, and where.
    batch: u32,
    position: u32,
    state: State,
    trigger: Trigger,
    /// An edge trigger; or a level trigger whose poll found only what nobody asked for, and is
    /// parked: this way it does not fire at once again.
    multishot: bool,
    reading: Reading,
    /// What is urgent is data of a socket.
    socket: bool,
    /// Stands in `to_arm`.
    queued: bool,
}

impl Slot {
    const VACANT: Slot = Slot {
        stamp: Stamp::first(Kind::Poll),
        registration: 0,
        interest: Events::NONE,
        mask: 0,
        batch: 0,
        position: 0,
        state: State::Vacant,
        trigger: Trigger::Level,
        multishot: false,
        reading: Reading::OneShot,
        socket: false,
        queued: false,
    };

    fn token(&self, fd: RawFd) -> Token {
        Token::new(self.stamp, fd as u32)
    }

    fn set_interest(&mut self, fd: RawFd, interest: Events) {
        self.interest = interest & Events::all();
        self.mask = self.interest.bits();
        self.socket = self.is_urgent() && sys::is_socket(fd);
        if self.is_urgent() {
            // Wake-ups for urgent data are filtered by the kernel as if they were for ordinary
            // data, so whoever wants the one must listen for the other.
            self.mask |= Events::READ.bits();
        }
        self.set_multishot(self.trigger == Trigger::Edge);
    }

    fn set_multishot(&mut self, multishot: bool) {
        self.multishot = multishot;
        self.reading = match multishot {
            _ if self.socket => Reading::Hint,
            _ if self.is_urgent() => Reading::Told,
            true => Reading::Multishot,
            false => Reading::OneShot,
        };
    }

    fn is_urgent(&self) -> bool {
        self.interest.contains(Events::PRIORITY)
    }

    /// Of what has been found, what is not found again when the poll is armed, if it is still true.
    fn not_found_again(&self) -> Events {
        let told_once = Events::PRIORITY | Events::ERROR;
        match self.trigger {
            Trigger::Level if self.state == State::Dead => Events::all(),
            Trigger::Level if self.is_urgent() && !self.socket => told_once,
            Trigger::Level => Events::NONE,
            Trigger::Edge => Events::all(),
        }
    }

    /// The submission that arms this slot, if it is to be armed.
    #[inline]
    fn arm(&mut self, fd: RawFd) -> Option<Entry> {
        if self.state != State::Idle {
            return None;
        }
        self.state = State::Armed;
        self.stamp = self.stamp.next();
        Some(ring::poll(fd, self.mask, self.multishot, self.token(fd)))
    }

    fn readiness(&self, fd: RawFd, events: Events) -> Readiness {
        Readiness { fd, registration: self.registration, events }
    }
}

pub(super) struct Polls {
    /// By fd number.
    slots: Vec<Slot>,
    /// Slots that are not vacant.
    registered: usize,
    /// What has been found ready since the last report.
    ready: Vec<Readiness>,
    /// Fds whose poll has to be armed, or armed anew, before the next wait, besides those that were
    /// reported last.
    to_arm: Vec<RawFd>,
    /// Parked polls that found something: they go back to one-shot arming.
    to_unpark: Vec<RawFd>,
    /// Number of the batch that `ready` is becoming.
    batch: u32,
    /// Polls cancelled whose last completion is to come.
    releasing: usize,
}

impl Polls {
    pub(super) fn new() -> Polls {
        Polls {
            slots: Vec::new(),
            registered: 0,
            ready: Vec::new(),
            to_arm: Vec::new(),
            to_unpark: Vec::new(),
            batch: 1,
            releasing: 0,
        }
    }

    pub(super) fn add(&mut self, fd: RawFd, interest: Events, trigger: Trigger) -> u32 {
        let index = fd as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::VACANT);
        }
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.state, State::Vacant);
        // Zero is no registration, and no batch.
        slot.registration = slot.registration.checked_add(1).unwrap_or(1);
        slot.batch = 0;
        slot.trigger = trigger;
        slot.state = State::Idle;
        slot.set_interest(fd, interest);
        let registration = slot.registration;
        self.registered += 1;
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
        let before = slot.reading;
        slot.set_interest(fd, interest);
        if slot.not_found_again().is_empty() && slot.batch == self.batch {
            // It will be. Until now, it might not have been.
            slot.batch = 0;
            self.ready[slot.position as usize].events = Events::NONE;
        }
        self.arm_otherwise(fd, before, ring);
        Ok(())
    }

    /// True while the kernel may still pin the file.
    pub(super) fn remove(&mut self, fd: RawFd, ring: &mut Ring) -> bool {
        self.disarm(fd, ring);
        self.slots[fd as usize].state = State::Vacant;
        self.registered -= 1;
        self.is_releasing()
    }

    /// True while a cancelled poll may still pin its file.
    pub(super) fn is_releasing(&self) -> bool {
        self.releasing > 0
    }

    pub(super) fn disarm_all(&mut self, ring: &mut Ring) {
        for fd in 0..self.slots.len() as RawFd {
            self.disarm(fd, ring);
        }
    }

    fn disarm(&mut self, fd: RawFd, ring: &mut Ring) {
        let slot = &mut self.slots[fd as usize];
        if slot.state == State::Armed {
            ring.push_cancel(slot.token(fd), Token::IGNORED);
            // From here on its completions are an earlier arming's.
            slot.stamp = slot.stamp.next();
            slot.state = State::Idle;
            self.releasing += 1;
        }
    }

    fn queue(&mut self, fd: RawFd) {
        let slot = &mut self.slots[fd as usize];
        if !slot.queued {
            slot.queued = true;
            self.to_arm.push(fd);
        }
    }

    /// Queues the submissions that bring the kernel up to date with the table. The level polls
    /// among those `reported` last have to be armed again.
    #[inline]
    pub(super) fn arm(&mut self, reported: &[Readiness], ring: &mut Ring) {
        if !self.to_unpark.is_empty() {
            self.unpark_all(ring);
        }
        if !reported.is_empty() {
            self.arm_again(reported, ring);
        }
        if !self.to_arm.is_empty() {
            self.arm_changed(ring);
        }
    }

    /// Before anything is armed: what a poll finds that is armed and cancelled at once is lost.
    #[cold]
    fn unpark_all(&mut self, ring: &mut Ring) {
        while let Some(fd) = self.to_unpark.pop() {
            self.unpark(fd, ring);
        }
    }

    #[inline(never)]
    fn arm_again(&mut self, reported: &[Readiness], ring: &mut Ring) {
        let slots = &mut self.slots;
        let polls = reported.iter().filter_map(|ready| slots[ready.fd as usize].arm(ready.fd));
        // SAFETY: polls refer to no memory.
        unsafe { ring.push_all(polls) };
    }

    #[inline(never)]
    fn arm_changed(&mut self, ring: &mut Ring) {
        let Polls { slots, to_arm, .. } = self;
        let polls = to_arm.drain(..).filter_map(|fd| {
            let slot = &mut slots[fd as usize];
            slot.queued = false;
            slot.arm(fd)
        });
        // SAFETY: polls refer to no memory.
        unsafe { ring.push_all(polls) };
    }

    /// True if nothing is to be armed, released or reported.
    pub(super) fn is_quiet(&self) -> bool {
        self.to_arm.is_empty()
            && self.to_unpark.is_empty()
            && !self.has_ready()
            && !self.is_releasing()
    }

    /// True if nothing is registered.
    pub(super) fn is_empty(&self) -> bool {
        self.registered == 0
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Makes what is ready the contents of `batch`.
    #[inline]
    pub(super) fn report(&mut self, batch: &mut Vec<Readiness>) {
        if batch.is_empty() && self.ready.is_empty() {
            return;
        }
        batch.clear();
        mem::swap(batch, &mut self.ready);
        // Zero is never a batch: it marks slots that are in none.
        self.batch = self.batch.checked_add(1).unwrap_or(1);
    }

    /// Takes back a part of the last report. Level polls find it again.
    pub(super) fn put_back(&mut self, rest: &[Readiness]) {
        for &Readiness { fd, registration, events } in rest {
            let slot = &self.slots[fd as usize];
            let is_ours = slot.registration == registration && slot.state != State::Vacant;
            if is_ours {
                let kept = events & (slot.interest | Events::ERROR) & slot.not_found_again();
                self.merge(fd, kept);
            }
        }
    }

    /// Forgets what level polls found between two turns: it may not be true any more when it is
    /// reported. They are armed again in the next turn, and find it again if it is.
    pub(super) fn forget_levels(&mut self) {
        for mut ready in mem::take(&mut self.ready) {
            let slot = &mut self.slots[ready.fd as usize];
            ready.events &= slot.not_found_again();
            if ready.events.is_empty() && slot.state != State::Dead {
                slot.batch = 0;
                self.queue(ready.fd);
            } else {
                slot.position = self.ready.len() as u32;
                self.ready.push(ready);
            }
        }
    }

    /// Takes in the completion of an armed poll. False if it is none's.
    #[inline(always)]
    pub(super) fn complete(&mut self, completion: Completion) -> bool {
        let Completion { token, result, .. } = completion;
        let fd = token.slot() as RawFd;
        let Some(slot) = self.slots.get_mut(fd as usize) else { return false };
        if slot.stamp != token.stamp() {
            return false;
        }
        if result < 0 {
            self.fail(fd, -result);
            return true;
        }
        let events = Events::from_poll(result as u32, slot.interest);
        match slot.reading {
            Reading::OneShot => self.found(fd, events),
            Reading::Multishot => self.found_by_multishot(fd, events, completion.has_more()),
            Reading::Hint => self.look(fd, completion.has_more()),
            Reading::Told => self.told(fd, result as u32, completion.has_more()),
        }
        true
    }

    /// Adds to what a completion tells what the file says now: wake-ups for urgent data may call it
    /// ordinary.
    #[cold]
    fn told(&mut self, fd: RawFd, mask: u32, more: bool) {
        let slot = &self.slots[fd as usize];
        let mask = mask | sys::poll_now(fd, slot.interest.bits());
        let events = Events::from_poll(mask, slot.interest);
        // The kernel may have it as multishot still, until it is cancelled.
        if slot.multishot || more {
            return self.found_by_multishot(fd, events, more);
        }
        if events.is_empty() {
            return self.park(fd);
        }
        self.slots[fd as usize].state = State::Idle;
        self.queue(fd);
        self.merge(fd, events);
    }

    /// Takes a completion as a hint that there may be urgent data: its mask says "urgent" for
    /// ordinary data, too.
    #[cold]
    fn look(&mut self, fd: RawFd, more: bool) {
        let slot = &self.slots[fd as usize];
        let mask = sys::poll_now(fd, slot.interest.bits());
        let events = Events::from_poll(mask, slot.interest);
        match slot.multishot {
            false => self.found(fd, events),
            true => self.found_by_multishot(fd, events, more),
        }
    }

    #[inline(always)]
    fn found(&mut self, fd: RawFd, events: Events) {
        if events.is_empty() {
            return self.park(fd);
        }
        let slot = &mut self.slots[fd as usize];
        slot.state = State::Idle;
        self.ready.push(slot.readiness(fd, events));
    }

    #[inline(always)]
    fn found_by_multishot(&mut self, fd: RawFd, events: Events, more: bool) {
        let slot = &mut self.slots[fd as usize];
        if !more {
            slot.state = State::Idle;
            self.queue(fd);
        }
        if self.slots[fd as usize].trigger == Trigger::Level && !events.is_empty() {
            self.to_unpark.push(fd);
        }
        self.merge(fd, events);
    }

    /// Adds events to what the batch says of this fd.
    #[inline(always)]
    fn merge(&mut self, fd: RawFd, events: Events) {
        if events.is_empty() {
            return;
        }
        let slot = &mut self.slots[fd as usize];
        if slot.batch == self.batch {
            self.ready[slot.position as usize].events |= events;
        } else {
            slot.batch = self.batch;
            slot.position = self.ready.len() as u32;
            self.ready.push(slot.readiness(fd, events));
        }
    }

    /// Arms a one-shot poll that found nothing to tell as one that does not fire at once again.
    #[cold]
    fn park(&mut self, fd: RawFd) {
        let slot = &mut self.slots[fd as usize];
        slot.state = State::Idle;
        slot.set_multishot(true);
        self.queue(fd);
    }

    fn unpark(&mut self, fd: RawFd, ring: &mut Ring) {
        let slot = &mut self.slots[fd as usize];
        if slot.trigger != Trigger::Level || !slot.multishot {
            return;
        }
        let before = slot.reading;
        slot.set_multishot(false);
        self.arm_otherwise(fd, before, ring);
    }

    /// Ends a poll that was read as `before`, to arm it as the slot has it now.
    fn arm_otherwise(&mut self, fd: RawFd, before: Reading, ring: &mut Ring) {
        let slot = &self.slots[fd as usize];
        let is_told = before == Reading::Told && slot.reading == Reading::Told;
        if is_told && slot.state == State::Armed && slot.trigger == Trigger::Level {
            // What it tells until it is cancelled counts, and then the file is looked at.
            return ring.push_cancel(slot.token(fd), Token::IGNORED);
        }
        self.disarm(fd, ring);
        self.queue(fd);
    }

    /// The last completion of a cancelled poll lets go of its file.
    pub(super) fn complete_cancelled(&mut self, more: bool) {
        self.releasing -= usize::from(!more);
    }

    #[cold]
    fn fail(&mut self, fd: RawFd, errno: i32) {
        if errno == libc::ECANCELED && self.slots[fd as usize].reading == Reading::Told {
            return self.told(fd, 0, false);
        }
        self.slots[fd as usize].state = State::Idle;
        if matches!(errno, libc::ECANCELED | libc::ENOMEM | libc::EAGAIN | libc::EINTR) {
            self.queue(fd);
            return;
        }
        // The number was closed behind our back: say so once, and stay quiet until it is removed.
        self.slots[fd as usize].state = State::Dead;
        self.merge(fd, Events::ERROR);
    }
}
