//! Listeners: [`TcpListener`], [`UnixListener`], and what they have in common.
//!
//! `acceptor` has the kernel accept, into a `queue` of its own, from which `accept` takes; when the
//! kernel refuses, `pause` says for how long to leave it alone. A `budget` limits several of them
//! together. `alike` is what users see of all that.

mod accept;
mod acceptor;
mod alike;
mod budget;
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
pub(super) use budget::Budget;
