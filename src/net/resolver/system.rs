//! [`SystemResolver`]: `getaddrinfo(3)`, on another thread.

use super::{ResolveError, Resolver, Resolving};
use crate::io_loop::IoLoop;
use crate::net::Family;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Asks the system, as every program does: `/etc/hosts`, the name servers, whatever
/// `/etc/nsswitch.conf` says.
///
/// That may take long, so it is done by the loop's [executor](crate::IoLoop::run_in_executor).
/// Literal addresses are not looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a> {
        Box::pin(async move {
            if let Some(address) = literal(host, port) {
                return of_family(host, vec![address], family);
            }
            let io_loop = IoLoop::try_current()
                .ok_or_else(|| ResolveError::new(host, crate::LoopError::NoCurrent.to_string()))?;
            let name = host.to_owned();
            let found =
                io_loop.run_in_executor(move || resolve_blocking(&name, port, family)).await;
            found.unwrap_or_else(|error| Err(ResolveError::new(host, error.to_string())))
        })
    }
}

/// The addresses of a name, by the calling thread.
pub(crate) fn resolve_blocking(
    host: &str,
    port: u16,
    family: Option<Family>,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let addresses = match literal(host, port) {
        Some(address) => vec![address],
        None => (host, port)
            .to_socket_addrs()
            .map_err(|error| ResolveError::new(host, error.to_string()))?
            .collect(),
    };
    of_family(host, addresses, family)
}

fn of_family(
    host: &str,
    mut addresses: Vec<SocketAddr>,
    family: Option<Family>,
) -> Result<Vec<SocketAddr>, ResolveError> {
    addresses.retain(|address| family.is_none_or(|family| family.includes(address)));
    if addresses.is_empty() { Err(ResolveError::no_address(host)) } else { Ok(addresses) }
}

fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, port))
}
