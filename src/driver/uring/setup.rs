//! Setting up a ring: the best flags this kernel takes, found by trying.
//!
//! Every flag a kernel does not know is a clean `EINVAL`, so the ladder is climbed down one rung
//! per `EINVAL`. Kernel versions are never read: distributions move features and bugs about.

use super::refusal;
use crate::features::KernelFeatures as Features;
use io_uring::{IoUring, Probe, opcode};
use std::io;
use std::time::Duration;

/// Sizes of the two queues, in entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) submission: u32,
    pub(crate) completion: u32,
}

impl Sizes {
    const LEAST: Sizes = Sizes { submission: 2, completion: 4 };

    /// Either of the queues may be the larger one.
    fn can_shrink(self) -> bool {
        self.submission > Sizes::LEAST.submission || self.completion > Sizes::LEAST.completion
    }

    fn shrink(&mut self) {
        self.submission = (self.submission / 2).max(Sizes::LEAST.submission);
        self.completion = (self.completion / 2).max(Sizes::LEAST.completion);
    }
}

/// Best first. The last one is what 5.15 takes.
const RUNGS: [Features; 5] = [
    Features::DEFER_TASKRUN.union(Features::SUBMIT_ALL).union(Features::NO_SQARRAY),
    Features::DEFER_TASKRUN.union(Features::SUBMIT_ALL),
    Features::COOP_TASKRUN.union(Features::SUBMIT_ALL),
    Features::SUBMIT_ALL,
    Features::empty(),
];

/// How often a set-up that ran out of memory is tried again at full size. The memory of a closed
/// ring is given back some 30 ms late (and charged to `RLIMIT_MEMLOCK` from 6.14 on).
const MOST_RETRIES: u32 = 6;
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Builds a ring, and tells which features it has.
pub(super) fn build(mut sizes: Sizes, without: Features) -> io::Result<(IoUring, Features)> {
    let mut retries = 0;
    loop {
        match climb_down(sizes, without) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && retries < MOST_RETRIES => {
                retries += 1;
                std::thread::sleep(RETRY_DELAY);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && sizes.can_shrink() => {
                sizes.shrink();
            }
            Err(error) => return Err(refusal::of_setup(error)),
            Ok((ring, rung)) => {
                let features = rung | optional(&ring);
                require(&ring)?;
                return Ok((ring, features - without));
            }
        }
    }
}

fn climb_down(sizes: Sizes, without: Features) -> io::Result<(IoUring, Features)> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for rung in RUNGS.into_iter().filter(|rung| !rung.intersects(without)) {
        match attempt(sizes, rung) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            done => return done.map(|ring| (ring, rung)),
        }
    }
    Err(refused)
}

fn attempt(sizes: Sizes, rung: Features) -> io::Result<IoUring> {
    #[cfg(test)]
    super::faults::OlderKernel::check(rung)?;
    let mut builder = IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder();
    builder.setup_clamp().setup_cqsize(sizes.completion.max(sizes.submission));
    if rung.contains(Features::SUBMIT_ALL) {
        builder.setup_submit_all();
    }
    if rung.contains(Features::NO_SQARRAY) {
        builder.setup_no_sqarray();
    }
    if rung.contains(Features::DEFER_TASKRUN) {
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    }
    if rung.contains(Features::COOP_TASKRUN) {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    builder.build(sizes.submission)
}

/// Features that are announced by a bit instead of being asked for.
fn optional(ring: &IoUring) -> Features {
    let params = ring.params();
    let mut features = Features::RING_FD;
    // No bit tells of these. What turns out to be missing is done without.
    features |= Features::MULTISHOT_ACCEPT | Features::MULTISHOT_RECV;
    features |= Features::BUFFER_RING | Features::INCREMENTAL;
    features.set(Features::CQE_SKIP, params.is_feature_skip_cqe_on_success());
    features.set(Features::SILENT_SEND, sends_all_or_fails(ring));
    features.set(Features::NO_IOWAIT, params.is_feature_no_iowait());
    // Since 6.13, a file that leaves the table is let go of at once. No bit tells of that.
    features.set(Features::REGISTERED_FILES, params.is_feature_no_iowait());
    // Absolute waits came with 6.12, as did the minimal wait that this bit announces.
    features.set(Features::ABS_TIMER, params.is_feature_min_timeout());
    features
}

/// Since 5.19, a send that is to send everything fails if it does not. No bit tells of that, but
/// zero-copy sends came with the next version.
fn sends_all_or_fails(ring: &IoUring) -> bool {
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe);
    probed.is_ok() && probe.is_supported(opcode::SendZc::CODE)
}

/// What there is no doing without; all of it is in 5.13.
fn require(ring: &IoUring) -> io::Result<()> {
    let params = ring.params();
    let enough = params.is_feature_nodrop()
        && params.is_feature_submit_stable()
        && params.is_feature_ext_arg()
        && params.is_feature_fast_poll()
        && params.is_feature_resource_tagging();
    if enough {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "io_uring of this kernel is too old: multishot polls need Linux 5.13, ringloop asks for 5.15",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::uring::faults::OlderKernel;
    use crate::driver::uring::ring::Ring;

    #[test]
    fn every_rung_builds_and_is_used_when_the_better_ones_are_off() {
        let sizes = Sizes { submission: 8, completion: 16 };
        let all = RUNGS.into_iter().fold(Features::empty(), Features::union);
        let mut built = 0;
        for (place, rung) in RUNGS.into_iter().enumerate() {
            // Not every kernel has every rung.
            if attempt(sizes, rung).is_ok() {
                let better =
                    RUNGS[..place].iter().copied().fold(Features::empty(), Features::union);
                let (_, features) = build(sizes, better - rung).unwrap();
                assert_eq!(features & all, rung);
                built += 1;
            }
        }
        assert!(built > 1);
        let (_, features) = build(sizes, Features::all()).unwrap();
        assert_eq!(features, Features::empty());
    }

    #[test]
    fn a_kernel_that_does_not_know_a_flag_is_asked_for_the_next_rung() {
        let sizes = Sizes { submission: 8, completion: 16 };
        let flags = RUNGS.into_iter().fold(Features::empty(), Features::union);
        for lacking in
            [Features::NO_SQARRAY, Features::DEFER_TASKRUN, Features::COOP_TASKRUN, flags]
        {
            let _older = OlderKernel::without(lacking);
            let (_, features) = build(sizes, Features::empty()).unwrap();
            let best = RUNGS.into_iter().find(|&rung| attempt(sizes, rung).is_ok()).unwrap();
            assert!(!best.intersects(lacking));
            assert_eq!(features & flags, best);
        }
    }

    #[test]
    fn a_recent_kernel_is_found_to_have_every_feature() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let ring = Ring::new(Sizes { submission: 8, completion: 16 }, Features::empty()).unwrap();
        if version >= (6, 15) {
            assert_eq!(ring.features(), Features::all() - Features::COOP_TASKRUN);
        }
    }
}
