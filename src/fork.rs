//! Telling a process from the child it forked, without a system call.
//!
//! One page of the process is marked `MADV_WIPEONFORK` (4.14): the kernel hands it to a child
//! zeroed, however the child was made (`fork`, `vfork` apart, a bare `clone`). The page holds a
//! number that is never zero in the process that wrote it.

use crate::sys::{self, Mapping};
use std::io;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Remembers which process it was made in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkGuard {
    page: &'static AtomicU32,
    birth: u32,
}

/// The page, and the count of processes that have written to it along the line of forks.
static PAGE: OnceLock<&'static AtomicU32> = OnceLock::new();
static BIRTHS: AtomicU32 = AtomicU32::new(0);

impl ForkGuard {
    /// # Errors
    ///
    /// If the page cannot be mapped.
    pub(crate) fn new() -> io::Result<ForkGuard> {
        let page = match PAGE.get() {
            Some(page) => *page,
            None => {
                let page = map_page()?;
                // Another thread may have been faster; its page serves as well.
                PAGE.get_or_init(|| page)
            }
        };
        // The first loop of a process, or of a child, gives it a number unlike its ancestors'.
        let number = BIRTHS.fetch_add(1, Ordering::Relaxed) + 1;
        let birth = match page.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => number,
            Err(current) => current,
        };
        Ok(ForkGuard { page, birth })
    }

    /// True in a child of the process that made this guard.
    #[inline]
    pub(crate) fn is_forked(self) -> bool {
        self.page.load(Ordering::Relaxed) != self.birth
    }
}

fn map_page() -> io::Result<&'static AtomicU32> {
    let length = size_of::<AtomicU32>();
    let page = ManuallyDrop::new(Mapping::new(length)?);
    let address = page.address();
    // Miri does not know of it, and nobody forks there.
    if !cfg!(miri) {
        // SAFETY: the range is the mapping made above.
        sys::check(unsafe { libc::madvise(address.cast(), length, libc::MADV_WIPEONFORK) })?;
    }
    // SAFETY: the mapping is page-aligned, zeroed, at least as large as the atomic, and never
    // unmapped; all access goes through the atomic.
    Ok(unsafe { &*address.cast::<AtomicU32>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `check` in a forked child; true if it returned true there.
    fn in_child(check: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child touches atomics only, and leaves by `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let good = check();
                // SAFETY: ends the child without running the test harness's exit handlers.
                unsafe { libc::_exit(if good { 0 } else { 1 }) }
            }
            child => {
                let mut status = -1;
                // SAFETY: `status` is valid to write to.
                unsafe { libc::waitpid(child, &mut status, 0) };
                status == 0
            }
        }
    }

    #[test]
    fn a_child_is_told_from_its_parent_and_grandchild() {
        let guard = ForkGuard::new().unwrap();
        assert!(!guard.is_forked());
        assert!(in_child(|| {
            let own = ForkGuard::new().unwrap();
            guard.is_forked()
                && !own.is_forked()
                && in_child(|| guard.is_forked() && own.is_forked())
        }));
        assert!(!guard.is_forked());
    }
}
