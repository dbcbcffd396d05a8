//! One-shot polls, armed again in the next enter. Arming checks the file, so this is level.

use super::raw::RawRing;
use crate::contestants::app::{App, Next, READ, Reading, Source};
use crate::contestants::table::Table;
use crate::harness::{Contestant, Workload};
use io_uring::opcode::PollAdd;
use io_uring::types::Fd;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

pub(crate) struct OneShot;

impl Contestant for OneShot {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn about(&self) -> &'static str {
        "hand-written loop on the bare ring, one-shot polls armed again: the floor"
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, Reading::Once)?;
        let (ring, table) = (RawRing::new()?, Table::default());
        let mut server = Server { app, ring, table, born: Vec::new(), batch: Vec::new() };
        for source in sources {
            server.register(source)?;
        }
        loop {
            server.turn()?;
        }
    }
}

struct Server {
    app: App,
    ring: RawRing,
    table: Table,
    born: Vec<Source>,
    batch: Vec<(RawFd, u32)>,
}

impl Server {
    /// One enter makes some 20 or 40 completions. What is left is for the next turn: fetching it at
    /// once costs system calls, and sockets that have been served stay in the cache until they are
    /// armed.
    fn turn(&mut self) -> io::Result<()> {
        self.ring.submit_and_wait()?;
        let completions = self.ring.io.completion();
        self.batch
            .extend(completions.map(|entry| (entry.user_data() as RawFd, entry.result() as u32)));
        let mut batch = std::mem::take(&mut self.batch);
        for (fd, events) in batch.drain(..) {
            self.ready(fd, events)?;
        }
        self.batch = batch;
        Ok(())
    }

    fn ready(&mut self, fd: RawFd, events: u32) -> io::Result<()> {
        let Some(entry) = self.table.get(fd) else { return Ok(()) };
        match self.app.ready(&mut entry.source, events, &mut self.born)? {
            Next::Wait(interest) => self.arm(fd, interest)?,
            // Its poll is done, so closing is all there is to do.
            Next::Close => drop(self.table.remove(fd)),
        }
        while let Some(source) = self.born.pop() {
            self.register(source)?;
        }
        Ok(())
    }

    fn register(&mut self, source: Source) -> io::Result<()> {
        self.arm(source.as_raw_fd(), READ)?;
        self.table.insert(source);
        Ok(())
    }

    #[inline]
    fn arm(&mut self, fd: RawFd, interest: u32) -> io::Result<()> {
        self.ring.push(PollAdd::new(Fd(fd), interest).build().user_data(fd as u64))
    }
}
