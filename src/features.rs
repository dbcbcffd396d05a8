//! Optional kernel features and the switch that turns them off.

use std::fmt;

bitflags::bitflags! {
    /// Kernel features that the loop uses when they are there and does without when they are not.
    ///
    /// [`Metrics::features`](crate::Metrics::features) tells which are in use.
    /// [`Builder::without`](crate::Builder::without), or the environment variable
    /// `RINGLOOP_WITHOUT` (names as below in lower case, separated by commas), turns some off: to
    /// test a program as it would run on an older kernel, or to work around a kernel bug.
    ///
    /// ```
    /// use ringloop::{IoLoop, KernelFeatures};
    ///
    /// let io_loop = IoLoop::builder().without(KernelFeatures::DEFER_TASKRUN).build()?;
    /// assert!(!io_loop.metrics().features.contains(KernelFeatures::DEFER_TASKRUN));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct KernelFeatures: u32 {
        /// `SINGLE_ISSUER | DEFER_TASKRUN` (6.1): completions are produced only when the loop asks.
        const DEFER_TASKRUN = 1 << 0;
        /// `COOP_TASKRUN` (5.19), the next best: no interrupts between processors.
        const COOP_TASKRUN = 1 << 1;
        /// `NO_SQARRAY` (6.6): one indirection less per submission.
        const NO_SQARRAY = 1 << 2;
        /// `SUBMIT_ALL` (5.18): a bad submission does not hold up the ones behind it.
        const SUBMIT_ALL = 1 << 3;
        /// `CQE_SKIP_SUCCESS` (5.17): cancellations, closes and silent sends that succeed post no
        /// completion.
        const CQE_SKIP = 1 << 4;
        /// `ENTER_NO_IOWAIT` (6.15): a sleeping loop is not accounted as waiting for a disk.
        const NO_IOWAIT = 1 << 5;
        /// `ENTER_ABS_TIMER` (6.12): deadlines are given to the kernel as they are.
        const ABS_TIMER = 1 << 6;
        /// Registered ring fd (5.18): saves the file lookup in each system call.
        const RING_FD = 1 << 7;
        /// Multishot accept (5.19): one request for all connections of a listener.
        const MULTISHOT_ACCEPT = 1 << 8;
        /// Multishot receive (6.0): one request for all data of a stream.
        const MULTISHOT_RECV = 1 << 9;
        /// Provided-buffer rings (5.19): buffers are chosen when there is data, not before.
        const BUFFER_RING = 1 << 10;
        /// Silent sends (6.0): what is sent at once does not end the wait for what comes next.
        const SILENT_SEND = 1 << 11;
        /// Incremental buffers (6.12): many short messages share a large buffer.
        const INCREMENTAL = 1 << 12;
        /// Registered files (6.15): sockets that send often are not looked up for each send.
        const REGISTERED_FILES = 1 << 13;
    }
}

impl KernelFeatures {
    /// Reads names as they stand in `RINGLOOP_WITHOUT`.
    ///
    /// # Errors
    ///
    /// The first name that is not a feature's.
    pub(crate) fn parse(names: &str) -> Result<KernelFeatures, String> {
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).try_fold(
            KernelFeatures::empty(),
            |all, name| {
                KernelFeatures::from_name(&name.to_ascii_uppercase())
                    .map(|feature| all | feature)
                    .ok_or_else(|| name.to_owned())
            },
        )
    }
}

impl fmt::Debug for KernelFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("none") } else { bitflags::parser::to_writer(self, f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_without_regard_to_case_and_blanks() {
        assert_eq!(
            KernelFeatures::parse(" defer_taskrun, NO_IOWAIT,"),
            Ok(KernelFeatures::DEFER_TASKRUN | KernelFeatures::NO_IOWAIT)
        );
        assert_eq!(KernelFeatures::parse(""), Ok(KernelFeatures::empty()));
    }

    #[test]
    fn no_feature_at_all_is_shown_as_well() {
        assert_eq!(format!("{:?}", KernelFeatures::empty()), "none");
        let two = KernelFeatures::SUBMIT_ALL | KernelFeatures::RING_FD;
        assert_eq!(format!("{two:?}"), "SUBMIT_ALL | RING_FD");
    }

    #[test]
    fn an_unknown_name_is_named_in_the_error() {
        assert_eq!(KernelFeatures::parse("no_iowait,sqpoll"), Err("sqpoll".to_owned()));
    }
}
