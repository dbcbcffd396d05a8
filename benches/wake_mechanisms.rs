//! What wakes a sleeping loop: the mechanisms of the kernel, by hand, each as bare as it can be.
//!
//! `cargo bench --bench wake_mechanisms`; with `-- --quick` for a rough answer. The first core runs
//! the loops, all of which sleep, the second one the thread that wakes them, one after the other.

mod contestants;
mod harness;
#[path = "wake_mechanisms/line.rs"]
mod line;
#[path = "wake_mechanisms/mechanisms.rs"]
mod mechanisms;

use harness::micro::{self, Probe};
use harness::sys;
use line::Line;
use mechanisms::{
    Epoll, Futex, FutexAlone, Mechanism, MessageFromRing, MessageWithoutRing, MultishotPoll, Read,
};
use std::cell::RefCell;
use std::io;

fn main() -> io::Result<()> {
    let (loop_core, calling_core) = sys::cores()?;
    sys::pin(calling_core)?;
    let lines: Vec<_> = [
        connect::<Epoll>(loop_core),
        connect::<MultishotPoll>(loop_core),
        connect::<Read>(loop_core),
        connect::<Futex>(loop_core),
        connect::<MessageWithoutRing>(loop_core),
        connect::<MessageFromRing>(loop_core),
        connect::<FutexAlone>(loop_core),
    ]
    .into_iter()
    .flatten()
    .map(RefCell::new)
    .collect();
    let answered = lines.iter().map(|line| Probe {
        name: line.borrow().name(),
        bound: None,
        run: Box::new(|| Ok(line.borrow_mut().call()?.answered)),
    });
    let called = lines.iter().map(|line| Probe {
        name: line.borrow().name(),
        bound: None,
        run: Box::new(|| Ok(line.borrow_mut().call()?.called)),
    });
    let series = micro::measure(answered.chain(called).collect())?;
    let (answered, called) = series.split_at(lines.len());
    micro::report("a sleeping loop woken by another thread, until it has run", "ns", answered);
    micro::report("of this, the call that wakes it", "ns", called);
    micro::write("wake_mechanisms", answered)
}

/// `None` on a kernel that has no such thing.
fn connect<M: Mechanism>(loop_core: usize) -> Option<Line> {
    match Line::new::<M>(loop_core) {
        Ok(line) => Some(line),
        Err(error) => {
            println!("not here: {}: {error}", M::NAME);
            None
        }
    }
}
