//! Safe wrappers of the few system calls that the harness and the contestants need.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Turns the -1 of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that a system call has just returned.
///
/// # Safety
///
/// Nobody else owns it.
pub(crate) unsafe fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; a valid number, or `check` would have failed.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The cores of the server and of the load: the first two this process may use. They are the same
/// one if there is only one.
pub(crate) fn cores() -> io::Result<(usize, usize)> {
    // SAFETY: the set is plain bits, of which zero is a valid value.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the set is valid for writes of the size given.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    // SAFETY: the numbers are below the size of the set.
    let mut cores =
        (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) });
    let first = cores.next().ok_or_else(|| io::Error::other("there is no core to run on"))?;
    Ok((first, cores.next().unwrap_or(first)))
}

/// Keeps this thread, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: the set is plain bits, of which zero is a valid value; the number comes from `cores`.
    let set = unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the set is valid for reads of the size given.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
}

/// Lets whoever runs go on when it wakes up this thread, or a child of it, until it sleeps.
pub(crate) fn never_preempt_on_wake_up() -> io::Result<()> {
    schedule_as(libc::SCHED_BATCH)
}

/// Has this thread run only while nobody else wants to.
pub(crate) fn yield_to_everybody() -> io::Result<()> {
    schedule_as(libc::SCHED_IDLE)
}

fn schedule_as(policy: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters are valid to read.
    check(unsafe { libc::sched_setscheduler(0, policy, &parameters) }).map(drop)
}

/// As many descriptors as this user is allowed.
pub(crate) fn raise_fd_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is valid to read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Sets how many connections may wait to be accepted.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Has a socket send at once what it is given (`TCP_NODELAY`).
pub(crate) fn send_without_delay(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1)
}

/// Has a socket, when it is closed, end its connection so that nothing of it stays behind.
pub(crate) fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Sets an option of a socket to a C value.
fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let (fd, size) = (socket.as_raw_fd(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the value is valid to read, as many bytes as it says.
    let result =
        unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), size) };
    check(result).map(drop)
}

/// Lets children inherit a descriptor.
pub(crate) fn keep_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(drop)
}

/// Takes over a descriptor inherited from the parent.
pub(crate) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent has left it open for this process, which takes it over once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The kernel's number of this thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no memory is passed; the call cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Ends this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Ends this process, with what it started, unless called again in time.
pub(crate) fn watchdog(limit: Duration) {
    // SAFETY: no memory is passed.
    unsafe { libc::alarm(limit.as_secs() as libc::c_uint) };
}

/// The clock of the CPU time that a process has used, its kernel time and all its threads'.
pub(crate) fn cpu_clock(pid: u32) -> io::Result<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: the clock is valid to write to.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => Ok(clock),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Nanoseconds of any clock.
pub(crate) fn read_clock(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is valid to write to.
    check(unsafe { libc::clock_gettime(clock, &mut now) })?;
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
