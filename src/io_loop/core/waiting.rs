//! The wait: for how long, and by which clock.

use super::{Core, Mode, add};
use crate::clock::END_OF_TIME;
use crate::driver::Wait;
use std::io;

impl Core {
    /// Submits, waits, and fills the batch.
    pub(super) fn wait(&self, mode: Mode) -> io::Result<()> {
        match self.how_long(mode) {
            Wait::Until(deadline) if self.clock.is_virtual() => self.wait_virtually(deadline),
            wait => self.wait_for(wait),
        }
    }

    #[inline(always)]
    fn wait_for(&self, mut wait: Wait) -> io::Result<()> {
        let mut driver = self.driver()?;
        if wait == Wait::Forever && driver.is_idle() {
            drop(driver);
            self.doze();
            return Ok(());
        }
        let alarm = &self.shared.alarm;
        let asleep = wait != Wait::Poll && alarm.fall_asleep();
        if !asleep {
            wait = Wait::Poll;
        }
        let result = driver.turn(wait, &mut self.batch.borrow_mut());
        if asleep {
            alarm.awake();
        }
        result
    }

    /// Sleeps until other threads, or signal handlers, have something for us, as nobody else can.
    #[inline(never)]
    fn doze(&self) {
        if let Some(doze) = self.shared.alarm.doze() {
            add(&self.counts.wakeups, 1);
            add(&self.counts.interrupts, doze.interrupts);
        }
    }

    /// A wait until `deadline` on a clock that stands still while there is anything to do.
    #[cold]
    fn wait_virtually(&self, deadline: u64) -> io::Result<()> {
        self.wait_for(Wait::Poll)?;
        // What one look at the kernel has not found may still be on its way to us.
        if !self.driver()?.is_quiet() || self.shared.alarm.is_notified() {
            return Ok(());
        }
        if deadline > self.clock.now() && self.clock.is_held() {
            return self.wait_for(Wait::Forever);
        }
        self.clock.move_on(deadline);
        Ok(())
    }

    /// The earliest deadline; on a real clock perhaps a time before it, at which to look again.
    #[inline]
    fn next_deadline(&self) -> Option<u64> {
        let timeouts = self.timeouts.borrow();
        if self.clock.is_virtual() { timeouts.earliest() } else { timeouts.next_deadline() }
    }

    fn how_long(&self, mode: Mode) -> Wait {
        if !self.callbacks.is_empty() {
            return Wait::Poll;
        }
        let limit = match mode {
            Mode::Start => Wait::Forever,
            Mode::Turn(limit) => limit,
        };
        match (limit, self.next_deadline()) {
            (Wait::Poll, _) => Wait::Poll,
            (Wait::Until(limit), Some(deadline)) => until(limit.min(deadline)),
            (Wait::Until(limit), None) => until(limit),
            (Wait::Forever, Some(deadline)) => until(deadline),
            (Wait::Forever, None) => Wait::Forever,
        }
    }
}

fn until(deadline: u64) -> Wait {
    if deadline >= END_OF_TIME { Wait::Forever } else { Wait::Until(deadline) }
}
