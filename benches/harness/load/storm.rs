//! Short connections, in bursts.

use super::{Load, sys};
use crate::harness::MESSAGE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
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
            stream.write_all(&REQUEST)?;
        }
        Ok(stream)
    }

    fn finish(&self, mut stream: TcpStream) -> io::Result<()> {
        let expected = if self.asks { MESSAGE } else { 0 };
        let mut received = 0;
        loop {
            match stream.read(&mut [0; 2 * MESSAGE])? {
                0 if received == expected => return reset(&stream),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => received += length,
            }
        }
    }
}

/// Ends the connection so that nothing of it, and no port, stays behind for a minute.
fn reset(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (value, size) =
        (std::ptr::from_ref(&linger).cast(), size_of_val(&linger) as libc::socklen_t);
    // SAFETY: the value is valid to read, as many bytes as it says.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
    };
    sys::check(result).map(drop)
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
