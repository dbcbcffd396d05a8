//! Measures servers against each other, by the CPU time they take per operation.
//!
//! Every contestant runs the same application in a process of its own, pinned to the first core,
//! and is loaded by this process, pinned to the second. Machines drift, by 40 % for seconds at a
//! time, so nothing measured at one time is ever divided by something measured at another: slots
//! of a fraction of a second alternate between contestant and baseline, each pair of neighbours
//! gives one ratio, and the report is their median with quartiles. See `schedule`.
//!
//! On two cores, how many events a server finds at a time depends on how fast it is, and with that
//! what an event costs. With `--one-core` server and load take turns on one core: every server
//! finds the same. That is repeatable to 1 %, even on a busy machine.
//!
//! A benchmark is a [`Bench`] and a call of [`run`]. A contestant is one file that implements
//! [`Contestant`] and one line in `contestants/mod.rs`. Async runtimes would bring some 180 crates
//! with them: they are contestants in a package of their own, `benches/peers`, which is built when
//! `--peers` asks for it.

#![allow(dead_code, reason = "each benchmark program uses its part")]

mod chart;
mod json;
mod load;
pub(crate) mod micro;
mod options;
pub(crate) mod peers;
mod progress;
mod report;
mod schedule;
mod server;
pub(crate) mod shared;
mod slot;
pub(crate) mod statistics;
pub(crate) mod sys;
pub(crate) mod syscalls;
mod target;
mod workload;

pub(crate) use workload::{LONGEST, MESSAGE, Workload};

use options::Options;
use shared::Memory;
use slot::Track;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

/// A server to be measured.
pub(crate) trait Contestant: Sync {
    /// One word.
    fn name(&self) -> &'static str;

    /// One line for the report.
    fn about(&self) -> &'static str;

    /// Serves for ever.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from serving; the benchmark then ends.
    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()>;

    /// What to run as this contestant: this program, which finds in its environment what to be, or
    /// another one that does.
    ///
    /// # Errors
    ///
    /// There is no telling which program this is.
    fn program(&self) -> io::Result<PathBuf> {
        std::env::current_exe()
    }
}

/// What one benchmark program compares.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) contestants: &'static [&'static dyn Contestant],
    pub(crate) workloads: &'static [Workload],
    /// More workloads, which are measured on demand.
    pub(crate) more: &'static [Workload],
    /// Length of a measurement in milliseconds.
    pub(crate) slot: u64,
    /// Whether `benches/peers` can serve these workloads.
    pub(crate) peers: bool,
    /// The contestant that everything is compared with.
    pub(crate) baseline: &'static str,
    /// The contestant that nothing of its kind should be able to beat.
    pub(crate) floor: &'static str,
}

/// `main` of a benchmark program, of the measuring process and of the servers alike.
pub(crate) fn run(bench: &Bench) -> ExitCode {
    let result = match server::requested() {
        Some(request) => server::serve(bench.contestants, &request),
        None => Options::from_args(bench).and_then(|options| compare(bench, &options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", bench.name);
            ExitCode::FAILURE
        }
    }
}

/// `main` of a program that only serves, for benchmark programs that ask for peers.
pub(crate) fn run_peers(contestants: &'static [&'static dyn Contestant]) -> ExitCode {
    let result = match server::requested() {
        Some(request) => server::serve(contestants, &request),
        None => peers::list(contestants.iter().map(|peer| (peer.name(), peer.about()))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(bench: &Bench, options: &Options) -> io::Result<()> {
    // Builds the peers, which goes faster on all cores.
    let contestants = options.choose(bench)?;
    sys::raise_fd_limit()?;
    let (server_core, mut load_core) = sys::cores()?;
    if options.one_core {
        load_core = server_core;
        sys::never_preempt_on_wake_up()?;
    }
    sys::pin(load_core)?;
    let track = Track { server_core, memory: Memory::new()? };
    let mut outcomes = Vec::new();
    for workload in options.workloads(bench) {
        let outcome = schedule::measure(bench, &track, &contestants, workload, options)?;
        report::print(&outcome);
        outcomes.push(outcome);
    }
    report::print_legend(&contestants);
    let name = format!("{}{}", bench.name, options.suffix());
    let files = [json::write(&name, &outcomes)?, chart::write(&name, &outcomes)?];
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(())
}
