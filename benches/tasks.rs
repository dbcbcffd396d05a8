//! Tasks: spawned, woken, woken by other threads; and what times they wait for.
//!
//! `cargo bench --bench tasks`; with `-- --quick` for a rough answer; with `-- --peers` for a
//! comparison with other async runtimes.

mod harness;
#[path = "tasks/ringloop.rs"]
mod ringloop;
#[path = "tasks/mod.rs"]
mod tasks;

use harness::micro::{self, Probe, Series};
use harness::peers;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use tasks::runner::{self, Runner};
use tasks::{Entry, Workload};

/// Name, description and program.
type Contestant<'a> = (&'static str, &'static str, &'a Path);

const RUNTIMES: &[Entry] = &[Entry::of::<ringloop::Ringloop>()];

fn main() -> ExitCode {
    let result = match runner::requested() {
        Some(name) => runner::serve(RUNTIMES, &name),
        None => compare(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tasks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> io::Result<()> {
    let with_peers = std::env::args().any(|argument| argument == "--peers");
    let peers = if with_peers { peers::build("tasks")? } else { Vec::new() };
    let program = std::env::current_exe()?;
    let own = RUNTIMES.iter().map(|entry| (entry.name, entry.about, program.as_path()));
    let everybody =
        own.chain(peers.iter().map(|peer| (peer.name, peer.about, peer.program.as_path())));
    let everybody: Vec<_> = everybody.collect();
    let mut all = Vec::new();
    for workload in Workload::ALL {
        let series = measure(workload, &everybody)?;
        micro::report(workload.title(), workload.unit(), &series);
        all.extend(series);
    }
    everybody.iter().for_each(|(name, about, _)| println!("{name:<14} {about}"));
    micro::write(if with_peers { "tasks-peers" } else { "tasks" }, &all)
}

/// In new processes every few rounds: where one lies in memory makes a difference of its own.
fn measure(workload: Workload, everybody: &[Contestant<'_>]) -> io::Result<Vec<Series>> {
    let rounds = if micro::is_quick() { micro::rounds() } else { workload.rounds() };
    let few = micro::balanced(everybody.len());
    let mut all = Vec::new();
    for _ in 0..rounds.div_ceil(few) {
        let runners: io::Result<Vec<_>> =
            everybody.iter().map(|(name, _, program)| Runner::start(name, program)).collect();
        let probes = runners?.into_iter().map(|mut runner| Probe {
            name: runner.name(),
            bound: None,
            run: Box::new(move || runner.measure(workload)),
        });
        micro::append(&mut all, micro::measure_in(few, probes.collect())?);
    }
    all.iter_mut().for_each(|series: &mut Series| {
        series.name = format!("{}: {}", workload.name(), series.name).leak();
    });
    Ok(all)
}
