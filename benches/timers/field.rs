//! The workloads.

use crate::candidates::{Queue, Value, value};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Deadlines are up to this far away, evenly spread.
const SPAN: u64 = 60_000_000_000;
/// Nanoseconds that the clock moves on in a turn.
const TURN: u64 = 250_000;
/// Timeouts moved to another deadline in a turn.
const MOVED: usize = 16;
/// When it all begins: long after the machine was started.
const BEGINNING: u64 = 12_345_678_901_234;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// A timeout is cancelled, whichever, and added again: idle timeouts of busy connections.
    Idle,
    /// A timeout is added and cancelled at once: an operation that did not have to wait.
    Lifo,
    /// All is due at once.
    Fire,
    /// The clock moves on, a few fire and are added again, others are moved: turns of a loop.
    Mixed,
}

impl Workload {
    /// Fire is last, for it leaves a queue that was filled a moment ago.
    pub const ALL: [Workload; 4] =
        [Workload::Idle, Workload::Lifo, Workload::Mixed, Workload::Fire];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Idle => "cancel any, add",
            Workload::Lifo => "add, cancel at once",
            Workload::Fire => "fire all",
            Workload::Mixed => "turns of a loop",
        }
    }

    pub fn rounds(self) -> usize {
        match self {
            Workload::Idle | Workload::Lifo => 7,
            Workload::Fire | Workload::Mixed => 5,
        }
    }

    pub fn rounds_when_quick(self, pending: usize) -> usize {
        match self {
            _ if pending < 1_000_000 => 3,
            Workload::Idle => 2,
            _ => 0,
        }
    }
}

pub trait Contestant {
    fn name(&self) -> &'static str;

    /// Nanoseconds per operation of one round.
    fn run(&mut self, workload: Workload) -> f64;
}

/// A queue that always has the same number of timeouts pending.
pub struct Field<Q: Queue> {
    queue: Q,
    /// The key of value `i` at `i`.
    keys: Vec<Q::Key>,
    fired: Vec<Value>,
    rng: fastrand::Rng,
    now: u64,
}

impl<Q: Queue + 'static> Field<Q> {
    pub fn boxed(pending: usize) -> Box<dyn Contestant> {
        let mut field = Field {
            queue: Q::new(),
            keys: Vec::new(),
            fired: Vec::new(),
            rng: fastrand::Rng::with_seed(pending as u64),
            now: BEGINNING,
        };
        field.queue.fire(field.now, &mut field.fired);
        field.fill(pending);
        Box::new(field)
    }
}

impl<Q: Queue> Field<Q> {
    fn fill(&mut self, pending: usize) {
        self.keys.clear();
        for id in 0..pending {
            let deadline = self.deadline();
            self.keys.push(self.queue.add(deadline, value(id)));
        }
    }

    fn deadline(&mut self) -> u64 {
        self.now + 1 + self.rng.u64(..SPAN)
    }

    /// So many that whatever a queue puts off until it has piled up happens in each round.
    fn operations(&self) -> usize {
        (2 * self.keys.len()).max(400_000)
    }

    fn move_any(&mut self) {
        let id = self.rng.usize(..self.keys.len());
        let deadline = self.deadline();
        let cancelled = self.queue.cancel(self.keys[id]);
        assert_eq!(cancelled.map(<[()]>::len), Some(id));
        self.keys[id] = self.queue.add(deadline, value(id));
    }

    fn idle(&mut self) -> usize {
        for _ in 0..self.operations() {
            self.move_any();
        }
        self.operations()
    }

    fn lifo(&mut self) -> usize {
        for _ in 0..self.operations() {
            let deadline = self.deadline();
            let key = self.queue.add(deadline, value(0));
            black_box(self.queue.cancel(black_box(key)));
        }
        self.operations()
    }

    fn mixed(&mut self) -> usize {
        let mut operations = 0;
        while operations < self.operations() / 2 {
            self.now += TURN;
            self.queue.fire(self.now, &mut self.fired);
            operations += self.fired.len() + MOVED;
            while let Some(fired) = self.fired.pop() {
                let deadline = self.deadline();
                self.keys[fired.len()] = self.queue.add(deadline, fired);
            }
            for _ in 0..MOVED {
                self.move_any();
            }
            black_box(self.queue.next_deadline());
        }
        operations
    }

    /// Fills what it empties, outside of the time it returns.
    fn fire(&mut self) -> (Duration, usize) {
        let (mut took, mut operations) = (Duration::ZERO, 0);
        while operations < self.keys.len().max(100_000) {
            self.now += 2 * SPAN;
            let began = Instant::now();
            self.queue.fire(self.now, &mut self.fired);
            took += began.elapsed();
            operations += self.keys.len();
            self.fired.clear();
            self.fill(self.keys.len());
        }
        (took, operations)
    }
}

impl<Q: Queue> Contestant for Field<Q> {
    fn name(&self) -> &'static str {
        Q::NAME
    }

    fn run(&mut self, workload: Workload) -> f64 {
        let began = Instant::now();
        let operations = match workload {
            Workload::Idle => self.idle(),
            Workload::Lifo => self.lifo(),
            Workload::Mixed => self.mixed(),
            Workload::Fire => {
                let (took, operations) = self.fire();
                return took.as_nanos() as f64 / operations as f64;
            }
        };
        began.elapsed().as_nanos() as f64 / operations as f64
    }
}
