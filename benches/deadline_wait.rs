//! What it costs a turn to have a deadline: told to the wait, or by a timeout request on the ring.
//!
//! A turn is a write to an eventfd, which a multishot poll watches, and one enter that finds it.
//! `cargo bench --bench deadline_wait`; with `-- --quick` for a rough answer.

mod contestants;
mod harness;

use contestants::ring::raw::RawRing;
use harness::micro::{self, Probe};
use harness::sys;
use io_uring::opcode::{PollAdd, Timeout, TimeoutUpdate};
use io_uring::squeue::Flags;
use io_uring::types::{Fd, TimeoutFlags, Timespec};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

const TURNS: u32 = 5_000;
/// Far enough never to be reached.
const DELAY: u64 = 10_000_000_000;
const TIMEOUT: u64 = 1;

fn main() -> io::Result<()> {
    sys::pin(sys::cores()?.0)?;
    let (mut none, mut relative, mut absolute) = (Turns::new()?, Turns::new()?, Turns::new()?);
    let mut request = Turns::new()?;
    request.arm_timeout()?;
    let probe = |name, run| Probe { name, bound: None, run };
    let series = micro::measure(vec![
        probe("no deadline", Box::new(|| none.run(|ring, _| ring.submit_and_wait()))),
        probe("told to the wait, absolute", {
            let wait = |ring: &mut RawRing, deadline| {
                ring.submit_and_wait_timed(&timespec(deadline), true)
            };
            Box::new(move || absolute.run(wait))
        }),
        probe("told to the wait, relative", {
            let wait = |ring: &mut RawRing, deadline: u64| {
                let delay = deadline.saturating_sub(now()?);
                ring.submit_and_wait_timed(&timespec(delay), false)
            };
            Box::new(move || relative.run(wait))
        }),
        probe("a timeout request, updated", Box::new(|| request.run(update_timeout_and_wait))),
    ])?;
    micro::report("a turn with a deadline that changes every time", "ns per turn", &series);
    micro::write("deadline_wait", &series)
}

struct Turns {
    ring: RawRing,
    event: File,
}

impl Turns {
    fn new() -> io::Result<Turns> {
        // SAFETY: no memory is passed; the descriptor is new.
        let event = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC))? };
        let mut ring = RawRing::new()?;
        ring.push(PollAdd::new(Fd(event.as_raw_fd()), libc::POLLIN as u32).multi(true).build())?;
        Ok(Turns { ring, event: File::from(event) })
    }

    fn arm_timeout(&mut self) -> io::Result<()> {
        let time = timespec(now()? + DELAY);
        let timeout = Timeout::new(&time).flags(TimeoutFlags::ABS).build().user_data(TIMEOUT);
        // SAFETY: the kernel copies the time when the entry is submitted, which is now.
        unsafe { self.ring.push_unchecked(timeout)? };
        self.ring.submit_and_poll()
    }

    /// Nanoseconds per turn.
    fn run(&mut self, wait: impl Fn(&mut RawRing, u64) -> io::Result<()>) -> io::Result<f64> {
        let begin = Instant::now();
        for _ in 0..TURNS {
            self.event.write_all(&1u64.to_ne_bytes())?;
            // A new one every time, as the next deadline of a busy loop is.
            wait(&mut self.ring, now()? + DELAY)?;
            let found = self.ring.io.completion().filter(|entry| entry.result() > 0).count();
            assert_eq!(found, 1, "a turn finds its event and nothing else");
        }
        Ok(begin.elapsed().as_nanos() as f64 / f64::from(TURNS))
    }
}

fn update_timeout_and_wait(ring: &mut RawRing, deadline: u64) -> io::Result<()> {
    let time = timespec(deadline);
    let update = TimeoutUpdate::new(TIMEOUT, &time).flags(TimeoutFlags::ABS).build();
    // SAFETY: the kernel copies the time when the entry is submitted, before `time` goes.
    unsafe { ring.push_unchecked(update.flags(Flags::SKIP_SUCCESS))? };
    ring.submit_and_wait()
}

fn now() -> io::Result<u64> {
    sys::read_clock(libc::CLOCK_MONOTONIC)
}

fn timespec(nanos: u64) -> Timespec {
    Timespec::new().sec(nanos / 1_000_000_000).nsec((nanos % 1_000_000_000) as u32)
}
