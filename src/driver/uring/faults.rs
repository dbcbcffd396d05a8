//! Enters that go wrong, for tests: what a kernel out of memory does, and worse.

use super::enter::ENTER_GETEVENTS;
use super::ring::Completion;
use super::token::Kind;
use crate::features::KernelFeatures as Features;
use crate::sys::check;
use io_uring::{IoUring, opcode, squeue, types};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

mod dropped;
mod failed;
mod line;
mod older;
mod partial;
mod polls;
mod random;

/// What an enter is asked to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enter {
    pub(super) submit: u32,
    pub(super) waits: bool,
    pub(super) collects: bool,
}

/// What it does instead.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// All that it is asked to.
    None,
    /// It takes in no more than so many requests. If that is not all, it does nothing else.
    Take(u32),
    /// It does nothing, and fails.
    Fail(i32),
    /// It does not wait, and fails when it has done the rest.
    FailAfter(i32),
    /// It does what it is asked to, and the completions are dropped, for want of memory.
    Drop,
    /// The same, of the first so many.
    DropFirst(usize),
}

type Rule = Box<dyn FnMut(Enter) -> Fault>;

thread_local! {
    static LACKING: Cell<Features> = const { Cell::new(Features::empty()) };
    static FAILING: Cell<Option<i32>> = const { Cell::new(None) };
    static RULE: RefCell<Option<Rule>> = const { RefCell::new(None) };
    static DROPPING: Cell<usize> = const { Cell::new(0) };
}

/// This thread's enters go wrong for as long as this lives.
pub(super) struct Faults;

impl Faults {
    pub(super) fn new(rule: impl FnMut(Enter) -> Fault + 'static) -> Faults {
        RULE.set(Some(Box::new(rule)));
        Faults
    }

    /// One after the other; then nothing goes wrong any more.
    pub(super) fn script(faults: impl IntoIterator<Item = Fault, IntoIter: 'static>) -> Faults {
        let mut faults = faults.into_iter();
        Faults::new(move |_| faults.next().unwrap_or(Fault::None))
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        RULE.set(None);
        DROPPING.set(0);
    }
}

/// For as long as this lives, this thread's kernel knows nothing of some features, and says so when it
/// is asked for one.
pub(super) struct OlderKernel;

impl OlderKernel {
    pub(super) fn without(features: Features) -> OlderKernel {
        LACKING.set(features);
        OlderKernel
    }

    pub(super) fn lacks(feature: Features) -> bool {
        LACKING.get().intersects(feature)
    }

    /// What it says.
    pub(super) fn check(feature: Features) -> io::Result<()> {
        match OlderKernel::lacks(feature) {
            true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            false => Ok(()),
        }
    }

    /// A request that takes a feature. If there is none, this is another one, refused by every kernel.
    pub(super) fn request(request: squeue::Entry, feature: Features) -> squeue::Entry {
        if !OlderKernel::lacks(feature) {
            return request;
        }
        opcode::Accept::new(types::Fd(-1), ptr::null_mut(), ptr::null_mut()).flags(-1).build()
    }
}

impl Drop for OlderKernel {
    fn drop(&mut self) {
        LACKING.set(Features::empty());
    }
}

/// The next poll or operation whose request is over has failed instead.
pub(super) fn fail_next(errno: i32) {
    FAILING.set(Some(errno));
}

/// What a completion says instead.
pub(super) fn completion(mut completion: Completion) -> Completion {
    let is_either = matches!(completion.token.stamp().kind(), Some(Kind::Poll | Kind::Operation));
    if is_either
        && !completion.has_more()
        && let Some(errno) = FAILING.take()
    {
        completion.result = -errno;
    }
    completion
}

/// What happens to an enter.
pub(super) fn next(submit: u32, wait_for: u32, flags: u32) -> Option<Fault> {
    let enter = Enter { submit, waits: wait_for > 0, collects: flags & ENTER_GETEVENTS != 0 };
    RULE.with_borrow_mut(|rule| rule.as_mut().map(|rule| rule(enter)))
}

impl Fault {
    /// `call` submits, waits for so many completions, and has these flags.
    pub(super) fn befall(
        self,
        submit: u32,
        wait_for: u32,
        flags: u32,
        call: impl Fn(u32, u32, u32) -> io::Result<u32>,
    ) -> io::Result<u32> {
        match self {
            Fault::Take(most) if most < submit => call(most, 0, flags & !ENTER_GETEVENTS),
            Fault::None | Fault::Take(_) => call(submit, wait_for, flags),
            Fault::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::FailAfter(errno) => {
                call(submit, 0, flags)?;
                Err(io::Error::from_raw_os_error(errno))
            }
            Fault::Drop => Fault::DropFirst(usize::MAX).befall(submit, wait_for, flags, call),
            Fault::DropFirst(count) => {
                DROPPING.set(count);
                call(submit, wait_for, flags)
            }
        }
    }
}

/// Drops what has arrived, if that enter was to, as the kernel would: it is counted, and gone.
pub(super) fn drop_completions(ring: &mut IoUring) {
    let most = DROPPING.take();
    if most > 0 {
        let count = ring.completion().take(most).count() as u32;
        add_to_overflow(ring, count);
    }
}

/// Adds to the counter in the memory that the ring shares with the kernel.
fn add_to_overflow(ring: &IoUring, count: u32) {
    /// `IORING_OFF_CQ_RING`.
    const COMPLETION_QUEUE: libc::off_t = 0x800_0000;
    const LENGTH: usize = 4096;
    let (all, write) = (libc::MAP_SHARED, libc::PROT_READ | libc::PROT_WRITE);
    let (fd, offset) = (ring.as_raw_fd(), offset_of_overflow());
    assert!(offset + size_of::<AtomicU32>() <= LENGTH);
    // SAFETY: a mapping of its own, which is there until it is unmapped below. The kernel only adds
    // to the counter, too.
    unsafe {
        let memory = libc::mmap(ptr::null_mut(), LENGTH, write, all, fd, COMPLETION_QUEUE);
        assert_ne!(memory, libc::MAP_FAILED);
        (*memory.byte_add(offset).cast::<AtomicU32>()).fetch_add(count, Ordering::Relaxed);
        libc::munmap(memory, LENGTH);
    }
}

/// Where the counter is, which is the same in all rings of a kernel.
fn offset_of_overflow() -> usize {
    /// Of `io_uring_params`, in numbers.
    const SIZE: usize = 30;
    /// `cq_off.overflow` among them.
    const OVERFLOW: usize = 24;
    let mut params = [0u32; SIZE];
    // SAFETY: it is of the size that the kernel reads and writes. The descriptor is nobody else's.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) as libc::c_int;
        drop(OwnedFd::from_raw_fd(check(ring).unwrap()));
    }
    params[OVERFLOW] as usize
}
