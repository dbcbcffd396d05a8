//! What each part of the completion server is worth.
//!
//! `cargo bench --bench completion_variants`; with `-- --quick` for a rough answer in seconds, with
//! `-- --one-core` for one that is the same in every run.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

const WORKLOADS: &[Workload] = &[
    Workload::AcceptClose,
    Workload::AcceptReplyClose,
    Workload::echo(1, 64, 1),
    Workload::echo(64, 64, 1),
    Workload::echo(1000, 64, 1),
];

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "completion_variants",
        contestants: contestants::COMPLETIONS,
        workloads: WORKLOADS,
        more: &[],
        slot: 100,
        peers: false,
        baseline: "epoll",
        floor: "ring-completion",
    })
}
