//! Servers that echo to one client, to some, and to many: messages short and long, one at a time
//! or several.
//!
//! `cargo bench --bench echo`; with `-- --quick` for a rough answer in seconds, with `-- --one-core`
//! for one that is the same in every run; with `-- --all` for every combination, with `-- --peers` for
//! a comparison with async runtimes.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

const USUAL: &[Workload] = &[
    Workload::echo(1, 64, 1),
    Workload::echo(64, 64, 1),
    Workload::echo(1000, 64, 1),
    Workload::echo(64, 64, 16),
    Workload::echo(64, 16384, 1),
];

const MORE: &[Workload] = &[
    Workload::echo(256, 64, 1),
    Workload::echo(1, 64, 16),
    Workload::echo(1000, 64, 16),
    Workload::echo(1, 1024, 1),
    Workload::echo(1, 1024, 16),
    Workload::echo(64, 1024, 1),
    Workload::echo(64, 1024, 16),
    Workload::echo(1000, 1024, 1),
    Workload::echo(1000, 1024, 16),
    Workload::echo(1, 16384, 1),
    Workload::echo(1, 16384, 16),
    Workload::echo(64, 16384, 16),
    Workload::echo(1000, 16384, 1),
    Workload::echo(1000, 16384, 16),
    Workload::echo(1, 65536, 1),
    Workload::echo(1, 65536, 16),
    Workload::echo(64, 65536, 1),
    Workload::echo(64, 65536, 16),
    Workload::echo(1000, 65536, 1),
    Workload::echo(1000, 65536, 16),
];

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "echo",
        contestants: contestants::SERVERS,
        workloads: USUAL,
        more: MORE,
        slot: 100,
        peers: true,
        baseline: "epoll",
        floor: "ring",
    })
}
