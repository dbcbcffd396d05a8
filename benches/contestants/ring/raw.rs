//! A ring, set up for a server of one thread: the best flags there are, nothing optional.

use crate::harness::sys;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use std::io;
use std::os::fd::AsRawFd;

const ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 8192;

const GETEVENTS: u32 = 1 << 0;
const EXT_ARG: u32 = 1 << 3;
const REGISTERED_RING: u32 = 1 << 4;
const ABS_TIMER: u32 = 1 << 5;
const NO_IOWAIT: u32 = 1 << 7;
const REGISTER_RING_FDS: u32 = 20;

/// The kernel's `io_uring_getevents_arg`.
#[repr(C)]
#[derive(Default)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_size: u32,
    min_wait_usec: u32,
    timespec: u64,
}

/// The kernel's `io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

pub(crate) struct RawRing {
    pub(crate) io: IoUring,
    registered: u32,
}

impl RawRing {
    pub(crate) fn new() -> io::Result<RawRing> {
        let io = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)?;
        let mut update =
            RingFdUpdate { offset: u32::MAX, reserved: 0, data: io.as_raw_fd() as u64 };
        // SAFETY: one valid entry, which the kernel reads and writes during the call.
        let result = unsafe {
            let (call, fd) = (libc::SYS_io_uring_register, io.as_raw_fd());
            libc::syscall(call, fd, REGISTER_RING_FDS, &mut update, 1)
        };
        sys::check(result as libc::c_int)?;
        Ok(RawRing { io, registered: update.offset })
    }

    /// Submits everything and waits for one completion.
    #[inline]
    pub(crate) fn submit_and_wait(&mut self) -> io::Result<()> {
        self.enter(1, GETEVENTS | NO_IOWAIT, std::ptr::null(), 0)
    }

    /// Submits everything, and collects what is there.
    #[inline]
    pub(crate) fn submit_and_poll(&mut self) -> io::Result<()> {
        self.enter(0, GETEVENTS, std::ptr::null(), 0)
    }

    /// Submits everything and waits for one completion, or until a time by the monotonic clock
    /// (`absolute`), or for a time.
    #[inline]
    pub(crate) fn submit_and_wait_timed(
        &mut self,
        time: &types::Timespec,
        absolute: bool,
    ) -> io::Result<()> {
        let argument =
            WaitArgument { timespec: std::ptr::from_ref(time) as u64, ..WaitArgument::default() };
        let argument = std::ptr::from_ref(&argument);
        let flags = GETEVENTS | EXT_ARG | NO_IOWAIT | if absolute { ABS_TIMER } else { 0 };
        self.enter(1, flags, argument, size_of::<WaitArgument>())
    }

    /// Queues an entry that refers to no memory.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: the entry refers to no memory.
        unsafe { self.push_unchecked(entry) }
    }

    /// Queues an entry, and submits what is queued if there is no room.
    ///
    /// # Safety
    ///
    /// The memory that the entry refers to lives until the kernel needs it no more.
    #[inline]
    pub(crate) unsafe fn push_unchecked(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        while unsafe { self.io.submission().push(&entry) }.is_err() {
            self.enter(0, 0, std::ptr::null(), 0)?;
        }
        Ok(())
    }

    /// Submits what is queued if there is not room for this many entries.
    #[inline]
    pub(crate) fn make_room(&mut self, entries: usize) -> io::Result<()> {
        let queue = self.io.submission();
        if queue.capacity() - queue.len() >= entries {
            return Ok(());
        }
        drop(queue);
        self.enter(0, 0, std::ptr::null(), 0)
    }

    #[inline]
    fn enter(
        &mut self,
        wait_for: u32,
        flags: u32,
        argument: *const WaitArgument,
        size: usize,
    ) -> io::Result<()> {
        let (call, ring) = (libc::SYS_io_uring_enter, self.registered);
        let (submit, flags) = (self.io.submission().len() as u32, flags | REGISTERED_RING);
        // SAFETY: the argument is null or valid to read for `size`; entries refer to no memory.
        let result = unsafe { libc::syscall(call, ring, submit, wait_for, flags, argument, size) };
        match sys::check(result as libc::c_int) {
            Err(error) if !is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
}

/// The kernel's `io_uring_sqe`, as an update of a poll uses it.
#[repr(C)]
#[derive(Default)]
struct UpdateEntry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    target: u64,
    what: u32,
    mask: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// Gives an armed multishot poll this mask. The kernel looks whether the file is ready as if it
/// were armed anew, which makes it level-triggered. Completes only if it fails.
#[inline]
pub(crate) fn update_poll(target: u64, mask: u32, user_data: u64) -> Entry {
    const POLL_REMOVE: u8 = 7;
    const SKIP_SUCCESS: u8 = 1 << 6;
    const MULTISHOT: u32 = 1 << 0;
    const UPDATE_EVENTS: u32 = 1 << 1;
    let entry = UpdateEntry {
        opcode: POLL_REMOVE,
        flags: SKIP_SUCCESS,
        fd: -1,
        target,
        what: MULTISHOT | UPDATE_EVENTS,
        mask,
        user_data,
        ..UpdateEntry::default()
    };
    // SAFETY: both are the 64 bytes of the kernel's entry, in which any bits are valid.
    unsafe { std::mem::transmute(entry) }
}

/// Cancels a request. Completes only if it fails.
pub(crate) fn cancel(target: u64, user_data: u64) -> Entry {
    let entry = opcode::AsyncCancel::new(target).build();
    entry.flags(Flags::SKIP_SUCCESS).user_data(user_data)
}
