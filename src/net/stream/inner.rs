//! What the halves of a stream and its futures share: its descriptor, its state, and the operations
//! in flight.
//!
//! The receiving side is filled by the kernel and emptied by reads; the sending side is filled by
//! writes and emptied by the kernel. Futures only look at the state and leave their wakers, so they
//! can be dropped at any time.
//!
//! Wakers are user code, and so are close callbacks: they are cloned, called and dropped with
//! nothing borrowed.

use super::closing::CloseCallback;
use super::error::{Reason, StreamError};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::buffer::Chunk;
use crate::driver::operation::{Outcome, Owner, PoolId, StreamKind};
use crate::fork::ForkGuard;
use crate::io_loop::Core;
use crate::net::wakers::Wakers;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

/// How long the peer of a stream that was dropped may receive nothing of what is left to be sent.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Inner {
    core: Weak<Core>,
    /// `None` while it is being closed.
    fd: Option<OwnedFd>,
    pub(super) kind: StreamKind,
    pub(super) pool: Cell<Option<PoolId>>,
    pub(super) incoming: RefCell<Incoming>,
    pub(super) outgoing: RefCell<Outgoing>,
    pub(super) on_close: Cell<Option<Box<CloseCallback>>>,
    /// The loop tells when it is closed. By this key it is asked not to.
    close_watch: Cell<Option<u32>>,
    state: Cell<State>,
    /// Dropped when the descriptor is closed.
    attachment: Cell<Option<Rc<dyn Any>>>,
    /// The socket of a child of `fork` is its parent's, too.
    fork: ForkGuard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Dropped. What is queued is still sent.
    Abandoned,
    /// Closed. Nothing is sent any more.
    Closed,
}

impl Inner {
    pub(super) fn new(core: &Rc<Core>, fd: OwnedFd, kind: StreamKind) -> Rc<Inner> {
        core.adopt_descriptor(fd.as_raw_fd());
        Rc::new(Inner {
            core: Rc::downgrade(core),
            fd: Some(fd),
            kind,
            pool: Cell::new(None),
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            on_close: Cell::default(),
            close_watch: Cell::new(None),
            state: Cell::new(State::Open),
            attachment: Cell::new(None),
            fork: core.fork_guard(),
        })
    }

    /// Keeps something until the descriptor is closed, or what is kept is replaced.
    pub(in crate::net) fn attach(&self, attachment: Option<Rc<dyn Any>>) {
        let before = self.attachment.replace(attachment);
        drop(before);
    }

    /// Whoever may have to wait for long is to copy what it keeps.
    #[cfg(feature = "futures-io")]
    #[cold]
    pub(super) fn are_buffers_scarce(&self) -> bool {
        self.core().is_ok_and(|core| core.are_buffers_scarce())
    }

    pub(super) fn core(&self) -> io::Result<Rc<Core>> {
        self.core.upgrade().ok_or_else(|| StreamError::LoopClosed.into())
    }

    /// Why the stream has ended, if it has: to reading, or to writing by a failure.
    pub(super) fn end(&self) -> Option<Result<(), Reason>> {
        self.failure().map(Err).or_else(|| self.incoming.borrow().ended())
    }

    /// What went wrong, if something did.
    pub(super) fn failure(&self) -> Option<Reason> {
        let received = self.incoming.borrow().ended().and_then(Result::err);
        received
            .or_else(|| self.outgoing.borrow().failed())
            .filter(|reason| *reason != Reason::Closed)
    }

    /// Tells those who wait for it that the stream has ended, if it has.
    pub(super) fn tell_end(&self) {
        if let Some(news) = self.news_of_end() {
            news.tell();
        }
    }

    /// Those who are to be told that the stream has ended, if it has.
    fn news_of_end(&self) -> Option<NewsOfEnd<'_>> {
        let end = self.end()?;
        let callback = self.on_close.take();
        if callback.is_none() && !self.is_waited_for() {
            return None;
        }
        let [reader, watchers] = self.incoming.borrow_mut().wakers();
        let writers = self.outgoing.borrow_mut().wakers();
        Some(NewsOfEnd {
            wakers: [reader, writers, watchers],
            _last: CallBack { callback, inner: self, end },
        })
    }

    fn is_waited_for(&self) -> bool {
        self.incoming.borrow().is_waited_for() || self.outgoing.borrow().has_writers()
    }

    /// Has the close callback called in the next turn, if there is one and the stream has ended.
    pub(super) fn call_back(&self) {
        drop(self.end().map(|end| CallBack { callback: self.on_close.take(), inner: self, end }));
    }

    /// Sees to it that an end is noticed, also if nobody reads.
    pub(super) fn watch(self: &Rc<Self>) {
        if self.close_watch.get().is_none()
            && let Ok(core) = self.core()
        {
            let owner: Rc<dyn Owner> = self.clone();
            self.close_watch.set(Some(core.watch_close(Rc::downgrade(&owner))));
        }
        self.receive();
    }
}

/// Closing.
impl Inner {
    pub(super) fn shut_down(&self, how: Shutdown) {
        if self.kind == StreamKind::Socket && !self.fork.is_forked() {
            // It may be down already, or never have been up.
            let _ = socket2::SockRef::from(self).shutdown(how);
        }
    }

    /// Nobody is there any more to give up on a peer that does not receive, so the kernel has to.
    #[cold]
    pub(super) fn set_user_timeout(&self) {
        if self.fork.is_forked() {
            return;
        }
        let socket = socket2::SockRef::from(self);
        // What is no TCP socket has no such limit, and its peer is of this machine.
        if let Ok(None) = socket.tcp_user_timeout() {
            let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        }
    }

    /// Gives everything up: what is not sent is not sent.
    pub(in crate::net) fn close(&self) {
        if self.state.replace(State::Closed) == State::Closed {
            return;
        }
        self.incoming.borrow_mut().end(Err(Reason::Closed));
        let sending = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.fail(Reason::Closed);
            outgoing.sending()
        };
        self.shut_down(Shutdown::Both);
        let news = self.news_of_end();
        self.stop_receiving();
        if let (Some(operation), Ok(core)) = (sending, self.core()) {
            core.cancel(operation);
        }
        news.into_iter().for_each(NewsOfEnd::tell);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state.get() == State::Abandoned
    }

    /// Nobody is there any more to read or write. What is queued is still sent.
    pub(super) fn abandon(self: &Rc<Self>) {
        if self.state.get() == State::Open {
            self.state.set(State::Abandoned);
        }
        {
            let mut incoming = self.incoming.borrow_mut();
            incoming.end(Err(Reason::Closed));
            incoming.abandon();
        }
        let waits_for_room = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.end();
            outgoing.waits_for_room()
        };
        if waits_for_room {
            self.set_user_timeout();
        }
        self.tell_end_of_dropped();
        self.stop_receiving();
        self.tell_end();
        self.give_up_reading();
    }
}

/// What operations come to.
impl Inner {
    fn receiving_ended(self: &Rc<Self>, result: io::Result<()>) {
        let result = match result {
            Ok(()) => self.nothing_more(),
            Err(error) => Poll::Ready(Err((&error).into())),
        };
        let again = {
            let mut incoming = self.incoming.borrow_mut();
            match result {
                Poll::Ready(result) => incoming.receiving_ended(result),
                Poll::Pending => incoming.receiving_stopped(),
            }
        };
        match again {
            true => self.receive(),
            false => self.tell_end(),
        }
    }

    pub(super) fn sent(self: &Rc<Self>, sent: usize, result: io::Result<()>) {
        let result = result.map_err(|error| match (&error).into() {
            Reason::BROKEN if self.kind == StreamKind::Socket => self.why_broken(),
            reason => reason,
        });
        let (writers, is_due) = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.sent(sent, result);
            (outgoing.wakers(), outgoing.becomes_due())
        };
        if is_due {
            // If that fails on the spot, everybody is told.
            let _ = self.send_soon();
        }
        match self.state.get() {
            State::Abandoned => self.tell_end_of_dropped(),
            State::Open | State::Closed => self.tell_end_of_data(),
        }
        let has_failed = self.outgoing.borrow().failed().is_some();
        // Told also if a writer's waker panics.
        let news = has_failed.then(|| self.news_of_end()).flatten();
        writers.wake();
        news.into_iter().for_each(NewsOfEnd::tell);
    }
}

impl Owner for Inner {
    fn receive(&self, chunk: Chunk, scarce: bool) -> bool {
        match self.state.get() {
            State::Open => self.incoming.borrow_mut().received(chunk, scarce),
            // Nobody reads.
            State::Abandoned | State::Closed => false,
        }
    }

    fn received(&self) {
        let (waker, too_much) = self.incoming.borrow_mut().take_news();
        if too_much {
            // First, as the waker may panic.
            self.pause_receiving();
        }
        if let Some(waker) = waker {
            waker.wake_by_ref();
            let surplus = self.incoming.borrow_mut().keep_reader(waker);
            drop(surplus);
        }
    }

    fn give_back(&self) {
        self.incoming.borrow_mut().give_back();
        self.outgoing.borrow_mut().give_back();
    }

    fn keeps_buffers(&self) -> bool {
        self.incoming.borrow().keeps_buffers()
    }

    /// If the sending side is quiet, the stream is open, and its handles own it.
    #[inline]
    fn sent_all(&self, bytes: usize) -> bool {
        self.outgoing.borrow_mut().sent_all(bytes)
    }

    fn complete(self: Rc<Self>, outcome: Outcome) {
        match outcome {
            Outcome::ReceiveEnded(result) => self.receiving_ended(result),
            Outcome::Sent { data, sent, result } => {
                drop(data);
                self.sent(sent, result);
            }
            Outcome::SentInPart { data, sent } => self.send_rest(data, sent),
            Outcome::Accepted(_) | Outcome::AcceptEnded(_) | Outcome::Connected(_) => {}
        }
    }
}

/// Who is to be told that a stream has ended.
struct NewsOfEnd<'a> {
    wakers: [Wakers; 3],
    /// After those who are woken, and also if one of them panics.
    _last: CallBack<'a>,
}

impl NewsOfEnd<'_> {
    fn tell(self) {
        self.wakers.into_iter().for_each(Wakers::wake);
    }
}

/// Has a close callback called in the next turn, when this is dropped.
struct CallBack<'a> {
    callback: Option<Box<CloseCallback>>,
    inner: &'a Inner,
    end: Result<(), Reason>,
}

impl Drop for CallBack<'_> {
    fn drop(&mut self) {
        if let (Some(callback), Ok(core)) = (self.callback.take(), self.inner.core()) {
            callback.schedule(&core, self.end);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Ok(core) = self.core() else { return };
        if let Some(key) = self.close_watch.get() {
            core.unwatch_close(key);
        }
        if let Some(socket) = self.fd.take().filter(|_| self.kind == StreamKind::Socket) {
            core.close_descriptor(socket);
        }
        core.descriptor_freed();
    }
}

impl AsFd for Inner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is only closed when this is dropped").as_fd()
    }
}
