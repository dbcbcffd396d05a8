//! The wake protocol: how posts reach a loop that may be asleep.
//!
//! One atomic holds all there is to know. Whoever adds to the loop's queue turns it to `NOTIFIED`
//! *afterwards*, and writes to the eventfd if it was `ASLEEP`: of many posters, only the first. The
//! loop turns it from `AWAKE` to `ASLEEP` before it sleeps, which fails if it is `NOTIFIED`, and
//! from `NOTIFIED` to `AWAKE` *before* it looks into its queue. As all of them are read-modify-write
//! operations on one variable, each sees the one before it: no post is slept over.

use crate::fork::ForkGuard;
use crate::sys;
#[cfg(ringloop_loom)]
use loom::sync::atomic::AtomicU8;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(not(ringloop_loom))]
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

/// Nothing was announced since the loop looked last.
const AWAKE: u8 = 0;
/// As `AWAKE`, and the loop sleeps, or is about to.
const ASLEEP: u8 = 1;
/// Something was announced since.
const NOTIFIED: u8 = 2;

/// The protocol, without the eventfd.
#[derive(Debug)]
pub(crate) struct WakeState(AtomicU8);

impl WakeState {
    pub(crate) fn new() -> WakeState {
        WakeState(AtomicU8::new(AWAKE))
    }

    #[inline]
    fn is_notified(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTIFIED
    }

    #[inline]
    pub(crate) fn take_notice(&self) -> bool {
        self.is_notified() && {
            self.0.swap(AWAKE, Ordering::AcqRel);
            true
        }
    }

    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.exchange(AWAKE, ASLEEP)
    }

    #[inline]
    pub(crate) fn awake(&self) {
        if self.0.load(Ordering::Relaxed) == ASLEEP {
            self.exchange(ASLEEP, AWAKE);
        }
    }

    /// True if the loop has to be woken.
    pub(crate) fn notify(&self) -> bool {
        self.0.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP
    }

    fn exchange(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
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

    /// On any thread, after the work has been queued. Async-signal-safe.
    pub(crate) fn notify(&self) {
        if self.state.notify() {
            self.ring();
        }
    }

    /// Ends a sleep, whether or not there is a reason. Async-signal-safe: one `write(2)`.
    pub(crate) fn ring(&self) {
        if !self.fork.is_forked() {
            sys::eventfd_signal(&self.eventfd);
        }
    }
}

/// All interleavings of posters and a loop, by `ci/loom.sh`. A post slept over is a deadlock.
#[cfg(all(test, ringloop_loom))]
mod model {
    use super::*;
    use crate::posts::Posts;
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
        fn post(&self, item: usize) -> bool {
            let accepted = self.posts.push(item).is_ok();
            if self.state.notify() {
                self.bell.ring();
            }
            accepted
        }

        /// One turn of a loop with nothing else to do. Returns how often it was woken.
        fn turn(&self, collected: &mut Vec<usize>) -> usize {
            if self.state.take_notice() {
                collected.extend(self.posts.take(Vec::new()));
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

    fn check(posters: usize, each: usize) {
        loom::model(move || {
            let model = Arc::new(Model {
                state: WakeState::new(),
                posts: Posts::new(),
                bell: Bell::default(),
            });
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
            while collected.len() < posters * each {
                let wakes = model.turn(&mut collected);
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
        check(1, 3);
    }

    #[test]
    fn no_post_of_two_threads_is_slept_over() {
        check(2, 1);
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
