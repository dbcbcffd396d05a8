//! The connections of a server: the tasks of their handlers, and their streams, which may outlive
//! these.

use crate::io_loop::Core;
use crate::net::IoStream;
use crate::net::listener::Budget;
use crate::net::stream::Inner;
use crate::net::waiters::{Ticket, Waiters};
use crate::task::Source;
use crate::task::body::Failure;
use crate::task::join::JoinHandle;
use crate::task::outcome::Outcome;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

pub(super) struct Connections {
    all: RefCell<Slab<Connection>>,
    limit: usize,
    /// Accepted, and not here yet. Only counted if there is a limit.
    accepted: Cell<usize>,
    /// How many there have been.
    total: Cell<u64>,
    /// Those who wait for connections to end.
    watchers: RefCell<Waiters>,
}

struct Connection {
    /// `None` while the task is being made.
    task: Option<JoinHandle<()>>,
    stream: Weak<Inner>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Rc<Connections> {
        Rc::new(Connections {
            all: RefCell::default(),
            limit: limit.max(1),
            accepted: Cell::default(),
            total: Cell::default(),
            watchers: RefCell::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit < usize::MAX
    }

    /// Runs a handler as a task of the loop's. The connection lasts until both that and the stream
    /// have ended.
    pub(super) fn spawn<Fut>(
        self: &Rc<Self>,
        core: &Core,
        source: Source,
        stream: IoStream,
        handler: impl FnOnce(IoStream) -> Fut + 'static,
    ) where
        Fut: Future + 'static,
        Fut::Output: Outcome,
    {
        if self.is_limited() {
            self.accepted.set(self.accepted.get() - 1);
        }
        let connection = Connection { task: None, stream: Rc::downgrade(stream.inner()) };
        let key = self.all.borrow_mut().insert(connection);
        let entry = Rc::new(Entry { connections: self.clone(), key });
        stream.inner().attach(Some(entry.clone()));
        let run = async move {
            let _entry = entry;
            handler(stream).await
        };
        let task = core.spawn(source, run, Failure::of_outcome);
        // On a loop that is closed it is over already.
        if let Some(connection) = self.all.borrow_mut().get_mut(key) {
            connection.task = Some(task);
        }
    }

    /// Numbers the connections in order.
    pub(super) fn next_number(&self) -> u64 {
        self.total.set(self.total.get() + 1);
        self.total.get()
    }

    /// Waits until there are none.
    pub(super) async fn ended(&self) {
        let mut watch = self.watch();
        poll_fn(|context| watch.poll(0, context, |connections| connections.len() == 0)).await;
    }

    pub(super) fn watch(&self) -> Watch<'_> {
        Watch { connections: self, ticket: None }
    }

    /// Cancels all handlers, which end in the loop's next turn, and closes all streams. Returns how
    /// many connections there are.
    pub(super) fn abort_all(&self) -> usize {
        let streams: Vec<_> = {
            let all = self.all.borrow();
            let tasks = all.iter().filter_map(|(_, connection)| connection.task.as_ref());
            tasks.for_each(JoinHandle::abort);
            all.iter().map(|(_, connection)| connection.stream.clone()).collect()
        };
        for stream in streams.iter().filter_map(Weak::upgrade) {
            stream.close();
            // Somebody may keep it for ever.
            stream.attach(None);
        }
        streams.len()
    }
}

/// Waits for connections to end. Dropping it keeps no waker.
pub(super) struct Watch<'a> {
    connections: &'a Connections,
    ticket: Option<Ticket>,
}

impl Watch<'_> {
    /// Ready when there may be more connections. Whoever has served the longest ago, as `last` says,
    /// is woken first.
    pub(super) fn poll_room(&mut self, last: u64, context: &Context<'_>) -> Poll<()> {
        self.poll(last, context, |connections| !connections.is_spent())
    }

    fn poll(
        &mut self,
        rank: u64,
        context: &Context<'_>,
        is_due: impl Fn(&Connections) -> bool,
    ) -> Poll<()> {
        // User code, before anything is borrowed or looked at.
        let waker = context.waker().clone();
        if is_due(self.connections) {
            return Poll::Ready(());
        }
        let before = self.connections.watchers.borrow_mut().insert(&mut self.ticket, rank, waker);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let waker = self.connections.watchers.borrow_mut().remove(&mut self.ticket);
        drop(waker);
    }
}

impl Budget for Connections {
    fn is_spent(&self) -> bool {
        self.len() + self.accepted.get() >= self.limit
    }

    fn take(&self) {
        self.accepted.set(self.accepted.get() + 1);
    }
}

/// The place of a connection, given back when its handler has ended, or is dropped, and its stream is
/// gone.
struct Entry {
    connections: Rc<Connections>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let connection = self.connections.all.borrow_mut().try_remove(self.key);
        // Its task is detached, so that the loop reports how it ended.
        drop(connection);
        let watchers = self.connections.watchers.borrow_mut().take_all();
        watchers.wake();
    }
}
