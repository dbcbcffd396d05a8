//! Timeouts, a periodic callback, and a cancellation.
//!
//!     cargo run --release --example timers
//!
//! It prints what happens for two seconds, and ends.

use ringloop::{IoLoop, PeriodicCallback};
use std::io;
use std::time::{Duration, Instant};

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let io_loop = IoLoop::new()?;
    let began = io_loop.time();
    let say = move |what: &str| println!("{:>5} ms  {what}", millis_since(began));

    let same_time = began + Duration::from_millis(300);
    io_loop.call_at(same_time, move || say("once, 300 ms after the start"));
    io_loop.call_at(same_time, move || say("at the same time, and second"));

    let idle = io_loop.call_later(Duration::from_secs(1), move || say("never seen: cancelled"));
    io_loop.call_later(Duration::from_millis(600), move || {
        say("cancels the timeout of one second");
        IoLoop::current().remove_timeout(idle);
    });

    let ticker = PeriodicCallback::new(move || say("tick"), Duration::from_millis(500))?;
    ticker.start()?;

    io_loop.call_later(Duration::from_millis(2100), move || {
        say("stops");
        IoLoop::current().stop();
    });
    say("starts");
    io_loop.start()
}

fn millis_since(began: Instant) -> u128 {
    began.elapsed().as_millis()
}
