//! [`TcpConnector`]: from a name to a connection.

use super::attempt::Attempt;
use super::current;
use super::race::{Dialer, Race};
use crate::io_loop::Core;
use crate::net::context::context;
use crate::net::{Family, IoStream, ResolveError, Resolver, SystemResolver};
use crate::time;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// For the family that comes first: Tornado's value.
const HEAD_START: Duration = Duration::from_millis(300);

/// Connects to a name, or a literal address, at a port: [`TcpConnector`] with its defaults.
///
/// # Errors
///
/// As [`TcpConnector::connect`].
///
/// ```
/// use ringloop::{IoLoop, net};
///
/// let io_loop = IoLoop::new()?;
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let stream = io_loop.run_sync(|| net::connect_tcp("127.0.0.1", port), None)??;
/// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn connect_tcp(host: &str, port: u16) -> io::Result<IoStream> {
    TcpConnector::new().connect(host, port).await
}

/// Connects to names, with "happy eyeballs": a name whose IPv6 addresses lead nowhere costs 0.3 s,
/// not minutes.
///
/// The addresses of the family that the resolver puts first are tried one after the other. Those of
/// the other family are tried likewise, and at the same time, from the first failure on, or after
/// 0.3 s. The first connection wins, and all other attempts are given up.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{OverrideResolver, SystemResolver, TcpConnector};
/// use std::time::Duration;
///
/// let io_loop = IoLoop::new()?;
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let connector = TcpConnector::new()
///     .timeout(Duration::from_secs(5))
///     .resolver(OverrideResolver::new(SystemResolver).host("example.com", "127.0.0.1"));
/// let stream = io_loop.run_sync(|| connector.connect("example.com", port), None)??;
/// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpConnector {
    resolver: Rc<dyn Resolver>,
    timeout: Option<Duration>,
    source: Option<SocketAddr>,
    family: Option<Family>,
}

impl Default for TcpConnector {
    fn default() -> TcpConnector {
        TcpConnector::new()
    }
}

impl TcpConnector {
    /// The system's resolver, both families, and no time limit.
    pub fn new() -> TcpConnector {
        TcpConnector {
            resolver: Rc::new(SystemResolver),
            timeout: None,
            source: None,
            family: None,
        }
    }

    /// Who looks names up. [`SystemResolver`] by default.
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> TcpConnector {
        self.resolver = Rc::new(resolver);
        self
    }

    /// How long it may take, the name's lookup included. There is no limit by default; the kernel
    /// gives each address up after a little more than two minutes.
    pub fn timeout(mut self, timeout: Duration) -> TcpConnector {
        self.timeout = Some(timeout);
        self
    }

    /// Connects from this address, which must be one of this machine's, and only to addresses of the
    /// same family. Port 0 stands for any. By default, the kernel chooses address and port.
    pub fn source(mut self, source: SocketAddr) -> TcpConnector {
        self.source = Some(source);
        self
    }

    /// Only addresses of this family. Both by default.
    pub fn family(mut self, family: Family) -> TcpConnector {
        self.family = Some(family);
        self
    }

    /// Connects. Dropping the future gives all attempts up.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`] for a name without an address. `TimedOut` after the
    /// [time](Self::timeout) given. What the operating system reports of the attempt that failed
    /// last, with the name (see [`net`](crate::net#errors)): its kind tells which, such as
    /// `ConnectionRefused`. [`LoopError::NoCurrent`](crate::LoopError::NoCurrent);
    /// [`StreamError::LoopClosed`](crate::net::StreamError::LoopClosed).
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<IoStream> {
        let connect = self.run(current()?, host, port);
        match self.timeout {
            None => connect.await,
            Some(limit) => time::timeout(limit, connect)
                .await
                .unwrap_or_else(|elapsed| Err(at(host, port, elapsed.into()))),
        }
    }

    async fn run(&self, core: Weak<Core>, host: &str, port: u16) -> io::Result<IoStream> {
        let source = self.source.as_ref().map(Family::of);
        let mut addresses = self.resolver.resolve(host, port, self.family.or(source)).await?;
        // Not every resolver minds the family, and the source may be of the other.
        for family in self.family.into_iter().chain(source) {
            addresses.retain(|address| family.includes(address));
        }
        if addresses.is_empty() {
            return Err(ResolveError::no_address(host).into());
        }
        let dialer = Sockets { core, source: self.source };
        let connected = Race::new(&addresses, dialer, time::sleep(HEAD_START)).await;
        connected.map_err(|error| at(host, port, error))
    }
}

fn at(host: &str, port: u16, error: io::Error) -> io::Error {
    context(format_args!("cannot connect to {host}, port {port}"), error)
}

struct Sockets {
    core: Weak<Core>,
    source: Option<SocketAddr>,
}

impl Dialer for Sockets {
    type Connection = IoStream;
    type Attempt = Attempt;

    fn dial(&self, address: SocketAddr) -> Attempt {
        Attempt::new(&self.core, &address.into(), self.source)
    }
}

impl fmt::Debug for TcpConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnector")
            .field("timeout", &self.timeout)
            .field("source", &self.source)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}
