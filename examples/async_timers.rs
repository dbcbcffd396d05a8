//! Tasks that wait for times: sleeps, a timeout, an interval, and two of them side by side.
//!
//!     cargo run --release --example async_timers
//!
//! It prints what happens for a second, and ends.

use ringloop::{IoLoop, time};
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
    io_loop.run_sync(|| day_at_work(began), None)?;
    Ok(())
}

async fn day_at_work(began: Instant) {
    say(began, "starts");
    let ticker = IoLoop::current().spawn(tick(began));

    let slow = read_a_book(Duration::from_secs(3600));
    match time::timeout(Duration::from_millis(250), slow).await {
        Ok(()) => say(began, "never seen: the book is read"),
        Err(error) => say(began, &format!("reading a book: {error}")),
    }

    let (short, long) = futures::join!(
        read_a_book(Duration::from_millis(100)),
        read_a_book(Duration::from_millis(300)),
    );
    assert_eq!((short, long), ((), ()));
    say(began, "two books side by side took 300 ms");

    time::sleep_until(began + Duration::from_secs(1)).await;
    ticker.abort();
    say(began, &format!("the ticker: {}", ticker.await.unwrap_err()));
}

async fn tick(began: Instant) {
    let mut interval = time::interval(Duration::from_millis(200));
    loop {
        interval.tick().await;
        say(began, "tick");
    }
}

async fn read_a_book(pages: Duration) {
    time::sleep(pages).await;
}

fn say(began: Instant, what: &str) {
    println!("{:>5} ms  {what}", began.elapsed().as_millis());
}
