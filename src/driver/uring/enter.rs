//! `io_uring_enter(2)`. The `io-uring` crate's wrapper knows neither all flags nor that a loop
//! wants `GETEVENTS` in every turn.

use crate::sys;
use io_uring::types;
use std::io;
use std::os::fd::RawFd;

pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;
pub(super) const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
pub(super) const ENTER_ABS_TIMER: u32 = 1 << 5;
pub(super) const ENTER_NO_IOWAIT: u32 = 1 << 7;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// The kernel's `io_uring_getevents_arg`.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_size: u32,
    min_wait_usec: u32,
    timespec: u64,
}

/// The kernel's `io_uring_rsrc_update`, as registering a ring fd uses it.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// The way into the kernel, for the thread that made it.
pub(super) struct Entrance {
    ring: RawFd,
    /// Index of the ring among this thread's registered rings.
    registered: Option<u32>,
}

impl Entrance {
    /// `ring` outlives this.
    pub(super) fn new(ring: RawFd, register: bool) -> Entrance {
        Entrance { ring, registered: if register { register_ring_fd(ring) } else { None } }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// Submits, and waits for completions. Returns how many were submitted.
    ///
    /// # Safety
    ///
    /// What the queued entries refer to in memory lasts until their terminal completions.
    #[inline]
    pub(super) unsafe fn enter(
        &self,
        submit: u32,
        wait_for: u32,
        flags: u32,
        timespec: Option<&types::Timespec>,
    ) -> io::Result<u32> {
        #[cfg(test)]
        if let Some(fault) = super::faults::next(submit, wait_for, flags) {
            // SAFETY: the caller has promised what this asks for.
            return fault.befall(submit, wait_for, flags, |submit, wait_for, flags| unsafe {
                self.call(submit, wait_for, flags, timespec)
            });
        }
        // SAFETY: as above.
        unsafe { self.call(submit, wait_for, flags, timespec) }
    }

    /// # Safety
    ///
    /// As for `enter`.
    unsafe fn call(
        &self,
        submit: u32,
        wait_for: u32,
        mut flags: u32,
        timespec: Option<&types::Timespec>,
    ) -> io::Result<u32> {
        let fd = match self.registered {
            Some(index) => {
                flags |= ENTER_REGISTERED_RING;
                index
            }
            None => self.ring as u32,
        };
        let argument = timespec.map(|timespec| WaitArgument {
            signal_mask: 0,
            signal_mask_size: 0,
            min_wait_usec: 0,
            timespec: std::ptr::from_ref(timespec) as u64,
        });
        let (pointer, size) = match &argument {
            Some(argument) => (std::ptr::from_ref(argument), size_of::<WaitArgument>()),
            None => (std::ptr::null(), 0),
        };
        // SAFETY: the argument and the timespec live until the call returns, which is as long as
        // the kernel reads them; `size` tells their layout. For the entries, the caller has promised.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, fd, submit, wait_for, flags, pointer, size)
        };
        Ok(sys::check(result as libc::c_int)? as u32)
    }

    /// Forgets the registration: the child of a fork has registered nothing, or something else.
    pub(super) fn disown(&mut self) {
        self.registered = None;
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if let Some(index) = self.registered {
            unregister_ring_fd(self.ring, index);
        }
    }
}

/// Registers the ring with this thread. `None` where the kernel cannot (before 5.18) or all 16
/// places of the thread are taken.
fn register_ring_fd(fd: RawFd) -> Option<u32> {
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data: fd as u64 };
    (ring_fd_call(fd, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset)
}

fn unregister_ring_fd(fd: RawFd, index: u32) {
    let mut update = RingFdUpdate { offset: index, reserved: 0, data: 0 };
    ring_fd_call(fd, UNREGISTER_RING_FDS, &mut update);
}

fn ring_fd_call(fd: RawFd, operation: u32, update: &mut RingFdUpdate) -> libc::c_long {
    // SAFETY: `update` is one valid entry, which the kernel reads and writes during the call only.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            operation,
            std::ptr::from_mut(update),
            1 as libc::c_uint,
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::driver::uring::Sizes;
    use crate::driver::uring::ring::Ring;
    use crate::features::KernelFeatures as Features;

    /// Of each thread.
    const PLACES: usize = 16;

    fn new_ring(without: Features) -> Ring {
        Ring::new(Sizes { submission: 2, completion: 4 }, without).unwrap()
    }

    fn is_registered(ring: &Ring) -> bool {
        ring.features().contains(Features::RING_FD)
    }

    #[test]
    fn a_ring_gives_its_place_among_those_of_the_thread_back() {
        if !is_registered(&new_ring(Features::empty())) {
            return;
        }
        let mut rings: Vec<_> = (0..PLACES).map(|_| new_ring(Features::empty())).collect();
        assert!(rings.iter().all(is_registered));
        assert!(!is_registered(&new_ring(Features::empty())), "there are more places");
        rings.pop();
        assert!(!is_registered(&new_ring(Features::RING_FD)));
        assert!(is_registered(&new_ring(Features::empty())));
    }
}
