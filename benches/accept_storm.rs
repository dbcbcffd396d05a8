//! Servers under a storm of short connections.
//!
//! `cargo bench --bench accept_storm`; with `-- --quick` for a rough answer in seconds, with `-- --one-core`
//! for one that is the same in every run; with `-- --peers` for a comparison with async runtimes.

mod contestants;
mod harness;

use harness::{Bench, Workload};
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&Bench {
        name: "accept_storm",
        contestants: contestants::SERVERS,
        workloads: &[Workload::AcceptClose, Workload::AcceptReplyClose],
        more: &[],
        slot: 200,
        peers: true,
        baseline: "epoll",
        floor: "ring",
    })
}
