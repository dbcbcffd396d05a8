//! Readiness masks and trigger modes.

bitflags::bitflags! {
    /// What a handler waits for, and what it is told.
    ///
    /// The values are Tornado's, which are those of `poll(2)`.
    ///
    /// ```
    /// use ringloop::Events;
    ///
    /// let interest = Events::READ | Events::WRITE;
    /// assert!(interest.contains(Events::READ));
    /// assert_eq!(Events::READ.bits(), libc::POLLIN as u32);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Events: u32 {
        /// Nothing: the handler is paused, and hears only of [`ERROR`](Self::ERROR).
        const NONE = 0;
        /// Reading does not block: data, end of file, or a connection to accept.
        const READ = 0x001;
        /// Urgent data (TCP out-of-band), or an exceptional condition as `poll(2)` describes.
        const PRIORITY = 0x002;
        /// Writing does not block.
        const WRITE = 0x004;
        /// An error is pending, or the other side has hung up. Delivered whether asked for or not.
        ///
        /// Both bits are always set together, so that `contains(Events::ERROR)` is true on either
        /// of `POLLERR` and `POLLHUP`.
        const ERROR = 0x018;
    }
}

impl Events {
    #[cold]
    fn failed(self) -> Events {
        self | Events::ERROR
    }

    /// What a mask of `poll(2)` says to one who asked for `interest`.
    #[inline]
    pub(crate) fn from_poll(mask: u32, interest: Events) -> Events {
        let events = Events::from_bits_retain(mask) & (interest | Events::ERROR);
        if events.intersects(Events::ERROR) { events.failed() } else { events }
    }
}

/// When a handler is called again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Every turn, for as long as the fd is ready. Tornado's rule, and the default.
    ///
    /// A handler may read as little as it likes. The price is one submission per event.
    #[default]
    Level,
    /// Once per wake-up. What the handler leaves unread is not reported again until more arrives,
    /// so it must go on until the call would block (`WouldBlock`).
    ///
    /// Costs nothing beyond the event itself. An event may be stale: the fd must be non-blocking.
    Edge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hang_up_and_error_each_count_as_error() {
        for mask in [libc::POLLERR, libc::POLLHUP, libc::POLLERR | libc::POLLHUP] {
            assert_eq!(Events::from_poll(mask as u32, Events::NONE), Events::ERROR, "{mask:#x}");
        }
    }

    #[test]
    fn a_mask_is_cut_down_to_what_was_asked_for() {
        let mask = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;
        assert_eq!(Events::from_poll(mask, Events::READ), Events::READ);
        assert_eq!(Events::from_poll(mask, Events::PRIORITY), Events::NONE);
    }
}
