//! How long a queue holds the loop at the longest, in one call.
//!
//! The clock is that of the thread, which stands still while others have the core. What the kernel
//! does in the thread's name still counts, so of several rounds the lowest says most.

use crate::candidates::{Queue, Value, value};
use crate::table::Table;
use std::hint::black_box;

const SECOND: u64 = 1_000_000_000;
/// When it all begins: long after the machine was started.
const BEGINNING: u64 = 12_345 * SECOND;
/// The timeout of an idle connection.
const IDLE: u64 = 60 * SECOND;
/// Nanoseconds that the clock moves on in a turn.
const TURN: u64 = 250_000;
/// Timeouts moved to another deadline in a turn.
const MOVED: u64 = 16;

const WORKLOADS: [&str; 3] = [
    "longest call: idle timeouts put off",
    "longest call: all due in one second",
    "longest call: all due at once",
];

pub fn measure<Q: Queue>(pending: usize, rounds: usize, table: &mut Table) {
    let mut nanoseconds = WORKLOADS.map(|_| Vec::new());
    for _ in 0..rounds {
        let longest = [put_off::<Q>, in_a_second::<Q>, at_once::<Q>].map(|of| of(pending));
        nanoseconds.iter_mut().zip(longest).for_each(|(all, longest)| all.push(longest as f64));
    }
    for (workload, nanoseconds) in WORKLOADS.into_iter().zip(nanoseconds) {
        table.add(workload, pending, &[(Q::NAME, nanoseconds)]);
    }
}

struct Pauses<Q: Queue> {
    queue: Q,
    keys: Vec<Q::Key>,
    fired: Vec<Value>,
    left: usize,
    now: u64,
    longest: u64,
}

impl<Q: Queue> Pauses<Q> {
    /// A queue of timeouts that were added within a second, a minute before they are due.
    fn new(pending: usize) -> Self {
        let (queue, keys, fired) = (Q::new(), Vec::new(), Vec::with_capacity(pending));
        let mut new = Pauses { queue, keys, fired, left: pending, now: BEGINNING, longest: 0 };
        new.turn();
        for id in 0..pending {
            let deadline = BEGINNING + IDLE + id as u64 * SECOND / pending as u64;
            new.keys.push(new.queue.add(deadline, value(id)));
        }
        new.longest = 0;
        new
    }

    fn timed<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> R {
        let began = thread_time();
        let result = call(self);
        self.longest = self.longest.max(thread_time() - began);
        result
    }

    fn turn(&mut self) {
        let now = self.now;
        self.timed(|this| this.queue.turn(now, &mut this.fired));
        self.left -= self.fired.len();
        self.fired.clear();
        black_box(self.timed(|this| this.queue.next_deadline()));
    }

    fn put_off(&mut self, id: usize) {
        let cancelled = self.timed(|this| this.queue.cancel(this.keys[id]));
        assert_eq!(cancelled.map(<[()]>::len), Some(id));
        let deadline = self.now + IDLE;
        self.keys[id] = self.timed(|this| this.queue.add(deadline, value(id)));
    }
}

/// Every connection is heard of now and then, and no timeout comes due.
fn put_off<Q: Queue>(pending: usize) -> u64 {
    let mut pauses = Pauses::<Q>::new(pending);
    let mut rng = fastrand::Rng::with_seed(9);
    let turns = 2 * pending as u64 / MOVED;
    for _ in 0..turns {
        pauses.now += IDLE / 2 / turns;
        pauses.turn();
        for _ in 0..MOVED {
            pauses.put_off(rng.usize(..pending));
        }
    }
    assert_eq!(pauses.left, pending);
    pauses.longest
}

/// Time comes near them, and passes them turn by turn.
fn in_a_second<Q: Queue>(pending: usize) -> u64 {
    let mut pauses = Pauses::<Q>::new(pending);
    pauses.now += IDLE - 2 * SECOND;
    while pauses.left > 0 {
        pauses.now += TURN;
        pauses.turn();
    }
    pauses.longest
}

/// The machine was suspended.
fn at_once<Q: Queue>(pending: usize) -> u64 {
    let mut pauses = Pauses::<Q>::new(pending);
    pauses.now += 2 * IDLE;
    while pauses.left > 0 {
        pauses.turn();
    }
    pauses.longest
}

fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; the call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
