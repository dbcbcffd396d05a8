//! A process that does what it is told on one runtime: a line in, workload and operations; a line
//! out, nanoseconds per operation.

use super::{Runtime, Workload};
use crate::harness::{peers, sys};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const REQUEST: &str = "RINGLOOP_BENCH_TASKS";
/// No measurement takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A runtime that a program can be asked for.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    measure: fn(Workload, usize, usize) -> io::Result<f64>,
}

impl Entry {
    pub(crate) const fn of<R: Runtime>() -> Entry {
        Entry { name: R::NAME, about: R::ABOUT, measure: Workload::measure::<R> }
    }
}

/// What this process was started to run, if it was.
pub(crate) fn requested() -> Option<String> {
    std::env::var(REQUEST).ok()
}

/// Lists the runtimes of a program that only runs them.
pub(crate) fn list(runtimes: &[Entry]) -> io::Result<()> {
    peers::list(runtimes.iter().map(|entry| (entry.name, entry.about)))
}

/// Does what the parent says, until it has nothing more to say.
pub(crate) fn serve(runtimes: &[Entry], name: &str) -> io::Result<()> {
    sys::die_with_parent()?;
    sys::raise_fd_limit()?;
    let (core, other_core) = sys::cores()?;
    sys::pin(core)?;
    let Some(entry) = runtimes.iter().find(|entry| entry.name == name) else {
        return Err(io::Error::other("no such runtime"));
    };
    for line in io::stdin().lines() {
        let line = line?;
        let (workload, operations) = parse(&line).ok_or(io::ErrorKind::InvalidInput)?;
        println!("{}", (entry.measure)(workload, operations, other_core)?);
    }
    Ok(())
}

fn parse(line: &str) -> Option<(Workload, usize)> {
    let (workload, operations) = line.split_once(' ')?;
    Some((Workload::named(workload)?, operations.parse().ok()?))
}

/// Such a process. Ends when dropped.
pub(crate) struct Runner {
    name: &'static str,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Runner {
    pub(crate) fn start(name: &'static str, program: &Path) -> io::Result<Runner> {
        let mut child = Command::new(program)
            .env(REQUEST, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, answers) =
            child.stdin.take().zip(child.stdout.take()).expect("both are piped");
        Ok(Runner { name, child, orders, answers: BufReader::new(answers) })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn measure(&mut self, workload: Workload) -> io::Result<f64> {
        sys::watchdog(LIMIT);
        writeln!(self.orders, "{} {}", workload.name(), workload.operations())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer
            .trim()
            .parse()
            .map_err(|_| io::Error::other(format!("{} failed at {}", self.name, workload.name())))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
