//! [`OverrideResolver`].

use super::{Resolver, Resolving};
use crate::net::Family;
use std::collections::HashMap;

/// Replaces some names, or some of their ports, by others, and leaves the rest to another resolver:
/// for tests, and for what `/etc/hosts` cannot say.
///
/// The most specific rule is used: one for the name, the port and the family before one for the name
/// and the port, and that before one for the name alone. What a name is replaced by is not replaced
/// again.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{Family, OverrideResolver, Resolver, SystemResolver};
///
/// let resolver = OverrideResolver::new(SystemResolver)
///     .host("example.com", "127.0.0.1")
///     .host_port(("login.example.com", 443), ("127.0.0.1", 1443))
///     .host_port_family(("login.example.com", 443, Family::V6), ("::1", 1443));
/// let io_loop = IoLoop::new()?;
/// let login = |family| {
///     io_loop.run_sync(|| resolver.resolve("login.example.com", 443, family), None)
/// };
/// assert_eq!(login(None)??, ["127.0.0.1:1443".parse().unwrap()]);
/// assert_eq!(login(Some(Family::V6))??, ["[::1]:1443".parse().unwrap()]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OverrideResolver<R> {
    inner: R,
    hosts: HashMap<String, String>,
    /// At any family, or at one.
    ports: HashMap<(String, u16, Option<Family>), (String, u16)>,
}

impl<R: Resolver> OverrideResolver<R> {
    /// Overrides nothing yet.
    pub fn new(inner: R) -> OverrideResolver<R> {
        OverrideResolver { inner, hosts: HashMap::new(), ports: HashMap::new() }
    }

    /// Looks up `instead` where `host` is asked for, at any port.
    pub fn host(mut self, host: &str, instead: &str) -> OverrideResolver<R> {
        self.hosts.insert(host.to_owned(), instead.to_owned());
        self
    }

    /// Looks up `instead` where exactly this name and port are asked for.
    pub fn host_port(self, (host, port): (&str, u16), instead: (&str, u16)) -> OverrideResolver<R> {
        self.at_port((host, port, None), instead)
    }

    /// Looks up `instead` where exactly this name and port are asked for, and addresses of this
    /// family alone: by [`TcpConnector::family`](crate::net::TcpConnector::family) or
    /// [`source`](crate::net::TcpConnector::source), for instance.
    pub fn host_port_family(
        self,
        (host, port, family): (&str, u16, Family),
        instead: (&str, u16),
    ) -> OverrideResolver<R> {
        self.at_port((host, port, Some(family)), instead)
    }

    fn at_port(
        mut self,
        (host, port, family): (&str, u16, Option<Family>),
        (instead, instead_port): (&str, u16),
    ) -> OverrideResolver<R> {
        self.ports.insert((host.to_owned(), port, family), (instead.to_owned(), instead_port));
        self
    }
}

impl<R: Resolver> Resolver for OverrideResolver<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a> {
        let exactly = (host.to_owned(), port, family);
        let at_port = self.ports.get(&exactly).or_else(|| {
            let (host, port, _) = exactly;
            self.ports.get(&(host, port, None))
        });
        let (host, port) = match at_port {
            Some((host, port)) => (host.as_str(), *port),
            None => (self.hosts.get(host).map_or(host, String::as_str), port),
        };
        self.inner.resolve(host, port, family)
    }
}
