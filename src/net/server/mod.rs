//! [`TcpServer`]: a task for each connection.

mod builder;
mod connections;

pub use builder::TcpServerBuilder;

use super::listener::Acceptor;
use crate::time;
use connections::Connections;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A server: it accepts connections, and runs a handler for each, as a task of its own.
///
/// A handler that fails, with a panic or an error, is reported as such tasks are (see
/// [`IoLoop::spawn_callback`](crate::IoLoop::spawn_callback)), and takes nothing but its own
/// connection with it. A connection is closed when its handler drops the stream.
///
/// Clones are the same server. It goes on as long as there is one, or until [`stop`](Self::stop); then
/// it accepts nothing more, and the connections that there are go on.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::TcpServer;
///
/// let io_loop = IoLoop::new()?;
/// let server = TcpServer::builder().listen("127.0.0.1", 0).serve(|stream| async move {
///     let line = stream.read_until(b"\n", 1024).await?;
///     stream.write(line).await
/// })?;
/// println!("listening on {:?}", server.local_addrs());
/// # io_loop.call_later(std::time::Duration::ZERO, || IoLoop::current().stop());
/// io_loop.start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a server that is dropped stops"]
pub struct TcpServer {
    shared: Rc<Shared>,
}

struct Shared {
    acceptors: Vec<Rc<Acceptor>>,
    addresses: Vec<SocketAddr>,
    connections: Rc<Connections>,
}

impl TcpServer {
    /// The settings of a new server, which [`serve`](TcpServerBuilder::serve) starts.
    pub fn builder() -> TcpServerBuilder {
        TcpServerBuilder::new()
    }

    /// Where it listens, or did: with the ports that it was given.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared.addresses.clone()
    }

    /// Connections whose handlers have not ended, or whose streams are not closed yet: what was
    /// written to them is still being sent, or the handler has given them away.
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Accepts nothing more. Connections that have a handler go on, those that have none yet are
    /// closed. The ports are free when this returns, or, if the loop is running, at the end of the
    /// turn.
    ///
    /// May be called from a handler, and more than once.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// [Stops](Self::stop), and waits for the connections to end: for their handlers, and until what
    /// these have written is sent. Those that have not ended after `grace` are cancelled, and closed
    /// at once. Returns how many that were.
    ///
    /// A handler that calls it would wait for itself, and be cancelled: spawn a task that calls it.
    ///
    /// ```
    /// use ringloop::IoLoop;
    /// use ringloop::net::TcpServer;
    /// use std::time::Duration;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let server = TcpServer::builder().listen("127.0.0.1", 0).serve(|stream| async move {
    ///     stream.read_until_close(1 << 20).await.map(drop)
    /// })?;
    /// let cancelled = io_loop.run_sync(|| server.shutdown(Duration::from_secs(5)), None)?;
    /// assert_eq!(cancelled, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.stop();
        let connections = &self.shared.connections;
        if time::timeout(grace, connections.ended()).await.is_ok() {
            return 0;
        }
        let cancelled = connections.abort_all();
        connections.ended().await;
        cancelled
    }
}

impl Shared {
    fn stop(&self) {
        self.acceptors.iter().for_each(|acceptor| acceptor.close());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for TcpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpServer")
            .field("addresses", &self.shared.addresses)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
