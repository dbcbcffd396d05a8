//! What the two halves of a stream share: its descriptor, its state, and the operations in flight.
//!
//! The receiving side is filled by the kernel and emptied by reads; the sending side is filled by
//! writes and emptied by the kernel. Futures only look at the state and leave their wakers, so they
//! can be dropped at any time.

use super::error::{Reason, StreamError};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::buffer::Payload;
use crate::driver::operation::{Operation, Outcome, Owner, PoolId, StreamKind};
use crate::io_loop::Core;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

pub(crate) struct Inner {
    core: Weak<Core>,
    fd: OwnedFd,
    kind: StreamKind,
    pub(super) pool: Cell<Option<PoolId>>,
    pub(super) incoming: RefCell<Incoming>,
    pub(super) outgoing: RefCell<Outgoing>,
    /// Closed on this side, at once or as soon as everything is sent.
    closing: Cell<bool>,
}

impl Inner {
    pub(super) fn new(core: &Rc<Core>, fd: OwnedFd, kind: StreamKind) -> Rc<Inner> {
        Rc::new(Inner {
            core: Rc::downgrade(core),
            fd,
            kind,
            pool: Cell::new(None),
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            closing: Cell::new(false),
        })
    }

    fn core(&self) -> io::Result<Rc<Core>> {
        self.core.upgrade().ok_or_else(|| StreamError::LoopClosed.into())
    }

    /// Has the kernel receive, if there is room for what comes.
    pub(super) fn receive(self: &Rc<Self>) {
        if !self.incoming.borrow().wants_more() {
            return;
        }
        match self.start_receiving() {
            Ok(()) => {}
            Err(error) => self.incoming.borrow_mut().end(Err((&error).into())),
        }
    }

    fn start_receiving(self: &Rc<Self>) -> io::Result<()> {
        let core = self.core()?;
        let pool = match self.pool.get() {
            Some(pool) => pool,
            None => core.default_pool()?,
        };
        let receive = Operation::Receive { stream: self.fd.as_raw_fd(), kind: self.kind, pool };
        let operation = core.submit(receive, self.clone())?;
        self.incoming.borrow_mut().started(operation);
        Ok(())
    }

    fn stop_receiving(&self) {
        let operation = self.incoming.borrow_mut().stop();
        if let (Some(operation), Ok(core)) = (operation, self.core()) {
            core.cancel(operation);
        }
    }

    /// Tries to read now; if that is not possible yet, `context` is woken when it is worth another
    /// try. `waiting` says that this read has been tried before.
    pub(super) fn poll_read<T>(
        self: &Rc<Self>,
        context: &Context<'_>,
        waiting: &mut bool,
        mut read: impl FnMut(&mut Incoming) -> Option<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.incoming.borrow().is_busy() && !*waiting {
            return Poll::Ready(Err(StreamError::AlreadyReading.into()));
        }
        let mut attempt = || {
            let mut incoming = self.incoming.borrow_mut();
            let result = read(&mut incoming);
            let waker = match &result {
                Some(_) => incoming.finish(),
                None => incoming.wait(context),
            };
            drop(incoming);
            drop(waker);
            *waiting = result.is_none();
            result
        };
        let mut result = attempt();
        if result.is_none() || self.incoming.borrow().is_low() {
            self.receive();
        }
        if result.is_none() && self.incoming.borrow().ended().is_some() {
            // That failed on the spot.
            result = attempt();
        }
        result.map_or(Poll::Pending, Poll::Ready)
    }

    /// Queues data to be sent. Returns how much has to be sent until it is.
    pub(super) fn write(self: &Rc<Self>, payload: Payload) -> io::Result<u64> {
        if self.closing.get() {
            return Err(StreamError::Closed.into());
        }
        let target = self.outgoing.borrow_mut().push(payload)?;
        self.send();
        Ok(target)
    }

    /// Has the kernel send what is queued, one payload at a time.
    fn send(self: &Rc<Self>) {
        let Some(payload) = self.outgoing.borrow_mut().next() else { return };
        let stream = self.fd.as_raw_fd();
        let send = Operation::Send { stream, kind: self.kind, payload, sent: 0 };
        let sent = match self.core() {
            Ok(core) => core.submit(send, self.clone()).map_err(io::Error::from),
            Err(error) => Err(error),
        };
        match sent {
            Ok(operation) => self.outgoing.borrow_mut().sending = Some(operation),
            Err(error) => self.outgoing.borrow_mut().fail((&error).into()),
        }
    }

    /// Ends the sending side once everything is sent.
    pub(super) fn end_sending(&self) {
        let now = self.outgoing.borrow_mut().end();
        if now {
            self.shut_down(Shutdown::Write);
        }
    }

    fn shut_down(&self, how: Shutdown) {
        if self.kind == StreamKind::Socket {
            // It may be down already, or never have been up.
            let _ = socket2::SockRef::from(&self.fd).shutdown(how);
        }
    }

    /// Gives everything up: what is not sent is not sent.
    pub(super) fn close(&self, reason: Reason) {
        self.closing.set(true);
        self.stop_receiving();
        self.incoming.borrow_mut().end(Err(reason));
        let sending = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.fail(reason);
            outgoing.sending
        };
        if let (Some(operation), Ok(core)) = (sending, self.core()) {
            core.cancel(operation);
        }
    }

    /// Nobody is there any more to read or write. What is queued is still sent.
    pub(super) fn abandon(&self) {
        self.closing.set(true);
        self.stop_receiving();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(super) fn kind(&self) -> StreamKind {
        self.kind
    }
}

impl Owner for Inner {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Received(chunk) => {
                let (reader, stop) = self.incoming.borrow_mut().received(chunk);
                if stop {
                    self.stop_receiving();
                }
                reader.wake();
            }
            Outcome::ReceiveEnded(result) => {
                let result = result.map_err(|error| (&error).into());
                let (reader, again) = self.incoming.borrow_mut().receiving_ended(result);
                if again && !self.closing.get() {
                    self.receive();
                }
                reader.wake();
            }
            Outcome::Sent { payload, sent, result } => {
                let writers = {
                    let mut outgoing = self.outgoing.borrow_mut();
                    let result = result.map_err(|error| (&error).into());
                    outgoing.sent(sent, result)
                };
                drop(payload);
                self.send();
                let ended = self.outgoing.borrow_mut().take_end();
                if ended {
                    self.shut_down(Shutdown::Write);
                }
                writers.wake();
            }
            Outcome::Accepted(_) | Outcome::AcceptEnded(_) | Outcome::Connected(_) => {}
        }
    }
}

impl AsFd for Inner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
