//! The loop's own methods: with the closure's allocation and the clock.

use crate::candidates::Queue;
use crate::candidates::none::Nothing;
use crate::table::Table;
use ringloop::{IoLoop, Timeout};
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

const PENDING: usize = 1_000_000;
const NAME: &str = "IoLoop";

pub fn measure(quick: bool, table: &mut Table) -> io::Result<()> {
    let io_loop = IoLoop::new()?;
    // A turn, so that the queue knows what time it is.
    io_loop.call_later(Duration::from_secs(3600), || {});
    io_loop.turn(Some(Duration::ZERO))?;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut timeouts: Vec<_> = (0..PENDING).map(|id| add(&io_loop, &mut rng, id)).collect();
    let (mut any, mut nothing, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if quick { 1 } else { 5 } {
        any.push(timed(|| {
            let id = rng.usize(..PENDING);
            io_loop.remove_timeout(timeouts[id]);
            timeouts[id] = add(&io_loop, &mut rng, id);
        }));
        nothing.push(timed(|| {
            let id = rng.usize(..PENDING);
            let kept = black_box(timeouts[id]);
            black_box(delay(&mut rng));
            timeouts[id] = kept;
        }));
        at_once.push(timed(|| {
            let timeout = add(&io_loop, &mut rng, 0);
            io_loop.remove_timeout(timeout);
        }));
    }
    assert_eq!(io_loop.metrics().timeouts_pending, PENDING + 1);
    let any = [(NAME, any), (Nothing::NAME, nothing)];
    table.add("remove_timeout of any, call_later", PENDING, &any);
    table.add("call_later, remove_timeout at once", PENDING, &[(NAME, at_once)]);
    Ok(())
}

fn delay(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_nanos(rng.u64(..60_000_000_000))
}

fn add(io_loop: &IoLoop, rng: &mut fastrand::Rng, id: usize) -> Timeout {
    io_loop.call_later(delay(rng), move || assert!(id < PENDING))
}

/// Nanoseconds per call.
fn timed(mut operation: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..2 * PENDING).for_each(|_| operation());
    began.elapsed().as_nanos() as f64 / (2 * PENDING) as f64
}
