//! Calling the handlers of a batch.

use super::{Core, add};
use crate::driver::Readiness;
use crate::driver::operation::{Outcome, Owner};
use crate::events::Events;
use crate::handlers::Handler;
use crate::report::Origin;
use std::os::fd::RawFd;
use std::rc::Rc;

impl Core {
    /// Drops what the kernel has let go of, then calls the handlers of what is ready.
    #[inline]
    pub(super) fn dispatch(&self) {
        if self.batch.borrow().ready.is_empty() {
            self.release_condemned();
            self.deliver();
        } else {
            self.dispatch_ready();
        }
    }

    #[inline(never)]
    fn dispatch_ready(&self) {
        let ready = std::mem::take(&mut self.batch.borrow_mut().ready);
        let mut dispatch = Dispatch { core: self, ready, next: 0 };
        self.release_condemned();
        self.deliver();
        while dispatch.next < dispatch.ready.len() && !self.fork.is_forked() {
            // One landing pad for all handlers, because one for each would be felt.
            self.watch.run_many(&mut dispatch, Dispatch::call_handlers, Dispatch::panicked);
        }
    }

    /// Tells what operations have come to, in order: what the telling brings about is told after the
    /// rest.
    #[inline]
    pub(super) fn deliver(&self) {
        if !self.batch.borrow().notices.is_empty() && !self.delivering.replace(true) {
            self.deliver_all();
        }
    }

    fn deliver_all(&self) {
        let _delivery = Delivery(self);
        // Wakers of other executors are user code. If one panics, the rest stays where it is.
        while !self.batch.borrow().notices.is_empty() {
            self.watch.run_many(&mut (), |()| self.tell_all(), |()| Some(Origin::waker()));
        }
    }

    #[inline]
    fn tell_all(&self) {
        loop {
            while let Some(owner) = self.next_received() {
                owner.received();
            }
            match self.next_outcome() {
                Some((owner, outcome)) => owner.complete(outcome),
                None => break,
            }
        }
    }

    #[inline]
    fn next_received(&self) -> Option<Rc<dyn Owner>> {
        self.batch.borrow_mut().notices.pop_received()
    }

    fn next_outcome(&self) -> Option<(Rc<dyn Owner>, Outcome)> {
        self.batch.borrow_mut().notices.pop_outcome()
    }

    #[inline]
    fn call_handler(&self, handler: &dyn Handler, fd: RawFd, events: Events) {
        if self.watch.is_timed() {
            let origin = handler.origin(fd);
            self.watch.run(|| origin, || handler.call(events));
        } else {
            handler.call(events);
        }
    }

    /// Where a handler came from that was just running, and may have removed itself.
    #[cold]
    fn origin_of(&self, fd: RawFd, registration: u32) -> Option<Origin> {
        let registered = self.handlers.borrow().origin(fd, registration);
        registered.or_else(|| {
            let condemned = self.condemned.borrow();
            let (_, handler) = condemned.iter().find(|(number, _)| *number == fd)?;
            Some(handler.origin(fd))
        })
    }
}

/// A batch being dispatched. What a panic leaves of it goes back to the driver.
struct Dispatch<'a> {
    core: &'a Core,
    ready: Vec<Readiness>,
    next: usize,
}

impl Dispatch<'_> {
    /// Calls what is left, until one panics.
    fn call_handlers(&mut self) {
        let Dispatch { core, ready, next } = self;
        let core = *core;
        let fork = core.fork;
        for &Readiness { fd, registration, events } in &ready[*next..] {
            // The one before may have forked, and returned here in both processes.
            if fork.is_forked() {
                break;
            }
            *next += 1;
            let found = core.handlers.borrow().find(fd, registration, events);
            let Some((handler, events)) = found else { continue };
            add(&core.counts.handler_calls, 1);
            core.call_handler(&*handler, fd, events);
            drop(handler);
            if core.has_condemned() {
                core.drop_released();
            }
        }
    }

    /// Says which handler has panicked.
    fn panicked(&mut self) -> Option<Origin> {
        let Readiness { fd, registration, .. } = self.ready[self.next - 1];
        self.core.origin_of(fd, registration)
    }
}

impl Drop for Dispatch<'_> {
    fn drop(&mut self) {
        if self.next < self.ready.len()
            && let Ok(mut driver) = self.core.driver()
        {
            driver.put_back(&self.ready[self.next..]);
        }
        self.core.batch.borrow_mut().ready = std::mem::take(&mut self.ready);
    }
}

/// Outcomes are being told for as long as this lives.
struct Delivery<'a>(&'a Core);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.0.delivering.set(false);
    }
}
