//! A word that one thread waits on: an atomic, and a futex.

#[cfg(ringloop_loom)]
use loom::sync::atomic::AtomicU32;
use std::fmt;
#[cfg(not(ringloop_loom))]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

pub(crate) struct Word {
    value: AtomicU32,
    #[cfg(ringloop_loom)]
    waiter: model::Waiter,
}

impl Word {
    pub(crate) fn new(value: u32) -> Word {
        Word {
            value: AtomicU32::new(value),
            #[cfg(ringloop_loom)]
            waiter: model::Waiter::default(),
        }
    }

    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> u32 {
        self.value.load(order)
    }

    #[inline]
    pub(crate) fn swap(&self, value: u32) -> u32 {
        self.value.swap(value, Ordering::AcqRel)
    }

    /// True if it was `from`.
    #[inline]
    pub(crate) fn exchange(&self, from: u32, to: u32) -> bool {
        self.value.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(not(ringloop_loom))]
mod kernel {
    use super::Word;
    use crate::sys;
    use std::io;

    const WAIT: libc::c_int = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    const WAKE: libc::c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

    impl Word {
        /// Waits until it is woken, if its value is `value` now. May also return for no reason.
        ///
        /// # Errors
        ///
        /// A signal has ended the wait, or there was none.
        pub(crate) fn wait(&self, value: u32) -> io::Result<()> {
            let (word, for_ever) = (self.value.as_ptr(), std::ptr::null::<libc::timespec>());
            // SAFETY: the word outlives the call, and no time is to be read.
            let woken = unsafe { libc::syscall(libc::SYS_futex, word, WAIT, value, for_ever) };
            sys::check(woken as libc::c_int).map(drop)
        }

        /// Wakes the thread that waits. Async-signal-safe: one `futex(2)`, and `errno` is kept.
        pub(crate) fn wake(&self) {
            // SAFETY: `__errno_location` is valid for the calling thread; the kernel wakes who waits
            // at the address, and touches no memory.
            unsafe {
                let errno = *libc::__errno_location();
                libc::syscall(libc::SYS_futex, self.value.as_ptr(), WAKE, 1);
                *libc::__errno_location() = errno;
            }
        }
    }
}

/// Stands for the kernel, which looks at the value and begins to wait as one.
#[cfg(ringloop_loom)]
mod model {
    use super::Word;
    use loom::sync::{Condvar, Mutex};
    use std::io;
    use std::sync::atomic::Ordering;

    #[derive(Default)]
    pub(super) struct Waiter {
        lock: Mutex<()>,
        woken: Condvar,
    }

    impl Word {
        pub(crate) fn wait(&self, value: u32) -> io::Result<()> {
            let lock = self.waiter.lock.lock().unwrap();
            if self.load(Ordering::Relaxed) == value {
                drop(self.waiter.woken.wait(lock).unwrap());
            }
            Ok(())
        }

        pub(crate) fn wake(&self) {
            let _lock = self.waiter.lock.lock().unwrap();
            self.waiter.woken.notify_one();
        }
    }
}
