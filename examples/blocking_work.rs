//! Work that holds a processor, kept away from the loop; and what happens where it is not.
//!
//!     cargo run --release --example blocking_work
//!
//! A ticker ticks every 100 ms. First a long calculation runs on the executor, and the ticks come in
//! time. Then it runs on the loop: the ticks stay away until it is done, and the loop reports which
//! piece of code held it up.

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
    let io_loop = IoLoop::builder()
        .slow_callback(Duration::from_millis(50), |report| println!("          {report}"))
        .build()?;
    io_loop.run_sync(show, None)?;
    Ok(())
}

async fn show() {
    let began = Instant::now();
    let ticker = IoLoop::current().spawn(tick(began));

    say(began, "calculates on the executor");
    let result = IoLoop::current().run_in_executor(|| calculate(Duration::from_millis(450)));
    match result.await {
        Ok(rounds) => say(began, &format!("done: {rounds} rounds")),
        Err(error) => say(began, &format!("the calculation failed: {error}")),
    }

    say(began, "calculates on the loop");
    let rounds = calculate(Duration::from_millis(450));
    say(began, &format!("done: {rounds} rounds"));

    time::sleep(Duration::from_millis(150)).await;
    ticker.abort();
}

/// Keeps a processor busy.
fn calculate(time: Duration) -> u64 {
    let began = Instant::now();
    (1..).find(|_| began.elapsed() >= time).unwrap_or_default()
}

async fn tick(began: Instant) {
    let mut interval = time::interval(Duration::from_millis(100));
    loop {
        interval.tick().await;
        say(began, "tick");
    }
}

fn say(began: Instant, what: &str) {
    println!("{:>5} ms  {what}", began.elapsed().as_millis());
}
