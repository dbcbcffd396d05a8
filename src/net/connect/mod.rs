//! Making connections.
//!
//! `attempt` is one connection to one address, `race` several of them to the addresses of a name,
//! `connector` what goes before: the name, and the time that it all may take.

mod attempt;
mod connector;
mod race;

pub use connector::{TcpConnector, connect_tcp};

use super::IoStream;
use super::context::context;
use super::unix_address::unix_address;
use crate::LoopError;
use crate::io_loop::{Core, IoLoop};
use attempt::Attempt;
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::{Rc, Weak};

impl IoStream {
    /// Connects to an address. Names are for [`connect_tcp`].
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// What the operating system reports, such as `ConnectionRefused`, as it is;
    /// [`LoopError::NoCurrent`]; [`StreamError::LoopClosed`](crate::net::StreamError::LoopClosed).
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    ///
    /// let io_loop = IoLoop::new()?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let stream = io_loop.run_sync(|| IoStream::connect(address), None)??;
    /// assert_eq!(stream.peer_addr()?, address);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(address: impl Into<SocketAddr>) -> io::Result<IoStream> {
        connect(&address.into().into()).await
    }

    /// Connects to a Unix socket. A path that begins with a zero byte is a name in the abstract
    /// namespace.
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// What the operating system reports, with the path (see [`net`](crate::net#errors));
    /// [`LoopError::NoCurrent`]; [`StreamError::LoopClosed`](crate::net::StreamError::LoopClosed).
    ///
    /// ```
    /// use ringloop::{IoLoop, IoStream};
    ///
    /// let io_loop = IoLoop::new()?;
    /// # let path = std::env::temp_dir().join(format!("ringloop-connect-{}", std::process::id()));
    /// let listener = std::os::unix::net::UnixListener::bind(&path)?;
    /// let stream = io_loop.run_sync(|| IoStream::connect_unix(&path), None)??;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect_unix(path: impl AsRef<Path>) -> io::Result<IoStream> {
        let path = path.as_ref();
        let connected = match unix_address(path) {
            Ok(address) => connect(&address).await,
            Err(error) => Err(error),
        };
        connected.map_err(|error| context(format_args!("cannot connect to {path:?}"), error))
    }
}

async fn connect(address: &SockAddr) -> io::Result<IoStream> {
    Attempt::new(&current()?, address, None).await
}

/// The current loop, for a future. That does not keep it: tasks of a loop are dropped with it.
fn current() -> io::Result<Weak<Core>> {
    let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
    Ok(Rc::downgrade(io_loop.core()))
}
