//! Ways to sleep, and to wake who sleeps. Each sleep is one system call.

use crate::contestants::ring::raw::RawRing;
use crate::harness::sys;
use io_uring::opcode::{self, MsgRingData, PollAdd};
use io_uring::types::Fd;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) trait Mechanism: Sized + 'static {
    /// Short, for the report.
    const NAME: &'static str;
    /// What the waking thread has to know.
    type Address: Send + 'static;

    /// On the loop's thread.
    fn new() -> io::Result<(Self, Self::Address)>;

    /// On the loop's thread, until it is woken.
    fn sleep(&mut self) -> io::Result<()>;

    /// On the waking thread: what wakes the loop.
    fn bell(address: Self::Address) -> io::Result<impl FnMut() -> io::Result<()> + 'static>;
}

fn eventfd(flags: libc::c_int) -> io::Result<File> {
    // SAFETY: no memory is passed; the descriptor is new.
    let fd = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC | flags))? };
    Ok(File::from(fd))
}

fn eventfd_bell(mut eventfd: File) -> impl FnMut() -> io::Result<()> {
    move || eventfd.write_all(&1u64.to_ne_bytes())
}

/// As mio has it: edge-triggered, so that the counter need not be read.
pub(crate) struct Epoll(File);

impl Mechanism for Epoll {
    const NAME: &'static str = "epoll, an eventfd";
    type Address = File;

    fn new() -> io::Result<(Epoll, File)> {
        let eventfd = eventfd(libc::EFD_NONBLOCK)?;
        // SAFETY: no memory is passed; the descriptor is new.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: 0 };
        let add = libc::EPOLL_CTL_ADD;
        // SAFETY: the event is valid to read.
        sys::check(unsafe {
            libc::epoll_ctl(epoll.as_raw_fd(), add, eventfd.as_raw_fd(), &mut event)
        })?;
        Ok((Epoll(File::from(epoll)), eventfd))
    }

    fn sleep(&mut self) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let (pointer, room) = (events.as_mut_ptr(), events.len() as libc::c_int);
        // SAFETY: there is room for as many events as it says.
        sys::check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), pointer, room, -1) }).map(drop)
    }

    fn bell(address: File) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        Ok(eventfd_bell(address))
    }
}

/// What the library does if it has anything but other threads to wait for.
pub(crate) struct MultishotPoll(RawRing);

impl Mechanism for MultishotPoll {
    const NAME: &'static str = "ring, multishot poll on an eventfd";
    type Address = File;

    fn new() -> io::Result<(MultishotPoll, File)> {
        let (mut ring, eventfd) = (RawRing::new()?, eventfd(libc::EFD_NONBLOCK)?);
        ring.push(PollAdd::new(Fd(eventfd.as_raw_fd()), libc::POLLIN as u32).multi(true).build())?;
        Ok((MultishotPoll(ring), eventfd))
    }

    fn sleep(&mut self) -> io::Result<()> {
        wait(&mut self.0)
    }

    fn bell(address: File) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        Ok(eventfd_bell(address))
    }
}

/// Waits, and moves every completion out of the ring.
fn wait(ring: &mut RawRing) -> io::Result<()> {
    ring.submit_and_wait()?;
    match ring.io.completion().map(|entry| entry.result()).min() {
        Some(negative) if negative < 0 => Err(io::Error::from_raw_os_error(-negative)),
        _ => Ok(()),
    }
}

/// A read of the counter, armed again in each turn.
pub(crate) struct Read {
    ring: RawRing,
    eventfd: File,
    /// For the kernel to write to.
    counter: Box<[u8; 8]>,
}

impl Mechanism for Read {
    const NAME: &'static str = "ring, a read on an eventfd";
    type Address = File;

    fn new() -> io::Result<(Read, File)> {
        let (ring, eventfd) = (RawRing::new()?, eventfd(0)?);
        let address = eventfd.try_clone()?;
        Ok((Read { ring, eventfd, counter: Box::default() }, address))
    }

    fn sleep(&mut self) -> io::Result<()> {
        let fd = Fd(self.eventfd.as_raw_fd());
        let read = opcode::Read::new(fd, self.counter.as_mut_ptr(), 8).build();
        // SAFETY: the counter is freed after the ring is closed.
        unsafe { self.ring.push_unchecked(read)? };
        wait(&mut self.ring)
    }

    fn bell(address: File) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        Ok(eventfd_bell(address))
    }
}

/// A word counts the wake-ups; the ring waits for it to change.
pub(crate) struct Futex {
    ring: RawRing,
    word: Arc<AtomicU32>,
    seen: u32,
}

const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

impl Mechanism for Futex {
    const NAME: &'static str = "ring, a wait for a futex (6.7)";
    type Address = Arc<AtomicU32>;

    fn new() -> io::Result<(Futex, Arc<AtomicU32>)> {
        let word = Arc::new(AtomicU32::new(0));
        Ok((Futex { ring: RawRing::new()?, word: word.clone(), seen: 0 }, word))
    }

    fn sleep(&mut self) -> io::Result<()> {
        let (expected, all) = (u64::from(self.seen), u64::from(u32::MAX));
        let flags = FUTEX2_SIZE_U32 | FUTEX2_PRIVATE;
        let wait_for_it = opcode::FutexWait::new(self.word.as_ptr(), expected, all, flags).build();
        // SAFETY: the word is freed after the ring is closed.
        unsafe { self.ring.push_unchecked(wait_for_it)? };
        match wait(&mut self.ring) {
            // It has changed before.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            waited => waited?,
        }
        self.seen = self.word.load(Ordering::Acquire);
        Ok(())
    }

    fn bell(word: Arc<AtomicU32>) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        Ok(move || ring_futex(&word))
    }
}

fn ring_futex(word: &AtomicU32) -> io::Result<()> {
    word.fetch_add(1, Ordering::Release);
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is only an address here.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
    sys::check(woken as libc::c_int).map(drop)
}

/// A completion put into the loop's ring by a thread that has none.
pub(crate) struct MessageWithoutRing(RawRing);

impl Mechanism for MessageWithoutRing {
    const NAME: &'static str = "ring, a message without a ring (6.13)";
    type Address = RawFd;

    fn new() -> io::Result<(MessageWithoutRing, RawFd)> {
        let ring = RawRing::new()?;
        let address = ring.io.as_raw_fd();
        Ok((MessageWithoutRing(ring), address))
    }

    fn sleep(&mut self) -> io::Result<()> {
        wait(&mut self.0)
    }

    fn bell(ring: RawFd) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        const REGISTER_SEND_MSG_RING: u32 = 31;
        let message = MsgRingData::new(Fd(ring), 0, 0, None).build();
        Ok(move || {
            let (call, no_ring) = (libc::SYS_io_uring_register, -1);
            // SAFETY: the message is one entry, which the kernel reads during the call.
            let sent = unsafe { libc::syscall(call, no_ring, REGISTER_SEND_MSG_RING, &message, 1) };
            sys::check(sent as libc::c_int).map(drop)
        })
    }
}

/// The same from a ring of the waking thread.
pub(crate) struct MessageFromRing(RawRing);

impl Mechanism for MessageFromRing {
    const NAME: &'static str = "ring, a message from another ring";
    type Address = RawFd;

    fn new() -> io::Result<(MessageFromRing, RawFd)> {
        let ring = RawRing::new()?;
        let address = ring.io.as_raw_fd();
        Ok((MessageFromRing(ring), address))
    }

    fn sleep(&mut self) -> io::Result<()> {
        wait(&mut self.0)
    }

    fn bell(target: RawFd) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        let mut ring = RawRing::new()?;
        Ok(move || {
            let message = MsgRingData::new(Fd(target), 0, 0, None).build();
            ring.push(message.flags(io_uring::squeue::Flags::SKIP_SUCCESS))?;
            ring.submit_and_poll()
        })
    }
}

/// A futex, beside which nothing can be waited for: the least that waking a thread takes, and what the
/// library does if it has nothing else to wait for.
pub(crate) struct FutexAlone {
    word: Arc<AtomicU32>,
    seen: u32,
}

impl Mechanism for FutexAlone {
    const NAME: &'static str = "nothing but a futex";
    type Address = Arc<AtomicU32>;

    fn new() -> io::Result<(FutexAlone, Arc<AtomicU32>)> {
        let word = Arc::new(AtomicU32::new(0));
        Ok((FutexAlone { word: word.clone(), seen: 0 }, word))
    }

    fn sleep(&mut self) -> io::Result<()> {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let (word, no_limit) = (self.word.as_ptr(), std::ptr::null::<libc::timespec>());
        // SAFETY: the word outlives the call.
        unsafe { libc::syscall(libc::SYS_futex, word, operation, self.seen, no_limit) };
        self.seen = self.word.load(Ordering::Acquire);
        Ok(())
    }

    fn bell(word: Arc<AtomicU32>) -> io::Result<impl FnMut() -> io::Result<()> + 'static> {
        Ok(move || ring_futex(&word))
    }
}
