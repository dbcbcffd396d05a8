//! What the runtimes are asked to do.

use super::gate::Gate;
use super::remote::{self, Caller};
use super::{Runtime, check, cpu_time, turns, woken, yield_now};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A task that returns a number is spawned and joined, one after the other.
    Spawn,
    /// A task that wakes itself.
    Yield,
    /// Two tasks that wake each other.
    Turns,
    /// Many tasks, all woken in every turn.
    Woken,
    /// A task of a sleeping loop is woken by another thread, and that thread sees it run.
    Remote,
    /// The same, where cores never halt.
    RemoteAwake,
    /// The same, with both threads on one core.
    RemoteHere,
    /// Tasks that sleep for a few milliseconds, all at the same time.
    Sleep,
    /// Tasks that wait for each other, each with a timeout that never comes.
    Timeout,
}

/// How long the tasks sleep: from one of these to all.
const DELAYS: u64 = 8;
/// One in so many sleeping tasks looks at the clock itself.
const WATCHED: usize = 64;
const LONG: Duration = Duration::from_secs(60);

impl Workload {
    pub(crate) const ALL: [Workload; 9] = [
        Workload::Spawn,
        Workload::Yield,
        Workload::Turns,
        Workload::Woken,
        Workload::Remote,
        Workload::RemoteAwake,
        Workload::RemoteHere,
        Workload::Sleep,
        Workload::Timeout,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Spawn => "spawn",
            Workload::Yield => "yield",
            Workload::Turns => "turns",
            Workload::Woken => "woken",
            Workload::Remote => "remote",
            Workload::RemoteAwake => "remote-awake",
            Workload::RemoteHere => "remote-here",
            Workload::Sleep => "sleep",
            Workload::Timeout => "timeout",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Workload::Spawn => "spawn a task and join it",
            Workload::Yield => "a task yields, with nobody else to run",
            Workload::Turns => "two tasks wake each other in turn",
            Workload::Woken => "10,000 tasks woken in every turn",
            Workload::Remote => "a sleeping loop's task woken by another thread, until it has run",
            Workload::RemoteAwake => "the same, on a core that never halts",
            Workload::RemoteHere => "the same, with both threads on one core",
            Workload::Sleep => "100,000 tasks sleep for 1 to 8 ms",
            Workload::Timeout => "100,000 tasks wait for each other, each with a timeout of 60 s",
        }
    }

    /// What an operation costs.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Workload::Spawn => "CPU ns a task",
            Workload::Yield => "CPU ns a yield",
            Workload::Turns => "CPU ns a turn",
            Workload::Woken => "CPU ns a wake-up",
            Workload::Remote | Workload::RemoteAwake | Workload::RemoteHere => "ns a wake-up",
            Workload::Sleep => "CPU ns a sleep",
            Workload::Timeout => "CPU ns a timeout",
        }
    }

    /// Operations of a measurement.
    pub(crate) fn operations(self) -> usize {
        match self {
            Workload::Spawn => 100_000,
            Workload::Yield | Workload::Turns => 200_000,
            Workload::Woken => 20 * woken::TASKS,
            Workload::Remote | Workload::RemoteAwake => 200,
            Workload::RemoteHere => 500,
            Workload::Sleep | Workload::Timeout => 100_000,
        }
    }

    /// Measurements. The machine's own part in wake-ups differs from one time to the next.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Workload::Remote => 360,
            Workload::RemoteAwake | Workload::RemoteHere => 120,
            _ => 30,
        }
    }

    /// Nanoseconds per operation. Another thread that there may be runs on `other_core`.
    pub(crate) fn measure<R: Runtime>(
        self,
        operations: usize,
        other_core: usize,
    ) -> io::Result<f64> {
        let time = match self {
            Workload::Spawn => run::<R>(spawn::<R>(operations)),
            Workload::Yield => run::<R>(yield_alone(operations)),
            Workload::Turns => run::<R>(turns::measure::<R>(operations)),
            Workload::Woken => run::<R>(woken::measure::<R>(operations)),
            Workload::Remote => remote::measure::<R>(operations, Caller::There(other_core)),
            Workload::RemoteAwake => {
                remote::measure::<R>(operations, Caller::ThereWhileAwake(other_core))
            }
            Workload::RemoteHere => remote::measure::<R>(operations, Caller::Here),
            Workload::Sleep => run::<R>(sleep::<R>(operations)),
            Workload::Timeout => run::<R>(timeout::<R>(operations)),
        };
        Ok(time? as f64 / operations as f64)
    }
}

/// In a task: the future that a runtime is started with is a special case to some.
fn run<R: Runtime>(future: impl Future<Output = io::Result<u64>> + 'static) -> io::Result<u64> {
    R::run(async { R::spawn(future).await })?
}

async fn spawn<R: Runtime>(operations: usize) -> io::Result<u64> {
    let (begin, mut sum) = (cpu_time()?, 0);
    for number in 0..operations {
        sum += R::spawn(async move { number }).await;
    }
    let time = cpu_time()? - begin;
    check(sum == (0..operations).sum(), "tasks returned something else")?;
    Ok(time)
}

async fn yield_alone(operations: usize) -> io::Result<u64> {
    let begin = cpu_time()?;
    for _ in 0..operations {
        yield_now().await;
    }
    Ok(cpu_time()? - begin)
}

async fn sleep<R: Runtime>(operations: usize) -> io::Result<u64> {
    let begin = cpu_time()?;
    let sleepers: Vec<_> = (0..operations).map(|number| R::spawn(sleeper::<R>(number))).collect();
    let mut in_time = true;
    for sleeper in sleepers {
        in_time &= sleeper.await;
    }
    let time = cpu_time()? - begin;
    check(in_time, "a task woke up too early")?;
    Ok(time)
}

async fn sleeper<R: Runtime>(number: usize) -> bool {
    let delay = Duration::from_millis(1 + number as u64 % DELAYS);
    let begin = number.is_multiple_of(WATCHED).then(Instant::now);
    R::sleep(delay).await;
    begin.is_none_or(|begin| begin.elapsed() >= delay)
}

async fn timeout<R: Runtime>(operations: usize) -> io::Result<u64> {
    let gate = Rc::new(Gate::of(operations));
    let begin = cpu_time()?;
    let tasks: Vec<_> = (0..operations).map(|_| R::spawn(hurry::<R>(gate.clone()))).collect();
    let mut in_time = true;
    for task in tasks {
        in_time &= task.await;
    }
    let time = cpu_time()? - begin;
    check(in_time, "a timeout came too early")?;
    Ok(time)
}

async fn hurry<R: Runtime>(gate: Rc<Gate>) -> bool {
    R::timeout(LONG, gate.pass()).await.is_some()
}
