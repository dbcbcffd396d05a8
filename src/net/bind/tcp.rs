//! [`bind_sockets`]: all addresses of a name.

use super::{BACKLOG, at, clamp};
use crate::net::{Family, resolve_blocking};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

/// Tries to get the same port for all addresses, when any port will do.
const PORT_ATTEMPTS: u32 = 16;

/// How [`bind_sockets`] makes its sockets.
///
/// ```
/// use ringloop::net::{BindOptions, Family, bind_sockets};
///
/// let options = BindOptions::new().backlog(4096).reuse_port(true).family(Family::V4);
/// let sockets = bind_sockets("localhost", 0, &options)?;
/// println!("{:?}", sockets[0].local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BindOptions {
    backlog: u32,
    reuse_port: bool,
    family: Option<Family>,
}

impl Default for BindOptions {
    fn default() -> BindOptions {
        BindOptions::new()
    }
}

impl BindOptions {
    /// A backlog of 1024, no `SO_REUSEPORT`, both families.
    pub fn new() -> BindOptions {
        BindOptions { backlog: BACKLOG, reuse_port: false, family: None }
    }

    /// Connections that the kernel keeps until they are accepted. 1024 by default; the kernel's own
    /// limit is the sysctl `net.core.somaxconn`.
    pub fn backlog(mut self, connections: u32) -> BindOptions {
        self.backlog = connections;
        self
    }

    /// Lets several sockets listen at the same port (`SO_REUSEPORT`); the kernel distributes
    /// the connections among them. All of them need this option. Off by default.
    pub fn reuse_port(mut self, reuse_port: bool) -> BindOptions {
        self.reuse_port = reuse_port;
        self
    }

    /// Only addresses of this family. Both by default.
    pub fn family(mut self, family: Family) -> BindOptions {
        self.family = Some(family);
        self
    }

    fn allows(&self, address: &SocketAddr) -> bool {
        self.family.is_none_or(|family| family.includes(address))
    }
}

/// Listens at every address of `host`, one socket each, for
/// [`TcpListener::from_std`](crate::net::TcpListener::from_std) or
/// [`TcpServerBuilder::add_socket`](crate::net::TcpServerBuilder::add_socket).
///
/// An empty `host` stands for all addresses of this machine. Names are looked up by the calling
/// thread, IPv4 addresses come first. If `port` is 0, all sockets get the same one that is free.
///
/// Sockets are non-blocking and have `SO_REUSEADDR`. Those of IPv6 take no connections of IPv4, for
/// which there are others. A family that the system does not have is skipped; so is an address of
/// `localhost` that the system does not have.
///
/// # Errors
///
/// A [`ResolveError`](crate::net::ResolveError) for a name that has no address. What the operating
/// system reports, with the address (see [`net`](crate::net#errors)); the sockets made before are
/// closed.
pub fn bind_sockets(host: &str, port: u16, options: &BindOptions) -> io::Result<Vec<TcpListener>> {
    let addresses = addresses(host, port, options)?;
    let mut attempts = 1;
    loop {
        match bind_all(host, &addresses, options) {
            // Free for one address, and not for another.
            Err(error)
                if port == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && attempts < PORT_ATTEMPTS =>
            {
                attempts += 1;
            }
            bound => return bound,
        }
    }
}

fn addresses(host: &str, port: u16, options: &BindOptions) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = if host.is_empty() {
        vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
    } else {
        resolve_blocking(host, port, options.family)?
    };
    addresses.retain(|address| options.allows(address));
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
    Ok(addresses)
}

fn bind_all(
    host: &str,
    addresses: &[SocketAddr],
    options: &BindOptions,
) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut skipped = None;
    for &address in addresses {
        let mut address = address;
        if address.port() == 0
            && let Some(first) = listeners.first()
        {
            address.set_port(first.local_addr()?.port());
        }
        match bind(address, options, true) {
            Ok(listener) => listeners.push(listener),
            Err(error) if may_skip(host, &error) => skipped = Some(at(address, error)),
            Err(error) => return Err(at(address, error)),
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn may_skip(host: &str, error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => true,
        Some(libc::EADDRNOTAVAIL) => matches!(host, "localhost" | "::1"),
        _ => false,
    }
}

/// Listens at the first address that is to be had; for both families at `[::]`, as `std` does.
pub(crate) fn bind_first(
    addresses: impl ToSocketAddrs,
    options: &BindOptions,
) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "there is no address to listen at");
    for address in addresses.to_socket_addrs()? {
        match bind(address, options, false) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = at(address, error),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr, options: &BindOptions, v6_apart: bool) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && v6_apart {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(clamp(options.backlog))?;
    Ok(socket.into())
}
