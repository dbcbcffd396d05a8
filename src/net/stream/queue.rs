//! Bytes that have been received and not been read yet.

use crate::buffer::Chunk;
use std::collections::VecDeque;

/// Room for small pieces that are copied together, in bytes.
const SEGMENT: usize = 16 * 1024;

/// What the queue is made of.
enum Piece {
    /// In a buffer of the pool.
    Lent(Chunk),
    /// Copied out of one. Read from the index on.
    Copied(Vec<u8>, usize),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Lent(chunk) => chunk,
            Piece::Copied(bytes, from) => &bytes[*from..],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Lent(chunk) => chunk.advance(count),
            Piece::Copied(_, from) => *from += count,
        }
    }
}

/// A queue of bytes, in pieces.
///
/// Only the first piece keeps a buffer of the pool. Whoever does not read does not keep the others
/// from receiving: what comes after is copied, and its buffer goes back at once.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    len: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.len += chunk.len();
        match self.pieces.back_mut() {
            None => self.pieces.push_back(Piece::Lent(chunk)),
            Some(Piece::Copied(bytes, _)) if bytes.capacity() - bytes.len() >= chunk.len() => {
                bytes.extend_from_slice(&chunk);
            }
            Some(_) => {
                let mut bytes = Vec::with_capacity(chunk.len().max(SEGMENT));
                bytes.extend_from_slice(&chunk);
                self.pieces.push_back(Piece::Copied(bytes, 0));
            }
        }
    }

    /// The first bytes, as many as are in one piece.
    pub(super) fn front(&self) -> &[u8] {
        self.pieces.front().map_or(&[], Piece::bytes)
    }

    /// Forgets the first `count` bytes, of those that are there.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let length = piece.bytes().len();
            if count < length {
                piece.advance(count);
                self.len -= count;
                return;
            }
            count -= length;
            self.len -= length;
            self.pieces.pop_front();
        }
    }

    /// Moves the first `count` bytes to the end of `target`. They are there.
    pub(super) fn take_into(&mut self, count: usize, target: &mut Vec<u8>) {
        target.reserve(count);
        let mut left = count;
        while left > 0 {
            let front = self.front();
            let part = &front[..front.len().min(left)];
            target.extend_from_slice(part);
            let part = part.len();
            self.advance(part);
            left -= part;
        }
    }

    /// Moves bytes to `target`, and returns how many.
    pub(super) fn fill(&mut self, target: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < target.len() && self.len > 0 {
            let front = self.front();
            let part = front.len().min(target.len() - filled);
            target[filled..filled + part].copy_from_slice(&front[..part]);
            self.advance(part);
            filled += part;
        }
        filled
    }

    /// Takes the first piece out, as it is.
    pub(super) fn pop(&mut self) -> Option<Received> {
        let piece = self.pieces.pop_front()?;
        self.len -= piece.bytes().len();
        Some(match piece {
            Piece::Lent(chunk) => Received::Lent(chunk),
            Piece::Copied(bytes, from) => Received::Copied(bytes, from),
        })
    }

    /// Where the first `delimiter` at or after `from` ends.
    pub(super) fn find(&self, delimiter: &[u8], from: usize) -> Option<usize> {
        let Some(&first) = delimiter.first() else { return Some(from) };
        let mut base = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let bytes = piece.bytes();
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
    fn matches(&self, mut piece: usize, mut at: usize, mut delimiter: &[u8]) -> bool {
        while !delimiter.is_empty() {
            let Some(bytes) = self.pieces.get(piece).map(Piece::bytes) else { return false };
            let part = (bytes.len() - at).min(delimiter.len());
            if bytes[at..at + part] != delimiter[..part] {
                return false;
            }
            delimiter = &delimiter[part..];
            (piece, at) = (piece + 1, 0);
        }
        true
    }

    /// All bytes in one piece.
    pub(super) fn make_contiguous(&mut self) -> &[u8] {
        if self.pieces.len() > 1 {
            let mut bytes = Vec::with_capacity(2 * self.len);
            self.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece.bytes()));
            self.pieces.clear();
            self.pieces.push_back(Piece::Copied(bytes, 0));
        }
        self.front()
    }
}

/// A piece, taken out.
pub(super) enum Received {
    Lent(Chunk),
    Copied(Vec<u8>, usize),
}
