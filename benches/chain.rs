//! libevent's benchmark: bytes handed on through a circle of socket pairs, a few at a time or many.
//!
//! `cargo bench --bench chain`; with `-- --quick` for a rough answer in seconds, with `-- --one-core`
//! for one that is the same in every run.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "chain",
        contestants: contestants::READINESS,
        workloads: &[
            Workload::Chain { pairs: 100, active: 1 },
            Workload::Chain { pairs: 100, active: 100 },
            Workload::Chain { pairs: 5000, active: 1000 },
        ],
        more: &[],
        slot: 300,
        peers: false,
        baseline: "epoll",
        floor: "ring",
    })
}
