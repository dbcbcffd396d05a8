//! A server on completions: multishot accept and recv, and sends straight out of the buffers that
//! were received into. All that a turn has to say, and the wait, is one enter.
//!
//! A send is silent: it does not wait, and completes only if it could not send everything. So
//! after the enter that submitted it, its buffers are free, and a lone reply does not end the wait
//! for the next request. Needs Linux 6.12.

use super::buffers::{Buffers, GROUP, Piece};
use super::outgoing::Outgoing;
use super::raw::RawRing;
use crate::contestants::app::Messages;
use crate::harness::{Contestant, Workload};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Fixed};
use io_uring::{cqueue, opcode};
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

pub(crate) struct Completion {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) style: Style,
}

/// What a variant does otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    /// Connections are places in the ring's own table of files, without a descriptor.
    pub(crate) direct: bool,
    /// Successful sends do not complete.
    pub(crate) silent: bool,
    /// The last bytes of a connection wait for its end, and share a segment with it.
    pub(crate) corked: bool,
}

pub(crate) const COMPLETION: Completion = Completion {
    name: "ring-completion",
    about: "hand-written completion server on the bare ring: the floor of its kind",
    style: Style { direct: true, silent: true, corked: false },
};

/// Descriptors, or places in the table.
const CONNECTIONS: u32 = 8192;

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND_AT_ONCE: u64 = 3 << 32;
const SEND_AND_WAIT: u64 = 4 << 32;
const CLOSE: u64 = 5 << 32;
const KIND: u64 = !0 << 32;

impl Contestant for Completion {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let ring = RawRing::new()?;
        if self.style.direct {
            ring.io.submitter().register_files_sparse(CONNECTIONS)?;
        }
        let mut server = Server {
            style: self.style,
            workload: *workload,
            messages: Messages::of(workload),
            listener: listener.into_raw_fd(),
            buffers: Buffers::new(&ring)?,
            ring,
            connections: (0..CONNECTIONS).map(|_| Connection::default()).collect(),
            batch: Vec::new(),
            to_send: Vec::new(),
            sending: Vec::new(),
            unfinished: false,
            parked: VecDeque::new(),
        };
        server.accept()?;
        loop {
            server.turn()?;
        }
    }
}

#[derive(Default)]
struct Connection {
    outgoing: Outgoing,
    /// What a send has returned that was to be done at once.
    result: Option<i32>,
    receiving: bool,
}

struct Server {
    style: Style,
    workload: Workload,
    messages: Messages,
    listener: RawFd,
    ring: RawRing,
    buffers: Buffers,
    connections: Vec<Connection>,
    batch: Vec<cqueue::Entry>,
    /// Connections that have something to send, in the next enter.
    to_send: Vec<u32>,
    /// Connections whose sends are submitted with this enter, and done when it returns.
    sending: Vec<u32>,
    /// One of them has more to send, or is to be closed then.
    unfinished: bool,
    /// Connections that found no buffer to receive into.
    parked: VecDeque<u32>,
}

impl Server {
    fn turn(&mut self) -> io::Result<()> {
        self.send()?;
        self.buffers.publish();
        if !self.parked.is_empty() {
            self.feed()?;
        }
        // The end of a silent send wakes nobody up, so whoever waits for one must not sleep.
        let may_go_on = !self.sending.is_empty() || self.buffers.room() > 0;
        let can_unpark = !self.parked.is_empty() && may_go_on;
        match std::mem::take(&mut self.unfinished) || can_unpark {
            true => self.ring.submit_and_poll()?,
            false => self.ring.submit_and_wait()?,
        }
        self.collect();
        self.complete_silent()?;
        let mut batch = std::mem::take(&mut self.batch);
        for entry in batch.drain(..) {
            self.complete(&entry)?;
        }
        self.batch = batch;
        Ok(())
    }

    /// Takes all completions out of the ring.
    #[inline]
    fn collect(&mut self) {
        for entry in self.ring.io.completion() {
            match entry.user_data() & KIND {
                SEND_AT_ONCE => {
                    let index = entry.user_data() as u32;
                    self.connections[index as usize].result = Some(entry.result());
                }
                _ => self.batch.push(entry),
            }
        }
    }

    #[inline]
    fn complete(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        let (result, flags, index) = (entry.result(), entry.flags(), entry.user_data() as u32);
        match entry.user_data() & KIND {
            ACCEPT if result < 0 => Err(io::Error::from_raw_os_error(-result)),
            ACCEPT => {
                self.accepted(result as u32)?;
                if cqueue::more(flags) { Ok(()) } else { self.accept() }
            }
            RECEIVE => self.received(index, result, flags),
            SEND_AND_WAIT => self.sent_after_wait(index, result),
            _ => Ok(()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (listener, direct) = (Fd(self.listener.as_raw_fd()), self.style.direct);
        // What has no descriptor cannot be inherited.
        let flags = if direct { 0 } else { libc::SOCK_CLOEXEC };
        let accept = opcode::AcceptMulti::new(listener).allocate_file_index(direct).flags(flags);
        self.ring.push(accept.build().user_data(ACCEPT))
    }

    fn accepted(&mut self, index: u32) -> io::Result<()> {
        if self.workload == Workload::AcceptClose {
            self.messages.add(1);
            return self.close(index);
        }
        self.receive(index)
    }

    /// A connection that is closed after one reply has nothing armed then that would keep it open.
    fn receive(&mut self, index: u32) -> io::Result<()> {
        let fd = Fd(index as RawFd);
        let receive = match self.workload {
            Workload::AcceptReplyClose => {
                let receive = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(GROUP);
                receive.build().flags(Flags::BUFFER_SELECT)
            }
            _ => opcode::RecvMulti::new(fd, GROUP).build(),
        };
        self.connections[index as usize].receiving = true;
        self.push(receive, RECEIVE, index)
    }

    #[inline]
    fn received(&mut self, index: u32, result: i32, flags: u32) -> io::Result<()> {
        let goes_on = cqueue::more(flags);
        self.connections[index as usize].receiving = goes_on;
        match cqueue::buffer_select(flags) {
            Some(buffer) if result > 0 => {
                let (length, more) = (result as usize, cqueue::buffer_more(flags));
                self.messages.received(length);
                let piece = self.buffers.received(buffer, length, more);
                self.reply(index, piece);
                let last = goes_on || self.workload == Workload::AcceptReplyClose;
                if last { Ok(()) } else { self.receive(index) }
            }
            _ if result == -libc::ENOBUFS => {
                self.connections[index as usize].receiving = true;
                self.parked.push_back(index);
                Ok(())
            }
            _ => self.close_if_done(index),
        }
    }

    /// Has those receive again, in order, who find room now.
    fn feed(&mut self) -> io::Result<()> {
        for _ in 0..self.buffers.room() {
            let Some(index) = self.parked.pop_front() else { break };
            self.receive(index)?;
        }
        Ok(())
    }

    #[inline]
    fn reply(&mut self, index: u32, piece: Piece) {
        let outgoing = &mut self.connections[index as usize].outgoing;
        if outgoing.is_empty() {
            self.to_send.push(index);
        }
        outgoing.add(piece, &mut self.buffers);
    }

    fn send(&mut self) -> io::Result<()> {
        let mut to_send = std::mem::take(&mut self.to_send);
        to_send.drain(..).try_for_each(|index| self.send_at_once(index))?;
        self.to_send = to_send;
        Ok(())
    }

    fn send_at_once(&mut self, index: u32) -> io::Result<()> {
        let last = self.workload == Workload::AcceptReplyClose;
        let flags = if last && self.style.corked { libc::MSG_MORE } else { 0 };
        let Connection { outgoing, receiving, .. } = &mut self.connections[index as usize];
        let mut send = outgoing.send_at_once(Fd(index as RawFd), flags);
        self.unfinished |= outgoing.has_more() || !*receiving && !last;
        if self.style.silent {
            send = send.flags(Flags::SKIP_SUCCESS);
        }
        self.sending.push(index);
        if last {
            // Closes only what was sent. A chain must not be cut by a full queue.
            self.ring.make_room(2)?;
            self.push(send.flags(Flags::IO_LINK), SEND_AT_ONCE, index)?;
            return self.close(index);
        }
        self.push(send, SEND_AT_ONCE, index)
    }

    /// All that was sent at once is done: most of it silently, some in part.
    fn complete_silent(&mut self) -> io::Result<()> {
        let mut sending = std::mem::take(&mut self.sending);
        for index in sending.drain(..) {
            let connection = &mut self.connections[index as usize];
            match connection.result.take() {
                None => {
                    connection.outgoing.sent(&mut self.buffers);
                    self.go_on(index)?;
                }
                Some(result) => self.sent_in_part(index, result)?,
            }
        }
        self.sending = sending;
        Ok(())
    }

    fn sent_in_part(&mut self, index: u32, result: i32) -> io::Result<()> {
        let outgoing = &mut self.connections[index as usize].outgoing;
        match result {
            0.. if outgoing.sent_bytes(result as usize, &mut self.buffers) => self.go_on(index),
            0.. => self.send_and_wait(index),
            _ if result == -libc::EAGAIN => self.send_and_wait(index),
            _ => self.sent_after_wait(index, result),
        }
    }

    fn send_and_wait(&mut self, index: u32) -> io::Result<()> {
        let send = self.connections[index as usize].outgoing.send_and_wait(Fd(index as RawFd));
        self.push(send, SEND_AND_WAIT, index)
    }

    fn sent_after_wait(&mut self, index: u32, result: i32) -> io::Result<()> {
        let outgoing = &mut self.connections[index as usize].outgoing;
        match result {
            0.. if outgoing.sent_bytes(result as usize, &mut self.buffers) => {}
            // The connection is broken, which ends the reception too.
            _ => outgoing.discard(&mut self.buffers),
        }
        match self.workload {
            Workload::AcceptReplyClose => self.close(index),
            _ => self.go_on(index),
        }
    }

    /// Sends what has come while the kernel was busy with what came before.
    #[inline]
    fn go_on(&mut self, index: u32) -> io::Result<()> {
        let connection = &self.connections[index as usize];
        if connection.outgoing.is_busy() || self.workload == Workload::AcceptReplyClose {
            return Ok(());
        }
        if connection.outgoing.is_empty() {
            return self.close_if_done(index);
        }
        self.to_send.push(index);
        Ok(())
    }

    fn close_if_done(&mut self, index: u32) -> io::Result<()> {
        let connection = &self.connections[index as usize];
        let done = !connection.receiving && connection.outgoing.is_empty();
        if done { self.close(index) } else { Ok(()) }
    }

    fn close(&mut self, index: u32) -> io::Result<()> {
        let close = match self.style.direct {
            true => opcode::Close::new(Fixed(index)),
            false => opcode::Close::new(Fd(index as RawFd)),
        };
        let close = close.build().flags(Flags::SKIP_SUCCESS);
        self.ring.push(close.user_data(CLOSE | u64::from(index)))
    }

    /// Queues a request on a connection.
    #[inline]
    fn push(&mut self, entry: Entry, kind: u64, index: u32) -> io::Result<()> {
        let file = if self.style.direct { Flags::FIXED_FILE } else { Flags::empty() };
        let entry = entry.flags(file).user_data(kind | u64::from(index));
        // SAFETY: it refers to buffers, and perhaps to a connection's header, which both live for
        // ever, and are used for nothing else until it is known to be done.
        unsafe { self.ring.push_unchecked(entry) }
    }
}
