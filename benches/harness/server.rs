//! A contestant in a process of its own: this program again, or another one, told by its environment
//! what to be.

use super::shared::{self, Memory};
use super::{Contestant, Workload, sys};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::{Child, Command, Stdio};

const REQUEST: &str = "RINGLOOP_BENCH_SERVER";

/// Connections that may wait to be accepted; the usual 128 would drop some of a burst.
const BACKLOG: i32 = 4096;

/// A running contestant. Ends when dropped.
pub(super) struct Server {
    child: Child,
    clock: libc::clockid_t,
    pub(super) address: SocketAddr,
}

impl Server {
    pub(super) fn start(
        contestant: &dyn Contestant,
        workload: &Workload,
        core: usize,
        memory: &Memory,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        sys::listen(listener.as_fd(), BACKLOG)?;
        // What it accepts inherits this.
        sys::send_without_delay(listener.as_fd())?;
        sys::keep_on_exec(listener.as_fd())?;
        let (socket, memory) = (listener.as_raw_fd(), memory.as_raw_fd());
        let child = Command::new(contestant.program()?)
            .env(REQUEST, format!("{} {workload} {core} {socket} {memory}", contestant.name()))
            .stdin(Stdio::null())
            .spawn()?;
        let clock = sys::cpu_clock(child.id())?;
        Ok(Server { child, clock, address })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time used so far, in nanoseconds.
    pub(super) fn cpu_time(&self) -> io::Result<u64> {
        sys::read_clock(self.clock)
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) struct Request {
    contestant: String,
    workload: Workload,
    core: usize,
    listener: RawFd,
    memory: RawFd,
}

/// What this process was started to serve, if it was.
pub(super) fn requested() -> Option<Request> {
    let request = std::env::var(REQUEST).ok()?;
    let mut words = request.split(' ');
    Some(Request {
        contestant: words.next()?.to_owned(),
        workload: words.next()?.parse().ok()?,
        core: words.next()?.parse().ok()?,
        listener: words.next()?.parse().ok()?,
        memory: words.next()?.parse().ok()?,
    })
}

pub(super) fn serve(contestants: &[&'static dyn Contestant], request: &Request) -> io::Result<()> {
    sys::die_with_parent()?;
    sys::raise_fd_limit()?;
    sys::pin(request.core)?;
    shared::adopt(sys::inherited(request.memory).as_fd())?;
    let listener = TcpListener::from(sys::inherited(request.listener));
    listener.set_nonblocking(true)?;
    match contestants.iter().find(|contestant| contestant.name() == request.contestant) {
        Some(contestant) => contestant.serve(&request.workload, listener),
        None => Err(io::Error::other("no such contestant")),
    }
}
