//! Servers that echo 64 bytes to one client, to some, and to many.
//!
//! `cargo bench --bench echo`; with `-- --quick` for a rough answer in seconds, with `-- --one-core`
//! for one that is the same in every run; with `-- --peers` for a comparison with async runtimes.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "echo",
        contestants: contestants::READINESS,
        workloads: &[
            Workload::Echo { connections: 1 },
            Workload::Echo { connections: 64 },
            Workload::Echo { connections: 1000 },
        ],
        peers: true,
        baseline: "epoll",
        floor: "ring",
    })
}
