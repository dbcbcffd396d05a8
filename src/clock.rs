//! The loop's clock: `CLOCK_MONOTONIC`, in nanoseconds inside, as `Instant` outside.

use crate::sys;
use std::time::{Duration, Instant};

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

/// Two readings of one clock, taken one right after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    nanos: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        // In this order: an `Instant` turned into nanoseconds comes out late by the time between
        // the two readings, never early.
        let instant = Instant::now();
        Clock { instant, nanos: sys::monotonic_now() }
    }

    pub(crate) fn now(&self) -> u64 {
        sys::monotonic_now()
    }

    /// Deadlines out of reach come out as the end of time.
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

fn saturating_nanos(duration: Duration) -> u64 {
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
    fn what_is_out_of_reach_is_the_end_of_time() {
        let clock = Clock::new();
        assert_eq!(clock.nanos(Deadline::After(Duration::MAX)), u64::MAX);
    }
}
