//! `IoLoop::add_callback`, beside a queue of boxed closures written by hand.

use crate::harness::micro::{self, Series};
use crate::{allocations, probe};
use ringloop::IoLoop;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

const BATCH: usize = 1000;
const BATCHES: usize = 50;
const BOUND: Option<f64> = Some(20.0);

pub(crate) fn measure() -> io::Result<Vec<Series>> {
    let (queue, io_loop) = (ByHand::default(), IoLoop::new()?);
    let series = micro::measure(vec![
        probe("by hand: queue", None, || timed(Part::Queue, &queue)),
        probe("by hand: queue and run", None, || timed(Part::Both, &queue)),
        probe("IoLoop::add_callback: queue", BOUND, || timed(Part::Queue, &io_loop)),
        probe("IoLoop::add_callback: queue and run", BOUND, || timed(Part::Both, &io_loop)),
    ])?;
    micro::report("callbacks of the loop's own thread, 8 bytes captured", "ns each", &series);
    println!("allocations per callback: {:.3}", allocated(&io_loop)?);
    println!("allocations per callback that captures nothing: {:.3}\n", allocated_for_nothing(&io_loop)?);
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
        for _ in 0..self.0.borrow().len() {
            let callback = self.0.borrow_mut().pop_front();
            callback.expect("nobody else takes one")();
        }
        Ok(())
    }
}

fn timed(part: Part, queue: &impl Queue) -> io::Result<f64> {
    let ran = Rc::new(Cell::new(0));
    let mut time = Duration::ZERO;
    for _ in 0..BATCHES {
        let ran: &'static Cell<usize> = leak(&ran);
        let begin = Instant::now();
        for _ in 0..BATCH {
            queue.add(move || ran.set(ran.get() + 1));
        }
        let queued = begin.elapsed();
        queue.run()?;
        time += if part == Part::Queue { queued } else { begin.elapsed() };
    }
    Ok(time.as_nanos() as f64 / (BATCH * BATCHES) as f64)
}
