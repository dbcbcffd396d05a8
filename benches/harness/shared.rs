//! A number that servers count up and the measuring process reads.

use super::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;

static COUNTER: OnceLock<Counter> = OnceLock::new();

/// Operations done. Counting is a plain addition in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Counter(&'static AtomicU64);

impl Counter {
    /// The one that the server in this process counts with.
    pub(crate) fn of_this_server() -> Counter {
        *COUNTER.get_or_init(|| Counter(Box::leak(Box::default())))
    }

    #[inline]
    pub(crate) fn add(self, count: u64) {
        // There is one writer.
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(crate) fn read(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn map(file: BorrowedFd<'_>) -> io::Result<Counter> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe {
            let (shared, fd) = (libc::MAP_SHARED, file.as_raw_fd());
            libc::mmap(std::ptr::null_mut(), PAGE, protection, shared, fd, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is a zeroed page, is aligned to it, and is never taken down.
        Ok(Counter(unsafe { &*address.cast::<AtomicU64>() }))
    }
}

/// Memory for one counter, which servers inherit one after the other.
pub(super) struct Memory {
    file: OwnedFd,
    pub(super) counter: Counter,
}

impl Memory {
    pub(super) fn new() -> io::Result<Memory> {
        // SAFETY: the name is a string; the descriptor is new.
        let file = unsafe { sys::owned(libc::memfd_create(c"operations".as_ptr(), 0))? };
        // SAFETY: no memory is passed.
        sys::check(unsafe { libc::ftruncate(file.as_raw_fd(), PAGE as libc::off_t) })?;
        let counter = Counter::map(file.as_fd())?;
        Ok(Memory { file, counter })
    }
}

impl AsRawFd for Memory {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// In a server: counts in inherited memory from now on.
pub(super) fn adopt(file: BorrowedFd<'_>) -> io::Result<()> {
    let counter = Counter::map(file)?;
    COUNTER.set(counter).map_err(|_| io::Error::other("this process is a server already"))
}
