//! Bytes that have been received and not been read yet.

use crate::buffer::{Chunk, Piece};
use std::collections::VecDeque;
use std::mem;

/// Small pieces are copied together up to this many bytes.
const SEGMENT: usize = 16 * 1024;

/// Smaller pieces that have to wait behind others are copied: that costs less than to keep them.
const WORTH_KEEPING: usize = 2048;

/// A queue of bytes, in pieces.
#[derive(Default)]
pub(super) struct Queue {
    /// Apart, because most queues never have more. Empty only if there is nothing.
    first: Piece,
    rest: VecDeque<Piece>,
    len: usize,
    /// Pieces of the rest that keep a buffer of the pool.
    lent: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Pieces that keep a buffer of the pool, but for the first.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// Adds a piece. Its buffer is kept if it may be, and this is the first piece, or a large one.
    #[inline]
    pub(super) fn push(&mut self, chunk: Chunk, may_keep: bool) {
        if may_keep && self.len == 0 {
            self.len = chunk.len();
            self.first = chunk.into();
        } else {
            self.push_behind(chunk, may_keep);
        }
    }

    #[inline(never)]
    fn push_behind(&mut self, chunk: Chunk, may_keep: bool) {
        if may_keep && chunk.len() >= WORTH_KEEPING {
            self.len += chunk.len();
            self.lent += 1;
            self.rest.push_back(chunk.into());
        } else {
            self.push_copy(&chunk);
        }
    }

    fn push_copy(&mut self, bytes: &[u8]) {
        if self.len == 0 {
            self.first = Piece::copy_of(bytes);
        } else if !self.append(bytes) {
            self.rest.push_back(Piece::copy_of(bytes));
        }
        self.len += bytes.len();
    }

    /// Adds to the last piece. False if that is a buffer, or full.
    fn append(&mut self, more: &[u8]) -> bool {
        let last = self.rest.back_mut().unwrap_or(&mut self.first);
        let Some(last) = last.as_vec() else { return false };
        let fits = last.len() + more.len() <= last.capacity().max(SEGMENT);
        if fits {
            last.extend_from_slice(more);
        }
        fits
    }

    /// Puts back what was taken out by `pop`.
    #[cfg(any(test, feature = "futures-io"))]
    pub(super) fn unpop(&mut self, piece: Piece) {
        if piece.is_empty() {
            return;
        }
        let length = piece.len();
        let second = mem::replace(&mut self.first, piece);
        if self.len > 0 {
            self.lent += usize::from(second.is_lent());
            self.rest.push_front(second);
        }
        self.len += length;
    }

    /// Whether any piece keeps a buffer of the pool.
    pub(super) fn keeps_buffers(&self) -> bool {
        self.lent > 0 || self.first.is_lent()
    }

    /// Gives back the buffers that pieces keep.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if self.len > 0 {
            self.first.give_back();
            if self.lent > 0 {
                self.give_back_rest();
            }
        }
    }

    #[cold]
    fn give_back_rest(&mut self) {
        let lent = self.rest.iter_mut().rev().filter(|piece| piece.is_lent());
        lent.take(self.lent).for_each(Piece::give_back);
        self.lent = 0;
    }

    /// Takes the first piece out, as it is.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Piece> {
        if self.len == 0 {
            return None;
        }
        let piece = mem::take(&mut self.first);
        if self.rest.is_empty() {
            self.len = 0;
        } else {
            self.len -= piece.len();
            self.move_up();
        }
        Some(piece)
    }

    #[inline(never)]
    fn move_up(&mut self) {
        self.first = self.rest.pop_front().unwrap_or_default();
        self.lent -= usize::from(self.first.is_lent());
    }

    /// Forgets the first `count` bytes, of those that are there.
    pub(super) fn advance(&mut self, mut count: usize) {
        while self.len > 0 {
            if count < self.first.len() {
                self.first.advance(count);
                self.len -= count;
                return;
            }
            count -= self.first.len();
            self.pop();
        }
    }

    /// Takes the first `count` bytes, which are there.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let is_all_of_a_copy = self.first.len() == count && !self.first.is_lent();
        if is_all_of_a_copy {
            return self.pop().unwrap_or_default().into_vec();
        }
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let front = &*self.first;
            let part = front.len().min(count - bytes.len());
            bytes.extend_from_slice(&front[..part]);
            self.advance(part);
        }
        bytes
    }

    /// Moves bytes to `target`, and returns how many.
    pub(super) fn fill(&mut self, target: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < target.len() && self.len > 0 {
            let front = &*self.first;
            let part = front.len().min(target.len() - filled);
            target[filled..filled + part].copy_from_slice(&front[..part]);
            self.advance(part);
            filled += part;
        }
        filled
    }

    /// Where the first `delimiter` at or after `from` ends.
    pub(super) fn find(&self, delimiter: &[u8], from: usize) -> Option<usize> {
        let Some(&first) = delimiter.first() else { return Some(from) };
        let mut base = 0;
        for index in 0..=self.rest.len() {
            let bytes = self.piece(index)?;
            let mut at = from.saturating_sub(base).min(bytes.len());
            while let Some(offset) = memchr::memchr(first, &bytes[at..]) {
                at += offset;
                if self.matches(index, at, delimiter) {
                    return Some(base + at + delimiter.len());
                }
                at += 1;
            }
            base += bytes.len();
        }
        None
    }

    /// Whether `delimiter` stands at this place, perhaps across pieces.
    fn matches(&self, mut index: usize, mut at: usize, mut delimiter: &[u8]) -> bool {
        while !delimiter.is_empty() {
            let Some(bytes) = self.piece(index) else { return false };
            let part = (bytes.len() - at).min(delimiter.len());
            if bytes[at..at + part] != delimiter[..part] {
                return false;
            }
            delimiter = &delimiter[part..];
            (index, at) = (index + 1, 0);
        }
        true
    }

    fn piece(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(1) {
            None => Some(&self.first),
            Some(index) => self.rest.get(index).map(|piece| &**piece),
        }
    }

    /// All bytes in one piece.
    #[cfg(feature = "regex")]
    pub(super) fn make_contiguous(&mut self) -> &[u8] {
        if !self.rest.is_empty() {
            // Room for as much again, so that what comes next is copied once.
            let mut bytes = Vec::with_capacity(2 * self.len);
            bytes.extend_from_slice(&self.first);
            self.rest.drain(..).for_each(|piece| bytes.extend_from_slice(&piece));
            self.first = Piece::owned(bytes);
            self.lent = 0;
        }
        &self.first
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, PoolKind, PoolSize};
    use crate::fork::ForkGuard;
    use crate::handle::Shared;
    use std::iter;
    use std::sync::Arc;

    const BUFFERS: u16 = 128;

    /// Makes chunks of what it is given.
    struct Source(Pool);

    impl Source {
        fn new() -> Source {
            let shared = Arc::new(Shared::new(ForkGuard::new().unwrap()).unwrap());
            let size = PoolSize { buffer_size: SEGMENT, count: BUFFERS };
            Source(Pool::new(size, PoolKind::List, shared, |_| Ok(())).unwrap())
        }

        fn chunk(&mut self, bytes: &[u8]) -> Chunk {
            self.0.replenish();
            let fill = |buffer: &mut [u8]| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            };
            self.0.fill(fill).expect("a free buffer").unwrap()
        }

        fn lent(&mut self) -> usize {
            self.0.replenish();
            usize::from(BUFFERS) - self.0.available()
        }
    }

    fn random_bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
        // Few letters, so that delimiters are found, and found in part.
        (0..random.usize(1..=most)).map(|_| random.u8(b'a'..=b'c')).collect()
    }

    /// Where a delimiter ends, looked for the simple way.
    fn find(model: &[u8], delimiter: &[u8]) -> Option<usize> {
        let found = model.windows(delimiter.len()).position(|window| window == delimiter);
        found.map(|at| at + delimiter.len())
    }

    #[test]
    fn it_is_a_queue_of_bytes_however_they_came_and_go() {
        let mut source = Source::new();
        for seed in 0..if cfg!(miri) { 2 } else { 200 } {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut queue, mut model) = (Queue::default(), Vec::new());
            for step in 0..200 {
                let context = format!("seed {seed}, step {step}");
                match random.u8(..9) {
                    0..3 => {
                        let most = if random.u8(..8) == 0 { SEGMENT } else { 20 };
                        let bytes = random_bytes(&mut random, most);
                        queue.push(source.chunk(&bytes), random.bool());
                        model.extend_from_slice(&bytes);
                    }
                    3 => {
                        let count = random.usize(..=model.len());
                        queue.advance(count);
                        model.drain(..count);
                    }
                    4 => {
                        let count = random.usize(..=model.len().min(40));
                        let taken: Vec<u8> = model.drain(..count).collect();
                        assert_eq!(queue.take(count), taken, "{context}");
                    }
                    5 => {
                        let mut target = vec![0; random.usize(..40)];
                        let filled = queue.fill(&mut target);
                        assert_eq!(filled, target.len().min(model.len()), "{context}");
                        let taken: Vec<u8> = model.drain(..filled).collect();
                        assert_eq!(target[..filled], taken, "{context}");
                    }
                    6 => {
                        if let Some(mut piece) = queue.pop() {
                            let read = random.usize(..=piece.len());
                            assert_eq!(piece[..read], model[..read], "{context}");
                            piece.advance(read);
                            model.drain(..read);
                            queue.unpop(piece);
                        }
                    }
                    7 => {
                        let delimiter = random_bytes(&mut random, 4);
                        let found = queue.find(&delimiter, 0);
                        assert_eq!(found, find(&model, &delimiter), "{context}");
                    }
                    _ => queue.give_back(),
                }
                assert_eq!(queue.len(), model.len(), "{context}");
                let lent =
                    iter::once(&queue.first).chain(&queue.rest).filter(|piece| piece.is_lent());
                assert_eq!(source.lent(), lent.count(), "{context}");
                let lent = queue.rest.iter().filter(|piece| piece.is_lent());
                assert_eq!(queue.lent(), lent.count(), "{context}");
            }
            assert_eq!(queue.take(model.len()), model, "seed {seed}");
            assert_eq!(source.lent(), 0, "seed {seed}");
        }
    }

    #[test]
    fn the_first_piece_and_large_ones_keep_their_buffers_and_give_them_back() {
        let mut source = Source::new();
        let mut queue = Queue::default();
        let small = [1; WORTH_KEEPING - 1];
        let large = [2; WORTH_KEEPING];
        queue.push(source.chunk(&small), true);
        queue.push(source.chunk(&large), true);
        queue.push(source.chunk(&small), true);
        queue.push(source.chunk(&large), false);
        queue.push(source.chunk(&large), true);
        assert_eq!(source.lent(), 3);
        let bytes = [&small[..], &large, &small, &large, &large].concat();
        queue.give_back();
        assert_eq!((source.lent(), queue.lent()), (0, 0));
        queue.push(source.chunk(&large), true);
        assert_eq!((source.lent(), queue.lent()), (1, 1));
        assert_eq!(queue.take(queue.len()), [&bytes[..], &large].concat());
        assert_eq!((source.lent(), queue.lent()), (0, 0));
    }

    #[test]
    fn a_search_goes_on_where_it_stopped() {
        let mut source = Source::new();
        let mut queue = Queue::default();
        queue.push(source.chunk(b"ab\r"), true);
        queue.push(source.chunk(b"\ncd"), true);
        assert_eq!(queue.find(b"\r\n", 0), Some(4));
        assert_eq!(queue.find(b"\r\n", 2), Some(4));
        assert_eq!(queue.find(b"\r\n", 3), None);
        assert_eq!(queue.find(b"cd", 3), Some(6));
        assert_eq!(queue.find(b"cde", 0), None);
    }

    #[test]
    fn small_pieces_share_memory_of_limited_size() {
        let mut source = Source::new();
        let mut queue = Queue::default();
        for _ in 0..3 * SEGMENT / 64 {
            queue.push(source.chunk(&[0; 64]), false);
        }
        assert_eq!(queue.len(), 3 * SEGMENT);
        assert_eq!(1 + queue.rest.len(), 3);
    }

    #[cfg(feature = "regex")]
    #[test]
    fn it_can_be_had_in_one_piece_and_goes_on_as_before() {
        let mut source = Source::new();
        let mut queue = Queue::default();
        queue.push(source.chunk(b"ab"), true);
        queue.push(source.chunk(b"cd"), true);
        assert_eq!(queue.make_contiguous(), b"abcd");
        queue.push(source.chunk(b"ef"), true);
        queue.advance(1);
        assert_eq!(queue.make_contiguous(), b"bcdef");
        assert_eq!(queue.take(5), b"bcdef");
        assert_eq!((source.lent(), queue.lent()), (0, 0));
    }
}
