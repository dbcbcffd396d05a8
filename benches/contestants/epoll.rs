//! A level-triggered epoll loop, by hand.

use super::app::{App, Next, READ, Reading, Source};
use super::table::Table;
use crate::harness::{Contestant, Workload, sys};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const EVENTS: usize = 1024;

pub(crate) struct Epoll;

impl Contestant for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn about(&self) -> &'static str {
        "hand-written loop on level-triggered epoll"
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, Reading::Once)?;
        // SAFETY: no memory is passed; the descriptor is new.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let mut server = Server { app, epoll, table: Table::default(), born: Vec::new() };
        for source in sources {
            server.register(source)?;
        }
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        loop {
            let ready = server.wait(&mut events)?;
            for event in &events[..ready] {
                server.ready(event.u64 as RawFd, event.events)?;
            }
        }
    }
}

struct Server {
    app: App,
    epoll: OwnedFd,
    table: Table,
    born: Vec<Source>,
}

impl Server {
    fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<usize> {
        let (epoll, capacity) = (self.epoll.as_raw_fd(), events.len() as libc::c_int);
        // SAFETY: the events are valid to write to, as many as it says.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, -1) };
        sys::check(ready).map(|ready| ready as usize)
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
        // The bits of poll and epoll are the same.
        let mut event = libc::epoll_event { events: interest, u64: fd as u64 };
        // SAFETY: the event is valid to read.
        sys::check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })
            .map(drop)
    }
}
