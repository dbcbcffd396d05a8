//! [`TcpServerBuilder`].

use super::connections::{Connections, Watch};
use super::{Shared, TcpServer};
use crate::LoopError;
use crate::io_loop::{Core, IoLoop};
use crate::net::bind::{BindOptions, bind_sockets};
use crate::net::context::context;
use crate::net::listener::{Accept, Acceptor, Budget};
use crate::net::{Family, IoStream, ListenerError};
use crate::task::Source;
use crate::task::body::Failure;
use crate::task::outcome::Outcome;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

/// Settings of a server that is to be started; made by [`TcpServer::builder`].
///
/// ```
/// use ringloop::IoLoop;
/// use ringloop::net::{BindUnixOptions, TcpServer, bind_unix_socket};
///
/// let io_loop = IoLoop::new()?;
/// # let path = std::env::temp_dir().join(format!("ringloop-server-{}", std::process::id()));
/// let server = TcpServer::builder()
///     .listen("localhost", 0) // every address that it has
///     .add_unix_socket(bind_unix_socket(&path, &BindUnixOptions::new())?)
///     .max_connections(10_000)
///     .serve(|stream| async move { stream.write(&b"hello\n"[..]).await })?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a builder does nothing before it serves"]
pub struct TcpServerBuilder {
    places: Vec<Place>,
    options: BindOptions,
    max_connections: usize,
}

/// Where to listen.
enum Place {
    Host(String, u16),
    Socket(TcpListener),
    Unix(UnixListener),
}

impl TcpServerBuilder {
    pub(super) fn new() -> TcpServerBuilder {
        TcpServerBuilder {
            places: Vec::new(),
            options: BindOptions::new(),
            max_connections: usize::MAX,
        }
    }

    /// Listens at all addresses of a name, or at a literal address, or, with `""`, at all addresses of
    /// this machine, as [`bind_sockets`] does. May be called more than once. Names are looked up by
    /// [`serve`](Self::serve).
    pub fn listen(mut self, host: &str, port: u16) -> TcpServerBuilder {
        self.places.push(Place::Host(host.to_owned(), port));
        self
    }

    /// Uses a socket that listens already: one that was inherited, a clone of another server's, or
    /// one of [`bind_sockets`].
    ///
    /// Servers that share a port are better off with sockets of their own
    /// ([`reuse_port`](Self::reuse_port)). Of those that share a socket, and have no limit of connections,
    /// the kernel wakes one for a connection: if that one just stops, the others do not hear of it before
    /// the next connection comes.
    pub fn add_socket(mut self, listener: TcpListener) -> TcpServerBuilder {
        self.places.push(Place::Socket(listener));
        self
    }

    /// Uses a Unix socket that listens already, such as one of
    /// [`bind_unix_socket`](crate::net::bind_unix_socket).
    pub fn add_unix_socket(mut self, listener: UnixListener) -> TcpServerBuilder {
        self.places.push(Place::Unix(listener));
        self
    }

    /// See [`BindOptions::backlog`].
    pub fn backlog(mut self, connections: u32) -> TcpServerBuilder {
        self.options = self.options.backlog(connections);
        self
    }

    /// See [`BindOptions::reuse_port`]: with it, each of several threads or processes has a server
    /// at the same port.
    pub fn reuse_port(mut self, reuse_port: bool) -> TcpServerBuilder {
        self.options = self.options.reuse_port(reuse_port);
        self
    }

    /// Only addresses of this family. Both by default.
    pub fn family(mut self, family: Family) -> TcpServerBuilder {
        self.options = self.options.family(family);
        self
    }

    /// No more connections than this at a time, at all places together. The rest waits in the kernel's
    /// backlog until one of them ends: its handler has ended, and its stream is closed, after what was
    /// written is sent. Then the place that has served the longest ago is the first to accept.
    ///
    /// No limit by default; 1 at least. With a limit, each connection takes a system call to accept;
    /// without, the kernel accepts all that come.
    pub fn max_connections(mut self, connections: usize) -> TcpServerBuilder {
        self.max_connections = connections;
        self
    }

    /// Begins to accept, on the current loop. `handler` is called for each connection, from a task
    /// that then runs what it returns.
    ///
    /// # Errors
    ///
    /// As [`bind_sockets`]: then nothing listens. `InvalidInput` if there is nowhere to listen.
    /// [`LoopError`], if no loop is current, or it is closed.
    #[track_caller]
    pub fn serve<F, Fut>(self, handler: F) -> io::Result<TcpServer>
    where
        F: Fn(IoStream) -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        let source = Source::of::<F>(Location::caller());
        let io_loop = IoLoop::try_current().ok_or(LoopError::NoCurrent)?;
        let core = io_loop.core();
        let connections = Connections::new(self.max_connections);
        let budget = connections.is_limited().then(|| connections.clone() as Rc<dyn Budget>);
        let acceptors = self.acceptors(budget)?;
        let addresses = acceptors.iter().filter_map(|acceptor| {
            acceptor.with_socket(|socket| socket.local_addr()).ok()?.as_socket()
        });
        let shared = Shared {
            addresses: addresses.collect(),
            acceptors: acceptors.clone(),
            connections: connections.clone(),
        };
        let handler = Rc::new(handler);
        for acceptor in acceptors {
            let accepting = Accepting {
                core: Rc::downgrade(core),
                acceptor,
                connections: connections.clone(),
                handler: handler.clone(),
                source,
                last: Cell::default(),
            };
            drop(core.spawn(source, accepting.run(), Failure::of_outcome));
        }
        Ok(TcpServer { shared: Rc::new(shared) })
    }

    fn acceptors(self, budget: Option<Rc<dyn Budget>>) -> io::Result<Vec<Rc<Acceptor>>> {
        let mut acceptors = Vec::new();
        let mut add = |socket| {
            acceptors.push(Acceptor::new(socket, budget.clone())?);
            Ok::<_, io::Error>(())
        };
        for place in self.places {
            match place {
                Place::Host(host, port) => {
                    for socket in bind_sockets(&host, port, &self.options)? {
                        add(socket.into())?;
                    }
                }
                Place::Socket(socket) => add(socket.into())?,
                Place::Unix(socket) => add(socket.into())?,
            }
        }
        if acceptors.is_empty() {
            let message = "a server needs a place to listen at: `listen` names one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(acceptors)
    }
}

/// One socket of a server.
struct Accepting<F> {
    core: Weak<Core>,
    acceptor: Rc<Acceptor>,
    connections: Rc<Connections>,
    handler: Rc<F>,
    source: Source,
    /// The number of the last connection that it has served.
    last: Cell<u64>,
}

impl<F, Fut> Accepting<F>
where
    F: Fn(IoStream) -> Fut + 'static,
    Fut: Future + 'static,
    Fut::Output: Outcome,
{
    /// Accepts until the socket is closed.
    async fn run(self) -> io::Result<()> {
        let mut room = self.connections.watch();
        loop {
            let mut accept = Accept::new(&self.acceptor);
            match poll_fn(|context| self.poll_next(&mut room, &mut accept, context)).await {
                Ok(stream) => self.begin(stream),
                Err(error) if ListenerError::of(&error).is_some() => return Ok(()),
                Err(error) => return Err(context("cannot accept", error)),
            }
        }
    }

    /// Leaves connections in the backlog while there are too many. Those that are accepted count.
    fn poll_next(
        &self,
        room: &mut Watch<'_>,
        accept: &mut Accept<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<IoStream>> {
        if self.connections.is_limited() {
            let _ = room.poll_room(self.last.get(), context);
        }
        Pin::new(accept).poll(context)
    }

    fn begin(&self, stream: IoStream) {
        if let Some(core) = self.core.upgrade() {
            let handler = self.handler.clone();
            self.last.set(self.connections.next_number());
            self.connections.spawn(&core, self.source, stream, move |stream| handler(stream));
        }
    }
}

impl fmt::Debug for TcpServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpServerBuilder")
            .field("options", &self.options)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}
