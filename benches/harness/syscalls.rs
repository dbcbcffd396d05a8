//! Counts the system calls of a thread, with the kernel's own tracepoint.

use super::sys;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

const TRACEPOINT: u32 = 2;
const EVENT: &CStr = c"events/raw_syscalls/sys_enter/id";
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The kernel's `perf_event_attr`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 3],
    flags: u64,
    rest: [u64; 10],
}

pub(crate) struct SyscallCounter(File);

impl SyscallCounter {
    /// Counts those of a thread (zero is this one) from now on. Refused to those who may not trace.
    pub(crate) fn of(thread: u32) -> io::Result<SyscallCounter> {
        let attributes = Attributes {
            kind: TRACEPOINT,
            size: size_of::<Attributes>() as u32,
            config: event_id()?,
            ..Attributes::default()
        };
        let (any_core, no_group, no_flags) = (-1, -1, 0);
        // SAFETY: the kernel reads the attributes, as many bytes as they say; the descriptor is new.
        let counter = unsafe {
            let number = libc::SYS_perf_event_open;
            let fd = libc::syscall(number, &attributes, thread, any_core, no_group, no_flags);
            sys::owned(fd as libc::c_int)?
        };
        Ok(SyscallCounter(File::from(counter)))
    }

    pub(crate) fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

fn event_id() -> io::Result<u64> {
    let event = EVENT.to_str().expect("it is ASCII");
    let mounted =
        MOUNTS.iter().find_map(|mount| std::fs::read_to_string(format!("{mount}/{event}")).ok());
    let id = match mounted {
        Some(id) => id,
        None => read_unmounted()?,
    };
    id.trim().parse().map_err(io::Error::other)
}

/// Reads the number out of a tracing file system of our own, attached nowhere.
fn read_unmounted() -> io::Result<String> {
    const CREATE: libc::c_uint = 6;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: strings and null pointers, as the calls want them; the descriptors are new.
    let event: OwnedFd = unsafe {
        let context = sys::owned(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 0) as i32)?;
        let fd = context.as_raw_fd();
        sys::check(libc::syscall(libc::SYS_fsconfig, fd, CREATE, null, null, 0) as i32)?;
        let mount = sys::owned(libc::syscall(libc::SYS_fsmount, fd, 0, 0) as i32)?;
        sys::owned(libc::openat(mount.as_raw_fd(), EVENT.as_ptr(), libc::O_RDONLY))?
    };
    io::read_to_string(File::from(event))
}
