//! What the stress tests share.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use ringloop::{IoLoop, Panics};
use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, Once};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test process may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the process, with a message, if it hangs.
pub(crate) fn watchdog() {
    static START: Once = Once::new();
    START.call_once(|| {
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            // Not `eprintln`, which the test harness captures and an abort loses.
            let _ = writeln!(io::stderr(), "tests hung for {PATIENCE:?}: aborting");
            std::process::abort();
        });
    });
}

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

/// One turn that does not wait.
#[track_caller]
pub(crate) fn turn(io_loop: &IoLoop) {
    io_loop.turn(Some(Duration::ZERO)).unwrap();
}

/// Turns, sleeping while there is nothing to do, until `done`.
#[track_caller]
pub(crate) fn turn_until(io_loop: &IoLoop, done: impl Fn() -> bool) {
    while !done() {
        io_loop.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

/// As [`turn_until`], but each turn only polls, and the loop has no more than `turns` of them.
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

/// Counts on one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn hit(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, number: usize) {
        self.0.set(self.0.get() + number);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }

    /// Starts again at zero.
    pub(crate) fn take(&self) -> usize {
        self.0.take()
    }
}

/// Two connected sockets, non-blocking.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (stream, peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    (stream, peer)
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

/// This thread, for [`wait_until_asleep`].
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: passes nothing.
    unsafe { libc::gettid() }
}

/// Returns once a thread of this process sleeps in a system call.
pub(crate) fn wait_until_asleep(thread: libc::pid_t) {
    let path = format!("/proc/self/task/{thread}/stat");
    loop {
        let stat = std::fs::read_to_string(&path).unwrap();
        // The state follows the name, which is in brackets and may hold anything.
        if stat[stat.rfind(')').unwrap()..].starts_with(") S") {
            return;
        }
        thread::yield_now();
    }
}
