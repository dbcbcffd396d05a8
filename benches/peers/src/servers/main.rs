//! Async runtimes as servers. Each is written as its own documentation would have it, and reads what
//! comes, writes all of it back, and counts it. Those on a ring read into buffers that they own.
//!
//! `cargo bench --bench echo -- --peers` builds this program and starts it, once for every server;
//! started without anything in its environment it lists what it can be.

mod compio;
mod glommio;
#[path = "../../../harness/mod.rs"]
mod harness;
mod monoio;
mod service;
mod tokio;
mod tokio_uring;

use harness::Contestant;
use std::process::ExitCode;

const CONTESTANTS: &[&dyn Contestant] = &[
    &tokio::Tokio,
    &tokio_uring::TokioUring,
    &monoio::DEFAULT,
    &monoio::DEFER,
    &compio::DEFAULT,
    &compio::DEFER,
    &compio::MULTISHOT,
    &glommio::Glommio,
];

fn main() -> ExitCode {
    harness::run_peers(CONTESTANTS)
}
