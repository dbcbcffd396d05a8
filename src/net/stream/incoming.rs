//! The receiving side of a stream: what has come, who reads it, and whether more is to come.

use super::error::{Reason, StreamError};
use super::queue::Queue;
use crate::buffer::{Chunk, Piece};
use crate::driver::OperationKey;
use crate::net::waiters::Waiters;
use crate::net::wakers::Wakers;
use std::io;
use std::mem;
use std::task::{Poll, Waker};

/// Above this many bytes that nobody has read, a stream stops receiving.
const HIGH_WATER: usize = 128 * 1024;

/// When buffers are scarce, no more pieces than this wait for a read that is about to take them.
const FEW: usize = 16;

pub(crate) struct Incoming {
    queue: Queue,
    receiving: Option<OperationKey>,
    /// The operation is cancelled.
    stopping: bool,
    /// Stopped because of too much that nobody reads.
    full: bool,
    /// Nothing more comes: it is the end, or there is a reason.
    end: Option<Result<(), Reason>>,
    /// Wakes the read that waits. It stays for the next one, which most often is of the same task.
    reader: Option<Waker>,
    /// The reader is to be woken, once, when data comes.
    awaited: bool,
    news: News,
    /// A read waits, if only for its next turn.
    busy: bool,
    /// The read that waits asks for this many bytes.
    wanted: usize,
    /// It has looked for a delimiter in this many bytes.
    searched: usize,
    /// Those who wait for the end, and not for data. Most often nobody does.
    watchers: Option<Box<Waiters>>,
    high_water: usize,
}

/// What is to be told of data that has come.
#[derive(Clone, Copy, Default)]
struct News {
    /// The reader has waited for it.
    awaited: bool,
    /// Receiving is to stop.
    too_much: bool,
}

impl Default for Incoming {
    fn default() -> Incoming {
        Incoming {
            queue: Queue::default(),
            receiving: None,
            stopping: false,
            full: false,
            end: None,
            reader: None,
            awaited: false,
            news: News::default(),
            busy: false,
            wanted: 0,
            searched: 0,
            watchers: None,
            high_water: HIGH_WATER,
        }
    }
}

/// Receiving: when it begins, stops and ends.
impl Incoming {
    /// Data has come. True if that is news.
    #[inline]
    pub(super) fn received(&mut self, chunk: Chunk, scarce: bool) -> bool {
        // One who waits for data takes it soon, and is to have it without a copy.
        let may_keep = !scarce || self.awaited || self.busy && self.queue.lent() < FEW;
        self.queue.push(chunk, may_keep);
        let is_full = self.queue.len() >= self.limit() && !self.stopping;
        let is_awaited = mem::take(&mut self.awaited);
        self.full |= is_full;
        self.news.too_much |= is_full;
        self.news.awaited |= is_awaited;
        is_awaited || is_full
    }

    /// Takes the news: whom to wake, and whether to stop receiving.
    #[inline]
    pub(super) fn take_news(&mut self) -> (Option<Waker>, bool) {
        let News { awaited, too_much } = mem::take(&mut self.news);
        (if awaited { self.reader.take() } else { None }, too_much)
    }

    /// Receiving is over. Says whether to go on all the same.
    pub(super) fn receiving_ended(&mut self, result: Result<(), Reason>) -> bool {
        let cancelled = result == Err(Reason::CANCELLED);
        if self.stopping && cancelled {
            return self.receiving_stopped();
        }
        self.receiving = None;
        self.stopping = false;
        // Only a loop that closes cancels what nobody has asked to be stopped.
        self.end(if cancelled { Err(Reason::LoopClosed) } else { result });
        false
    }

    /// Receiving is over, and is to go on.
    pub(super) fn receiving_stopped(&mut self) -> bool {
        self.receiving = None;
        self.stopping = false;
        // It may have become too much only meanwhile.
        self.full |= self.queue.len() >= self.limit();
        true
    }

    pub(super) fn is_receiving(&self) -> bool {
        self.receiving.is_some()
    }

    /// The operation to cancel, if there is one.
    pub(super) fn stop(&mut self) -> Option<OperationKey> {
        self.stopping = self.receiving.is_some();
        self.receiving
    }

    /// Nothing more comes. The first reason stays.
    pub(super) fn end(&mut self, result: Result<(), Reason>) {
        self.end.get_or_insert(result);
    }

    pub(super) fn ended(&self) -> Option<Result<(), Reason>> {
        self.end
    }

    /// Copies what waits to be read, so that its buffers can be used.
    pub(super) fn give_back(&mut self) {
        self.queue.give_back();
    }

    pub(super) fn keeps_buffers(&self) -> bool {
        self.queue.keeps_buffers()
    }

    /// Nobody will read any more.
    pub(super) fn abandon(&mut self) {
        self.queue.clear();
    }

    /// Everybody who waits for data, or for the end.
    pub(super) fn wakers(&mut self) -> [Wakers; 2] {
        let watchers = self.watchers.as_mut().map(|watchers| watchers.take_all());
        let reader = if mem::take(&mut self.awaited) { self.reader.take() } else { None };
        [Wakers::one(reader), watchers.unwrap_or_default()]
    }

    pub(super) fn is_waited_for(&self) -> bool {
        let is_watched = self.watchers.as_ref().is_some_and(|watchers| !watchers.is_empty());
        self.awaited || is_watched
    }

    pub(super) fn watchers(&mut self) -> &mut Waiters {
        self.watchers.get_or_insert_default()
    }

    /// Whether to receive: once it was too much, only when half of it is read, or a read waits.
    pub(super) fn wants_more(&self) -> bool {
        let (length, limit) = (self.queue.len(), self.limit());
        let low = if self.full { length <= limit / 2 } else { length < limit };
        (low || length < self.wanted) && self.receiving.is_none() && self.end.is_none()
    }

    /// Above this, receiving stops. What a read waits for is never above it.
    fn limit(&self) -> usize {
        self.high_water.max(self.wanted)
    }

    pub(super) fn set_high_water(&mut self, bytes: usize) {
        self.high_water = bytes.max(1);
    }

    pub(super) fn started(&mut self, operation: OperationKey) {
        self.receiving = Some(operation);
        self.full = false;
    }

    /// Receiving was stopped because of too much, and is to go on.
    #[inline]
    pub(super) fn is_low(&self) -> bool {
        self.full && self.wants_more()
    }
}

/// The read that waits.
impl Incoming {
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// A read waits from now on, and perhaps lets no other one do so. What there is may have to wait
    /// with it for long. False if its waker is not known yet.
    #[inline]
    pub(super) fn wait(&mut self, waker: &Waker, alone: bool) -> bool {
        self.busy = alone;
        self.awaited = true;
        self.queue.give_back();
        self.reader.as_ref().is_some_and(|reader| reader.will_wake(waker))
    }

    /// Leaves a waker for who waits. True if it is late: what it is to tell of has come while it was
    /// cloned. The one before is to be dropped with nothing borrowed.
    pub(super) fn set_reader(&mut self, waker: Waker) -> (Option<Waker>, bool) {
        (self.reader.replace(waker), !self.awaited)
    }

    /// Leaves the waker of who was woken for the next time, unless there is another one, or no read
    /// waits any more. The one that is too many is to be dropped with nothing borrowed.
    #[inline]
    pub(super) fn keep_reader(&mut self, waker: Waker) -> Option<Waker> {
        // What is read by polls waits without being busy.
        let is_waiting = self.wanted > 0;
        if self.reader.is_some() || !is_waiting {
            return Some(waker);
        }
        self.reader = Some(waker);
        None
    }

    /// The read waits no more.
    #[inline]
    pub(super) fn finish(&mut self) {
        self.busy = false;
        self.awaited = false;
        self.wanted = 0;
        self.searched = 0;
    }

    /// As `finish`, for one that is not done: what came for it may have to wait for long. Its waker
    /// is to be dropped with nothing borrowed.
    pub(super) fn give_up(&mut self) -> Option<Waker> {
        self.finish();
        self.queue.give_back();
        self.reader.take()
    }
}

/// What reads do. Those that have to wait take nothing.
impl Incoming {
    /// Exactly `count` bytes.
    pub(super) fn read_exactly(&mut self, count: usize) -> Poll<io::Result<Vec<u8>>> {
        self.wanted = count;
        if self.queue.len() < count {
            return self.unsatisfied();
        }
        Poll::Ready(Ok(self.queue.take(count)))
    }

    /// From 1 to `most` bytes; none at the end.
    pub(super) fn read_some(&mut self, most: usize) -> Poll<io::Result<Vec<u8>>> {
        self.wanted = 1;
        if self.queue.len() == 0 && most > 0 {
            return self.at_end(Vec::new());
        }
        Poll::Ready(Ok(self.queue.take(self.queue.len().min(most))))
    }

    /// A piece as it came; none at the end.
    #[inline]
    pub(super) fn read_piece(&mut self) -> Poll<io::Result<Option<Piece>>> {
        self.wanted = 1;
        match self.queue.pop() {
            Some(piece) => Poll::Ready(Ok(Some(piece))),
            None => self.at_end(None),
        }
    }

    /// Puts back what is left of a piece. Who is to be woken for it: somebody may have begun to wait
    /// since it was taken.
    #[cfg(feature = "futures-io")]
    pub(super) fn unread(&mut self, mut piece: Piece, scarce: bool) -> Option<Waker> {
        if piece.is_empty() {
            return None;
        }
        if scarce || self.receiving.is_none() {
            // Nobody would look for it any more when buffers are missing.
            piece.give_back();
        }
        self.queue.unpop(piece);
        self.searched = 0;
        if mem::take(&mut self.awaited) { self.reader.take() } else { None }
    }

    /// Up to and with `delimiter`, `most` bytes in all.
    pub(super) fn read_until(
        &mut self,
        delimiter: &[u8],
        most: usize,
    ) -> Poll<io::Result<Vec<u8>>> {
        // The end of what was searched may be the beginning of a delimiter.
        let from = self.searched.saturating_sub(delimiter.len().saturating_sub(1));
        let found = self.queue.find(delimiter, from);
        self.searched = self.queue.len();
        self.read_up_to(found, most)
    }

    /// Up to the end of the first match, `most` bytes in all.
    #[cfg(feature = "regex")]
    pub(super) fn read_until_regex(
        &mut self,
        regex: &regex::bytes::Regex,
        most: usize,
    ) -> Poll<io::Result<Vec<u8>>> {
        let found = regex.find(self.queue.make_contiguous()).map(|found| found.end());
        self.read_up_to(found, most)
    }

    fn read_up_to(&mut self, found: Option<usize>, most: usize) -> Poll<io::Result<Vec<u8>>> {
        self.wanted = most;
        match found {
            Some(length) if length <= most => Poll::Ready(Ok(self.queue.take(length))),
            Some(_) => Poll::Ready(Err(StreamError::ReadLimit(most).into())),
            None if self.queue.len() >= most => {
                Poll::Ready(Err(StreamError::ReadLimit(most).into()))
            }
            None => self.unsatisfied(),
        }
    }

    /// All that comes, `most` bytes in all.
    pub(super) fn read_until_end(&mut self, most: usize) -> Poll<io::Result<Vec<u8>>> {
        self.wanted = most.saturating_add(1);
        if self.queue.len() > most {
            return Poll::Ready(Err(StreamError::ReadLimit(most).into()));
        }
        match self.end {
            Some(Ok(())) => Poll::Ready(Ok(self.queue.take(self.queue.len()))),
            Some(Err(reason)) => Poll::Ready(Err(reason.error())),
            None => Poll::Pending,
        }
    }

    /// As many bytes as fit, all of which have to be there.
    pub(super) fn fill(&mut self, target: &mut [u8]) -> Poll<io::Result<()>> {
        self.wanted = target.len();
        if self.queue.len() < target.len() {
            return self.unsatisfied();
        }
        self.queue.fill(target);
        Poll::Ready(Ok(()))
    }

    /// As many bytes as there are, and as fit; none at the end.
    pub(super) fn read_into(&mut self, target: &mut [u8]) -> Poll<io::Result<usize>> {
        self.wanted = 1;
        if self.queue.len() == 0 && !target.is_empty() {
            return self.at_end(0);
        }
        Poll::Ready(Ok(self.queue.fill(target)))
    }

    /// What a read gets that cannot be satisfied any more.
    fn unsatisfied<T>(&self) -> Poll<io::Result<T>> {
        match self.end {
            Some(Ok(())) => Poll::Ready(Err(StreamError::Ended.into())),
            Some(Err(reason)) => Poll::Ready(Err(reason.error())),
            None => Poll::Pending,
        }
    }

    /// `nothing`, if the other side has ended the stream; or why it ended.
    fn at_end<T>(&self, nothing: T) -> Poll<io::Result<T>> {
        match self.end {
            Some(Ok(())) => Poll::Ready(Ok(nothing)),
            Some(Err(reason)) => Poll::Ready(Err(reason.error())),
            None => Poll::Pending,
        }
    }
}
