//! epoll keeps what is watched, and the ring waits for it: one operation per turn fetches what is
//! ready, level-triggered as epoll is. Needs Linux 6.15.

use super::raw::RawRing;
use crate::contestants::app::{App, Next, READ, Reading, Source};
use crate::contestants::table::Table;
use crate::harness::{Contestant, Workload, sys};
use io_uring::opcode;
use io_uring::types::{self, Fd};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const EVENTS: usize = 1024;

pub(crate) struct EpollWait;

impl Contestant for EpollWait {
    fn name(&self) -> &'static str {
        "epoll-op"
    }

    fn about(&self) -> &'static str {
        "level: epoll, whose events one operation per turn fetches"
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, Reading::Once)?;
        // SAFETY: no memory is passed; the descriptor is new.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let (ring, table) = (RawRing::new()?, Table::default());
        let mut server = Server { app, ring, epoll, table, born: Vec::new() };
        for source in sources {
            server.register(source)?;
        }
        server.run()
    }
}

struct Server {
    app: App,
    ring: RawRing,
    epoll: OwnedFd,
    table: Table,
    born: Vec<Source>,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        // The kernel may write to them after an error here.
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS].leak();
        loop {
            let ready = self.wait(events)?;
            for event in &events[..ready] {
                self.ready(event.u64 as RawFd, event.events)?;
            }
        }
    }

    fn wait(&mut self, events: &mut [libc::epoll_event]) -> io::Result<usize> {
        let memory = events.as_mut_ptr().cast::<types::epoll_event>();
        let wait = opcode::EpollWait::new(Fd(self.epoll.as_raw_fd()), memory, events.len() as u32);
        // SAFETY: `run`, the only caller, passes events that live for ever.
        unsafe { self.ring.push_unchecked(wait.build())? };
        loop {
            self.ring.submit_and_wait()?;
            if let Some(entry) = self.ring.io.completion().next() {
                return sys::check(entry.result()).map(|ready| ready as usize);
            }
        }
    }

    fn ready(&mut self, fd: RawFd, events: u32) -> io::Result<()> {
        let Some(entry) = self.table.get(fd) else { return Ok(()) };
        match self.app.ready(&mut entry.source, events, &mut self.born)? {
            Next::Wait(interest) if interest == entry.interest => {}
            Next::Wait(interest) => {
                entry.interest = interest;
                self.control(libc::EPOLL_CTL_MOD, fd, interest)?;
            }
            // Closing takes it off epoll's list.
            Next::Close => drop(self.table.remove(fd)),
        }
        while let Some(source) = self.born.pop() {
            self.register(source)?;
        }
        Ok(())
    }

    fn register(&mut self, source: Source) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), READ)?;
        self.table.insert(source);
        Ok(())
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: fd as u64 };
        // SAFETY: the event is valid to read.
        sys::check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })
            .map(drop)
    }
}
