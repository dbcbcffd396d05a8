//! How long to leave a listener alone that the kernel has refused to accept from.

use std::io;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// What an error of accepting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no descriptor, or no memory, for the connection, which stays in the backlog.
    Shortage,
    /// An error of the network's, or of a connection that is no more.
    Passing,
    /// Nothing can be accepted from this, ever.
    Final,
}

impl Refusal {
    pub(super) fn of(error: &io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Refusal::Shortage,
            None
            | Some(
                libc::EBADF
                | libc::EINVAL
                | libc::ENOTSOCK
                | libc::EOPNOTSUPP
                | libc::EFAULT
                | libc::ECANCELED,
            ) => Refusal::Final,
            Some(_) => Refusal::Passing,
        }
    }
}

/// Doubles with each refusal in a row.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { next: FIRST }
    }
}

impl Pause {
    /// How long to wait now, and whether this is the first refusal in a row.
    pub(super) fn refused(&mut self) -> (Duration, bool) {
        let now = self.next;
        self.next = (2 * now).min(LONGEST);
        (now, now == FIRST)
    }

    /// There was a connection.
    pub(super) fn accepted(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_connection() {
        let mut pause = Pause::default();
        let waits: Vec<_> = (0..10).map(|_| pause.refused()).collect();
        let millis: Vec<_> = waits.iter().map(|(wait, _)| wait.as_millis()).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert!(waits.iter().map(|(_, first)| first).eq([true].iter().chain(&[false; 9])));
        pause.accepted();
        assert_eq!(pause.refused(), (FIRST, true));
    }

    #[test]
    fn only_errors_of_the_listener_itself_are_final() {
        let refusal = |errno| Refusal::of(&io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(refusal(errno), Refusal::Shortage);
        }
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::ENETDOWN, libc::EPERM] {
            assert_eq!(refusal(errno), Refusal::Passing);
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(refusal(errno), Refusal::Final);
        }
    }
}
