//! Async runtimes, by what tasks cost. The workloads are those of `benches/tasks`.
//!
//! `cargo bench --bench tasks -- --peers` builds this program and starts it, once for every runtime;
//! started without anything in its environment it lists what it can be.

mod async_executor;
mod compio;
#[path = "../../../harness/mod.rs"]
mod harness;
mod monoio;
#[path = "../../../tasks/mod.rs"]
mod tasks;
mod tokio;

use std::process::ExitCode;
use tasks::{Entry, runner};

const RUNTIMES: &[Entry] = &[
    Entry::of::<tokio::Tokio>(),
    Entry::of::<tokio::TokioWithoutIo>(),
    Entry::of::<async_executor::AsyncExecutor>(),
    Entry::of::<monoio::Monoio>(),
    Entry::of::<compio::Compio>(),
];

fn main() -> ExitCode {
    let result = match runner::requested() {
        Some(name) => runner::serve(RUNTIMES, &name),
        None => runner::list(RUNTIMES),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tasks: {error}");
            ExitCode::FAILURE
        }
    }
}
