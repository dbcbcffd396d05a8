//! A server that prints what each client says, once the client has said it all.
//!
//! Start it, with an address or without:
//!
//!     cargo run --release --example tcp_server [127.0.0.1:8888]
//!
//! and talk to it from another terminal:
//!
//!     bash -c 'echo "hello, ring" > /dev/tcp/127.0.0.1/8888'
//!
//! Ctrl-C stops it.

mod host_port;
mod say;

use ringloop::net::TcpServer;
use ringloop::{IoLoop, IoStream};
use say::say;
use std::io;

/// Who says more than this is not listened to any longer.
const LONGEST_MESSAGE: usize = 1 << 20;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let (host, port) = host_port::parse(&address)?;
    let io_loop = IoLoop::new()?;
    let server = TcpServer::builder().listen(&host, port).serve(handle)?;
    server.local_addrs().iter().for_each(|address| say(format_args!("listening on {address}")));

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.close(false)?;
    say("stopped");
    Ok(())
}

/// Reads a connection to its end, then prints what was read. An error is reported by the loop.
async fn handle(stream: IoStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let message = stream.read_until_close(LONGEST_MESSAGE).await?;
    let text = String::from_utf8_lossy(&message);
    say(format_args!("{peer}: {}", text.trim_end()));
    Ok(())
}
