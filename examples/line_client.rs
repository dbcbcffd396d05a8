//! A client: sends what you type, line by line, and prints what comes back, a line for each.
//!
//! Start something to talk to, and the client:
//!
//!     cargo run --release --example echo_server &
//!     cargo run --release --example line_client [localhost:7777]
//!
//! Type something, and Ctrl-D at the end. Everything that the other side does has a time limit: try
//! it without a server, or with one that does not answer, such as `tcp_server`.

mod host_port;

use ringloop::net::TcpConnector;
use ringloop::{IoLoop, IoStream, time};
use std::io::{self, Write};
use std::time::Duration;

const TO_CONNECT: Duration = Duration::from_secs(5);
const TO_ANSWER: Duration = Duration::from_secs(2);
const LONGEST_LINE: usize = 64 * 1024;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let target = std::env::args().nth(1).unwrap_or_else(|| "localhost:7777".to_owned());
    let (host, port) = host_port::parse(&target)?;
    IoLoop::new()?.run_sync(|| talk(&host, port), None)?
}

async fn talk(host: &str, port: u16) -> io::Result<()> {
    let stream = TcpConnector::new().timeout(TO_CONNECT).connect(host, port).await?;
    println!("connected to {}", stream.peer_addr()?);
    while let Some(line) = read_line().await? {
        let answer = time::timeout(TO_ANSWER, ask(&stream, line)).await??;
        io::stdout().write_all(&answer)?;
    }
    Ok(())
}

async fn ask(stream: &IoStream, line: String) -> io::Result<Vec<u8>> {
    stream.write(line + "\n").await?;
    stream.read_until(b"\n", LONGEST_LINE).await
}

/// Standard input blocks, so another thread reads it. `None` is its end.
async fn read_line() -> io::Result<Option<String>> {
    let line = IoLoop::current().run_in_executor(|| io::stdin().lines().next().transpose());
    line.await.map_err(io::Error::other)?
}
