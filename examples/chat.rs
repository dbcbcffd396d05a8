//! A chat: what one says, all others hear.
//!
//! Start it, with an address or without:
//!
//!     cargo run --release --example chat [127.0.0.1:7788]
//!
//! and join from two terminals or more:
//!
//!     bash -c 'exec 3<>/dev/tcp/127.0.0.1/7788; cat <&3 & trap "kill $!" EXIT; cat >&3'
//!
//! or, where there is one, with `nc 127.0.0.1 7788`.
//!
//! A line is in memory once, however many hear it. Who does not listen for too long is shown the
//! door, instead of filling the server's memory, or holding up the rest. Ctrl-C stops it.

mod host_port;
mod say;

use ringloop::net::{StreamError, TcpServer};
use ringloop::{IoLoop, IoStream};
use say::say;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

const LONGEST_LINE: usize = 64 * 1024;
/// What may wait for somebody who does not listen, beyond what the kernel keeps.
const MOST_UNHEARD: usize = 1 << 20;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7788".to_owned());
    let (host, port) = host_port::parse(&address)?;
    let io_loop = IoLoop::new()?;
    let room = Rc::new(Room::default());
    let server = TcpServer::builder()
        .listen(&host, port)
        .serve(move |stream| take_part(room.clone(), Rc::new(stream)))?;
    server.local_addrs().iter().for_each(|address| say(format_args!("listening on {address}")));

    let handle = io_loop.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)?;
    io_loop.start()?;
    io_loop.close(false)?;
    say("stopped");
    Ok(())
}

/// Who is there.
#[derive(Default)]
struct Room {
    members: RefCell<Vec<(SocketAddr, Rc<IoStream>)>>,
}

impl Room {
    /// Queues a line for everybody else, and waits for nobody.
    fn say(&self, from: SocketAddr, line: &[u8]) {
        let line: Arc<[u8]> = [from.to_string().as_bytes(), b": ", line].concat().into();
        self.members.borrow_mut().retain(|(member, stream)| {
            if *member == from {
                return true;
            }
            let Err(error) = stream.write(line.clone()).queued() else { return true };
            say(match StreamError::of(&error) {
                Some(StreamError::WriteLimit(_)) => format!("{member} is too slow"),
                _ => format!("{member} is gone"),
            });
            // Its task finds out, and leaves.
            stream.close();
            false
        });
    }

    fn leave(&self, who: SocketAddr) {
        self.members.borrow_mut().retain(|(member, _)| *member != who);
        say(format_args!("{who} leaves"));
    }
}

async fn take_part(room: Rc<Room>, stream: Rc<IoStream>) -> io::Result<()> {
    let who = stream.peer_addr()?;
    stream.set_max_write_buffer_size(MOST_UNHEARD);
    say(format_args!("{who} joins"));
    room.members.borrow_mut().push((who, stream.clone()));
    // Until the end of the connection, or a line that is too long.
    while let Ok(line) = stream.read_until(b"\n", LONGEST_LINE).await {
        room.say(who, &line);
    }
    room.leave(who);
    Ok(())
}
