//! A server that sends back what it receives, whatever the pace of its clients.
//!
//! Start it, with an address or without:
//!
//!     cargo run --release --example echo_server [127.0.0.1:7777]
//!
//! and talk to it from another terminal:
//!
//!     cargo run --release --example line_client
//!
//! or, where there is one, with `nc 127.0.0.1 7777`.
//!
//! Ctrl-C stops it: it accepts nothing more, and gives the clients that are there half a second.

mod host_port;
mod say;

use ringloop::net::TcpServer;
use ringloop::{IoLoop, IoStream};
use say::say;
use std::io;
use std::time::Duration;

const GRACE: Duration = Duration::from_millis(500);

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".to_owned());
    let (host, port) = host_port::parse(&address)?;
    let io_loop = IoLoop::new()?;
    let server = TcpServer::builder().listen(&host, port).serve(
        // A client that is gone needs no word.
        |stream| async move { drop(echo(stream).await) },
    )?;
    server.local_addrs().iter().for_each(|address| say(format_args!("listening on {address}")));

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.run_sync(|| server.shutdown(GRACE), None)?;
    say("stopped");
    Ok(())
}

/// Sends back every piece as it came, uncopied. A client that does not read is not read from either,
/// once more than a little is on its way to it.
async fn echo(stream: IoStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(piece) = stream.chunk().await? {
        stream.write(piece).buffered().await?;
    }
    Ok(())
}
