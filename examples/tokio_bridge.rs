//! This loop beside a tokio runtime on another thread, exchanging messages.
//!
//!     cargo run --release --example tokio_bridge
//!
//! Questions go to tokio and answers come back, through channels of which each end is awaited on its
//! own side. It prints them, and ends.

use ringloop::{IoLoop, time};
use std::io;
use std::thread;
use std::time::Duration;

struct Question {
    number: u32,
    /// Where the answer goes.
    answer: async_channel::Sender<u32>,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let (questions, asked) = async_channel::bounded(16);
    let tokio = thread::spawn(move || answer_on_tokio(asked));
    IoLoop::new()?.run_sync(|| ask(questions), Some(Duration::from_secs(10)))?;
    // The last sender is gone, so tokio's side has come to its end, too.
    tokio.join().expect("tokio's side does not panic")
}

/// On the loop's thread.
async fn ask(questions: async_channel::Sender<Question>) {
    let asking = (1..=5).map(|number| {
        let questions = questions.clone();
        async move {
            let (answer, answered) = async_channel::bounded(1);
            time::sleep(Duration::from_millis(20 * u64::from(number))).await;
            let question = Question { number, answer };
            if questions.send(question).await.is_ok()
                && let Ok(square) = answered.recv().await
            {
                println!("{number} squared is {square}, says tokio");
            }
        }
    });
    futures::future::join_all(asking).await;
}

/// On tokio's thread.
fn answer_on_tokio(asked: async_channel::Receiver<Question>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async move {
        while let Ok(Question { number, answer }) = asked.recv().await {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // Nobody may be waiting any more.
                let _ = answer.send(number * number).await;
            });
        }
    });
    Ok(())
}
