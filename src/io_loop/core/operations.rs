//! Operations that complete, as the streams on a loop ask for them.

use super::Core;
use crate::buffer::{Gather, PoolSize};
use crate::driver::OperationKey;
use crate::driver::notices::Notice;
use crate::driver::operation::{Operation, Outcome, Owner, PoolId, QuickSend};
use crate::error::LoopError;
use crate::fork::ForkGuard;
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

/// Has something to send.
pub(crate) trait Sender {
    /// The loop is about to wait. Called with nothing borrowed.
    fn send_now(self: Rc<Self>, core: &Core);
}

impl Core {
    /// Starts an operation. Its owner hears of it in a later turn.
    pub(crate) fn submit(
        &self,
        operation: Operation,
        owner: Rc<dyn Owner>,
    ) -> Result<OperationKey, LoopError> {
        Ok(self.driver()?.submit(operation, owner))
    }

    /// Sends with the next system call, or tells the owner why not.
    #[inline]
    pub(crate) fn send(&self, send: QuickSend, data: Gather, owner: Rc<dyn Owner>) {
        match self.driver() {
            Ok(mut driver) => driver.send(send, data, owner),
            Err(error) => refuse(data, owner, error),
        }
    }

    /// Asks for an operation to end. If the loop is not running, it has ended when this returns.
    pub(crate) fn cancel(&self, operation: OperationKey) {
        let Ok(mut driver) = self.driver() else { return };
        driver.cancel(operation);
        drop(driver);
        self.unreleased.set(true);
        if !self.running.get() {
            // No turn may ever follow. What cannot be let go of now is when the loop is closed.
            let _ = self.release();
        }
    }

    /// Asks for an operation to end that may begin again: its file is not to be let go of.
    pub(crate) fn stop(&self, operation: OperationKey) {
        if let Ok(mut driver) = self.driver() {
            driver.stop(operation);
        }
    }

    /// Has `sender` called before the loop waits, or stops.
    #[inline]
    pub(crate) fn send_later(&self, sender: Rc<dyn Sender>) -> Result<(), LoopError> {
        self.check_usable()?;
        self.outbox.borrow_mut().push_back(sender);
        Ok(())
    }

    /// Also what is added meanwhile: one that fails wakes others, who may write.
    #[inline]
    pub(super) fn send_all(&self) {
        while let Some(sender) = self.next_sender() {
            sender.send_now(self);
        }
    }

    #[inline]
    fn next_sender(&self) -> Option<Rc<dyn Sender>> {
        self.outbox.borrow_mut().pop_front()
    }

    pub(crate) fn fork_guard(&self) -> ForkGuard {
        self.fork
    }

    /// # Errors
    ///
    /// For a file that is always ready, and cannot be waited for.
    pub(crate) fn check_pollable(&self, fd: RawFd) -> io::Result<()> {
        self.probe.check(fd)
    }

    /// Has `owner` told when the loop is closed, until [`unwatch_close`](Self::unwatch_close).
    pub(crate) fn watch_close(&self, owner: Weak<dyn Owner>) -> u32 {
        // There are fewer streams than descriptors.
        self.close_watchers.borrow_mut().insert(owner) as u32
    }

    pub(crate) fn unwatch_close(&self, key: u32) {
        let forgotten = self.close_watchers.borrow_mut().try_remove(key as usize);
        drop(forgotten);
    }

    /// That no data will come any more, for those who asked for it.
    pub(super) fn notices_of_close(&self) -> impl Iterator<Item = Notice> + use<> {
        let watchers = self.close_watchers.take();
        watchers.into_iter().filter_map(|(_, owner)| {
            let cancelled = io::Error::from_raw_os_error(libc::ECANCELED);
            Some(Notice::Outcome(owner.upgrade()?, Outcome::ReceiveEnded(Err(cancelled))))
        })
    }

    /// The pool that streams receive into if they have none of their own.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub(crate) fn default_pool(&self) -> io::Result<PoolId> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let pool = self.add_pool(self.pool_size)?;
        self.pool.set(Some(pool));
        Ok(pool)
    }

    pub(crate) fn are_buffers_scarce(&self) -> bool {
        self.driver().is_ok_and(|driver| driver.are_buffers_scarce())
    }

    /// # Errors
    ///
    /// If there is no memory for it, or there are too many.
    pub(crate) fn add_pool(&self, size: Option<PoolSize>) -> io::Result<PoolId> {
        self.driver()?.add_pool(size, self.shared.clone())
    }
}

#[cold]
fn refuse(data: Gather, owner: Rc<dyn Owner>, why: LoopError) {
    owner.complete(Outcome::Sent { data, sent: 0, result: Err(why.into()) });
}
