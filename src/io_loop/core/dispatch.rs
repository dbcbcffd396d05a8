//! Calling the handlers of a batch.

use super::{Core, add};
use crate::driver::Readiness;
use crate::events::Events;
use crate::handlers::Handler;
use crate::report::Origin;
use std::os::fd::RawFd;

impl Core {
    /// Drops what the kernel has let go of, then calls the handlers of what is ready.
    pub(super) fn dispatch(&self) {
        let mut batch = Batch { core: self, ready: self.batch.take(), next: 0, running: None };
        self.drop_condemned();
        while batch.next < batch.ready.len() {
            // One landing pad for all handlers, because one for each would be felt.
            self.watch.run_many(&mut batch, Batch::call_handlers, Batch::recover);
        }
    }

    #[inline]
    fn call_handler(&self, handler: &mut Box<dyn Handler>, fd: RawFd, events: Events) {
        if self.watch.is_timed() {
            let origin = handler.origin(fd);
            self.watch.run(|| origin, || handler.call(events));
        } else {
            handler.call(events);
        }
    }
}

/// A batch being dispatched. What a panic leaves of it goes back to the driver.
struct Batch<'a> {
    core: &'a Core,
    ready: Vec<Readiness>,
    next: usize,
    /// The handler that runs, out of its table.
    running: Option<Box<dyn Handler>>,
}

impl Batch<'_> {
    /// Calls what is left, until one panics.
    fn call_handlers(&mut self) {
        let core = self.core;
        while let Some(&Readiness { fd, registration, events }) = self.ready.get(self.next) {
            self.next += 1;
            let taken = core.handlers.borrow_mut().take_out(fd, registration, events);
            let Some((handler, events)) = taken else { continue };
            add(&core.counts.handler_calls, 1);
            core.call_handler(self.running.insert(handler), fd, events);
            let Some(handler) = self.running.take() else { continue };
            let unwanted = core.handlers.borrow_mut().put_back(fd, registration, handler);
            if let Some(handler) = unwanted {
                core.condemn(fd, handler);
            }
        }
    }

    /// Puts the handler back that has panicked, and says which it was.
    #[cold]
    fn recover(&mut self) -> Option<Origin> {
        let handler = self.running.take()?;
        let Readiness { fd, registration, .. } = self.ready[self.next - 1];
        let origin = handler.origin(fd);
        let unwanted = self.core.handlers.borrow_mut().put_back(fd, registration, handler);
        if let Some(handler) = unwanted {
            self.core.condemned.borrow_mut().push((fd, handler));
        }
        Some(origin)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.recover();
        if self.next < self.ready.len()
            && let Ok(mut driver) = self.core.driver()
        {
            driver.put_back(&self.ready[self.next..]);
        }
        self.ready.clear();
        self.core.batch.replace(std::mem::take(&mut self.ready));
    }
}
