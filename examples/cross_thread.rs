//! Worker threads that hand their results to a loop.
//!
//!     cargo run --release --example cross_thread
//!
//! Four threads count primes; the loop adds up what they find, on its own thread and so without a
//! lock, and stops after the last of them.

use ringloop::IoLoop;
use std::cell::Cell;
use std::io;
use std::thread;

const WORKERS: u64 = 4;
const RANGE: u64 = 50_000;

thread_local! {
    /// Belongs to the loop's thread: the callbacks that workers post run there.
    static FOUND: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let io_loop = IoLoop::new()?;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let handle = io_loop.handle();
            thread::spawn(move || {
                let range = worker * RANGE..(worker + 1) * RANGE;
                let primes = range.clone().filter(|number| is_prime(*number)).count();
                // False would mean that the loop is closed already.
                handle.add_callback(move || take_in(range.start, range.end, primes))
            })
        })
        .collect();
    io_loop.start()?;
    for worker in workers {
        assert!(worker.join().expect("a worker panicked"));
    }
    let metrics = io_loop.metrics();
    println!("{} results took {} wake-ups", metrics.callbacks, metrics.wakeups);
    Ok(())
}

/// Runs on the loop's thread.
fn take_in(from: u64, to: u64, primes: usize) {
    let (results, total) = FOUND.get();
    let (results, total) = (results + 1, total + primes);
    FOUND.set((results, total));
    println!("{primes} primes from {from} to {to}; {total} so far");
    if results == WORKERS {
        IoLoop::current().stop();
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..).take_while(|d| d * d <= number).all(|divisor| !number.is_multiple_of(divisor))
}
