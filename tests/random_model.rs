//! Random operations, turn after turn, against a model: `poll(2)` says who must be called, and
//! with which mask; the order of callbacks and timeouts is that in which they were added.

mod stress_support;
mod support;

use ringloop::{Events, IoLoop, KernelFeatures, Panics, Timeout};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::Duration;
use stress_support::{alone, eventfd, sized_loop, small_loop};
use support::{pair, turn};

const FILES: usize = 24;
const TURNS: usize = 1500;

/// What happened in a turn, in order. Registrations, callbacks and timeouts go by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Callback(u32),
    Timeout(u32),
    Call(u32, Events),
    Removed(u32),
    /// To another interest.
    Updated(u32),
}

/// One file under test, its other side if it has one, and what the loop should know of it.
#[derive(Default)]
struct File {
    file: Option<OwnedFd>,
    peer: Option<OwnedFd>,
    /// Number of the registration, and its interest.
    registered: Option<(u32, Events)>,
    /// The kernel has been watching it since an earlier turn, and has had nothing to say.
    waited: bool,
    /// Bytes have moved, or something has ended, since completions were last taken in.
    touched: bool,
}

impl File {
    fn fd(&self) -> RawFd {
        self.file.as_ref().unwrap().as_raw_fd()
    }
}

/// What a turn has to make of a registration.
struct Outlook {
    interest: Events,
    ready: Events,
    /// What a wake-up reports is what *happened* to the file: of several things that happened
    /// since the last turn, perhaps the first alone, and perhaps one that is undone. The turn
    /// after, and in all other cases, the report is what *is*.
    woken: bool,
    /// The first that happened may be of no interest and hide the others, until the turn after.
    /// Deferred task work makes one of them all.
    hidden: bool,
}

impl Outlook {
    fn allows(&self, call: Option<Events>) -> bool {
        let reported = call.unwrap_or_default();
        if call.is_some() && reported.is_empty() {
            return false;
        }
        match self.woken {
            false => reported == self.ready,
            true => {
                (self.interest | Events::ERROR).contains(reported)
                    && (call.is_some() || self.ready.is_empty() || self.hidden)
            }
        }
    }
}

/// What `poll(2)` says, as the loop tells it.
fn poll_now(fd: RawFd, interest: Events) -> Events {
    let mut entry = libc::pollfd { fd, events: interest.bits() as i16, revents: 0 };
    // SAFETY: one valid entry, and a length of one.
    let result = unsafe { libc::poll(&mut entry, 1, 0) };
    assert!(result >= 0);
    let ready = Events::from_bits_retain(u32::from(entry.revents as u16));
    let failed = if ready.intersects(Events::ERROR) { Events::ERROR } else { Events::NONE };
    (ready & interest & !Events::ERROR) | failed
}

struct Model {
    this: Weak<RefCell<Model>>,
    io_loop: IoLoop,
    random: fastrand::Rng,
    files: Vec<File>,
    steps: Vec<Step>,
    last_number: u32,
    callbacks: Vec<Step>,
    due: Vec<(Step, Timeout)>,
    later: Vec<(Step, Timeout)>,
    /// Handlers that are called change this and that.
    mischief: bool,
    /// For the message of a failure.
    history: Vec<String>,
}

impl Model {
    fn new(io_loop: IoLoop, mischief: bool, seed: u64) -> Rc<RefCell<Model>> {
        Rc::new_cyclic(|this| {
            RefCell::new(Model {
                this: this.clone(),
                io_loop,
                random: fastrand::Rng::with_seed(seed),
                files: (0..FILES).map(|_| File::default()).collect(),
                steps: Vec::new(),
                last_number: 0,
                callbacks: Vec::new(),
                due: Vec::new(),
                later: Vec::new(),
                mischief,
                history: vec![format!("seed {seed}")],
            })
        })
    }

    fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// A closure that writes a step down.
    fn writing(&self, step: Step) -> impl FnOnce() + use<> {
        let this = self.this.clone();
        move || this.upgrade().unwrap().borrow_mut().steps.push(step)
    }

    fn on_call(&mut self, number: u32, events: Events) {
        self.steps.push(Step::Call(number, events));
        if self.mischief && self.random.bool() {
            self.change_something();
        }
    }

    fn open(&mut self, index: usize) {
        let (file, peer) = match self.random.u8(..6) {
            0 => (eventfd(self.random.u32(..2)).unwrap(), None),
            1 | 2 => {
                let (reader, writer) = std::io::pipe().unwrap();
                let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
                set_nonblocking(&reader);
                set_nonblocking(&writer);
                match self.random.bool() {
                    true => (reader, Some(writer)),
                    false => (writer, Some(reader)),
                }
            }
            _ => {
                let (stream, peer) = pair();
                (stream.into(), Some(peer.into()))
            }
        };
        self.files[index] = File { file: Some(file), peer, ..File::default() };
    }

    fn interest(&mut self) -> Events {
        // Urgent data never comes, and must never be reported.
        let some = [Events::READ, Events::WRITE, Events::PRIORITY];
        some.into_iter().filter(|_| self.random.bool()).collect()
    }

    fn register(&mut self, index: usize) {
        let (number, interest, this) = (self.number(), self.interest(), self.this.clone());
        let handler = move |_: &mut RawFd, events| {
            this.upgrade().unwrap().borrow_mut().on_call(number, events);
        };
        let file = &mut self.files[index];
        let added = self.io_loop.add_handler(file.fd(), interest, handler);
        if file.registered.is_some() {
            assert_eq!(added.unwrap_err().error().raw_os_error(), Some(libc::EEXIST));
        } else {
            added.unwrap();
            file.registered = Some((number, interest));
            file.waited = false;
        }
    }

    fn update(&mut self, index: usize) {
        let new = self.interest();
        let file = &mut self.files[index];
        let updated = self.io_loop.update_handler(&file.fd(), new);
        assert_eq!(updated.is_ok(), file.registered.is_some());
        match &mut file.registered {
            Some((number, interest)) if *interest != new => {
                *interest = new;
                file.waited = false;
                self.steps.push(Step::Updated(*number));
            }
            _ => {}
        }
    }

    fn remove(&mut self, index: usize) {
        let file = &mut self.files[index];
        let removed = self.io_loop.remove_handler(&file.fd());
        assert_eq!(removed, file.registered.is_some());
        self.steps.extend(file.registered.take().map(|(number, _)| Step::Removed(number)));
    }

    fn close(&mut self, index: usize) {
        self.remove(index);
        self.files[index].file = None;
    }

    /// Moves bytes, or ends something, on one side of the file.
    fn do_io(&mut self, index: usize) {
        let (ends_something, near) = (self.random.u8(..8) == 0, self.random.bool());
        let file = &mut self.files[index];
        file.touched = true;
        let side = if near { &file.file } else { &file.peer };
        let Some(side) = side.as_ref().or(file.file.as_ref()) else { return };
        if !ends_something {
            let mut side = std::fs::File::from(side.try_clone().unwrap());
            // The size of an eventfd's number, or so much that a buffer fills up. Whether it works
            // is the kernel's affair.
            let length = if self.random.bool() { 8 } else { 70_000 };
            let _ = match self.random.bool() {
                true => side.read(&mut vec![0; length]),
                false => side.write(&vec![1; length]),
            };
            return;
        }
        match self.random.u8(..3) {
            0 => file.peer = None,
            // SAFETY: passes no memory. Refused for what is not a socket.
            1 => _ = unsafe { libc::shutdown(side.as_raw_fd(), libc::SHUT_WR) },
            // SAFETY: as above.
            _ => _ = unsafe { libc::shutdown(side.as_raw_fd(), libc::SHUT_RD) },
        }
    }

    fn schedule(&mut self) {
        let number = self.number();
        match self.random.u8(..4) {
            0 => {
                let step = Step::Callback(number);
                self.io_loop.add_callback(self.writing(step));
                self.callbacks.push(step);
            }
            1 => {
                let step = Step::Timeout(number);
                let now = self.io_loop.time();
                self.due.push((step, self.io_loop.call_at(now, self.writing(step))));
            }
            2 => {
                let step = Step::Timeout(number);
                let hours = Duration::from_secs(3600 * self.random.u64(1..100));
                self.later.push((step, self.io_loop.call_later(hours, self.writing(step))));
            }
            _ => {
                let list = if self.random.bool() { &mut self.due } else { &mut self.later };
                if !list.is_empty() {
                    let (_, timeout) = list.remove(self.random.usize(..list.len()));
                    self.io_loop.remove_timeout(timeout);
                    self.io_loop.remove_timeout(timeout);
                }
            }
        }
    }

    fn change_something(&mut self) {
        let index = self.random.usize(..FILES);
        let choice = self.random.u8(..20);
        let is_open = self.files[index].file.is_some();
        self.history.push(format!("{choice}@{index}"));
        match choice {
            0..3 => self.schedule(),
            _ if !is_open => self.open(index),
            3..6 => self.register(index),
            6..9 => self.update(index),
            9 => self.remove(index),
            10 => {
                self.remove(index);
                self.register(index);
            }
            11 => self.close(index),
            _ => self.do_io(index),
        }
    }

    /// What the next turn has to make of all registrations.
    fn outlooks(&mut self) -> BTreeMap<u32, Outlook> {
        let features = self.io_loop.metrics().features;
        let outlook = |file: &mut File| {
            let (number, interest) = file.registered?;
            let (ready, woken) = (poll_now(file.fd(), interest), file.waited && file.touched);
            let hidden = woken && !features.contains(KernelFeatures::DEFER_TASKRUN);
            file.touched = false;
            Some((number, Outlook { interest, ready, woken, hidden }))
        };
        self.files.iter_mut().filter_map(outlook).collect()
    }

    /// The callbacks and timeouts that the next turn has to run.
    fn agenda(&mut self) -> Vec<Step> {
        let metrics = self.io_loop.metrics();
        assert_eq!(metrics.timeouts_pending, self.due.len() + self.later.len());
        let timeouts = self.due.drain(..).map(|(step, _)| step);
        self.callbacks.drain(..).chain(timeouts).collect()
    }

    /// Compares what has happened in a turn to what should have.
    fn check(&mut self, agenda: &[Step], outlooks: &BTreeMap<u32, Outlook>) {
        let steps = std::mem::take(&mut self.steps);
        let recent = &self.history[self.history.len().saturating_sub(60)..];
        let context = format!("{}: {recent:?}: {steps:?}", self.history[0]);
        assert!(steps.starts_with(agenda), "{agenda:?} first: {context}");
        let (mut calls, mut removed, mut updated) =
            (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for step in &steps[agenda.len()..] {
            match *step {
                Step::Call(number, events) => {
                    assert!(!removed.contains(&number), "{number} was removed: {context}");
                    assert!(outlooks.contains_key(&number), "{number} was added: {context}");
                    assert!(calls.insert(number, events).is_none(), "{number} twice: {context}");
                }
                Step::Removed(number) => _ = removed.insert(number),
                Step::Updated(number) => _ = updated.insert(number),
                Step::Callback(_) | Step::Timeout(_) => panic!("{step:?} in between: {context}"),
            }
        }
        for (number, outlook) in outlooks {
            let call = calls.get(number).copied();
            let overtaken = updated.contains(number) || call.is_none() && removed.contains(number);
            assert!(overtaken || outlook.allows(call), "{number}: {:?}: {context}", outlook.ready);
        }
        for file in &mut self.files {
            file.waited = file.registered.is_some_and(|(number, _)| {
                outlooks.contains_key(&number)
                    && !calls.contains_key(&number)
                    && !updated.contains(&number)
            });
        }
        let handlers = self.files.iter().filter(|file| file.registered.is_some()).count();
        assert_eq!(self.io_loop.metrics().handlers, handlers, "{context}");
    }
}

fn set_nonblocking(file: &OwnedFd) {
    // SAFETY: passes no memory.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(result, 0);
}

fn every_turn_does_what_the_model_says(io_loop: IoLoop, mischief: bool, seed: u64) {
    // Other tests would take descriptor numbers that are to be used again here.
    let _alone = alone();
    let model = Model::new(io_loop.clone(), mischief, seed);
    for _ in 0..TURNS {
        let (agenda, outlooks) = {
            let mut model = model.borrow_mut();
            for _ in 0..model.random.u8(..6) {
                model.change_something();
            }
            model.steps.clear();
            model.history.push("turn".to_owned());
            (model.agenda(), model.outlooks())
        };
        turn(&io_loop);
        model.borrow_mut().check(&agenda, &outlooks);
    }
    let metrics = io_loop.metrics();
    assert!(metrics.handler_calls > TURNS as u64, "{metrics:?}");
    io_loop.close(false).unwrap();
}

#[test]
fn what_is_ready_is_called_with_what_it_is_ready_for_and_nobody_else() {
    (0..8).for_each(|seed| every_turn_does_what_the_model_says(small_loop(), false, seed));
}

#[test]
fn handlers_that_change_others_are_obeyed_at_once() {
    (100..108).for_each(|seed| every_turn_does_what_the_model_says(small_loop(), true, seed));
}

#[test]
fn a_submission_queue_of_two_entries_makes_no_difference() {
    (200..204).for_each(|seed| every_turn_does_what_the_model_says(sized_loop(2, 64), true, seed));
}

#[test]
fn completions_posted_while_system_calls_are_made_make_no_difference() {
    for (seed, mischief) in [(300, false), (301, false), (302, true), (303, true)] {
        let builder = IoLoop::builder().entries(64).cq_entries(256).panics(Panics::Propagate);
        let eager = KernelFeatures::DEFER_TASKRUN | KernelFeatures::COOP_TASKRUN;
        let io_loop = builder.without(eager).build().unwrap();
        every_turn_does_what_the_model_says(io_loop, mischief, seed);
    }
}
