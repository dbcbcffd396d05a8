//! Buffers that have come back, on whichever thread, and have not been collected by their loop.

use crate::wake::WakeState;
#[cfg(ringloop_loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(ringloop_loom))]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Sixty-four buffers to a word.
const WORD: usize = u64::BITS as usize;

pub(super) struct Returns {
    /// One bit for each buffer.
    words: Box<[AtomicU64]>,
    /// Who gives back posts to the loop, which sleeps if it waits for a buffer. See
    /// [`wake`](crate::wake).
    state: WakeState,
}

impl Returns {
    /// None of `count` buffers has come back.
    pub(super) fn new(count: u16) -> Returns {
        let words = usize::from(count).div_ceil(WORD);
        Returns { words: (0..words).map(|_| AtomicU64::new(0)).collect(), state: WakeState::new() }
    }

    /// Takes a buffer back. On any thread. True if the loop has to be woken.
    #[must_use]
    pub(super) fn give_back(&self, buffer: u16) -> bool {
        let buffer = usize::from(buffer);
        self.words[buffer / WORD].fetch_or(1 << (buffer % WORD), Ordering::AcqRel);
        self.state.notify()
    }

    /// Has the loop woken when a buffer comes back. True if one has come back already.
    pub(super) fn want(&self) -> bool {
        // It may have been wanted before, and something else woken the loop.
        self.state.awake();
        !self.state.fall_asleep()
    }

    /// The loop looks before it sleeps again, and need not be woken until then.
    pub(super) fn unwant(&self) {
        self.state.awake();
    }

    /// Whether a buffer has come back that was not collected.
    pub(super) fn have_any(&self) -> bool {
        self.state.is_notified()
    }

    /// Calls `free` for each buffer that has come back.
    #[inline]
    pub(super) fn collect(&self, free: impl FnMut(u16)) {
        if self.state.take_notice() {
            self.collect_all(free);
        }
    }

    #[inline(never)]
    fn collect_all(&self, mut free: impl FnMut(u16)) {
        for (index, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                free((index * WORD) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(all(test, not(ringloop_loom)))]
mod tests {
    use super::*;

    fn collected(returns: &Returns) -> Vec<u16> {
        let mut buffers = Vec::new();
        returns.collect(|buffer| buffers.push(buffer));
        buffers
    }

    #[test]
    fn what_came_back_is_collected_once() {
        let returns = Returns::new(300);
        assert_eq!(collected(&returns), []);
        for buffer in [299, 0, 63, 64, 128] {
            assert!(!returns.give_back(buffer), "nobody waits");
        }
        assert_eq!(collected(&returns), [0, 63, 64, 128, 299]);
        assert_eq!(collected(&returns), []);
        assert!(!returns.give_back(64));
        assert_eq!(collected(&returns), [64]);
    }

    #[test]
    fn who_wants_one_is_told_of_the_first_alone() {
        let returns = Returns::new(4);
        assert!(!returns.want());
        // Nothing has come back since.
        assert!(!returns.want());
        assert!(returns.give_back(1));
        assert!(!returns.give_back(2));
        assert!(returns.want(), "two have come back");
        assert_eq!(collected(&returns), [1, 2]);
        assert!(!returns.want());
        assert!(returns.give_back(1));
    }
}

/// Threads that give buffers back to a loop that waits for them, by `ci/loom.sh`: all interleavings
/// with one thread, and with two those of a few preemptions. A buffer slept over is a deadlock.
#[cfg(all(test, ringloop_loom))]
mod model {
    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// Stands for the loop's alarm.
    #[derive(Default)]
    struct Alarm {
        rung: Mutex<bool>,
        heard: Condvar,
    }

    impl Alarm {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.heard.notify_one();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.heard.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// How often a thread is interrupted where it need not be, at most. Each one more takes several
    /// times as long.
    const PREEMPTIONS: usize = 3;

    /// Each thread gives these buffers back, in order, and the loop goes on when all are there.
    fn check(threads: &'static [&'static [u16]]) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = (threads.len() > 1).then_some(PREEMPTIONS);
        model.check(move || {
            let shared = Arc::new((Returns::new(128), Alarm::default()));
            let spawned: Vec<_> = threads
                .iter()
                .map(|buffers| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let (returns, alarm) = &*shared;
                        for &buffer in *buffers {
                            if returns.give_back(buffer) {
                                alarm.ring();
                            }
                        }
                    })
                })
                .collect();
            let (returns, alarm) = &*shared;
            let mut lent: Vec<_> = threads.concat();
            while !lent.is_empty() {
                returns.collect(|buffer| {
                    let place = lent.iter().position(|lent| *lent == buffer);
                    lent.swap_remove(place.expect("lent, and collected once"));
                });
                if !lent.is_empty() && !returns.want() {
                    alarm.wait();
                }
            }
            spawned.into_iter().for_each(|thread| thread.join().unwrap());
            returns.collect(|buffer| panic!("{buffer} came back twice"));
        });
    }

    #[test]
    fn no_buffer_of_one_thread_is_slept_over() {
        check(&[&[0, 64]]);
    }

    #[test]
    fn no_buffer_of_two_threads_is_slept_over() {
        check(&[&[0], &[1]]);
        check(&[&[0], &[64]]);
    }
}
