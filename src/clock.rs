//! The loop's clock, in nanoseconds inside, as `Instant` outside: `CLOCK_MONOTONIC`, or a virtual one.

use crate::sys;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A deadline beyond this (292 years after boot) is no deadline.
pub(crate) const END_OF_TIME: u64 = i64::MAX as u64;

/// When a timeout is due: at an [`Instant`], or a [`Duration`] from now.
///
/// ```
/// use ringloop::{Deadline, IoLoop};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// io_loop.add_timeout(Duration::from_millis(5), || println!("five milliseconds from now"));
/// io_loop.add_timeout(io_loop.time() + Duration::from_millis(5), || IoLoop::current().stop());
/// io_loop.start()?;
/// assert_eq!(Deadline::from(Duration::ZERO), Deadline::After(Duration::ZERO));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At this time; one in the past is due in the next turn.
    At(Instant),
    /// This long from now.
    After(Duration),
}

impl From<Instant> for Deadline {
    fn from(when: Instant) -> Deadline {
        Deadline::At(when)
    }
}

impl From<Duration> for Deadline {
    fn from(delay: Duration) -> Deadline {
        Deadline::After(delay)
    }
}

/// Which clock a time is of. The times of two do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockId {
    Real,
    /// That of the loop with this number.
    Virtual(u32),
}

/// What the loop goes by: the monotonic clock, or one that moves only when it is told to.
#[derive(Debug)]
pub(crate) struct Clock {
    // Two readings of the monotonic clock, taken one right after the other.
    instant: Instant,
    nanos: u64,
    virtual_time: Option<Rc<VirtualTime>>,
}

/// A time that stands still by itself.
#[derive(Debug)]
struct VirtualTime {
    now: Cell<u64>,
    /// What the clock waits for.
    holds: Cell<usize>,
}

/// Pairs of readings among which the closest is looked for.
const READINGS: usize = 5;

impl Clock {
    pub(crate) fn new() -> Clock {
        // In this order: an `Instant` turned into nanoseconds comes out late by the time between
        // the two readings, never early. The thread may have been kept waiting between them, so the
        // closest of some pairs counts.
        let pair = || {
            let before = sys::monotonic_now();
            let instant = Instant::now();
            let nanos = sys::monotonic_now();
            (nanos - before, instant, nanos)
        };
        let closer =
            |one: (u64, _, _), other: (u64, _, _)| if other.0 < one.0 { other } else { one };
        let (_, instant, nanos) = (1..READINGS).map(|_| pair()).fold(pair(), closer);
        Clock { instant, nanos, virtual_time: None }
    }

    /// One that stands at the present.
    pub(crate) fn with_virtual_time() -> Clock {
        let clock = Clock::new();
        let time = VirtualTime { now: Cell::new(clock.nanos), holds: Cell::new(0) };
        Clock { virtual_time: Some(Rc::new(time)), ..clock }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.virtual_time {
            None => sys::monotonic_now(),
            Some(time) => time.now.get(),
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        match &self.virtual_time {
            None => Instant::now(),
            Some(time) => self.instant + Duration::from_nanos(time.now.get() - self.nanos),
        }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_time.is_some()
    }

    /// Moves a virtual clock on. It never goes back, nor beyond the end of time.
    pub(crate) fn move_on(&self, to: u64) {
        if let Some(time) = &self.virtual_time {
            time.now.set(to.max(time.now.get()).min(END_OF_TIME - 1));
        }
    }

    /// Keeps a virtual clock where it is until the hold is dropped. A real one cannot be held.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.virtual_time.clone().map(Hold::new)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.virtual_time.as_ref().is_some_and(|time| time.holds.get() > 0)
    }

    /// Saturates: what is out of reach is no earlier than `END_OF_TIME`.
    pub(crate) fn nanos(&self, deadline: Deadline) -> u64 {
        match deadline {
            Deadline::After(delay) => self.now().saturating_add(saturating_nanos(delay)),
            Deadline::At(when) => match when.checked_duration_since(self.instant) {
                Some(later) => self.nanos.saturating_add(saturating_nanos(later)),
                None => {
                    self.nanos.saturating_sub(saturating_nanos(self.instant.duration_since(when)))
                }
            },
        }
    }
}

/// See [`Clock::hold`].
#[derive(Debug)]
pub(crate) struct Hold(Rc<VirtualTime>);

impl Hold {
    fn new(time: Rc<VirtualTime>) -> Hold {
        time.holds.set(time.holds.get() + 1);
        Hold(time)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get() - 1);
    }
}

pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_keep_their_order_and_are_never_early() {
        let clock = Clock::new();
        let now = Instant::now();
        let before = clock.nanos(Deadline::At(now - Duration::from_nanos(1)));
        let at = clock.nanos(Deadline::At(now));
        let after = clock.nanos(Deadline::At(now + Duration::from_nanos(1)));
        assert!(before < at && at < after);
        while clock.now() < at {}
        assert!(Instant::now() >= now);
    }

    #[test]
    fn what_is_out_of_reach_is_no_earlier_than_the_end_of_time() {
        let clock = Clock::new();
        assert!(clock.nanos(Deadline::After(Duration::MAX)) >= END_OF_TIME);
    }

    #[test]
    fn a_virtual_clock_moves_when_it_is_told_to_and_never_back() {
        let clock = Clock::with_virtual_time();
        let (now, instant) = (clock.now(), clock.instant());
        while sys::monotonic_now() == now {}
        assert_eq!((clock.now(), clock.instant()), (now, instant));
        clock.move_on(now + 7);
        clock.move_on(now + 3);
        assert_eq!(clock.now(), now + 7);
        assert_eq!(clock.instant(), instant + Duration::from_nanos(7));
        clock.move_on(u64::MAX);
        assert_eq!(clock.now(), END_OF_TIME - 1);
    }

    #[test]
    fn instants_of_a_virtual_clock_are_its_nanoseconds() {
        let clock = Clock::with_virtual_time();
        assert_eq!(clock.nanos(Deadline::At(clock.instant())), clock.now());
        clock.move_on(clock.now() + 12_345);
        assert_eq!(clock.nanos(Deadline::At(clock.instant())), clock.now());
    }

    #[test]
    fn a_clock_is_held_until_the_last_hold_is_dropped() {
        assert!(Clock::new().hold().is_none());
        let clock = Clock::with_virtual_time();
        let holds = [clock.hold(), clock.hold()];
        for hold in holds {
            assert!(clock.is_held());
            drop(hold);
        }
        assert!(!clock.is_held());
    }
}
