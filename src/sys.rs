//! Safe wrappers of the few system calls that have none in `std`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Turns the -1 of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What to do about the error of a system call that found no room for another descriptor.
pub(crate) fn shortage_advice(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(libc::EMFILE) => Some("this process is out of file descriptors: raise ulimit -n"),
        Some(libc::ENFILE) => Some("the system is out of file descriptors: raise fs.file-max"),
        _ => None,
    }
}

/// The error of a system call that was to make a descriptor, which is `what`.
fn not_made(what: &str, error: io::Error) -> io::Error {
    let message = match shortage_advice(&error) {
        Some(advice) => format!("no {what}: {error}: {advice}"),
        None => format!("no {what}: {error}"),
    };
    io::Error::new(error.kind(), message)
}

/// How many descriptors this process may have.
pub(crate) fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to; the call cannot fail for this resource.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// The monotonic clock in nanoseconds; the clock of `Instant` and of the kernel's waits.
#[inline]
pub(crate) fn monotonic_now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; the call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A non-blocking, close-on-exec eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
    let fd = fd.map_err(|error| not_made("eventfd for wake-ups", error))?;
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

/// Whether nothing can be read from a file.
pub(crate) fn is_write_only(fd: RawFd) -> bool {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE == libc::O_WRONLY
}

/// An open descriptor known only by its number, to be closed when this is dropped, unless the
/// number is free by then, or another file's.
#[derive(Debug)]
pub(crate) struct BareFd {
    fd: RawFd,
    file: FileId,
}

impl BareFd {
    /// `None` if `fd` is not open.
    pub(crate) fn new(fd: RawFd) -> Option<BareFd> {
        Some(BareFd { fd, file: FileId::of(fd)? })
    }
}

impl Drop for BareFd {
    fn drop(&mut self) {
        if FileId::of(self.fd) == Some(self.file) {
            // SAFETY: no memory is passed. Whoever registered the bare number asked for it to be
            // closed, and it still is what was registered.
            unsafe { libc::close(self.fd) };
        }
    }
}

/// Tells files apart: sockets and pipes from all others; eventfds, timers and the like, which share
/// one inode, not from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl FileId {
    fn of(fd: RawFd) -> Option<FileId> {
        let status = status(fd)?;
        Some(FileId { device: status.st_dev, inode: status.st_ino })
    }
}

/// `None` if `fd` is not open.
fn status(fd: RawFd) -> Option<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: `status` is valid to write to.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: the call has succeeded, so it has filled it in.
    Some(unsafe { status.assume_init() })
}

/// The state of `fd` now, as `poll(2)` sees it.
pub(crate) fn poll_now(fd: RawFd, events: u32) -> u32 {
    let mut entry = libc::pollfd { fd, events: events as i16, revents: 0 };
    // SAFETY: one valid pollfd, and a length of one.
    unsafe { libc::poll(&mut entry, 1, 0) };
    u32::from(entry.revents as u16)
}

/// Turns the -1 of a system call that counts bytes into its error.
fn check_count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `recv(2)`, without waiting.
pub(crate) fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid to write to for its length, during the call.
    check_count(unsafe {
        libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// `read(2)`. Waits, unless `fd` is non-blocking.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid to write to for its length, during the call.
    check_count(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Whether it is a socket.
pub(crate) fn is_socket(fd: RawFd) -> bool {
    status(fd).is_some_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFSOCK)
}

/// Whether a socket takes connections.
pub(crate) fn is_listening(fd: RawFd) -> bool {
    let (mut value, mut length) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    let target = std::ptr::from_mut(&mut value).cast();
    // SAFETY: `value` is valid to write to, and as long as `length` says, during the call.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, target, &mut length) };
    result == 0 && value != 0
}

/// Whether the connection of a TCP socket is over, for both sides.
pub(crate) fn is_closed_tcp(fd: RawFd) -> bool {
    /// `TCP_CLOSE`.
    const CLOSED: u8 = 7;
    // The head of a `tcp_info`.
    let (mut state, mut length) = (0u8, size_of::<u8>() as libc::socklen_t);
    let target = std::ptr::from_mut(&mut state).cast();
    // SAFETY: `state` is valid to write to, and as long as `length` says, during the call.
    let result =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, target, &mut length) };
    result == 0 && state == CLOSED
}

/// Whether a socket has another side.
pub(crate) fn is_connected(fd: RawFd) -> bool {
    // A name that does not fit is cut off.
    let (mut name, mut length) = ([0u8; 2], 2 as libc::socklen_t);
    let target = name.as_mut_ptr().cast();
    // SAFETY: `name` is valid to write to, and as long as `length` says, during the call.
    let result = check(unsafe { libc::getpeername(fd, target, &mut length) });
    !result.is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
}

/// Whether a TCP socket has received the end of what the other side sends. `None` for what is no TCP
/// socket, and if not all has been read.
pub(crate) fn has_received_end(fd: RawFd) -> Option<bool> {
    // The head of a `tcp_zerocopy_receive`: the address, in two parts, and the length of no memory, and
    // room for what is left to be read. Receiving that much does nothing, but is refused with `EIO`
    // after the end.
    let mut nothing = [0u32; 4];
    let mut length = size_of_val(&nothing) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE);
    // SAFETY: `nothing` is valid to write to, and as long as `length` says, during the call.
    let result =
        unsafe { libc::getsockopt(fd, level, option, (&raw mut nothing).cast(), &mut length) };
    match check(result) {
        Ok(_) => (nothing[3] == 0).then_some(false),
        Err(error) => (error.raw_os_error() == Some(libc::EIO)).then_some(true),
    }
}

/// `accept4(2)`: non-blocking and close-on-exec. Waits, unless `listener` is non-blocking.
pub(crate) fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::accept4(listener, address, length, ACCEPT_FLAGS) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How accepted sockets are made.
pub(crate) const ACCEPT_FLAGS: libc::c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Zeroed memory of its own, aligned to pages.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: *mut u8,
    length: usize,
}

// SAFETY: the mapping is plain memory, which any thread may use and unmap; those who hand out its
// address see to it that nobody races.
unsafe impl Send for Mapping {}
// SAFETY: as above. A shared `Mapping` gives away its address, and nothing more.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Errors
    ///
    /// `ENOMEM`, also for more bytes than there are addresses; `EINVAL` for none.
    pub(crate) fn new(length: usize) -> io::Result<Mapping> {
        // SAFETY: a new private anonymous mapping overlaps nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { address: address.cast(), length })
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.address
    }

    /// Has the first pages in memory before they are used: together they cost less than a fault for
    /// each, which is what is left to kernels before 5.14.
    pub(crate) fn populate(&self, length: usize) {
        assert!(length <= self.length, "it is in the mapping");
        if !cfg!(miri) {
            // SAFETY: the pages are this mapping's own, and what is in them stays as it is.
            unsafe { libc::madvise(self.address.cast(), length, libc::MADV_POPULATE_WRITE) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `new`, and those who used its address are gone:
        // they hold the `Mapping`.
        unsafe { libc::munmap(self.address.cast(), self.length) };
    }
}

/// Tells whether a file can be watched, in one system call.
#[derive(Debug)]
pub(crate) struct PollProbe {
    /// Has no members, ever.
    epoll: OwnedFd,
}

impl PollProbe {
    pub(crate) fn new() -> io::Result<PollProbe> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
        let fd = fd.map_err(|error| not_made("epoll set to check files by", error))?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(PollProbe { epoll })
    }

    /// # Errors
    ///
    /// `EBADF` for a descriptor that is not open, `EPERM` for a file that is always ready (a
    /// regular file, a directory, `/dev/null`).
    pub(crate) fn check(&self, fd: RawFd) -> io::Result<()> {
        // epoll looks at the file before it looks for the member to remove, and finds none.
        let (epoll, none) = (self.epoll.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: removal reads no event.
        match check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, none) }) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    fn refusal(fd: RawFd) -> Option<i32> {
        PollProbe::new().unwrap().check(fd).err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn a_shortage_names_what_was_not_made_and_the_cure() {
        for (errno, cure) in [(libc::EMFILE, "ulimit -n"), (libc::ENFILE, "fs.file-max")] {
            let error = not_made("eventfd", io::Error::from_raw_os_error(errno));
            let message = error.to_string();
            assert!(message.starts_with("no eventfd: Too many"), "{message}");
            assert!(message.ends_with(cure), "{message}");
        }
        let other = not_made("eventfd", io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(other.kind(), io::ErrorKind::OutOfMemory);
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
        let (reader, _writer) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let path_only = File::options().read(true).custom_flags(libc::O_PATH).open(path).unwrap();
        assert_eq!(refusal(path_only.as_raw_fd()), Some(libc::EBADF));
    }
}
