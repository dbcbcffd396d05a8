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

mod accept;

use accept::Acceptor;
use ringloop::{Events, IoLoop};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Who says more than this is not listened to any longer.
const LONGEST_MESSAGE: usize = 1 << 20;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);

    let io_loop = IoLoop::new()?;
    Acceptor::new(listener, |stream, peer| {
        if let Err(error) = serve(stream, peer) {
            eprintln!("{peer}: {error}");
        }
    })?;

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.close(false)?;
    println!("stopped");
    Ok(())
}

/// Reads a connection to its end, then prints what was read.
fn serve(stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut message = Vec::new();
    IoLoop::current().add_handler(stream, Events::READ, move |stream, _events| {
        let outcome = match read_some(stream, &mut message) {
            Ok(Progress::More) => return,
            Ok(Progress::End) => Ok(()),
            Err(error) => Err(error),
        };
        IoLoop::current().remove_handler(stream);
        match outcome {
            Ok(()) => print_message(peer, &message),
            Err(error) => eprintln!("{peer}: {error}"),
        }
    })?;
    Ok(())
}

enum Progress {
    More,
    End,
}

/// One read per turn: a fast client does not keep the others waiting.
fn read_some(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<Progress> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(Progress::End),
        Ok(length) if message.len() + length > LONGEST_MESSAGE => {
            Err(io::Error::other("the message is too long"))
        }
        Ok(length) => {
            message.extend_from_slice(&buffer[..length]);
            Ok(Progress::More)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::More),
        Err(error) => Err(error),
    }
}

fn print_message(peer: SocketAddr, message: &[u8]) {
    let text = String::from_utf8_lossy(message);
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(io::stdout(), "{peer}: {}", text.trim_end());
}
