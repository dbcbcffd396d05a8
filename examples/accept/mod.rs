//! Accepting connections on the loop, as a server should: in batches, and without spinning when
//! the process is out of file descriptors.

use ringloop::{Events, IoLoop};
use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// Connections accepted per turn. The rest waits one turn, so that a flood of them does not keep
/// those that are open from being served.
const BATCH: usize = 128;
/// How long to leave connections in the backlog when there are no descriptors for them.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener on the loop.
#[derive(Clone)]
pub(crate) struct Acceptor {
    fd: RawFd,
    open: Rc<Cell<bool>>,
    /// Something is short, and that has been said.
    short: Rc<Cell<bool>>,
}

impl Acceptor {
    /// Gives every connection, made non-blocking, to `on_connection`.
    pub(crate) fn new(
        listener: TcpListener,
        mut on_connection: impl FnMut(TcpStream, SocketAddr) + 'static,
    ) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        let acceptor = Acceptor {
            fd: listener.as_raw_fd(),
            open: Rc::new(Cell::new(true)),
            short: Rc::default(),
        };
        let this = acceptor.clone();
        IoLoop::current().add_handler(listener, Events::READ, move |listener, _events| {
            this.accept_batch(listener, &mut on_connection);
        })?;
        Ok(acceptor)
    }

    /// Stops listening, at once: also from `on_connection`, in the middle of a batch.
    #[allow(dead_code)]
    pub(crate) fn stop(&self) {
        if self.open.replace(false) {
            IoLoop::current().remove_handler(&self.fd);
        }
    }

    fn accept_batch(
        &self,
        listener: &TcpListener,
        on_connection: &mut impl FnMut(TcpStream, SocketAddr),
    ) {
        for _ in 0..BATCH {
            if !self.open.get() {
                return;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.short.set(false);
                    if stream.set_nonblocking(true).is_ok() {
                        on_connection(stream, peer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client gave up while it waited in the backlog, or a signal came.
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    if !self.short.replace(true) {
                        eprintln!("cannot accept, trying again every {PAUSE:?}: {error}");
                    }
                    return self.pause();
                }
            }
        }
    }

    /// Out of descriptors or memory: the listener stays readable, so stop looking for a while.
    fn pause(&self) {
        let io_loop = IoLoop::current();
        let _ = io_loop.update_handler(&self.fd, Events::NONE);
        let this = self.clone();
        io_loop.call_later(PAUSE, move || {
            if this.open.get() {
                let _ = IoLoop::current().update_handler(&this.fd, Events::READ);
            }
        });
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
