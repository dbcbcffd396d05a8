//! [`UnixListener`].

use super::accept::{Accept, Incoming};
use super::acceptor::Acceptor;
use super::alike::accepts;
use crate::net::IoStream;
use crate::net::bind::{BindUnixOptions, bind_unix_socket};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// Accepts connections at a Unix socket, as [`TcpListener`](super::TcpListener) does at a port.
///
/// The socket's file stays when the listener is closed; the next [`bind`](Self::bind) replaces it,
/// once it has found out, by connecting, that nobody listens there.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::UnixListener;
///
/// let io_loop = IoLoop::new()?;
/// # let path = std::env::temp_dir().join(format!("ringloop-doc-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = std::os::unix::net::UnixStream::connect(&path)?;
/// let stream = io_loop.run_sync(|| listener.accept(), None)??;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener {
    acceptor: Rc<Acceptor>,
}

impl UnixListener {
    /// Listens at a path, with default options: see [`bind_unix_socket`].
    ///
    /// # Errors
    ///
    /// As [`bind_unix_socket`]; [`LoopError`](crate::LoopError), if no loop is current, or it is
    /// closed.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::from_std(bind_unix_socket(path, &BindUnixOptions::new())?)
    }

    /// Takes a socket that listens already. It becomes non-blocking.
    ///
    /// # Errors
    ///
    /// [`LoopError`](crate::LoopError), if no loop is current, or it is closed; what the operating
    /// system reports.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        Ok(UnixListener { acceptor: Acceptor::new(listener.into(), None)? })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// [`ListenerError::Closed`](super::ListenerError::Closed); what the operating system reports.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.acceptor.with_socket(|socket| socket.local_addr())?;
        address.as_unix().ok_or_else(|| io::Error::other("not a Unix socket"))
    }
}

accepts!(UnixListener);
