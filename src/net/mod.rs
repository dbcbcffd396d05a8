//! Streams, servers and clients, on operations that complete.
//!
//! A server runs a task for each connection; a client connects by name:
//!
//! ```
//! use ringloop::net::{self, TcpServer};
//! use ringloop::{IoLoop, IoStream};
//! use std::time::Duration;
//!
//! async fn serve(stream: IoStream) -> std::io::Result<()> {
//!     let line = stream.read_until(b"\n", 1024).await?;
//!     stream.write([b"hello, ", &line[..]].concat()).await
//! }
//!
//! let io_loop = IoLoop::new()?;
//! let server = TcpServer::builder().listen("localhost", 0).serve(serve)?;
//! let port = server.local_addrs()[0].port();
//! let answer = io_loop.run_sync(
//!     || async {
//!         let stream = net::connect_tcp("localhost", port).await?;
//!         stream.write(b"ring\n").await?;
//!         let answer = stream.read_until_close(1024).await;
//!         server.shutdown(Duration::from_secs(5)).await;
//!         answer
//!     },
//!     None,
//! )??;
//! assert_eq!(answer, b"hello, ring\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! * [`TcpServer`], or underneath, [`TcpListener`] and [`UnixListener`]
//! * [`connect_tcp`], [`TcpConnector`], [`IoStream::connect`] and [`IoStream::connect_unix`]
//! * [`Resolver`] for names, [`bind_sockets`] and [`bind_unix_socket`] for addresses
//!
//! # Errors
//!
//! Errors of connecting and listening name the host, the address or the path: "cannot connect to
//! localhost, port 80: Connection refused". (Those of [`IoStream::connect`] come as they are,
//! and so does that of a name that [`TcpListener::bind`] cannot look up.)
//! Such an error has the kind of the operating system's, which is its
//! [`source`](std::error::Error::source), with the `raw_os_error`:
//!
//! ```
//! use ringloop::net::{BindOptions, bind_sockets};
//! use std::error::Error;
//! use std::io;
//!
//! let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let port = taken.local_addr()?.port();
//! let error = bind_sockets("127.0.0.1", port, &BindOptions::new()).unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
//! let original = error.source().and_then(|source| source.downcast_ref::<io::Error>());
//! assert_eq!(original.and_then(io::Error::raw_os_error), Some(libc::EADDRINUSE));
//! # Ok::<(), io::Error>(())
//! ```

mod bind;
mod connect;
mod context;
mod family;
mod listener;
mod resolver;
mod server;
mod stream;
mod unix_address;
mod waiters;
mod wakers;

pub use bind::{BindOptions, BindUnixOptions, bind_sockets, bind_unix_socket};
pub use connect::{TcpConnector, connect_tcp};
pub use family::{Family, is_valid_ip};
pub use listener::{Incoming, ListenerError, TcpListener, UnixListener};
pub use resolver::{OverrideResolver, ResolveError, Resolver, Resolving, SystemResolver};
pub use server::{TcpServer, TcpServerBuilder};
pub use stream::{Closed, IoStream, ReadHalf, StreamError, Write, WriteHalf};

use resolver::resolve_blocking;
