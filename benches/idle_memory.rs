//! User-space memory of a descriptor that is registered and idle: by the allocator's account, and
//! by the growth of the resident set. What the kernel keeps is not in it.
//!
//! `cargo bench --bench idle_memory`.

#[path = "harness/allocations.rs"]
mod allocations;
mod contestants;
mod harness;

use contestants::ring::raw::RawRing;
use harness::micro::{self, Series};
use harness::sys;
use io_uring::opcode::PollAdd;
use io_uring::types::Fd;
use ringloop::{Events, IoLoop};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

const COUNT: usize = 15_000;
const BOUND: f64 = 256.0;
const SUBJECT: &str = "RINGLOOP_BENCH_SUBJECT";
const SUBJECTS: [&str; 3] = ["epoll", "ring", "ringloop"];

/// Each subject gets a process of its own, because memory given back is not given up.
fn main() -> io::Result<()> {
    sys::raise_fd_limit()?;
    if let Ok(subject) = std::env::var(SUBJECT) {
        return observe(&subject);
    }
    println!("{COUNT} eventfds registered");
    println!("{:<12} {:>14} {:>14} {:>16}", "", "bytes each", "resident each", "allocations each");
    let mut series = Vec::new();
    for name in SUBJECTS {
        let output = Command::new(std::env::current_exe()?).env(SUBJECT, name).output()?;
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: Vec<f64> =
            output.split(' ').filter_map(|word| word.trim().parse().ok()).collect();
        let &[bytes, resident, allocations] = figures.as_slice() else {
            return Err(io::Error::other(format!("{name} has failed: {output}")));
        };
        println!("{name:<12} {bytes:>14.1} {resident:>14.1} {allocations:>16.2}");
        series.push(Series { name, bound: None, values: vec![bytes] });
    }
    println!("\nringloop is to stay within {BOUND} bytes");
    micro::write("idle_memory", &series)
}

fn observe(subject: &str) -> io::Result<()> {
    let mut files = (0..COUNT).map(|_| eventfd()).collect::<io::Result<Vec<File>>>()?;
    match subject {
        "epoll" => {
            let mut by_hand = ByHand::new(Epoll::new()?);
            figures(|| files.drain(..).try_for_each(|file| by_hand.register(file)))
        }
        "ring" => {
            let mut by_hand = ByHand::new(RawRing::new()?);
            figures(|| {
                files.drain(..).try_for_each(|file| by_hand.register(file))?;
                by_hand.watcher.submit_and_poll()
            })
        }
        _ => {
            let io_loop = IoLoop::new()?;
            figures(|| {
                for (number, file) in files.drain(..).enumerate() {
                    io_loop.add_handler(file, Events::READ, move |_, _| println!("{number}"))?;
                }
                io_loop.turn(Some(Duration::ZERO))
            })
        }
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: no memory is passed; the descriptor is new.
    unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC)) }.map(File::from)
}

/// Prints what `work` takes, per descriptor.
fn figures(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let resident = resident()?;
    let (result, tally) = allocations::count(work);
    result?;
    let resident = self::resident()? - resident;
    let each = |total: i64| total as f64 / COUNT as f64;
    println!("{} {} {}", each(tally.bytes), each(resident), each(tally.calls as i64));
    Ok(())
}

/// Bytes of this process that are in memory.
fn resident() -> io::Result<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok());
    Ok(pages.ok_or_else(|| io::Error::other("statm has no resident pages"))? * 4096)
}

trait Watcher {
    fn watch(&mut self, file: &File) -> io::Result<()>;
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Epoll> {
        // SAFETY: no memory is passed; the descriptor is new.
        unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }.map(Epoll)
    }
}

impl Watcher for Epoll {
    fn watch(&mut self, file: &File) -> io::Result<()> {
        let fd = file.as_raw_fd();
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        let (epoll, add) = (self.0.as_raw_fd(), libc::EPOLL_CTL_ADD);
        // SAFETY: the event is valid to read.
        sys::check(unsafe { libc::epoll_ctl(epoll, add, fd, &mut event) }).map(drop)
    }
}

impl Watcher for RawRing {
    fn watch(&mut self, file: &File) -> io::Result<()> {
        let fd = file.as_raw_fd();
        self.push(PollAdd::new(Fd(fd), libc::POLLIN as u32).build().user_data(fd as u64))
    }
}

type Handler = Box<dyn FnMut(u32)>;

/// The least that a loop with callbacks has to keep.
struct ByHand<W> {
    watcher: W,
    handlers: Vec<Option<Handler>>,
}

impl<W: Watcher> ByHand<W> {
    fn new(watcher: W) -> ByHand<W> {
        ByHand { watcher, handlers: Vec::new() }
    }

    fn register(&mut self, file: File) -> io::Result<()> {
        self.watcher.watch(&file)?;
        let (index, number) = (file.as_raw_fd() as usize, self.handlers.len());
        if index >= self.handlers.len() {
            self.handlers.resize_with(index + 1, || None);
        }
        self.handlers[index] = Some(Box::new(move |_| println!("{number}: {file:?}")));
        Ok(())
    }
}
