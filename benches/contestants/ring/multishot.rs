//! Multishot polls, armed once. By themselves they tell what is new, not what is left; there are
//! two ways to make them level-triggered.

use super::raw::{self, RawRing};
use crate::contestants::app::{App, Next, READ, Reading, Source};
use crate::harness::{Contestant, Workload, sys};
use io_uring::cqueue;
use io_uring::opcode::PollAdd;
use io_uring::types::Fd;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

/// How a source is looked at again, after it has been served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// With one `poll(2)` for all that were served in this turn.
    Recheck,
    /// By an update of its poll in the next enter.
    Update,
    /// Never: edge-triggered.
    Never,
}

pub(crate) struct Multishot {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) again: Again,
}

impl Contestant for Multishot {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let reading = if self.again == Again::Never { Reading::UntilEmpty } else { Reading::Once };
        let (app, sources) = App::new(workload, listener, reading)?;
        let mut server = Server::new(app, self.again)?;
        for source in sources {
            server.register(source)?;
        }
        loop {
            server.turn()?;
        }
    }
}

/// Marks completions of cancellations, and of updates that changed nothing.
const IGNORED: u64 = 1 << 63;
/// Marks completions of updates that had to change something.
const CHANGE: u64 = 1 << 62;

struct Entry {
    source: Source,
    interest: u32,
    /// Tells its completions from those of an earlier source of the same number.
    token: u64,
    /// The turn in which it was found ready last, and its place in that batch.
    turn: u32,
    place: u32,
}

struct Server {
    app: App,
    ring: RawRing,
    again: Again,
    entries: Vec<Option<Entry>>,
    generation: u64,
    turn: u32,
    born: Vec<Source>,
    arrived: Vec<cqueue::Entry>,
    batch: Vec<(RawFd, u32)>,
    /// Sources served since the last wait, to be looked at again.
    served: Vec<libc::pollfd>,
    /// Closed, but pinned by their polls until the next enter.
    condemned: Vec<Source>,
}

impl Server {
    fn new(app: App, again: Again) -> io::Result<Server> {
        Ok(Server {
            app,
            ring: RawRing::new()?,
            again,
            entries: Vec::new(),
            generation: 0,
            turn: 0,
            born: Vec::new(),
            arrived: Vec::new(),
            batch: Vec::new(),
            served: Vec::new(),
            condemned: Vec::new(),
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        self.turn = self.turn.wrapping_add(1);
        self.recheck()?;
        match self.batch.is_empty() {
            true => self.ring.submit_and_wait()?,
            false => self.ring.submit_and_poll()?,
        }
        self.condemned.clear();
        self.reap()?;
        let mut batch = std::mem::take(&mut self.batch);
        for (fd, events) in batch.drain(..) {
            self.ready(fd, events)?;
        }
        self.batch = batch;
        Ok(())
    }

    fn recheck(&mut self) -> io::Result<()> {
        if self.served.is_empty() {
            return Ok(());
        }
        let count = self.served.len() as libc::nfds_t;
        // SAFETY: the entries are valid to read and write, as many as it says.
        sys::check(unsafe { libc::poll(self.served.as_mut_ptr(), count, 0) })?;
        let served = std::mem::take(&mut self.served);
        for found in served.iter().filter(|found| found.revents != 0) {
            self.report(found.fd, u32::from(found.revents as u16));
        }
        self.served = served;
        self.served.clear();
        Ok(())
    }

    fn report(&mut self, fd: RawFd, events: u32) {
        let Some(entry) = self.entries[fd as usize].as_mut() else { return };
        if entry.turn == self.turn {
            self.batch[entry.place as usize].1 |= events;
            return;
        }
        entry.turn = self.turn;
        entry.place = self.batch.len() as u32;
        self.batch.push((fd, events));
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.extend(self.ring.io.completion());
        for entry in arrived.drain(..) {
            let more = cqueue::more(entry.flags());
            self.complete(entry.user_data(), entry.result(), more)?;
        }
        self.arrived = arrived;
        Ok(())
    }

    #[inline]
    fn complete(&mut self, token: u64, result: i32, more: bool) -> io::Result<()> {
        if token & IGNORED != 0 {
            return Ok(());
        }
        let fd = token as u32 as RawFd;
        let Some(entry) = self.entries[fd as usize].as_ref() else { return Ok(()) };
        if entry.token != token & !CHANGE {
            return Ok(());
        }
        if token & CHANGE != 0 {
            // The poll was firing just then.
            let (token, interest) = (entry.token, entry.interest);
            return self.ring.push(raw::update_poll(token, interest, token | CHANGE));
        }
        if !more {
            self.arm(fd)?;
        }
        if result > 0 {
            self.report(fd, result as u32);
        }
        Ok(())
    }

    fn ready(&mut self, fd: RawFd, events: u32) -> io::Result<()> {
        let Some(entry) = self.entries[fd as usize].as_mut() else { return Ok(()) };
        let next = self.app.ready(&mut entry.source, events, &mut self.born)?;
        match next {
            Next::Wait(interest) if interest == entry.interest => self.served(fd)?,
            Next::Wait(interest) => {
                entry.interest = interest;
                let token = entry.token;
                self.ring.push(raw::update_poll(token, interest, token | CHANGE))?;
            }
            Next::Close => self.close(fd)?,
        }
        while let Some(source) = self.born.pop() {
            self.register(source)?;
        }
        Ok(())
    }

    #[inline]
    fn served(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(entry) = self.entries[fd as usize].as_ref() else { return Ok(()) };
        let (token, interest) = (entry.token, entry.interest);
        match self.again {
            Again::Recheck => {
                let events = interest as libc::c_short;
                self.served.push(libc::pollfd { fd, events, revents: 0 });
                Ok(())
            }
            Again::Update => self.ring.push(raw::update_poll(token, interest, IGNORED)),
            Again::Never => Ok(()),
        }
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(entry) = self.entries[fd as usize].take() else { return Ok(()) };
        self.condemned.push(entry.source);
        self.ring.push(raw::cancel(entry.token, IGNORED))
    }

    fn register(&mut self, source: Source) -> io::Result<()> {
        let fd = source.as_raw_fd();
        if fd as usize >= self.entries.len() {
            self.entries.resize_with(fd as usize + 1, || None);
        }
        let entry = Entry { source, interest: READ, token: 0, turn: 0, place: 0 };
        self.entries[fd as usize] = Some(entry);
        self.arm(fd)
    }

    fn arm(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(entry) = self.entries[fd as usize].as_mut() else { return Ok(()) };
        self.generation = (self.generation + 1) % (1 << 30);
        entry.token = self.generation << 32 | fd as u64;
        let poll = PollAdd::new(Fd(fd), entry.interest).multi(true).build();
        self.ring.push(poll.user_data(entry.token))
    }
}
