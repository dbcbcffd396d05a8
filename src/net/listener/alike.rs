//! What listeners do alike, whatever they listen at.

/// For a listener that has an `acceptor`, and nothing else.
macro_rules! accepts {
    ($listener:ident) => {
        /// # Accepting
        impl $listener {
            /// Takes a connection, or waits for one.
            ///
            /// Several tasks may wait at a time; they are served in order. The other side's address
            /// costs a system call, which only [`peer_addr`](IoStream::peer_addr) makes.
            ///
            /// # Errors
            ///
            /// [`ListenerError`](super::ListenerError) once the listener or its loop is closed. What
            /// the operating system reports of a socket that does not listen. A lack of descriptors
            /// is no error: it waits until there are some.
            pub async fn accept(&self) -> io::Result<IoStream> {
                Accept::new(&self.acceptor).await
            }

            /// The connections, one after the other, until the listener is closed.
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming::new(&self.acceptor)
            }

            /// Sets how many connections may wait to be taken by [`accept`](Self::accept) before the
            /// rest is left in the kernel's backlog. 128 by default, 1 at least. A burst that comes
            /// between two turns may exceed it, by up to a backlog.
            pub fn set_accept_limit(&self, connections: usize) {
                self.acceptor.set_limit(connections.max(1));
            }

            /// Stops accepting. Connections that nobody has taken are closed, and those who wait for
            /// one get an error.
            ///
            /// Others can listen there when this returns, or, if the loop is running, at the end of
            /// the turn. Closing a closed listener does nothing.
            pub fn close(&self) {
                self.acceptor.close();
            }
        }

        impl Drop for $listener {
            fn drop(&mut self) {
                self.acceptor.close();
            }
        }

        /// -1, once it is closed.
        impl AsRawFd for $listener {
            fn as_raw_fd(&self) -> RawFd {
                self.acceptor.raw_fd()
            }
        }

        impl fmt::Debug for $listener {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut listener = f.debug_struct(stringify!($listener));
                listener.field("fd", &self.as_raw_fd()).finish_non_exhaustive()
            }
        }
    };
}

pub(super) use accepts;
