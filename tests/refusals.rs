//! Kernels that refuse a ring: system calls that a seccomp profile forbids, and a limit of memory.

mod support;

use ringloop::{IoLoop, IoStream, KernelFeatures};
use std::error::Error;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{in_child, in_own_process, turn};

const ERRNOS: [i32; 3] = [libc::EPERM, libc::EACCES, libc::ENOSYS];

/// This thread gets `errno` from system call `forbidden` from now on.
fn forbid(forbidden: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        // The number of the system call stands first in `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, forbidden as u32)
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the second call reads the program, which is as long as it says, during the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0);
    }
}

/// The error names the call, what it said, and what to do, and keeps the number.
fn check(error: &io::Error, call: &str, errno: i32) -> Result<(), String> {
    let (text, os_error) = (error.to_string(), io::Error::from_raw_os_error(errno));
    let source = error.get_ref().and_then(Error::source);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    let is_told = text.starts_with(&format!("{call} refused: {os_error}: "))
        && text.contains("seccomp")
        && source.and_then(io::Error::raw_os_error) == Some(errno)
        && error.kind() == os_error.kind();
    if is_told { Ok(()) } else { Err(format!("{errno}: {error:?}")) }
}

#[test]
fn a_profile_that_forbids_to_set_a_ring_up_is_named_when_a_loop_is_built() {
    for errno in ERRNOS {
        let result = in_child(|| {
            forbid(libc::SYS_io_uring_setup, errno);
            match IoLoop::new() {
                Err(error) => check(&error, "io_uring_setup", errno),
                Ok(_) => Err("it was built".to_owned()),
            }
        });
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn a_profile_that_forbids_to_enter_a_ring_is_named_by_every_turn_and_the_loop_can_be_closed() {
    for errno in ERRNOS {
        let result = in_child(|| {
            let before = IoLoop::new().map_err(|error| error.to_string())?;
            forbid(libc::SYS_io_uring_enter, errno);
            for io_loop in [before, IoLoop::new().map_err(|error| error.to_string())?] {
                let (stream, _peer) = UnixStream::pair().unwrap();
                let reader = io_loop.spawn(async move { IoStream::from(stream).chunk().await });
                for limit in [Duration::ZERO, Duration::from_millis(1)] {
                    let refused = io_loop.turn(Some(limit)).expect_err("no turn can be had");
                    check(&refused, "io_uring_enter", errno)?;
                }
                check(&io_loop.start().expect_err("it cannot run"), "io_uring_enter", errno)?;
                io_loop.close(false).map_err(|error| error.to_string())?;
                if !reader.is_finished() {
                    return Err("the task is left".to_owned());
                }
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn a_loop_does_without_what_takes_a_registration_where_a_profile_forbids_it() {
    for errno in ERRNOS {
        let result = in_child(|| {
            forbid(libc::SYS_io_uring_register, errno);
            let io_loop = IoLoop::new().map_err(|error| error.to_string())?;
            let (stream, mut peer) = UnixStream::pair().unwrap();
            peer.write_all(b"hello").unwrap();
            let read = || async { IoStream::from(stream).read_bytes(5).await };
            let read = io_loop.run_sync(read, Some(Duration::from_secs(10)));
            match read.map_err(|error| error.to_string())? {
                Ok(bytes) if bytes == b"hello" => {}
                other => return Err(format!("{errno}: {other:?}")),
            }
            let features = io_loop.metrics().features;
            let registered = KernelFeatures::RING_FD
                | KernelFeatures::BUFFER_RING
                | KernelFeatures::INCREMENTAL
                | KernelFeatures::REGISTERED_FILES;
            match features.intersects(registered) {
                true => Err(format!("{features:?}")),
                false => Ok(()),
            }
        });
        assert_eq!(result, Ok(()));
    }
}

/// Where rings are charged to their user (from 6.14 on), a user of the old default limit gets small
/// ones, whichever queue is to be the large one.
#[test]
fn either_queue_shrinks_to_what_the_memory_limit_allows() {
    in_own_process("either_queue_shrinks_to_what_the_memory_limit_allows", || {
        let most = 64 * 1024;
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: `limit` is a valid limit. The user of this thread alone changes, to one that has no
        // rings: a superuser knows no limit.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
            if libc::geteuid() == 0 {
                assert_eq!(libc::syscall(libc::SYS_setuid, 54_321), 0);
            }
        }
        for (entries, cq_entries) in [(2, 65_536), (32_768, 2), (16, 65_536), (1024, 8192)] {
            let io_loop = IoLoop::builder().entries(entries).cq_entries(cq_entries).build();
            turn(&io_loop.unwrap_or_else(|error| panic!("{entries}, {cq_entries}: {error}")));
        }
    });
}
