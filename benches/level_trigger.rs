//! Ways to be level-triggered on a ring, whose own polls are edge-triggered or one-shot.
//!
//! `cargo bench --bench level_trigger` takes five minutes; with `-- --quick` a rough answer
//! takes one. `-- --one-core` compares best.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "level_trigger",
        contestants: contestants::TRIGGERS,
        workloads: &[
            Workload::Echo { connections: 1 },
            Workload::Echo { connections: 64 },
            Workload::Echo { connections: 1000 },
            Workload::AcceptClose,
            Workload::AcceptReplyClose,
            Workload::Chain { pairs: 100, active: 1 },
            Workload::Chain { pairs: 5000, active: 1000 },
        ],
        peers: false,
        baseline: "epoll",
        floor: "ring",
    })
}
