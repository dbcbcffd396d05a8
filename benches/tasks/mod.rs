//! Async runtimes against each other, by what tasks cost. The workloads are written once, for any
//! runtime that implements [`Runtime`]; every runtime runs them in a process of its own.
//!
//! This directory is part of the benchmark program and of the one in `benches/peers`. A runtime is
//! one file that implements [`Runtime`], and one line in the list of runtimes of its program.

#![allow(dead_code, reason = "each program uses its part")]

mod awake;
mod gate;
mod remote;
pub(crate) mod runner;
mod runtime;
mod turns;
mod woken;
mod workload;

pub(crate) use runner::Entry;
pub(crate) use runtime::Runtime;
pub(crate) use workload::Workload;

use crate::harness::sys;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

/// Nanoseconds of CPU time of this process. Unlike time, it leaves out what timers are waited for.
fn cpu_time() -> io::Result<u64> {
    sys::read_clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn check(holds: bool, otherwise: &'static str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

/// Lets other tasks run, but for runtimes that run first a task that wakes itself (monoio does).
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| match yielded {
        true => Poll::Ready(()),
        false => {
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
