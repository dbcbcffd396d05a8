//! The wake protocol: how posts reach a loop that may be asleep.
//!
//! One atomic holds all there is to know. Whoever adds to the loop's queue turns it to `NOTIFIED`
//! *afterwards*, and wakes the loop if it slept: of many posters, only the first. The loop turns it
//! from `AWAKE` to `ASLEEP` before it sleeps, which fails if it is `NOTIFIED`, and from `NOTIFIED`
//! to `AWAKE` *before* it looks into its queue. As all of them are read-modify-write operations on
//! one variable, each sees the one before it: no post is slept over.
//!
//! A notice that is found when a turn begins does not keep the loop from sleeping in that turn, for
//! the queue is looked into then. Whoever has queued nothing, and wants a sleep to end, *wakes* the
//! loop: that sets a flag, and notifies. The loop does not sleep if it finds the flag set, and resets
//! it whenever it has slept, or would have.
//!
//! A loop sleeps in its driver, which watches an eventfd. If nothing else can end that sleep, it
//! dozes instead: it waits for the atomic itself, as for any futex, and is awake sooner.

use crate::fork::ForkGuard;
use crate::futex::Word;
use crate::sys;
#[cfg(ringloop_loom)]
use loom::sync::atomic::AtomicBool;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(not(ringloop_loom))]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Nothing was announced since the loop looked last.
const AWAKE: u32 = 0;
/// As `AWAKE`, and the loop sleeps in its driver, or is about to.
const ASLEEP: u32 = 1;
/// As `AWAKE`, and the loop waits for this to change, or is about to.
const DOZING: u32 = 2;
/// Something was announced since.
const NOTIFIED: u32 = 3;

/// The protocol, without the eventfd.
#[derive(Debug)]
pub(crate) struct WakeState {
    word: Word,
    must_wake: AtomicBool,
}

impl WakeState {
    pub(crate) fn new() -> WakeState {
        WakeState { word: Word::new(AWAKE), must_wake: AtomicBool::new(false) }
    }

    #[inline]
    pub(crate) fn is_notified(&self) -> bool {
        self.word.load(Ordering::Relaxed) == NOTIFIED
    }

    #[inline]
    pub(crate) fn take_notice(&self) -> bool {
        self.is_notified() && {
            self.word.swap(AWAKE);
            true
        }
    }

    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        !self.take_wake() && self.word.exchange(AWAKE, ASLEEP)
    }

    #[inline]
    pub(crate) fn awake(&self) {
        if self.word.load(Ordering::Relaxed) == ASLEEP {
            self.word.exchange(ASLEEP, AWAKE);
        }
        self.take_wake();
    }

    fn doze(&self) -> Option<Doze> {
        if self.take_wake() || !self.word.exchange(AWAKE, DOZING) {
            return None;
        }
        let mut doze = Doze { interrupts: 0 };
        while self.word.load(Ordering::Relaxed) == DOZING {
            let waited = self.word.wait(DOZING);
            let is_interrupted = |error: io::Error| error.kind() == io::ErrorKind::Interrupted;
            doze.interrupts += u64::from(waited.is_err_and(is_interrupted));
        }
        self.take_wake();
        Some(doze)
    }

    /// A swap, and no store: what was done before the wake-up that it takes is seen afterwards.
    #[inline]
    fn take_wake(&self) -> bool {
        self.must_wake.load(Ordering::Relaxed) && self.must_wake.swap(false, Ordering::AcqRel)
    }

    /// Wakes the loop if it dozes. True if it sleeps, and has to be woken.
    pub(crate) fn notify(&self) -> bool {
        let before = self.word.swap(NOTIFIED);
        if before == DOZING {
            self.word.wake();
        }
        before == ASLEEP
    }

    /// As [`notify`](Self::notify), and ends a sleep, that which is about to begin if there is none.
    pub(crate) fn wake(&self) -> bool {
        self.must_wake.swap(true, Ordering::AcqRel);
        self.notify()
    }
}

/// A sleep that has ended because the loop was notified.
pub(crate) struct Doze {
    /// How often a signal came.
    pub(crate) interrupts: u64,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Alarm {
    state: WakeState,
    /// Of the process that made it. A forked child has it, too, and does not touch it.
    eventfd: OwnedFd,
    fork: ForkGuard,
}

impl Alarm {
    pub(crate) fn new(fork: ForkGuard) -> io::Result<Alarm> {
        Ok(Alarm { state: WakeState::new(), eventfd: sys::eventfd()?, fork })
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// On the loop's thread: whether [`take_notice`](Self::take_notice) would return true.
    pub(crate) fn is_notified(&self) -> bool {
        self.state.is_notified()
    }

    /// On the loop's thread: whether it has been notified since it was asked last.
    #[inline]
    pub(crate) fn take_notice(&self) -> bool {
        self.state.take_notice()
    }

    /// On the loop's thread: false if it must not sleep. Else [`awake`](Self::awake) must follow.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.state.fall_asleep()
    }

    /// On the loop's thread: posts need no wake-up from now on.
    #[inline]
    pub(crate) fn awake(&self) {
        self.state.awake();
    }

    /// On the loop's thread: sleeps until it is notified. `None` if it is already.
    pub(crate) fn doze(&self) -> Option<Doze> {
        self.state.doze()
    }

    /// On any thread, after the work has been queued. Async-signal-safe: atomic operations and at most
    /// one system call.
    pub(crate) fn notify(&self) {
        if self.state.notify() {
            self.write();
        }
    }

    /// Ends a sleep, or keeps the loop from the next one, whether or not there is a reason.
    /// Async-signal-safe, as [`notify`](Self::notify).
    pub(crate) fn wake(&self) {
        if self.state.wake() {
            self.write();
        }
    }

    fn write(&self) {
        if !self.fork.is_forked() {
            sys::eventfd_signal(&self.eventfd);
        }
    }
}

#[cfg(all(test, not(ringloop_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_ends_one_sleep() {
        let state = WakeState::new();
        assert!(state.fall_asleep());
        assert!(state.wake());
        state.awake();
        assert!(state.take_notice());
        assert!(state.fall_asleep(), "the next one is undisturbed");
    }

    #[test]
    fn a_wake_up_ends_one_doze() {
        let state = WakeState::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while state.word.load(Ordering::Relaxed) != DOZING {
                    std::thread::yield_now();
                }
                state.wake();
            });
            assert!(state.doze().is_some());
        });
        assert!(state.take_notice());
        assert!(state.fall_asleep(), "the sleep after it is undisturbed");
    }

    #[test]
    fn a_wake_up_while_awake_keeps_from_the_next_sleep_alone() {
        let state = WakeState::new();
        assert!(!state.wake());
        assert!(state.take_notice());
        assert!(!state.fall_asleep());
        assert!(state.fall_asleep());
    }
}

/// Interleavings of posters and a loop, by `ci/loom.sh`. A post slept over is a deadlock.
#[cfg(all(test, ringloop_loom))]
mod model {
    use super::*;
    use crate::posts::Posts;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// Stands for the eventfd.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<usize>,
        heard: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() += 1;
            self.heard.notify_one();
        }

        /// Sleeps until it has been rung, and says how often.
        fn wait(&self) -> usize {
            let mut rung = self.rung.lock().unwrap();
            while *rung == 0 {
                rung = self.heard.wait(rung).unwrap();
            }
            std::mem::take(&mut *rung)
        }
    }

    struct Model {
        state: WakeState,
        posts: Posts<usize>,
        bell: Bell,
    }

    impl Model {
        fn new() -> Model {
            Model { state: WakeState::new(), posts: Posts::new(), bell: Bell::default() }
        }

        fn wake(&self) {
            if self.state.wake() {
                self.bell.ring();
            }
        }

        fn post(&self, item: usize) -> bool {
            let accepted = self.posts.push(item).is_ok();
            if self.state.notify() {
                self.bell.ring();
            }
            accepted
        }

        /// One turn of a loop with nothing else to do. Returns how often its driver was woken.
        fn turn(&self, collected: &mut Vec<usize>, place: Place) -> usize {
            if self.state.take_notice() {
                let posted = self.posts.take(Vec::new());
                if !posted.is_empty() {
                    collected.extend(posted);
                    return 0;
                }
            }
            if place == Place::Word {
                self.state.doze();
                return 0;
            }
            if !self.state.fall_asleep() {
                return 0;
            }
            let woken = self.bell.wait();
            self.state.awake();
            woken
        }
    }

    /// Where the loop sleeps.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Place {
        Driver,
        Word,
    }

    /// How often a thread is interrupted where it need not be, at most. Each one more takes several
    /// times as long.
    const PREEMPTIONS: usize = 3;

    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS);
        builder.check(model);
    }

    /// The loop sleeps in each place after the other.
    fn check(posters: usize, each: usize, places: &'static [Place]) {
        explore(move || {
            let model = Arc::new(Model::new());
            let threads: Vec<_> = (0..posters)
                .map(|poster| {
                    let model = model.clone();
                    thread::spawn(move || {
                        (0..each).for_each(|number| {
                            assert!(model.post(poster * each + number));
                        });
                    })
                })
                .collect();
            let (mut collected, mut woken, mut slept) = (Vec::new(), 0, 0);
            let mut places = places.iter().cycle();
            while collected.len() < posters * each {
                let wakes = model.turn(&mut collected, *places.next().unwrap());
                woken += wakes;
                slept += usize::from(wakes > 0);
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(woken, slept, "one wake-up ends one sleep");
            for poster in 0..posters {
                let own = |item: &&usize| **item / each == poster;
                assert!(collected.iter().filter(own).is_sorted(), "posts of one thread in order");
            }
            collected.sort_unstable();
            assert!(collected.into_iter().eq(0..posters * each), "each exactly once");
        });
    }

    #[test]
    fn no_post_of_one_thread_is_slept_over() {
        check(1, 3, &[Place::Driver]);
    }

    #[test]
    fn no_post_of_two_threads_is_slept_over() {
        check(2, 1, &[Place::Driver]);
    }

    #[test]
    fn no_post_of_one_thread_is_dozed_over() {
        check(1, 3, &[Place::Word]);
    }

    #[test]
    fn no_post_of_two_threads_is_dozed_over() {
        check(2, 1, &[Place::Word]);
    }

    #[test]
    fn no_post_is_lost_between_sleeping_and_dozing() {
        // A turn that finds something does not sleep: so the places differ from sleep to sleep.
        check(1, 3, &[Place::Driver, Place::Word, Place::Word]);
        check(2, 1, &[Place::Driver, Place::Word, Place::Word]);
    }

    /// Another thread says something, and then wakes the loop. The loop looks after each turn.
    fn check_wake(places: &'static [Place]) {
        explore(move || {
            let model = Arc::new((Model::new(), AtomicUsize::new(0)));
            let waker = {
                let model = model.clone();
                thread::spawn(move || {
                    let (model, said) = &*model;
                    (1..=2).for_each(|number| {
                        said.store(number, Ordering::Relaxed);
                        model.wake();
                    });
                })
            };
            let (model, said) = &*model;
            let mut places = places.iter().cycle();
            while said.load(Ordering::Relaxed) < 2 {
                model.turn(&mut Vec::new(), *places.next().unwrap());
            }
            waker.join().unwrap();
        });
    }

    #[test]
    fn no_wake_up_is_slept_over() {
        check_wake(&[Place::Driver]);
    }

    #[test]
    fn no_wake_up_is_dozed_over() {
        check_wake(&[Place::Word]);
    }

    #[test]
    fn no_wake_up_is_lost_between_sleeping_and_dozing() {
        check_wake(&[Place::Driver, Place::Word, Place::Word]);
    }

    #[test]
    fn a_post_that_meets_the_end_of_the_loop_is_collected_or_refused() {
        loom::model(|| {
            let posts = Arc::new(Posts::new());
            let poster = {
                let posts = posts.clone();
                thread::spawn(move || posts.push(7).is_ok())
            };
            let collected = posts.close();
            let accepted = poster.join().unwrap();
            assert_eq!(accepted, collected == [7]);
            assert!(posts.push(8).is_err());
        });
    }
}
