//! Having the kernel receive into `incoming`, and waiting for what it has received.

use super::error::StreamError;
use super::incoming::Incoming;
use super::inner::Inner;
use crate::driver::OperationKey;
use crate::driver::operation::{Operation, PoolId, StreamKind};
use crate::io_loop::Core;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

impl Inner {
    /// Has the kernel receive, if there is room for what comes.
    pub(super) fn receive(self: &Rc<Self>) {
        if !self.incoming.borrow().wants_more() {
            return;
        }
        if let Err(error) = self.start_receiving() {
            self.incoming.borrow_mut().end(Err((&error).into()));
            self.tell_end();
        }
    }

    fn start_receiving(self: &Rc<Self>) -> io::Result<()> {
        let core = self.core()?;
        let pool = match self.pool.get() {
            Some(pool) => pool,
            None => core.default_pool()?,
        };
        let receive =
            Operation::Receive { stream: self.as_fd().as_raw_fd(), kind: self.kind, pool };
        let operation = core.submit(receive, self.clone())?;
        self.incoming.borrow_mut().started(operation);
        Ok(())
    }

    /// What there is to read is enough, or is to come another way.
    pub(super) fn pause_receiving(&self) {
        self.end_receiving(Core::stop);
    }

    /// The descriptor is about to be closed.
    pub(super) fn stop_receiving(&self) {
        self.end_receiving(Core::cancel);
    }

    fn end_receiving(&self, end: impl FnOnce(&Core, OperationKey)) {
        let operation = self.incoming.borrow_mut().stop();
        if let (Some(operation), Ok(core)) = (operation, self.core()) {
            end(&core, operation);
        }
    }

    /// Receives into this pool from now on.
    pub(super) fn set_pool(&self, pool: PoolId) {
        if self.pool.replace(Some(pool)) != Some(pool) {
            // It goes on with the new one.
            self.pause_receiving();
        }
    }

    /// Tries to read now; if that is not possible yet, `context` is woken when it is worth another
    /// try. `waiting` says that this read has been tried before. `None` if it is not a future of its
    /// own, and may never be tried again: other reads are not refused because of it.
    #[inline]
    pub(super) fn poll_read<T>(
        self: &Rc<Self>,
        context: &Context<'_>,
        mut waiting: Option<&mut bool>,
        mut read: impl FnMut(&mut Incoming) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut incoming = self.incoming.borrow_mut();
        let is_turned_away = incoming.is_busy() && !waiting.as_deref().is_some_and(|waits| *waits);
        if self.kind == StreamKind::PipeWriter || is_turned_away {
            return Poll::Ready(Err(self.refusal(&incoming)));
        }
        let polled = read(&mut incoming);
        if let Some(waiting) = &mut waiting {
            **waiting = polled.is_pending();
        }
        if polled.is_pending() {
            drop(incoming);
            self.wait_to_read(context.waker(), waiting.is_some());
            return polled;
        }
        incoming.finish();
        let is_low = incoming.is_low();
        drop(incoming);
        if is_low {
            self.receive();
        }
        polled
    }

    /// Why nobody can read.
    #[cold]
    fn refusal(&self, incoming: &Incoming) -> io::Error {
        match incoming.ended() {
            _ if self.kind == StreamKind::PipeWriter => io::Error::from_raw_os_error(libc::EBADF),
            Some(Err(reason)) => reason.error(),
            Some(Ok(())) | None => StreamError::AlreadyReading.into(),
        }
    }

    fn wait_to_read(self: &Rc<Self>, waker: &Waker, alone: bool) {
        let (is_known, is_receiving) = {
            let mut incoming = self.incoming.borrow_mut();
            (incoming.wait(waker, alone), incoming.is_receiving())
        };
        if !is_known {
            self.leave_waker(waker);
        }
        if !is_receiving {
            // If that fails on the spot, it wakes.
            self.receive();
        }
    }

    #[inline(never)]
    fn leave_waker(&self, waker: &Waker) {
        let own = waker.clone();
        let (before, is_late) = self.incoming.borrow_mut().set_reader(own);
        drop(before);
        if is_late {
            waker.wake_by_ref();
        }
    }

    /// A read that waits is given up, or there will be none.
    pub(super) fn give_up_reading(&self) {
        let waker = self.incoming.borrow_mut().give_up();
        drop(waker);
    }
}
