//! What the stress tests share.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use crate::support::{turn, watchdog};
use ringloop::{IoLoop, Panics};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Keeps the other tests of the file from running at the same time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    watchdog();
    // A test that failed has spoilt nothing for the others.
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A loop that lets panics out: an assertion that fails in a handler must fail the test.
///
/// Small, because the memory of rings is charged to the user, and given back late.
pub(crate) fn small_loop() -> IoLoop {
    sized_loop(64, 256)
}

/// A loop on the smallest ring there is.
pub(crate) fn tiny_loop() -> IoLoop {
    sized_loop(2, 2)
}

pub(crate) fn sized_loop(entries: u32, cq_entries: u32) -> IoLoop {
    watchdog();
    let builder = IoLoop::builder().entries(entries).cq_entries(cq_entries);
    builder.panics(Panics::Propagate).build().unwrap()
}

/// Turns until `done`, without waiting, and no more often than `turns`.
#[track_caller]
pub(crate) fn turn_at_most(io_loop: &IoLoop, turns: usize, done: impl Fn() -> bool) {
    for _ in 0..turns {
        if done() {
            return;
        }
        turn(io_loop);
    }
    assert!(done(), "not done after {turns} turns: {:?}", io_loop.metrics());
}

/// A non-blocking eventfd.
pub(crate) fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // SAFETY: passes no memory.
    let fd = unsafe { libc::eventfd(count, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd.
pub(crate) fn signal(eventfd: &impl AsRawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is eight readable bytes.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    assert_eq!(written, 8, "{}", io::Error::last_os_error());
}

/// Reads an eventfd and sets it back to zero. `None` if it was zero.
pub(crate) fn take_count(eventfd: &impl AsRawFd) -> Option<u64> {
    let mut count = 0u64;
    let buffer = std::ptr::from_mut(&mut count);
    // SAFETY: the buffer is eight writable bytes.
    let read = unsafe { libc::read(eventfd.as_raw_fd(), buffer.cast(), 8) };
    (read == 8).then_some(count)
}

/// The number of descriptors that this process has open.
pub(crate) fn open_fds() -> usize {
    // The one that lists them is among them, always.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Asserts that no more descriptors are open than before. To be called by who is [`alone`], but for
/// threads of executors that look names up: one that a test has given up may have had one open then,
/// and have closed it since.
#[track_caller]
pub(crate) fn assert_open_fds(before: usize) {
    let open = open_fds();
    assert!(open <= before, "{open} descriptors are open, and {before} were before");
}

/// Lets this process have as many descriptors as it may, within reason; how many that is.
pub(crate) fn raise_fd_limit() -> usize {
    const REASON: libc::rlim_t = 100_000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to, and to read from.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max.min(REASON);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    limit.rlim_cur as usize
}

/// The shortest of several runs of `body`: noise makes runs longer, never shorter.
pub(crate) fn best_of(runs: usize, mut body: impl FnMut()) -> Duration {
    let mut time = || {
        let began = Instant::now();
        body();
        began.elapsed()
    };
    (0..runs).map(|_| time()).min().unwrap()
}
