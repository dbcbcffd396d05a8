//! From names to addresses: [`Resolver`], the system's, and one with exceptions.

mod error;
mod overrides;
mod system;

pub use error::ResolveError;
pub use overrides::OverrideResolver;
pub use system::SystemResolver;
pub(crate) use system::resolve_blocking;

use crate::net::Family;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

/// What [`Resolver::resolve`] returns.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, ResolveError>> + 'a>>;

/// Finds the addresses of names.
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{Resolver, SystemResolver};
///
/// let io_loop = IoLoop::new()?;
/// let addresses = io_loop.run_sync(|| SystemResolver.resolve("localhost", 80, None), None)??;
/// assert!(addresses.iter().all(|address| address.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Resolver {
    /// The addresses of `host`, best first, with `port`: those of `family` alone, if one is asked
    /// for. There is one at least.
    ///
    /// # Errors
    ///
    /// A future's output is a [`ResolveError`] if there is none.
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a>;
}

impl<R: Resolver + ?Sized> Resolver for Rc<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a> {
        (**self).resolve(host, port, family)
    }
}

impl<R: Resolver + ?Sized> Resolver for Box<R> {
    fn resolve<'a>(&'a self, host: &'a str, port: u16, family: Option<Family>) -> Resolving<'a> {
        (**self).resolve(host, port, family)
    }
}
