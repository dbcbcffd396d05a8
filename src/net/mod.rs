//! Streams, servers and clients, on operations that complete.

mod bind;
mod connect;
mod context;
mod family;
mod listener;
mod resolver;
mod stream;

pub use bind::{BindOptions, BindUnixOptions, bind_sockets, bind_unix_socket};
pub use connect::{TcpConnector, connect_tcp};
pub use family::{Family, is_valid_ip};
pub use listener::{Incoming, ListenerError, TcpListener, UnixListener};
pub use resolver::{OverrideResolver, ResolveError, Resolver, Resolving, SystemResolver};
pub use stream::{Closed, IoStream, ReadHalf, StreamError, Write, WriteHalf};

use resolver::resolve_blocking;
