//! Callbacks: from the loop's own thread; from another one, to a loop that is awake or asleep.
//!
//! `cargo bench --bench wakeups`; with `-- --quick` for a rough answer. The first core runs the
//! loop, the second one the thread that posts.

#[path = "harness/allocations.rs"]
mod allocations;
#[path = "wakeups/by_hand.rs"]
mod by_hand;
mod harness;
#[path = "wakeups/local.rs"]
mod local;
#[path = "wakeups/posted.rs"]
mod posted;

use harness::micro::{self, Probe};
use harness::sys;
use std::io;

fn main() -> io::Result<()> {
    let (loop_core, posting_core) = sys::cores()?;
    sys::pin(loop_core)?;
    let local = local::measure()?;
    sys::pin(posting_core)?;
    let posted = posted::measure(loop_core)?;
    micro::write("wakeups", &local.into_iter().chain(posted).collect::<Vec<_>>())
}

fn probe<'a>(
    name: &'static str,
    bound: Option<f64>,
    run: impl FnMut() -> io::Result<f64> + 'a,
) -> Probe<'a> {
    Probe { name, bound, run: Box::new(run) }
}
