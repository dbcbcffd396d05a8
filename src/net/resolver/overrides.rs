//! [`OverrideResolver`].

use super::{Resolver, Resolving};
use std::collections::HashMap;

/// Puts others in the place of some names, or of some ports of theirs, and leaves the rest to
/// another resolver: for tests, and for what `/etc/hosts` cannot say.
///
/// What is said of a name and its port comes before what is said of the name.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{OverrideResolver, Resolver, SystemResolver};
///
/// let resolver = OverrideResolver::new(SystemResolver)
///     .host("example.com", "127.0.0.1")
///     .host_port(("login.example.com", 443), ("127.0.0.1", 1443));
/// let io_loop = IoLoop::new()?;
/// let addresses = io_loop.run_sync(|| resolver.resolve("login.example.com", 443), None)??;
/// assert_eq!(addresses, ["127.0.0.1:1443".parse().unwrap()]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OverrideResolver<R> {
    inner: R,
    hosts: HashMap<String, String>,
    ports: HashMap<(String, u16), (String, u16)>,
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
    pub fn host_port(
        mut self,
        (host, port): (&str, u16),
        (instead, instead_port): (&str, u16),
    ) -> OverrideResolver<R> {
        self.ports.insert((host.to_owned(), port), (instead.to_owned(), instead_port));
        self
    }
}

impl<R: Resolver> Resolver for OverrideResolver<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        if let Some((host, port)) = self.ports.get(&(host.to_owned(), port)) {
            return self.inner.resolve(host, *port);
        }
        self.inner.resolve(self.hosts.get(host).map_or(host, String::as_str), port)
    }
}
