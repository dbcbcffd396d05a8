//! Ways to be level-triggered on a ring, whose own polls are edge-triggered or one-shot.
//!
//! `cargo bench --bench level_trigger` takes five minutes; with `-- --quick` a rough answer
//! takes half a minute. `-- --one-core` compares best.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

const WORKLOADS: &[Workload] = &[
    Workload::echo(1, 64, 1),
    Workload::echo(64, 64, 1),
    Workload::echo(1000, 64, 1),
    Workload::AcceptClose,
    Workload::AcceptReplyClose,
    Workload::Chain { pairs: 100, active: 1 },
    Workload::Chain { pairs: 5000, active: 1000 },
];

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "level_trigger",
        contestants: contestants::TRIGGERS,
        workloads: WORKLOADS,
        more: &[],
        slot: 300,
        peers: false,
        baseline: "epoll",
        floor: "ring",
    })
}
