//! The methods of [`IoLoop`] that are about handlers of descriptors.

use super::IoLoop;
use crate::error::LoopError;
use crate::events::{Events, Trigger};
use crate::handlers::{self, AddHandlerError};
use std::any::TypeId;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::Location;

impl IoLoop {
    /// Calls `handler` in every turn in which `source` is ready for any of `events`, or has failed.
    ///
    /// Level-triggered, as in Tornado: a handler that does not read everything is called again. It
    /// is called once per turn, with what is ready among what was asked for, and
    /// [`ERROR`](Events::ERROR), which is always told. After a quiet time the first mask may hold
    /// only what woke the descriptor; what else is ready is in the next turn's.
    ///
    /// The loop owns `source`. A source that owns its descriptor (a `TcpStream`, an `OwnedFd`) is
    /// dropped on removal, after the kernel has let go of it. For a bare number (`RawFd`), or
    /// something that only refers to a descriptor, call
    /// [`remove_handler`](Self::remove_handler) *before* closing it: the ring keeps a closed file
    /// alive as long as it is watched.
    ///
    /// What is watched is the descriptor that `source` has now. A handler must not put another
    /// source in its place (`*source = other`): the registration stays under the first number, to be
    /// removed by it, and the other is not watched. To change over, remove the handler and add
    /// another.
    ///
    /// # Errors
    ///
    /// The source comes back with the reason: `EEXIST` if the descriptor is registered already (its
    /// handler is left alone), `EBADF` if it is not open, `EPERM` if it is always ready (a regular
    /// file, of whatever type `source` is), [`LoopError::Closed`], [`LoopError::Forked`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{Events, IoLoop};
    /// use std::io::{ErrorKind, Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// stream.set_nonblocking(true)?;
    /// io_loop.add_handler(stream, Events::READ, |stream, _events| {
    ///     let mut buffer = [0; 64];
    ///     match stream.read(&mut buffer) {
    ///         Ok(length @ 1..) => println!("got {length} bytes"),
    ///         Err(error) if error.kind() == ErrorKind::WouldBlock => {}
    ///         _ => {
    ///             IoLoop::current().remove_handler(stream);
    ///             IoLoop::current().stop();
    ///         }
    ///     }
    /// })?;
    /// peer.write_all(b"hello")?;
    /// drop(peer);
    /// io_loop.start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add_handler<S, F>(
        &self,
        source: S,
        events: Events,
        handler: F,
    ) -> Result<(), AddHandlerError<S>>
    where
        S: AsRawFd + 'static,
        F: FnMut(&mut S, Events) + 'static,
    {
        self.add_handler_with(source, events, Trigger::Level, handler)
    }

    /// As [`add_handler`](Self::add_handler), with a choice of trigger.
    ///
    /// # Errors
    ///
    /// As for [`add_handler`](Self::add_handler).
    #[track_caller]
    pub fn add_handler_with<S, F>(
        &self,
        source: S,
        events: Events,
        trigger: Trigger,
        handler: F,
    ) -> Result<(), AddHandlerError<S>>
    where
        S: AsRawFd + 'static,
        F: FnMut(&mut S, Events) + 'static,
    {
        let fd = source.as_raw_fd();
        let site = Location::caller();
        let mut driver = match self.core.driver() {
            Ok(driver) => driver,
            Err(error) => return Err(AddHandlerError::new(fd, error.into(), source)),
        };
        let mut handlers = self.core.handlers.borrow_mut();
        let allowed = if handlers.is_registered(fd) {
            Err(io::Error::from_raw_os_error(libc::EEXIST))
        } else {
            self.core.probe.check(fd)
        };
        if let Err(error) = allowed {
            return Err(AddHandlerError::new(fd, error, source));
        }
        let registration = driver.add_poll(fd, events, trigger);
        let handler = handlers::registered(source, handler, site);
        handlers.insert(fd, registration, events, handler);
        Ok(())
    }

    /// Changes the events that a handler waits for. [`Events::NONE`] pauses it, but for errors.
    ///
    /// Takes effect at once: what has been found ready in this turn and is not asked for any more is
    /// not reported.
    ///
    /// For [`Trigger::Edge`], what is ready now is reported again, also if `events` are the same.
    ///
    /// # Errors
    ///
    /// [`LoopError::NotRegistered`]; [`LoopError::Lost`] if the descriptor was closed without
    /// [`remove_handler`](Self::remove_handler); [`LoopError::Closed`], [`LoopError::Forked`].
    pub fn update_handler(&self, fd: &impl AsRawFd, events: Events) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        let mut driver = self.core.driver()?;
        let mut handlers = self.core.handlers.borrow_mut();
        if !handlers.is_registered(fd) {
            return Err(LoopError::NotRegistered(fd).into());
        }
        driver.modify_poll(fd, events).map_err(|_| LoopError::Lost(fd))?;
        handlers.set_interest(fd, events);
        Ok(())
    }

    /// Removes a handler, and drops it with its source. True if there was one.
    ///
    /// Takes effect at once: the handler is not called again, whatever has been found ready in this
    /// turn. It may remove itself; it is then dropped when it returns.
    ///
    /// A bare number may be closed right after. The other side sees the end of the connection no
    /// later than the end of the turn, or at once if the loop is not running.
    pub fn remove_handler(&self, fd: &impl AsRawFd) -> bool {
        self.core.remove(fd.as_raw_fd())
    }

    /// Removes a handler, and gives its source back.
    ///
    /// `None`, and nothing is removed, if there is no handler, if its source is not an `S`, or if
    /// it is the handler that is running now.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringloop::{Events, IoLoop};
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let io_loop = IoLoop::new()?;
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let fd = stream.as_raw_fd();
    /// io_loop.add_handler(stream, Events::READ, |_, _| {})?;
    /// let stream: UnixStream = io_loop.take_handler(&fd).expect("it was registered above");
    /// # drop(stream);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_handler<S: 'static>(&self, fd: &impl AsRawFd) -> Option<S> {
        let fd = fd.as_raw_fd();
        if self.core.handlers.borrow().source_type(fd) != Some(TypeId::of::<S>()) {
            return None;
        }
        let (handler, _pinned) = self.core.unregister(fd)?;
        handler.into_source()?.downcast().ok().map(|source| *source)
    }
}
