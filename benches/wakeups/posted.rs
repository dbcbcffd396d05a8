//! `LoopHandle::add_callback`, beside the same written by hand, with the queue that the library has
//! chosen (`src/posts.rs`), and with the other one.

use crate::by_hand::{ByHand, LockFree, Locked, Queue};
use crate::harness::micro::{self, Series};
use crate::harness::sys;
use crate::harness::syscalls::SyscallCounter;
use crate::probe;
use ringloop::{IoLoop, LoopHandle};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FLOOD: usize = 100_000;
const SINGLES: usize = 50;
const BUSY: usize = 2_000;
/// Long enough for a loop to fall asleep.
const NAP: Duration = Duration::from_micros(200);
const BOUND: Option<f64> = Some(100.0);

/// Callbacks that have run; one loop at a time counts.
static RAN: AtomicUsize = AtomicUsize::new(0);

pub(crate) trait Target {
    fn post(&self, callback: impl FnOnce() + Send + 'static);
}

impl Target for LoopHandle {
    fn post(&self, callback: impl FnOnce() + Send + 'static) {
        self.add_callback(callback);
    }
}

pub(crate) fn measure(loop_core: usize) -> io::Result<Vec<Series>> {
    let by_hand = start_by_hand::<Locked>(loop_core);
    let lock_free = start_by_hand::<LockFree>(loop_core);
    let io_loop = start(loop_core, |sender| {
        let io_loop = IoLoop::new()?;
        let _ = sender.send(io_loop.handle());
        io_loop.start()
    });
    let (hand, free, handle) = (&by_hand.target, &lock_free.target, &io_loop.target);
    let series = micro::measure(vec![
        probe("post: by hand", None, || Ok(flood(hand).0)),
        probe("post: by hand, lock-free", None, || Ok(flood(free).0)),
        probe("post: LoopHandle::add_callback", BOUND, || Ok(flood(handle).0)),
        probe("post and run: by hand", None, || Ok(flood(hand).1)),
        probe("post and run: by hand, lock-free", None, || Ok(flood(free).1)),
        probe("post and run: LoopHandle::add_callback", None, || Ok(flood(handle).1)),
        probe("wake and run: by hand", None, || Ok(singles(hand))),
        probe("wake and run: by hand, lock-free", None, || Ok(singles(free))),
        probe("wake and run: LoopHandle::add_callback", None, || Ok(singles(handle))),
    ])?;
    let title = "callbacks from another thread, many at once: posting";
    let (many, one) = series.split_at(6);
    micro::report(title, "ns each", &many[..3]);
    micro::report("the same until they have run", "ns each", &many[3..]);
    micro::report("one, to a loop that sleeps, until it has run", "ns each", one);
    println!("{:<40} {:>14} {:>9}", "system calls per post", "posting thread", "loop");
    report_syscalls("by hand: posts to a sleeping loop", &by_hand, singles);
    report_syscalls("LoopHandle: posts to a sleeping loop", &io_loop, singles);
    report_syscalls("by hand: many posts at once", &by_hand, |target| flood(target).0);
    report_syscalls("LoopHandle: many posts at once", &io_loop, |target| flood(target).0);
    report_syscalls("LoopHandle: posts to a busy loop", &io_loop, posts_to_a_busy_loop);
    println!();
    by_hand.target.stop();
    lock_free.target.stop();
    io_loop.target.stop();
    by_hand.thread.join().expect("it does not panic")?;
    lock_free.thread.join().expect("it does not panic")?;
    io_loop.thread.join().expect("it does not panic")?;
    Ok(series)
}

fn start_by_hand<Q: Queue>(core: usize) -> Looping<Arc<ByHand<Q>>> {
    start(core, |sender| {
        let queue = Arc::new(ByHand::new()?);
        let _ = sender.send(queue.clone());
        queue.run()
    })
}

struct Looping<T> {
    target: T,
    thread_id: u32,
    thread: JoinHandle<io::Result<()>>,
}

fn start<T: Send + 'static>(
    core: usize,
    run: impl FnOnce(mpsc::Sender<T>) -> io::Result<()> + Send + 'static,
) -> Looping<T> {
    let ((sender, receiver), (id_sender, id_receiver)) = (mpsc::channel(), mpsc::channel());
    let thread = std::thread::spawn(move || {
        sys::pin(core)?;
        let _ = id_sender.send(sys::thread_id());
        run(sender)
    });
    let thread_id = id_receiver.recv().expect("the thread starts");
    Looping { target: receiver.recv().expect("the loop starts"), thread_id, thread }
}

fn count() {
    RAN.store(RAN.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn wait_until_ran(target: usize) {
    while RAN.load(Ordering::Acquire) < target {
        std::hint::spin_loop();
    }
}

/// Lets time pass without a system call.
fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Nanoseconds per post: until all are posted, and until all have run.
fn flood(target: &impl Target) -> (f64, f64) {
    let before = RAN.load(Ordering::Acquire);
    let begin = Instant::now();
    for _ in 0..FLOOD {
        target.post(count);
    }
    let posted = begin.elapsed();
    wait_until_ran(before + FLOOD);
    let each = |time: Duration| time.as_nanos() as f64 / FLOOD as f64;
    (each(posted), each(begin.elapsed()))
}

/// Nanoseconds from a post to a sleeping loop until it has run.
fn singles(target: &impl Target) -> f64 {
    let mut time = Duration::ZERO;
    for _ in 0..SINGLES {
        spin(NAP);
        let before = RAN.load(Ordering::Acquire);
        let begin = Instant::now();
        target.post(count);
        wait_until_ran(before + 1);
        time += begin.elapsed();
    }
    time.as_nanos() as f64 / SINGLES as f64
}

fn posts_to_a_busy_loop(handle: &LoopHandle) -> f64 {
    let end = RAN.load(Ordering::Acquire) + BUSY;
    handle.add_callback(move || stay_busy(end));
    spin(NAP);
    for _ in 0..BUSY {
        handle.add_callback(count);
    }
    wait_until_ran(end);
    0.0
}

fn stay_busy(end: usize) {
    if RAN.load(Ordering::Relaxed) < end {
        IoLoop::current().add_callback(move || stay_busy(end));
    }
}

fn report_syscalls<T>(name: &str, looping: &Looping<T>, work: impl FnOnce(&T) -> f64) {
    // The last one made, and the first one read, is this thread's: it counts those of making them.
    let of_loop = SyscallCounter::of(looping.thread_id);
    let of_this = SyscallCounter::of(0);
    let before = RAN.load(Ordering::Acquire);
    work(&looping.target);
    let posts = (RAN.load(Ordering::Acquire) - before) as f64;
    let per_post = |counter: io::Result<SyscallCounter>| match counter.and_then(|it| it.read()) {
        Ok(calls) => format!("{:.4}", calls as f64 / posts),
        Err(_) => "-".to_owned(),
    };
    let (posting, looping) = (per_post(of_this), per_post(of_loop));
    println!("{name:<40} {posting:>14} {looping:>9}");
}
