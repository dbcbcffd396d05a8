//! Short connections, in bursts.

use super::{Load, sys};
use crate::harness::MESSAGE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections under way at the same time.
const BURST: usize = 64;
const REQUEST: [u8; MESSAGE] = [b'.'; MESSAGE];

pub(super) struct Storm {
    server: SocketAddr,
    asks: bool,
    burst: Vec<TcpStream>,
}

impl Storm {
    pub(super) fn new(server: SocketAddr, asks: bool) -> io::Result<Storm> {
        Ok(Storm { server, asks, burst: Vec::with_capacity(BURST) })
    }

    fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.server)?;
        if self.asks {
            stream.set_nodelay(true)?;
            stream.write_all(&REQUEST)?;
        }
        Ok(stream)
    }

    fn finish(&self, mut stream: TcpStream) -> io::Result<()> {
        let expected: &[u8] = if self.asks { &REQUEST } else { &[] };
        let (mut answer, mut received) = ([0; MESSAGE + 1], 0);
        loop {
            match stream.read(&mut answer[received..])? {
                0 if answer[..received] == *expected => {
                    return sys::reset_on_close(stream.as_fd());
                }
                0 => return Err(io::Error::other("a wrong answer")),
                length => received += length,
            }
        }
    }
}

impl Load for Storm {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..BURST {
                self.burst.push(self.open()?);
            }
            // The last one first: when it is done, so are most of the others.
            while let Some(stream) = self.burst.pop() {
                self.finish(stream)?;
            }
        }
        Ok(())
    }
}
