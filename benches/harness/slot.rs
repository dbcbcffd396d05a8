//! One measurement: a fresh server, warmed up, under load for a fraction of a second.

use super::options::Options;
use super::server::Server;
use super::shared::Memory;
use super::syscalls::SyscallCounter;
use super::{Contestant, Workload, load, sys};
use std::io;
use std::time::{Duration, Instant};

/// A server that has not done anything by then never will.
const START_LIMIT: Duration = Duration::from_secs(10);
/// For what a server leaves to the kernel when it ends: rings are taken down later than closed.
const SETTLE: Duration = Duration::from_millis(10);

/// What one measurement has found.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    /// Nanoseconds of the server's CPU time.
    cpu: f64,
    operations: f64,
    seconds: f64,
}

impl Sample {
    /// Microseconds of CPU time per operation.
    pub(super) fn cost(&self) -> f64 {
        self.cpu / self.operations / 1000.0
    }

    /// Operations per second.
    pub(super) fn rate(&self) -> f64 {
        self.operations / self.seconds
    }
}

pub(super) struct Track {
    pub(super) server_core: usize,
    pub(super) memory: Memory,
}

impl Track {
    pub(super) fn sample(
        &self,
        contestant: &dyn Contestant,
        workload: &Workload,
        options: &Options,
    ) -> io::Result<Sample> {
        self.loaded(contestant, workload, options, |server, load| {
            let begin = (server.cpu_time()?, self.memory.counter.read(), Instant::now());
            load(options.slot)?;
            let (cpu, operations) = (server.cpu_time()?, self.memory.counter.read());
            Ok(Sample {
                cpu: (cpu - begin.0) as f64,
                operations: (operations - begin.1).max(1) as f64,
                seconds: begin.2.elapsed().as_secs_f64(),
            })
        })
    }

    /// System calls per operation, in a run of its own, because counting them slows them down.
    /// `None` where the kernel does not let us count.
    pub(super) fn syscalls(
        &self,
        contestant: &dyn Contestant,
        workload: &Workload,
        options: &Options,
    ) -> io::Result<Option<f64>> {
        self.loaded(contestant, workload, options, |server, load| {
            let Ok(counter) = SyscallCounter::of(server.pid()) else { return Ok(None) };
            let before = self.memory.counter.read();
            load(options.slot)?;
            let operations = (self.memory.counter.read() - before).max(1);
            Ok(Some(counter.read()? as f64 / operations as f64))
        })
    }

    /// Starts and warms up a server, and hands it over with the means to load it.
    fn loaded<T>(
        &self,
        contestant: &dyn Contestant,
        workload: &Workload,
        options: &Options,
        measure: impl FnOnce(&Server, &mut dyn FnMut(Duration) -> io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        sys::watchdog(START_LIMIT * 3 + options.slot);
        std::thread::sleep(SETTLE);
        let before = self.memory.counter.read();
        let mut server = Server::start(contestant, workload, self.server_core, &self.memory)?;
        let measured = load::prepare(workload, server.address).and_then(|mut load| {
            let deadline = Instant::now() + START_LIMIT;
            load.run(options.warm_up)?;
            while self.memory.counter.read() == before && Instant::now() < deadline {
                load.run(options.warm_up)?;
            }
            measure(&server, &mut |time| load.run(time))
        });
        let alive = server.is_alive();
        match measured {
            Ok(measured) if alive => Ok(measured),
            Ok(_) => Err(failure(contestant, "has ended")),
            Err(error) => Err(failure(contestant, &error.to_string())),
        }
    }
}

fn failure(contestant: &dyn Contestant, what: &str) -> io::Error {
    io::Error::other(format!("the server {} failed: {what}", contestant.name()))
}
