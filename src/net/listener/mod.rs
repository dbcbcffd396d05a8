//! Listeners: [`TcpListener`], [`UnixListener`], and what they have in common.
//!
//! `acceptor` has the kernel accept, into a `queue` of its own, from which `accept` takes; when the
//! kernel refuses, `pause` says for how long to leave it alone. `alike` is what users see of all that.

mod accept;
mod acceptor;
mod alike;
mod error;
mod pause;
mod queue;
mod tcp;
mod unix;

pub use accept::Incoming;
pub use error::ListenerError;
pub use tcp::TcpListener;
pub use unix::UnixListener;

pub(super) use accept::Accept;
pub(super) use acceptor::Acceptor;
