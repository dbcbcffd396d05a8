//! `IoLoop::add_callback`, beside a queue of boxed closures written by hand.

use crate::harness::micro::{self, Series};
use crate::{allocations, probe};
use ringloop::IoLoop;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

const BATCH: usize = 1000;
const BATCHES: usize = 50;
const BOUND: Option<f64> = Some(20.0);

pub(crate) fn measure() -> io::Result<Vec<Series>> {
    let (queue, io_loop) = (ByHand::default(), IoLoop::new()?);
    let series = micro::measure(vec![
        probe("queue: by hand", None, || timed(Part::Queue, &queue)),
        probe("queue: IoLoop::add_callback", BOUND, || timed(Part::Queue, &io_loop)),
        probe("queue and run: by hand", None, || timed(Part::Both, &queue)),
        probe("queue and run: IoLoop::add_callback", BOUND, || timed(Part::Both, &io_loop)),
    ])?;
    micro::report("callbacks of the loop's own thread, 8 bytes captured", "ns each", &series[..2]);
    micro::report("the same with the turn that runs them", "ns each", &series[2..]);
    let some = allocations_of(&io_loop, || add_batch(&io_loop))?;
    let none = allocations_of(&io_loop, || (0..BATCH).for_each(|_| io_loop.add_callback(|| {})))?;
    println!("allocations per callback: {some:.3}; if it captures nothing: {none:.3}\n");
    Ok(series)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Queue,
    /// With the turn that runs them.
    Both,
}

trait Queue {
    fn add(&self, callback: impl FnOnce() + 'static);
    fn run(&self) -> io::Result<()>;
}

impl Queue for IoLoop {
    #[inline]
    fn add(&self, callback: impl FnOnce() + 'static) {
        self.add_callback(callback);
    }

    fn run(&self) -> io::Result<()> {
        self.turn(Some(Duration::ZERO))
    }
}

#[derive(Default)]
struct ByHand(RefCell<VecDeque<Box<dyn FnOnce()>>>);

impl Queue for ByHand {
    #[inline]
    fn add(&self, callback: impl FnOnce() + 'static) {
        self.0.borrow_mut().push_back(Box::new(callback));
    }

    fn run(&self) -> io::Result<()> {
        let count = self.0.borrow().len();
        for _ in 0..count {
            let callback = self.0.borrow_mut().pop_front();
            callback.expect("nobody else takes one")();
        }
        Ok(())
    }
}

thread_local! {
    static SUM: Cell<usize> = const { Cell::new(0) };
}

fn add_batch(queue: &impl Queue) {
    for number in 0..BATCH {
        queue.add(move || SUM.set(SUM.get() + number));
    }
}

fn timed(part: Part, queue: &impl Queue) -> io::Result<f64> {
    let mut time = Duration::ZERO;
    for _ in 0..BATCHES {
        let begin = Instant::now();
        add_batch(queue);
        let queued = begin.elapsed();
        queue.run()?;
        time += if part == Part::Queue { queued } else { begin.elapsed() };
    }
    Ok(time.as_nanos() as f64 / (BATCH * BATCHES) as f64)
}

fn allocations_of(io_loop: &IoLoop, add: impl FnOnce()) -> io::Result<f64> {
    let (result, tally) = allocations::count(|| {
        add();
        io_loop.turn(Some(Duration::ZERO))
    });
    result.map(|()| tally.calls as f64 / BATCH as f64)
}
