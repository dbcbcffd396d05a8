//! The echo server as a handler: what `echo_server` has its streams do, done by hand.
//!
//! Start it, with an address or without:
//!
//!     cargo run --release --example handler_echo [127.0.0.1:7777]
//!
//! and talk to it from another terminal:
//!
//!     bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777; echo hello >&3; head -n 1 <&3'
//!
//! It waits for READ while it has nothing to send, and for WRITE, and only WRITE, while a client
//! has yet to take what was sent: a client that does not read is not read from either.

mod accept;
mod host_port;
mod say;

use accept::Acceptor;
use ringloop::net::{BindOptions, bind_sockets};
use ringloop::{Events, IoLoop};
use say::say;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

/// What is read lies here until it is sent. One for all clients: they are served one at a time.
type Buffer = Rc<RefCell<[u8; 64 * 1024]>>;

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
    let buffer: Buffer = Rc::new(RefCell::new([0; 64 * 1024]));
    for listener in bind_sockets(&host, port, &BindOptions::new())? {
        say(format_args!("listening on {}", listener.local_addr()?));
        let buffer = buffer.clone();
        Acceptor::new(listener, move |stream, peer| {
            if let Err(error) = serve(stream, buffer.clone()) {
                eprintln!("{peer}: {error}");
            }
        })?;
    }

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.close(false)?;
    say("stopped");
    Ok(())
}

fn serve(stream: TcpStream, buffer: Buffer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut echo = Echo { buffer, unsent: Vec::new() };
    let mut interest = Events::READ;
    IoLoop::current().add_handler(stream, interest, move |stream, events| {
        let wanted = match echo.on_events(stream, events) {
            Ok(Some(wanted)) => wanted,
            // The end, or a client that is gone: neither needs a word.
            Ok(None) | Err(_) => {
                IoLoop::current().remove_handler(stream);
                return;
            }
        };
        if wanted != interest {
            interest = wanted;
            // Fails only for a handler that is not registered; this one is.
            let _ = IoLoop::current().update_handler(stream, wanted);
        }
    })?;
    Ok(())
}

struct Echo {
    buffer: Buffer,
    /// What the client sent, and has not taken back yet.
    unsent: Vec<u8>,
}

impl Echo {
    /// The events to wait for next; `None` at the end.
    fn on_events(&mut self, stream: &mut TcpStream, events: Events) -> io::Result<Option<Events>> {
        if !self.unsent.is_empty() {
            self.send_rest(stream)?;
        } else if events.intersects(Events::READ | Events::ERROR) && !self.echo_once(stream)? {
            return Ok(None);
        }
        Ok(Some(if self.unsent.is_empty() { Events::READ } else { Events::WRITE }))
    }

    /// One read, and one write of what was read. False at the end of the stream.
    fn echo_once(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut buffer = self.buffer.borrow_mut();
        let Some(length) = unless_blocked(stream.read(&mut *buffer))? else {
            return Ok(true);
        };
        let sent = unless_blocked(stream.write(&buffer[..length]))?.unwrap_or(0);
        self.unsent.extend_from_slice(&buffer[sent..length]);
        Ok(length > 0)
    }

    fn send_rest(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if let Some(sent) = unless_blocked(stream.write(&self.unsent))? {
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

/// `None` if the call would have blocked.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
