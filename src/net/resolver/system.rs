//! [`SystemResolver`]: `getaddrinfo(3)`, on another thread.

use super::{ResolveError, Resolver, Resolving};
use crate::io_loop::IoLoop;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Asks the system, as every program does: `/etc/hosts`, the name servers, whatever
/// `/etc/nsswitch.conf` says.
///
/// That may take its time, so it is done by the loop's
/// [executor](crate::IoLoop::run_in_executor). Addresses are taken as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move {
            if let Some(address) = literal(host, port) {
                return Ok(vec![address]);
            }
            let io_loop = IoLoop::try_current()
                .ok_or_else(|| ResolveError::new(host, crate::LoopError::NoCurrent.to_string()))?;
            let name = host.to_owned();
            let found = io_loop.run_in_executor(move || resolve_blocking(&name, port)).await;
            found.unwrap_or_else(|error| Err(ResolveError::new(host, error.to_string())))
        })
    }
}

/// The addresses of a name, by the calling thread.
pub(crate) fn resolve_blocking(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Some(address) = literal(host, port) {
        return Ok(vec![address]);
    }
    match (host, port).to_socket_addrs() {
        Err(error) => Err(ResolveError::new(host, error.to_string())),
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() { Err(ResolveError::no_address(host)) } else { Ok(addresses) }
        }
    }
}

fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, port))
}
