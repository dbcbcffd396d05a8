//! A proxy: what clients send goes to another server, and what that answers comes back.
//!
//! Start something to talk to, and the proxy with its own address and the other one's:
//!
//!     cargo run --release --example echo_server &
//!     cargo run --release --example proxy [127.0.0.1:7000 [localhost:7777]]
//!
//! and talk to the proxy from another terminal:
//!
//!     bash -c 'exec 3<>/dev/tcp/127.0.0.1/7000; echo hello >&3; head -n 1 <&3'
//!
//! Bytes are handed on in the buffers that the kernel received them into. Whoever does not read
//! holds the other side up, and nobody else. Where one side breaks off, the other is reset, and does
//! not take it for an end. Ctrl-C stops it.

mod host_port;
mod say;

use futures::future::try_join;
use ringloop::net::{TcpConnector, TcpServer};
use ringloop::{IoLoop, IoStream};
use say::say;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

/// For the other server to take the connection.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let target = arguments.next().unwrap_or_else(|| "localhost:7777".to_owned());
    let (own_host, own_port) = host_port::parse(&address)?;
    let (host, port) = host_port::parse(&target)?;

    let io_loop = IoLoop::new()?;
    let server = TcpServer::builder()
        .listen(&own_host, own_port)
        .serve(move |client| serve(client, host.clone(), port))?;
    server.local_addrs().iter().for_each(|address| say(format_args!("listening on {address}")));

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.close(false)?;
    say("stopped");
    Ok(())
}

async fn serve(client: IoStream, host: String, port: u16) -> io::Result<()> {
    let server = match TcpConnector::new().timeout(PATIENCE).connect(&host, port).await {
        Ok(server) => server,
        Err(error) => {
            reset(client)?;
            return Err(error);
        }
    };
    // A connection that breaks off is none of the proxy's errors.
    if relay(&client, &server).await.is_err() {
        reset(client)?;
        reset(server)?;
    }
    Ok(())
}

/// Both ways at the same time, until both are at their end, or one has failed.
async fn relay(client: &IoStream, server: &IoStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    try_join(copy(client, server), copy(server, client)).await.map(drop)
}

async fn copy(from: &IoStream, to: &IoStream) -> io::Result<()> {
    while let Some(piece) = from.chunk().await? {
        to.write(piece).buffered().await?;
    }
    to.shutdown(Shutdown::Write);
    Ok(())
}

/// Has a connection reset when it is dropped, which is now. `close` would tell an end first.
fn reset(stream: IoStream) -> io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
