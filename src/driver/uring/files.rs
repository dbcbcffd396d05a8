//! Sockets that send often, in the ring's own table of files.
//!
//! Each request on a descriptor looks its file up, takes a reference to it and gives it back. One
//! that names a place in the table does not. A descriptor that has carried some sends is put into
//! the table, at the place that has its number, and once it is there, sends name the place.
//!
//! The table keeps files open. So a descriptor is taken out before it is closed: by a request in
//! front of the one that closes it, or with a system call where it is closed at once.

use super::ring::{Completion, Ring};
use super::token::{Kind, Stamp, Token};
use crate::features::KernelFeatures as Features;
use crate::sys;
use io_uring::{opcode, squeue};
use std::os::fd::RawFd;

/// Sends on its descriptor before a socket is put into the table. To put it there and to take it out
/// again costs what about ten sends save, and who has sent as often as this will send again.
const SENDS_BEFORE: u8 = 16;
/// Places at most. They take up 8 bytes each in the kernel.
const MOST_PLACES: usize = 32 * 1024;
/// Put into the table with one system call, at most. Others have to wait for their next send.
const MOST_ASKED: usize = 64;
/// What is in a place with nothing in it.
static NOTHING: RawFd = -1;
/// What it takes: without the others, there are no sends that do not wait.
const NEEDED: Features =
    Features::REGISTERED_FILES.union(Features::CQE_SKIP).union(Features::SILENT_SEND);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Has carried so many sends.
    Outside(u8),
    /// The kernel is to put it into the table, and may have done so.
    Asked,
    Inside,
    /// The kernel has refused to.
    Refused,
}

pub(super) struct Files {
    /// Of each descriptor.
    states: Vec<State>,
    /// Those that are asked for. The kernel reads them here, so they stay where they are.
    asked: Vec<RawFd>,
    /// Names those that are asked for now.
    stamp: Stamp,
    /// There is a table, with as many places as the limit says.
    registered: bool,
    /// Numbers from here on have no place.
    limit: usize,
}

impl Files {
    pub(super) fn new(features: Features) -> Files {
        Files {
            states: Vec::new(),
            asked: Vec::with_capacity(MOST_ASKED),
            stamp: Stamp::first(Kind::File),
            registered: false,
            limit: if features.contains(NEEDED) { MOST_PLACES } else { 0 },
        }
    }

    /// False if the kernel has no such table for us.
    pub(super) fn are_available(&self) -> bool {
        self.limit > 0
    }

    /// Whether a send on `fd` may name its place instead. Counts it.
    #[inline]
    pub(super) fn holds(&mut self, fd: RawFd, ring: &mut Ring) -> bool {
        match self.states.get_mut(fd as usize) {
            Some(State::Inside) => return true,
            Some(State::Outside(sends)) if *sends < SENDS_BEFORE => *sends += 1,
            _ => self.consider(fd, ring),
        }
        false
    }

    #[cold]
    fn consider(&mut self, fd: RawFd, ring: &mut Ring) {
        match self.states.get(fd as usize) {
            None if (fd as usize) < self.limit => {
                self.states.resize(fd as usize + 1, State::Outside(0));
                self.states[fd as usize] = State::Outside(1);
            }
            Some(State::Outside(_)) => self.ask(fd, ring),
            _ => {}
        }
    }

    fn ask(&mut self, fd: RawFd, ring: &mut Ring) {
        if !self.registered {
            self.register(ring);
        }
        if fd as usize >= self.limit || self.asked.len() == MOST_ASKED {
            return;
        }
        let token = Token::new(self.stamp, self.asked.len() as u32);
        self.asked.push(fd);
        self.states[fd as usize] = State::Asked;
        let request = update(fd, &self.asked[self.asked.len() - 1]);
        // SAFETY: the request reads one descriptor from `asked`, which has room for as many as are
        // ever in it, so it is not moved. The kernel reads it when it takes the request in, and the
        // ring, which alone has it do so, goes no later than `asked`.
        unsafe { ring.push(request.user_data(token.bits())) };
    }

    /// Makes the table, or does without.
    fn register(&mut self, ring: &Ring) {
        let limit = self.limit.min(sys::descriptor_limit());
        if ring.register_files(limit as u32).is_ok() {
            self.registered = true;
            self.limit = limit;
        } else {
            self.limit = 0;
            self.states.clear();
        }
    }

    /// Takes in the completion of a request that has put nothing into the table. False if it is none's.
    #[cold]
    pub(super) fn complete(&mut self, completion: Completion) -> bool {
        if completion.token.stamp() != self.stamp {
            return false;
        }
        let asked = self.asked.get(completion.token.slot() as usize);
        if let Some(state) = asked.and_then(|&fd| self.states.get_mut(fd as usize)) {
            *state = State::Refused;
        }
        asked.is_some()
    }

    /// All that were asked for are in the table, unless it has been told otherwise. Only after an enter
    /// that has taken in all requests, and all completions of which have been.
    #[inline]
    pub(super) fn complete_asked(&mut self) {
        if !self.asked.is_empty() {
            self.complete_all_asked();
        }
    }

    #[inline(never)]
    fn complete_all_asked(&mut self) {
        for fd in self.asked.drain(..) {
            // `NOTHING` has none.
            if let Some(state @ State::Asked) = self.states.get_mut(fd as usize) {
                *state = State::Inside;
            }
        }
        self.stamp = self.stamp.next();
    }

    /// Takes `fd` out of the table, before any request that is queued after this.
    #[inline]
    pub(super) fn remove(&mut self, fd: RawFd, ring: &mut Ring) {
        if self.forget(fd) {
            let request = update(fd, &NOTHING).user_data(Token::IGNORED.bits());
            // SAFETY: it refers to a static.
            unsafe { ring.push(request) };
        }
    }

    /// Takes `fd` out of the table at once.
    pub(super) fn remove_now(&mut self, fd: RawFd, ring: &Ring) {
        if self.forget(fd) {
            // The place is there. If it were not, there would be nothing in it.
            let _ = ring.update_file(fd, NOTHING);
        }
    }

    /// Has the next file of that number start anew. True if the table may have the present one.
    fn forget(&mut self, fd: RawFd) -> bool {
        let Some(state) = self.states.get_mut(fd as usize) else { return false };
        let before = std::mem::replace(state, State::Outside(0));
        if before == State::Asked {
            // If the kernel has not read it yet, it may be another file's when it does.
            self.asked.iter_mut().filter(|asked| **asked == fd).for_each(|asked| *asked = NOTHING);
        }
        matches!(before, State::Asked | State::Inside)
    }

    /// Has the table let go of everything, now. Nothing else follows.
    pub(super) fn unregister(&self, ring: &Ring) {
        if self.registered {
            // There is one, so it is given up.
            let _ = ring.unregister_files();
        }
    }
}

/// Puts what `file` names into the place of `fd`. Completes only if that fails.
fn update(fd: RawFd, file: &RawFd) -> squeue::Entry {
    let update = opcode::FilesUpdate::new(file, 1).offset(fd).build();
    update.flags(squeue::Flags::SKIP_SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Wait;
    use crate::driver::uring::Sizes;
    use io_uring::types;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// `None` where the kernel lets go of files too late.
    fn files_and_ring() -> Option<(Files, Ring)> {
        let ring = Ring::new(Sizes { submission: 8, completion: 16 }, Features::empty()).unwrap();
        let files = Files::new(ring.features());
        files.are_available().then_some((files, ring))
    }

    /// Counts sends until the descriptor is asked for.
    fn ask(files: &mut Files, fd: RawFd, ring: &mut Ring) {
        (0..=SENDS_BEFORE).for_each(|_| assert!(!files.holds(fd, ring)));
        assert!(files.asked.contains(&fd));
    }

    /// Has the kernel do what is queued; how many completions were of files.
    fn enter(files: &mut Files, ring: &mut Ring) -> usize {
        ring.submit_and_wait(Wait::Poll).unwrap();
        let mut refused = 0;
        ring.reap(|completion| refused += usize::from(files.complete(completion)));
        assert!(ring.is_up_to_date());
        files.complete_asked();
        refused
    }

    /// Whether there is anything in a place.
    fn is_taken(place: RawFd, ring: &mut Ring) -> bool {
        let request =
            opcode::Read::new(types::Fixed(place as u32), std::ptr::null_mut(), 0).build();
        let request = request.user_data(Token::new(Stamp::first(Kind::Wake), 0).bits());
        // SAFETY: a read of no bytes refers to no memory.
        unsafe { ring.push(request) };
        ring.submit_and_wait(Wait::Forever).unwrap();
        let mut taken = None;
        ring.reap(|completion| taken = Some(completion.result != -libc::EBADF));
        taken.unwrap()
    }

    #[test]
    fn a_descriptor_is_held_from_the_next_turn_on() {
        let Some((mut files, mut ring)) = files_and_ring() else { return };
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        ask(&mut files, fd, &mut ring);
        assert!(!files.holds(fd, &mut ring), "the kernel has not been told");
        assert_eq!(enter(&mut files, &mut ring), 0);
        assert!(files.holds(fd, &mut ring) && is_taken(fd, &mut ring));
        files.remove(fd, &mut ring);
        assert!(!files.holds(fd, &mut ring));
        enter(&mut files, &mut ring);
        assert!(!is_taken(fd, &mut ring));
    }

    #[test]
    fn a_descriptor_closed_before_the_kernel_is_told_of_it_leaves_its_number_alone() {
        for at_once in [true, false] {
            let Some((mut files, mut ring)) = files_and_ring() else { return };
            let file = File::open("/dev/null").unwrap();
            let fd = file.as_raw_fd();
            ask(&mut files, fd, &mut ring);
            match at_once {
                true => files.remove_now(fd, &ring),
                false => files.remove(fd, &mut ring),
            }
            assert_eq!(files.asked, [NOTHING]);
            assert_eq!(enter(&mut files, &mut ring), 0);
            assert!(!files.holds(fd, &mut ring) && !is_taken(fd, &mut ring));
        }
    }

    #[test]
    fn a_descriptor_removed_at_once_is_out_of_the_table_at_once() {
        let Some((mut files, mut ring)) = files_and_ring() else { return };
        let (mut reader, writer) = std::io::pipe().unwrap();
        ask(&mut files, writer.as_raw_fd(), &mut ring);
        enter(&mut files, &mut ring);
        files.remove_now(writer.as_raw_fd(), &ring);
        drop(writer);
        assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_descriptor_that_is_refused_is_asked_for_once_and_its_number_anew() {
        let Some((mut files, mut ring)) = files_and_ring() else { return };
        // Rings have no place in a ring.
        let refused = io_uring::IoUring::new(2).unwrap();
        let fd = refused.as_raw_fd();
        ask(&mut files, fd, &mut ring);
        assert_eq!(enter(&mut files, &mut ring), 1);
        for _ in 0..=2 * SENDS_BEFORE {
            assert!(!files.holds(fd, &mut ring));
        }
        assert!(files.asked.is_empty());
        files.remove(fd, &mut ring);
        ask(&mut files, fd, &mut ring);
        assert_eq!(enter(&mut files, &mut ring), 1);
    }

    #[test]
    fn more_than_there_is_room_to_ask_for_in_one_turn_wait_for_the_next() {
        let Some((mut files, mut ring)) = files_and_ring() else { return };
        let sources: Vec<_> = (0..=MOST_ASKED).map(|_| File::open("/dev/null").unwrap()).collect();
        for file in &sources {
            (0..=SENDS_BEFORE).for_each(|_| assert!(!files.holds(file.as_raw_fd(), &mut ring)));
        }
        let room = files.asked.as_ptr();
        assert_eq!(files.asked.len(), MOST_ASKED);
        enter(&mut files, &mut ring);
        let held = |files: &mut Files, ring: &mut Ring| {
            sources.iter().filter(|file| files.holds(file.as_raw_fd(), ring)).count()
        };
        assert_eq!(held(&mut files, &mut ring), MOST_ASKED);
        assert_eq!(files.asked.as_ptr(), room);
        enter(&mut files, &mut ring);
        assert_eq!(held(&mut files, &mut ring), MOST_ASKED + 1);
    }

    #[test]
    fn numbers_beyond_the_table_are_never_asked_for() {
        let Some((mut files, mut ring)) = files_and_ring() else { return };
        for fd in [MOST_PLACES as RawFd, RawFd::MAX, -1] {
            (0..=2 * SENDS_BEFORE).for_each(|_| assert!(!files.holds(fd, &mut ring)));
            files.remove(fd, &mut ring);
        }
        assert!(files.asked.is_empty() && !files.registered);
        assert_eq!(ring.queued(), 0);
    }
}
