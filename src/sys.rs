//! Safe wrappers of the few system calls that have none in `std`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Turns the -1 of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The monotonic clock in nanoseconds; the clock of `Instant` and of the kernel's waits.
#[inline]
pub(crate) fn monotonic_now() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write to; the call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A non-blocking, close-on-exec eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd's counter. Async-signal-safe: one `write(2)`, and `errno` is kept.
pub(crate) fn eventfd_signal(eventfd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `__errno_location` is valid for the calling thread; the buffer is eight readable
    // bytes. The write cannot fail but for a full counter, and then the loop is awake anyway.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

/// Closes a descriptor known only by its number.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: no memory is passed. Whoever registered the bare number asked for it to be closed.
    unsafe { libc::close(fd) };
}

/// The state of `fd` now, as `poll(2)` sees it.
pub(crate) fn poll_now(fd: RawFd, events: u32) -> u32 {
    let mut entry = libc::pollfd {
        fd,
        events: events as i16,
        revents: 0,
    };
    // SAFETY: one valid pollfd, and a length of one.
    unsafe { libc::poll(&mut entry, 1, 0) };
    u32::from(entry.revents as u16)
}

/// Whether `fd` is open and its readiness can be watched.
///
/// # Errors
///
/// `EBADF` for a descriptor that is not open, `EPERM` for a file that is always ready (a regular
/// file, a directory, `/dev/null`), as `epoll_ctl(2)` has it.
pub(crate) fn check_pollable(fd: RawFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is valid to write to.
    check(unsafe { libc::fstat(fd, &mut stat) })?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFSOCK | libc::S_IFIFO => check_not_path_only(fd),
        libc::S_IFREG | libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EPERM)),
        _ => ask_epoll(fd),
    }
}

/// An `O_PATH` descriptor of a socket or a pipe looks like one, yet no operation works on it.
fn check_not_path_only(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if flags & libc::O_PATH != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}

/// For devices and anonymous files only the driver knows, and only epoll asks it.
fn ask_epoll(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut interest = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `interest` is a valid event to read.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut interest) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn refusal(fd: RawFd) -> Option<i32> {
        check_pollable(fd)
            .err()
            .and_then(|error| error.raw_os_error())
    }

    #[test]
    fn what_epoll_takes_is_pollable() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let eventfd = eventfd().unwrap();
        for fd in [reader.as_raw_fd(), socket.as_raw_fd(), eventfd.as_raw_fd()] {
            assert_eq!(refusal(fd), None);
        }
    }

    #[test]
    fn what_is_always_ready_is_refused() {
        for path in ["/proc/self/exe", "/", "/dev/null", "/dev/zero"] {
            let file = File::open(path).unwrap();
            assert_eq!(refusal(file.as_raw_fd()), Some(libc::EPERM), "{path}");
        }
    }

    #[test]
    fn what_is_not_open_is_refused() {
        assert_eq!(refusal(-1), Some(libc::EBADF));
        assert_eq!(refusal(1 << 20), Some(libc::EBADF));
    }
}
