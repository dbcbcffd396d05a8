//! Removing handlers: they are dropped when the kernel has let go of their files.

use super::Core;
use crate::driver::Flush;
use crate::handlers::{self, Handler};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

impl Core {
    #[inline]
    pub(super) fn has_condemned(&self) -> bool {
        !self.condemned.borrow().is_empty()
    }

    /// Drops the condemned at once, if the kernel has let go of all that was removed.
    #[cold]
    pub(super) fn drop_released(&self) {
        if !self.driver().is_ok_and(|driver| driver.needs_flush()) {
            self.drop_condemned();
        }
    }

    fn drop_condemned(&self) {
        let condemned = self.condemned.take().into_iter();
        self.watch.drop_all(condemned.map(|(fd, handler)| (handler.origin(fd), handler)));
    }

    fn flush(&self, extent: Flush) -> io::Result<bool> {
        self.driver()?.flush(extent, &mut self.batch.borrow_mut().notices)
    }

    /// Makes the kernel let go of what was removed, and drops it; and so on with what that removes.
    pub(super) fn release(&self) -> io::Result<()> {
        while !self.release_in_part()? {}
        Ok(())
    }

    /// As `release`, when no turn may follow: what there is room for is sent, also of long sends.
    pub(super) fn release_last(&self) -> io::Result<()> {
        self.release()?;
        while self.driver()?.has_parts_to_send() {
            self.flush(Flush::Whole)?;
            self.release()?;
        }
        Ok(())
    }

    /// As `release`, but perhaps not all of it: false if much data has come meanwhile, which others
    /// wait for.
    pub(super) fn release_in_part(&self) -> io::Result<bool> {
        // Nobody is told of data while a panic unwinds.
        let extent = if std::thread::panicking() { Flush::Whole } else { Flush::Part };
        loop {
            self.send_all();
            // What telling the outcomes cancels is released in another round; what this one could
            // not release, because it was too much, is left to the next turn.
            let is_done = !self.driver()?.needs_flush() || self.flush(extent)?;
            let flushed = !self.driver()?.needs_flush();
            if !std::thread::panicking() {
                self.deliver();
            }
            if !is_done {
                return Ok(false);
            }
            if self.has_condemned() {
                self.drop_condemned();
            } else if self.outbox.borrow().is_empty() && (!flushed || !self.driver()?.needs_flush())
            {
                self.unreleased.set(false);
                return Ok(true);
            }
        }
    }

    /// As `release`, for what was removed before the wait: the kernel has let go of it by itself,
    /// unless it was very much.
    pub(super) fn release_condemned(&self) {
        if self.has_condemned() {
            // A loop that cannot do it says so at the end of the turn.
            let _ = self.release_in_part();
        }
    }

    /// Ends a registration. The handler comes with word whether the kernel may pin its file.
    pub(crate) fn unregister(&self, fd: RawFd) -> Option<(Rc<dyn Handler>, bool)> {
        if !self.is_usable() || !self.handlers.borrow().is_registered(fd) {
            return None;
        }
        let mut pinned = self.driver().is_ok_and(|mut driver| driver.remove_poll(fd));
        if pinned && !self.running.get() {
            // The file may be closed as soon as this returns, and no turn may ever follow.
            pinned = self.flush(Flush::Whole).is_err();
        }
        let handler = self.handlers.borrow_mut().remove(fd)?;
        if pinned || handlers::is_running(&handler) {
            self.unreleased.set(true);
        }
        Some((handler, pinned))
    }

    pub(crate) fn remove(&self, fd: RawFd) -> bool {
        let Some((handler, pinned)) = self.unregister(fd) else {
            return false;
        };
        if pinned || handlers::is_running(&handler) {
            self.condemned.borrow_mut().push((fd, handler));
        }
        true
    }
}
