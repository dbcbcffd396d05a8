//! The table of handlers, by fd number.
//!
//! Whoever calls a handler holds it, too, so that it may add, update and remove handlers, itself
//! among them, while it runs.

use crate::events::Events;
use crate::report::{CallbackKind, Origin};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::Location;
use std::rc::Rc;

/// A source with its closure, types erased.
pub(crate) trait Handler {
    fn call(&self, events: Events);
    fn origin(&self, fd: RawFd) -> Origin;
    fn source_type(&self) -> TypeId;
    /// The source, as a `Box<S>`, if nobody else holds the handler.
    fn into_source(self: Rc<Self>) -> Option<Box<dyn Any>>;
    /// The descriptor, if the source is but its number, which nobody closes.
    fn bare_fd(&self) -> Option<RawFd>;
}

/// True while it runs, or rather, while its caller holds it beside the table.
pub(crate) fn is_running(handler: &Rc<dyn Handler>) -> bool {
    Rc::strong_count(handler) > 1
}

struct Registered<S, F> {
    /// Borrowed while the handler runs, and at no other time but for an instant.
    parts: RefCell<(S, F)>,
    site: &'static Location<'static>,
}

pub(crate) fn registered<S, F>(
    source: S,
    handler: F,
    site: &'static Location<'static>,
) -> Rc<dyn Handler>
where
    S: AsRawFd + 'static,
    F: FnMut(&mut S, Events) + 'static,
{
    Rc::new(Registered { parts: RefCell::new((source, handler)), site })
}

impl<S, F> Handler for Registered<S, F>
where
    S: AsRawFd + 'static,
    F: FnMut(&mut S, Events) + 'static,
{
    fn call(&self, events: Events) {
        let (source, handler) = &mut *self.parts.borrow_mut();
        handler(source, events);
    }

    fn origin(&self, fd: RawFd) -> Origin {
        Origin::of::<F>(CallbackKind::Handler(fd), self.site)
    }

    fn source_type(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn into_source(self: Rc<Self>) -> Option<Box<dyn Any>> {
        let (source, _handler) = Rc::into_inner(self)?.parts.into_inner();
        Some(Box::new(source))
    }

    fn bare_fd(&self) -> Option<RawFd> {
        (TypeId::of::<S>() == TypeId::of::<RawFd>()).then(|| self.parts.borrow().0.as_raw_fd())
    }
}

/// No registration has this id.
const VACANT: u32 = 0;

#[derive(Default)]
struct Entry {
    handler: Option<Rc<dyn Handler>>,
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
        let handler = self.entry(fd)?.handler.as_ref()?;
        (!is_running(handler)).then(|| handler.source_type())
    }

    pub(crate) fn origin(&self, fd: RawFd, registration: u32) -> Option<Origin> {
        let entry = self.entry(fd).filter(|entry| entry.registration == registration)?;
        Some(entry.handler.as_ref()?.origin(fd))
    }

    /// `fd` is not registered, and `registration` is not zero.
    pub(crate) fn insert(
        &mut self,
        fd: RawFd,
        registration: u32,
        interest: Events,
        handler: Rc<dyn Handler>,
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

    /// Ends a registration, and gives up the handler.
    pub(crate) fn remove(&mut self, fd: RawFd) -> Option<Rc<dyn Handler>> {
        let entry = self.entries.get_mut(fd as usize)?;
        let handler = entry.handler.take()?;
        entry.registration = VACANT;
        self.len -= 1;
        Some(handler)
    }

    /// The handler to call for `events`, if the registration still stands, and some of them are
    /// still asked for; those come with it.
    #[inline]
    pub(crate) fn find(
        &self,
        fd: RawFd,
        registration: u32,
        events: Events,
    ) -> Option<(Rc<dyn Handler>, Events)> {
        let entry = self.entries.get(fd as usize)?;
        let events = events & (entry.interest | Events::ERROR);
        if entry.registration != registration || events.is_empty() {
            return None;
        }
        Some((entry.handler.clone()?, events))
    }

    /// Everything, by fd number, for the caller to drop.
    pub(crate) fn take(&mut self) -> Vec<(RawFd, Rc<dyn Handler>)> {
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
