//! [`SystemResolver`]: `getaddrinfo(3)`, on another thread.

use super::{ResolveError, Resolver, Resolving};
use crate::io_loop::IoLoop;
use crate::net::Family;
use crate::task::join::{JoinError, JoinHandle};
use std::future::Future;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Asks the system, as every program does: `/etc/hosts`, the name servers, whatever
/// `/etc/nsswitch.conf` says.
///
/// That may take long, so it is done by the loop's [executor](crate::IoLoop::run_in_executor).
/// Literal addresses are not looked up. What is dropped before it has begun is not looked up, either.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a> {
        Box::pin(async move {
            if let Some(address) = literal(host, port) {
                return of_family(host, vec![address], family);
            }
            let name = host.to_owned();
            let look_up = move || resolve_blocking(&name, port, family);
            // The loop is not kept for as long as that takes.
            let found = IoLoop::try_current()
                .map(|io_loop| AbortOnDrop(io_loop.run_in_executor(look_up)))
                .ok_or_else(|| ResolveError::new(host, crate::LoopError::NoCurrent.to_string()))?
                .await;
            found.unwrap_or_else(|error| Err(ResolveError::new(host, error.to_string())))
        })
    }
}

/// A function that nobody waits for any more is not to begin: while name servers give no answer, those
/// that have begun take up all threads.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
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
