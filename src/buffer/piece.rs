//! [`Piece`], received data on its way to whoever reads it.

use super::Chunk;
use crate::handle::Shared;
use std::fmt;
use std::ops::Deref;

/// A piece of received data, as long as it happened to come.
///
/// As a rule it is a [`Chunk`], still where the kernel has put it, and keeps one buffer of the
/// pool until it is dropped. Data that had to wait for its reader may have been copied out of its
/// buffer meanwhile. Either way it can be written to another stream without being copied again (but
/// if that is another loop's, and what is written has to wait for its peer, it is):
///
/// ```
/// use ringloop::{IoLoop, IoStream};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (stream, mut peer) = UnixStream::pair()?;
/// peer.write_all(b"echo")?;
/// IoLoop::new()?.run_sync(async || {
///     let stream = IoStream::from(stream);
///     let piece = stream.chunk().await?.expect("the peer has sent something");
///     assert_eq!(&*piece, b"echo");
///     stream.write(piece).await
/// }, None)??;
/// let mut echo = [0; 4];
/// peer.read_exact(&mut echo)?;
/// assert_eq!(&echo, b"echo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Piece(Kind);

/// Two words, because pieces are moved often.
enum Kind {
    Lent(Chunk),
    /// Nothing, if there is none.
    Copied(Option<Box<Copied>>),
}

struct Copied {
    bytes: Vec<u8>,
    /// What is before has been read.
    from: usize,
}

impl Piece {
    pub(crate) fn copy_of(bytes: &[u8]) -> Piece {
        Piece::owned(bytes.to_vec())
    }

    pub(crate) fn owned(bytes: Vec<u8>) -> Piece {
        Piece(Kind::Copied(Some(Box::new(Copied { bytes, from: 0 }))))
    }

    /// Whether it keeps a buffer of the pool.
    pub fn is_lent(&self) -> bool {
        matches!(self.0, Kind::Lent(_))
    }

    /// Forgets the first `count` bytes, or all if there are fewer.
    pub fn advance(&mut self, count: usize) {
        match &mut self.0 {
            Kind::Lent(chunk) => chunk.advance(count),
            Kind::Copied(Some(copied)) => {
                copied.from += count.min(copied.bytes.len() - copied.from);
            }
            Kind::Copied(None) => {}
        }
    }

    /// Forgets all but the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.0 {
            Kind::Lent(chunk) => chunk.truncate(length),
            Kind::Copied(Some(copied)) => {
                copied.bytes.truncate(copied.from.saturating_add(length));
            }
            Kind::Copied(None) => {}
        }
    }

    /// The bytes as a vector: without a copy if they have been copied already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Kind::Lent(chunk) => chunk.to_vec(),
            Kind::Copied(Some(copied)) => {
                let Copied { mut bytes, from } = *copied;
                bytes.drain(..from);
                bytes
            }
            Kind::Copied(None) => Vec::new(),
        }
    }

    /// Gives the pool's buffer back, if it has one, by copying the bytes out of it.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        if self.is_lent() {
            self.copy_out();
        }
    }

    /// Whether it keeps a buffer of another loop's than this.
    #[inline]
    pub(super) fn is_foreign(&self, own: &Shared) -> bool {
        matches!(&self.0, Kind::Lent(chunk) if !chunk.is_of(own))
    }

    /// Copies the bytes, if they are in a buffer of another loop's, which cannot have it given back.
    pub(super) fn give_back_foreign(&mut self, own: &Shared) {
        if self.is_foreign(own) {
            self.copy_out();
        }
    }

    #[inline(never)]
    fn copy_out(&mut self) {
        *self = Piece::copy_of(self);
    }

    /// The vector to append to, if it is one.
    pub(crate) fn as_vec(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.0 {
            Kind::Copied(Some(copied)) => Some(&mut copied.bytes),
            Kind::Lent(_) | Kind::Copied(None) => None,
        }
    }
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Lent(chunk) => chunk,
            Kind::Copied(Some(copied)) => &copied.bytes[copied.from..],
            Kind::Copied(None) => &[],
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Without bytes.
impl Default for Piece {
    fn default() -> Piece {
        Piece(Kind::Copied(None))
    }
}

impl From<Chunk> for Piece {
    fn from(chunk: Chunk) -> Piece {
        Piece(Kind::Lent(chunk))
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({:?})", self.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_two_words() {
        assert_eq!(size_of::<Piece>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_copied_piece_gives_up_its_ends() {
        let mut piece = Piece::copy_of(b"abcdef");
        piece.advance(2);
        piece.truncate(3);
        assert_eq!(&*piece, b"cde");
        piece.truncate(usize::MAX);
        assert_eq!(&*piece, b"cde");
        assert_eq!(piece.into_vec(), b"cde");
        let mut piece = Piece::copy_of(b"abc");
        piece.advance(1);
        piece.advance(usize::MAX);
        assert!(piece.is_empty());
    }
}
