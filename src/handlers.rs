//! The table of handlers, by fd number.
//!
//! A handler is taken out of the table while it runs, so that it may add, update and remove
//! handlers, itself among them. The registration id tells whether what is put back is still wanted.

use crate::events::Events;
use crate::report::{CallbackKind, Origin};
use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::Location;

/// A source with its closure, types erased.
pub(crate) trait Handler {
    fn call(&mut self, events: Events);
    fn origin(&self, fd: RawFd) -> Origin;
    fn source_type(&self) -> TypeId;
    /// The source, as a `Box<S>`.
    fn into_source(self: Box<Self>) -> Box<dyn Any>;
    /// The descriptor, if the source is but its number, which nobody closes.
    fn bare_fd(&self) -> Option<RawFd>;
}

pub(crate) struct Registered<S, F> {
    pub(crate) source: S,
    pub(crate) handler: F,
    pub(crate) site: &'static Location<'static>,
}

impl<S, F> Handler for Registered<S, F>
where
    S: AsRawFd + 'static,
    F: FnMut(&mut S, Events) + 'static,
{
    fn call(&mut self, events: Events) {
        (self.handler)(&mut self.source, events);
    }

    fn origin(&self, fd: RawFd) -> Origin {
        Origin { kind: CallbackKind::Handler(fd), type_name: type_name::<F>(), site: self.site }
    }

    fn source_type(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn into_source(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.source)
    }

    fn bare_fd(&self) -> Option<RawFd> {
        (TypeId::of::<S>() == TypeId::of::<RawFd>()).then(|| self.source.as_raw_fd())
    }
}

/// True for types that cannot but own an open, pollable descriptor, which then needs no checking.
pub(crate) fn is_trusted<S: 'static>() -> bool {
    use std::os::unix::net as unix;
    [
        TypeId::of::<std::net::TcpStream>(),
        TypeId::of::<std::net::TcpListener>(),
        TypeId::of::<std::net::UdpSocket>(),
        TypeId::of::<unix::UnixStream>(),
        TypeId::of::<unix::UnixListener>(),
        TypeId::of::<unix::UnixDatagram>(),
        TypeId::of::<io::PipeReader>(),
        TypeId::of::<io::PipeWriter>(),
    ]
    .contains(&TypeId::of::<S>())
}

/// No registration has this id.
const VACANT: u32 = 0;

#[derive(Default)]
struct Entry {
    /// `None` while it runs.
    handler: Option<Box<dyn Handler>>,
    registration: u32,
    interest: Events,
}

#[derive(Default)]
pub(crate) struct Handlers {
    entries: Vec<Entry>,
    len: usize,
}

impl Handlers {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_registered(&self, fd: RawFd) -> bool {
        self.entry(fd).is_some_and(|entry| entry.registration != VACANT)
    }

    /// The type of a registered source that can be taken; `None` while its handler runs.
    pub(crate) fn source_type(&self, fd: RawFd) -> Option<TypeId> {
        Some(self.entry(fd)?.handler.as_ref()?.source_type())
    }

    /// `fd` is not registered, and `registration` is not zero.
    pub(crate) fn insert(
        &mut self,
        fd: RawFd,
        registration: u32,
        interest: Events,
        handler: Box<dyn Handler>,
    ) {
        let index = fd as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, Entry::default);
        }
        self.entries[index] = Entry { handler: Some(handler), registration, interest };
        self.len += 1;
    }

    /// `fd` is registered.
    pub(crate) fn set_interest(&mut self, fd: RawFd, interest: Events) {
        self.entries[fd as usize].interest = interest;
    }

    /// Ends a registration. The handler comes back unless it is running; then
    /// [`put_back`](Self::put_back) gives it out.
    pub(crate) fn remove(&mut self, fd: RawFd) -> Option<Box<dyn Handler>> {
        let entry = self.entries.get_mut(fd as usize)?;
        if entry.registration != VACANT {
            entry.registration = VACANT;
            self.len -= 1;
        }
        entry.handler.take()
    }

    /// Takes the handler out to run it, if the registration still stands, and some of `events` are
    /// still asked for; those come with it.
    #[inline]
    pub(crate) fn take_out(
        &mut self,
        fd: RawFd,
        registration: u32,
        events: Events,
    ) -> Option<(Box<dyn Handler>, Events)> {
        let entry = self.entries.get_mut(fd as usize)?;
        let events = events & (entry.interest | Events::ERROR);
        if entry.registration != registration || events.is_empty() {
            return None;
        }
        Some((entry.handler.take()?, events))
    }

    /// Puts a handler back that has run. It is returned if its registration ended meanwhile.
    #[inline]
    pub(crate) fn put_back(
        &mut self,
        fd: RawFd,
        registration: u32,
        handler: Box<dyn Handler>,
    ) -> Option<Box<dyn Handler>> {
        match self.entries.get_mut(fd as usize) {
            Some(entry) if entry.registration == registration => entry.handler.replace(handler),
            _ => Some(handler),
        }
    }

    /// Everything, by fd number, for the caller to drop.
    pub(crate) fn take(&mut self) -> Vec<(RawFd, Box<dyn Handler>)> {
        self.len = 0;
        let entries = std::mem::take(&mut self.entries).into_iter().zip(0..);
        entries.filter_map(|(entry, fd)| Some((fd, entry.handler?))).collect()
    }

    fn entry(&self, fd: RawFd) -> Option<&Entry> {
        self.entries.get(usize::try_from(fd).ok()?)
    }
}

/// Why [`IoLoop::add_handler`](crate::IoLoop::add_handler) refused, with the source it was given.
///
/// ```
/// use ringloop::{Events, IoLoop};
///
/// let io_loop = IoLoop::new()?;
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let refused = io_loop.add_handler(file, Events::READ, |_, _| {}).unwrap_err();
/// assert_eq!(refused.error().raw_os_error(), Some(libc::EPERM));
/// println!("{refused}");
/// let _file = refused.into_source();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AddHandlerError<S> {
    fd: RawFd,
    error: io::Error,
    source: S,
}

impl<S> AddHandlerError<S> {
    pub(crate) fn new(fd: RawFd, error: io::Error, source: S) -> AddHandlerError<S> {
        AddHandlerError { fd, error, source }
    }

    /// The reason: `EEXIST` for an fd that is registered already, `EBADF` for one that is not open,
    /// `EPERM` for a file that is always ready; or a [`LoopError`](crate::LoopError).
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The reason alone; the source is dropped.
    pub fn into_error(self) -> io::Error {
        self.error
    }

    /// The source, as it was given.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Both.
    pub fn into_parts(self) -> (io::Error, S) {
        (self.error, self.source)
    }
}

impl<S> fmt::Debug for AddHandlerError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddHandlerError")
            .field("fd", &self.fd)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for AddHandlerError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.error.raw_os_error() {
            Some(libc::EEXIST) => {
                "registered already: remove_handler comes before closing or adding it again"
            }
            Some(libc::EBADF) => "not an open file descriptor",
            Some(libc::EPERM) => {
                "a regular file, directory or memory device is always ready and cannot be watched"
            }
            _ => return write!(f, "add_handler: fd {}: {}", self.fd, self.error),
        };
        write!(f, "add_handler: fd {}: {advice} ({})", self.fd, self.error)
    }
}

impl<S> std::error::Error for AddHandlerError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// `io_loop.add_handler(..)?` works in functions that return `io::Result`. The message stays.
impl<S> From<AddHandlerError<S>> for io::Error {
    fn from(refused: AddHandlerError<S>) -> io::Error {
        io::Error::new(refused.error.kind(), refused.to_string())
    }
}
