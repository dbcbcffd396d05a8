//! The receiving side of a stream.

use super::error::{Reason, StreamError};
use super::queue::{Queue, Received};
use super::wakers::Wakers;
use crate::buffer::Chunk;
use crate::driver::OperationKey;
use std::io;
use std::task::{Context, Waker};

/// Above this many bytes that nobody has read, a stream stops receiving.
const HIGH_WATER: usize = 128 * 1024;

pub(crate) struct Incoming {
    queue: Queue,
    /// How far a delimiter has been looked for in vain.
    searched: usize,
    pub(super) receiving: Option<OperationKey>,
    stopping: bool,
    /// Stopped because of too much that nobody reads.
    full: bool,
    /// Nothing more comes: it is the end, or there is a reason.
    end: Option<Result<(), Reason>>,
    reader: Option<Waker>,
    /// A read waits, if only for its next turn.
    busy: bool,
    /// The read that waits, or was tried last, asks for this many bytes.
    wanted: usize,
    /// Those who wait for the end, and not for data.
    watchers: Vec<Waker>,
    pub(super) high_water: usize,
}

impl Default for Incoming {
    fn default() -> Incoming {
        Incoming {
            queue: Queue::default(),
            searched: 0,
            receiving: None,
            stopping: false,
            full: false,
            end: None,
            reader: None,
            busy: false,
            wanted: 0,
            watchers: Vec::new(),
            high_water: HIGH_WATER,
        }
    }
}

impl Incoming {
    /// Data has come. Says whom to wake, and whether it is too much.
    pub(super) fn received(&mut self, chunk: Chunk) -> (Wakers, bool) {
        self.queue.push(chunk);
        let stop = self.queue.len() >= self.limit() && !self.stopping;
        self.full |= stop;
        (Wakers::one(self.reader.take()), stop)
    }

    /// Receiving is over. Says whom to wake, and whether to go on all the same.
    pub(super) fn receiving_ended(&mut self, result: Result<(), Reason>) -> (Wakers, bool) {
        self.receiving = None;
        let stopped = std::mem::take(&mut self.stopping);
        if stopped && result == Err(Reason::Os(libc::ECANCELED)) {
            return (Wakers::none(), true);
        }
        self.end(result);
        (self.wakers(), false)
    }

    /// The operation to cancel, if one is to be.
    pub(super) fn stop(&mut self) -> Option<OperationKey> {
        let operation = self.receiving.filter(|_| !self.stopping)?;
        self.stopping = true;
        Some(operation)
    }

    /// Nothing more comes. The first reason stays.
    pub(super) fn end(&mut self, result: Result<(), Reason>) {
        self.end.get_or_insert(result);
    }

    pub(super) fn ended(&self) -> Option<Result<(), Reason>> {
        self.end
    }

    /// Everybody who waits.
    pub(super) fn wakers(&mut self) -> Wakers {
        Wakers::all(self.reader.take(), std::mem::take(&mut self.watchers))
    }

    /// Whether to receive: once it was too much, only when half of it is read, or a read waits.
    pub(super) fn wants_more(&self) -> bool {
        let (length, limit) = (self.queue.len(), self.limit());
        let room =
            length < self.wanted || if self.full { length <= limit / 2 } else { length < limit };
        room && self.receiving.is_none() && self.end.is_none()
    }

    /// Above this, receiving stops. What a read waits for is never above it.
    fn limit(&self) -> usize {
        self.high_water.max(self.wanted)
    }

    pub(super) fn started(&mut self, operation: OperationKey) {
        self.receiving = Some(operation);
        self.full = false;
    }

    /// Receiving was stopped, and is to go on.
    pub(super) fn is_low(&self) -> bool {
        self.full && self.wants_more()
    }

    /// A read waits.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// A read waits no more, done or not. Its waker is to be dropped with nothing borrowed.
    pub(super) fn finish(&mut self) -> Option<Waker> {
        self.busy = false;
        self.wanted = 0;
        self.reader.take()
    }

    /// A read waits from now on. The waker it had before is to be dropped with nothing borrowed.
    pub(super) fn wait(&mut self, context: &Context<'_>) -> Option<Waker> {
        self.busy = true;
        match &self.reader {
            Some(reader) if reader.will_wake(context.waker()) => None,
            _ => self.reader.replace(context.waker().clone()),
        }
    }

    pub(super) fn watch(&mut self, context: &Context<'_>) {
        if !self.watchers.iter().any(|watcher| watcher.will_wake(context.waker())) {
            self.watchers.push(context.waker().clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What a read gets that cannot be satisfied any more.
    fn unsatisfied<T>(&self) -> Option<io::Result<T>> {
        Some(Err(match self.end? {
            Ok(()) => StreamError::Ended.into(),
            Err(reason) => reason.error(),
        }))
    }

    /// Exactly `count` bytes.
    pub(super) fn read_exactly(&mut self, count: usize) -> Option<io::Result<Vec<u8>>> {
        self.wanted = count;
        if self.queue.len() < count {
            return self.unsatisfied();
        }
        Some(Ok(self.take(count)))
    }

    /// From 1 to `most` bytes; none at the end.
    pub(super) fn read_some(&mut self, most: usize) -> Option<io::Result<Vec<u8>>> {
        self.wanted = 1;
        if self.queue.len() == 0 && most > 0 {
            return self.at_end(Vec::new());
        }
        Some(Ok(self.take(self.queue.len().min(most))))
    }

    /// A piece as it came; an empty one at the end.
    pub(super) fn read_piece(&mut self) -> Option<io::Result<Option<Received>>> {
        self.wanted = 1;
        self.searched = 0;
        match self.queue.pop() {
            Some(piece) => Some(Ok(Some(piece))),
            None => self.at_end(None),
        }
    }

    /// Up to and with `delimiter`, `most` bytes in all.
    pub(super) fn read_until(
        &mut self,
        delimiter: &[u8],
        most: usize,
    ) -> Option<io::Result<Vec<u8>>> {
        // The end of what was searched may be the beginning of a delimiter.
        let from = self.searched.saturating_sub(delimiter.len().saturating_sub(1));
        self.wanted = most;
        match self.queue.find(delimiter, from) {
            Some(length) if length <= most => Some(Ok(self.take(length))),
            Some(_) => Some(Err(StreamError::ReadLimit(most).into())),
            None if self.queue.len() >= most => Some(Err(StreamError::ReadLimit(most).into())),
            None => {
                self.searched = self.queue.len();
                self.unsatisfied()
            }
        }
    }

    /// All that comes, `most` bytes in all.
    pub(super) fn read_until_end(&mut self, most: usize) -> Option<io::Result<Vec<u8>>> {
        self.wanted = most.saturating_add(1);
        if self.queue.len() > most {
            return Some(Err(StreamError::ReadLimit(most).into()));
        }
        match self.end? {
            Ok(()) => Some(Ok(self.take(self.queue.len()))),
            Err(reason) => Some(Err(reason.error())),
        }
    }

    /// As many bytes as there are, or, if it has to be `full`, as fit.
    pub(super) fn read_into(&mut self, target: &mut [u8], full: bool) -> Option<io::Result<usize>> {
        self.wanted = if full { target.len() } else { 1 };
        if full && self.queue.len() < target.len() {
            return self.unsatisfied();
        }
        if self.queue.len() == 0 && !target.is_empty() {
            return self.at_end(0);
        }
        self.searched = 0;
        Some(Ok(self.queue.fill(target)))
    }

    /// Lets `consume` look at all that is there, in one piece, and say how much of it is read.
    pub(super) fn read_with(&mut self, consume: impl FnOnce(&[u8]) -> usize) -> usize {
        let count = consume(self.queue.make_contiguous()).min(self.queue.len());
        self.consume(count);
        count
    }

    /// The first bytes.
    pub(super) fn front(&self) -> &[u8] {
        self.queue.front()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.searched = 0;
        self.queue.advance(count);
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.searched = 0;
        let mut bytes = Vec::new();
        self.queue.take_into(count, &mut bytes);
        bytes
    }

    /// `nothing`, if the other side has ended the stream; or why it ended.
    fn at_end<T>(&self, nothing: T) -> Option<io::Result<T>> {
        Some(match self.end? {
            Ok(()) => Ok(nothing),
            Err(reason) => Err(reason.error()),
        })
    }
}
