//! What the kernel refuses to do with a ring, with the cause and the cure.

use crate::sys;
use std::error::Error;
use std::fmt;
use std::io;

/// Whoever forbids one of the ring's system calls forbids, as a rule, all of them.
const PROFILE: &str = "a seccomp profile or security module forbids it; containers do by default: \
                       allow io_uring_setup, io_uring_enter and io_uring_register in the profile";

/// Why no ring was made.
pub(super) fn of_setup(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl().as_deref() {
            Some("2") => "kernel.io_uring_disabled is 2: set it to 0 with sysctl(8)",
            Some("1") => {
                "kernel.io_uring_disabled is 1: set it to 0, run with CAP_SYS_ADMIN, or join the \
                 group in kernel.io_uring_group"
            }
            _ => PROFILE,
        },
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring (it needs Linux 5.15 or newer with CONFIG_IO_URING), or a \
             seccomp profile hides it"
        }
        Some(libc::ENOMEM) => {
            "no memory for even a small ring: raise RLIMIT_MEMLOCK (ulimit -l), which is charged \
             per user for every ring"
        }
        _ => sys::shortage_advice(&error).unwrap_or("see io_uring_setup(2)"),
    };
    Refusal { call: "io_uring_setup", error, advice: Some(advice) }.into()
}

/// Why a ring that was made cannot be entered.
pub(super) fn of_enter(error: io::Error) -> io::Error {
    let advice = is_forbidden(&error).then_some(PROFILE);
    Refusal { call: "io_uring_enter", error, advice }.into()
}

/// A system call on a ring that was made has not been let through to the kernel.
pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

fn disabled_by_sysctl() -> Option<String> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned())
}

struct Refusal {
    call: &'static str,
    error: io::Error,
    advice: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { call, error, advice } = self;
        match advice {
            Some(advice) => write!(f, "{call} refused: {error}: {advice}"),
            None => write!(f, "{call} failed: {error}"),
        }
    }
}

/// As `Display`: it is what a program prints whose `main` returns the error.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::new(refusal.error.kind(), refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_cause_and_the_cure() {
        let text = |errno| of_setup(io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::ENOSYS).contains("seccomp"), "{}", text(libc::ENOSYS));
        assert!(text(libc::ENOMEM).contains("RLIMIT_MEMLOCK"), "{}", text(libc::ENOMEM));
        let forbidden = text(libc::EPERM);
        assert!(
            forbidden.contains("seccomp") || forbidden.contains("io_uring_disabled"),
            "{forbidden}"
        );
    }
}
