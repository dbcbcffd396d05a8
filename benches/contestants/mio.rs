//! mio, which is edge-triggered: a source is read until it is empty.

use super::app::{App, ERROR, Next, READ, READ_CLOSED, Reading, Source, WRITE};
use super::table::Table;
use crate::harness::{Contestant, Workload};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

const EVENTS: usize = 1024;

pub(crate) struct Mio;

impl Contestant for Mio {
    fn name(&self) -> &'static str {
        "mio"
    }

    fn about(&self) -> &'static str {
        "mio 1, edge-triggered as it always is"
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, Reading::UntilEmpty)?;
        let mut poll = Poll::new()?;
        let mut server = Server { app, table: Table::default(), born: Vec::new() };
        for source in sources {
            server.register(&poll, source)?;
        }
        let mut events = Events::with_capacity(EVENTS);
        loop {
            poll.poll(&mut events, None)?;
            for event in &events {
                server.ready(&poll, event.token().0 as RawFd, mask(event))?;
            }
        }
    }
}

struct Server {
    app: App,
    table: Table,
    born: Vec<Source>,
}

impl Server {
    fn ready(&mut self, poll: &Poll, fd: RawFd, events: u32) -> io::Result<()> {
        let Some(entry) = self.table.get(fd) else { return Ok(()) };
        match self.app.ready(&mut entry.source, events, &mut self.born)? {
            Next::Wait(interest) if interest == entry.interest => {}
            Next::Wait(interest) => {
                entry.interest = interest;
                let wanted =
                    if interest == WRITE { Interest::WRITABLE } else { Interest::READABLE };
                poll.registry().reregister(&mut SourceFd(&fd), Token(fd as usize), wanted)?;
            }
            // Closing takes it off epoll's list.
            Next::Close => drop(self.table.remove(fd)),
        }
        while let Some(source) = self.born.pop() {
            self.register(poll, source)?;
        }
        Ok(())
    }

    fn register(&mut self, poll: &Poll, source: Source) -> io::Result<()> {
        let fd = source.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(fd as usize), Interest::READABLE)?;
        self.table.insert(source);
        Ok(())
    }
}

fn mask(event: &Event) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(event.is_readable(), READ)
        | bit(event.is_writable(), WRITE)
        | bit(event.is_read_closed(), READ_CLOSED)
        | bit(event.is_error(), ERROR)
}
