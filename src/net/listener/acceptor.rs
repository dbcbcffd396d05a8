//! Has the kernel accept connections, as many as there is room for.
//!
//! A multishot accept takes whatever comes until it is cancelled, however long the backlog is. So
//! the backlog is first emptied by hand, up to the limit; only when it is empty does the multishot
//! accept take over, and when the queue is full, it is cancelled. By then, it may have taken too many:
//! where a [`Budget`] is not to be exceeded, all is accepted by hand.

use super::budget::Budget;
use super::error::{ListenerError, Reason};
use super::pause::{Pause, Refusal};
use super::queue::{Queue, Ticket};
use crate::driver::OperationKey;
use crate::driver::operation::{Operation, Outcome, Owner};
use crate::io_loop::{Core, DescriptorWaiter, IoLoop, Timeout};
use crate::net::IoStream;
use crate::net::wakers::Wakers;
use crate::{LoopError, sys};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

pub(crate) struct Acceptor {
    core: Weak<Core>,
    /// By which the loop tells it when it is closed.
    close_watch: Cell<Option<u32>>,
    /// `None` once it is closed, and the kernel has let go of it.
    socket: RefCell<Option<OwnedFd>>,
    budget: Option<Rc<dyn Budget>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    activity: Activity,
    pause: Pause,
    ended: Option<Reason>,
}

/// What is being done about connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activity {
    /// Nothing: nobody has asked, or the queue is full.
    #[default]
    Resting,
    /// In its next turn, the loop looks into the backlog.
    Looking,
    /// The kernel accepts, or waits for something to be accepted.
    Accepting(OperationKey),
    /// As `Accepting`, until it is cancelled.
    Stopping,
    /// The kernel has refused, and is asked again later.
    Pausing(Timeout),
}

impl Acceptor {
    /// Takes a socket that listens, for the current loop. Of a `budget`, each connection takes
    /// one.
    pub(crate) fn new(socket: OwnedFd, budget: Option<Rc<dyn Budget>>) -> io::Result<Rc<Acceptor>> {
        let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
        io_loop.core().check_usable()?;
        socket2::SockRef::from(&socket).set_nonblocking(true)?;
        let core = io_loop.core();
        let acceptor = Rc::new(Acceptor {
            core: Rc::downgrade(core),
            close_watch: Cell::new(None),
            socket: RefCell::new(Some(socket)),
            budget,
            state: RefCell::default(),
        });
        let owner: Rc<dyn Owner> = acceptor.clone();
        acceptor.close_watch.set(Some(core.watch_close(Rc::downgrade(&owner))));
        Ok(acceptor)
    }

    /// Reads something off the socket.
    pub(crate) fn with_socket<T>(
        &self,
        read: impl FnOnce(socket2::SockRef<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match &*self.socket.borrow() {
            Some(socket) => read(socket2::SockRef::from(&socket.as_fd())),
            None => Err(ListenerError::Closed.into()),
        }
    }

    /// -1 once it is closed.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.socket.borrow().as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.state.borrow_mut().queue.set_limit(limit);
        self.stop_if_full();
    }

    pub(super) fn poll_accept(
        self: &Rc<Self>,
        ticket: &mut Option<Ticket>,
        context: &Context<'_>,
    ) -> Poll<io::Result<IoStream>> {
        let Some(core) = self.core.upgrade() else {
            return Poll::Ready(Err(ListenerError::LoopClosed.into()));
        };
        let mut taken = self.take(ticket);
        let is_known = self.state.borrow().queue.knows(*ticket, context.waker());
        if taken.is_none() && !is_known {
            let waker = context.waker().clone();
            let before = self.state.borrow_mut().queue.wait(ticket, waker);
            drop(before);
            // Wakers are user code, which may have brought something about.
            taken = self.take(ticket);
        }
        self.look_if_low();
        match taken {
            Some(taken) => Poll::Ready(taken.map(|socket| IoStream::of_socket(&core, socket))),
            None => Poll::Pending,
        }
    }

    /// A connection, or why there will be none.
    fn take(&self, ticket: &mut Option<Ticket>) -> Option<io::Result<OwnedFd>> {
        let mut state = self.state.borrow_mut();
        let taken = match (state.queue.pop(), state.ended) {
            (Some(socket), _) => Ok(socket),
            (None, reason) => Err(reason?.error()),
        };
        let waker = ticket.take().and_then(|ticket| state.queue.leave(ticket));
        drop(state);
        drop(waker);
        Some(taken)
    }

    /// Somebody does not wait any more. If there is a connection that they were woken for, somebody
    /// else is woken.
    pub(super) fn leave(&self, ticket: Ticket) {
        let mut state = self.state.borrow_mut();
        let (left, next) = match state.queue.leave(ticket) {
            Some(waker) => (Some(waker), None),
            None => (None, state.queue.pass_on()),
        };
        drop(state);
        drop(left);
        Wakers::one(next).wake();
    }

    /// Accepts again, from the next turn on, if there is room.
    fn look_if_low(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let is_due = state.activity == Activity::Resting && state.queue.is_low();
        if !is_due || state.ended.is_some() || self.is_spent() {
            return;
        }
        let Some(core) = self.core.upgrade() else { return };
        state.activity = Activity::Looking;
        drop(state);
        let this = Rc::downgrade(self);
        core.defer(move || {
            if let Some(this) = this.upgrade() {
                this.look();
            }
        });
    }

    /// Empties the backlog as far as there is room. Lets the kernel go on if it is empty.
    fn look(self: &Rc<Self>) {
        // They are woken last, as they may do anything, and panic.
        let mut wakers = Wakers::default();
        match self.empty_backlog(&mut wakers) {
            Ok(()) => {
                self.state.borrow_mut().activity = Activity::Resting;
                wakers.extend(self.in_vain());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.arm(),
            Err(error) => self.refused(error),
        }
        wakers.wake();
    }

    /// Accepts until there is no room, or an error: `WouldBlock` if there is nothing more to accept.
    fn empty_backlog(&self, wakers: &mut Wakers) -> io::Result<()> {
        while self.has_room() {
            match sys::accept(self.raw_fd()) {
                Ok(socket) => wakers.extend(self.accepted(socket)),
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn arm(self: &Rc<Self>) {
        let submitted = match self.core.upgrade() {
            Some(core) => core.submit(self.operation(), self.clone()).ok(),
            None => None,
        };
        match submitted {
            Some(operation) => {
                self.state.borrow_mut().activity = Activity::Accepting(operation);
            }
            None => self.end(Reason::Listener(ListenerError::LoopClosed)),
        }
    }

    fn operation(&self) -> Operation {
        let listener = self.raw_fd();
        match self.budget {
            None => Operation::Accept { listener },
            Some(_) => Operation::AwaitConnection { listener },
        }
    }

    /// Queues a connection, unless the listener has ended. Who is to be woken for it.
    fn accepted(&self, socket: OwnedFd) -> Option<Waker> {
        let mut state = self.state.borrow_mut();
        if state.ended.is_some() {
            return None;
        }
        self.budget.iter().for_each(|budget| budget.take());
        state.pause.accepted();
        state.queue.push(socket)
    }

    fn has_room(&self) -> bool {
        let state = self.state.borrow();
        state.ended.is_none() && !state.queue.is_full() && !self.is_spent()
    }

    /// Who waits for a connection that cannot be accepted, as others have used the budget up. Woken,
    /// they find that out, and wait for it to be given back.
    fn in_vain(&self) -> Option<Waker> {
        if self.is_spent() { self.state.borrow_mut().queue.pop_waker() } else { None }
    }

    fn is_spent(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_spent())
    }

    fn stop_if_full(&self) {
        let mut state = self.state.borrow_mut();
        let Activity::Accepting(operation) = state.activity else { return };
        if state.queue.is_full() {
            state.activity = Activity::Stopping;
            drop(state);
            self.cancel(operation);
        }
    }

    fn cancel(&self, operation: OperationKey) {
        if let Some(core) = self.core.upgrade() {
            core.cancel(operation);
        }
    }

    /// The kernel did not accept.
    fn refused(self: &Rc<Self>, error: io::Error) {
        let refusal = Refusal::of(&error);
        let Some(core) = self.core.upgrade().filter(|_| refusal != Refusal::Final) else {
            self.state.borrow_mut().activity = Activity::Resting;
            return self.end(match error.raw_os_error() {
                Some(errno) if errno != libc::ECANCELED => Reason::Os(errno),
                _ => Reason::Listener(ListenerError::LoopClosed),
            });
        };
        let (duration, is_first) = self.state.borrow_mut().pause.refused();
        let this = Rc::downgrade(self);
        let timeout = IoLoop::of(core.clone()).call_later(duration, move || {
            if let Some(this) = this.upgrade() {
                this.retry();
            }
        });
        self.state.borrow_mut().activity = Activity::Pausing(timeout);
        if refusal == Refusal::Shortage {
            if is_first {
                core.accept_paused();
            }
            let this: Rc<dyn DescriptorWaiter> = self.clone();
            core.await_descriptor(Rc::downgrade(&this));
        }
    }

    /// Gives no more connections than there are in the queue.
    fn end(&self, reason: Reason) {
        let mut state = self.state.borrow_mut();
        state.ended.get_or_insert(reason);
        let wakers = state.queue.take_wakers();
        drop(state);
        wakers.wake();
    }

    /// Stops accepting, closes the connections that nobody has taken, and the socket as soon as the
    /// kernel has let go of it.
    pub(crate) fn close(&self) {
        self.close_for(ListenerError::Closed);
    }

    fn close_for(&self, reason: ListenerError) {
        let mut state = self.state.borrow_mut();
        state.ended.get_or_insert(Reason::Listener(reason));
        let left = state.queue.take();
        let activity = state.activity;
        state.activity = match activity {
            Activity::Accepting(_) | Activity::Stopping => Activity::Stopping,
            _ => Activity::Resting,
        };
        drop(state);
        let core = self.core.upgrade().filter(|core| core.is_usable());
        match (activity, core) {
            (Activity::Accepting(operation), Some(core)) => core.cancel(operation),
            (Activity::Stopping, Some(_)) => {}
            (Activity::Pausing(timeout), Some(core)) => {
                IoLoop::of(core).remove_timeout(timeout);
                self.close_socket();
            }
            _ => self.close_socket(),
        }
        let (sockets, wakers) = left;
        drop(sockets);
        wakers.wake();
    }

    fn close_socket(&self) {
        let socket = self.socket.borrow_mut().take();
        drop(socket);
    }
}

impl Owner for Acceptor {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(socket) => {
                let wakers = Wakers::one(self.accepted(socket));
                self.stop_if_full();
                wakers.wake();
            }
            Outcome::AcceptEnded(result) => {
                let mut state = self.state.borrow_mut();
                let before = std::mem::take(&mut state.activity);
                let is_closed = matches!(state.ended, Some(Reason::Listener(_)));
                drop(state);
                match result {
                    _ if is_closed => self.close_socket(),
                    Err(error) if before != Activity::Stopping => self.refused(error),
                    _ => {
                        self.look_if_low();
                        Wakers::one(self.in_vain()).wake();
                    }
                }
            }
            // What everybody is told when the loop is closed.
            _ => self.close_for(ListenerError::LoopClosed),
        }
    }
}

impl DescriptorWaiter for Acceptor {
    fn retry(self: Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let Activity::Pausing(timeout) = state.activity else { return };
        state.activity = Activity::Looking;
        drop(state);
        if let Some(core) = self.core.upgrade() {
            IoLoop::of(core).remove_timeout(timeout);
        }
        self.look();
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let (Some(key), Some(core)) = (self.close_watch.get(), self.core.upgrade()) {
            core.unwatch_close(key);
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let activity = self.state.borrow().activity;
        f.debug_struct("Acceptor").field("fd", &self.raw_fd()).field("activity", &activity).finish()
    }
}
