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
use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use tasks::runner::{self, Runner};
use tasks::{Entry, Workload};

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
    let own = RUNTIMES.iter().map(|entry| (entry.name, entry.about, &program));
    let everybody = own.chain(peers.iter().map(|peer| (peer.name, peer.about, &peer.program)));
    let everybody: Vec<_> = everybody.collect();
    let runners: io::Result<Vec<_>> =
        everybody.iter().map(|(name, _, program)| Runner::start(name, program)).collect();
    let runners: Vec<_> = runners?.into_iter().map(RefCell::new).collect();
    let mut all = Vec::new();
    for workload in Workload::ALL {
        let series = measure(workload, &runners)?;
        micro::report(workload.title(), workload.unit(), &series);
        all.extend(series);
    }
    everybody.iter().for_each(|(name, about, _)| println!("{name:<14} {about}"));
    micro::write(if with_peers { "tasks-peers" } else { "tasks" }, &all)
}

fn measure(workload: Workload, runners: &[RefCell<Runner>]) -> io::Result<Vec<Series>> {
    let probes = runners.iter().map(|runner| Probe {
        name: format!("{}: {}", workload.name(), runner.borrow().name()).leak(),
        bound: None,
        run: Box::new(|| runner.borrow_mut().measure(workload)),
    });
    micro::measure(probes.collect())
}
