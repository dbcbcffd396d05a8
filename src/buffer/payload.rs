//! [`Payload`], data to be sent.

use super::{Chunk, Piece};
use crate::handle::Shared;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Data to be sent. It stays where it is, and alive, until the kernel has taken it.
///
/// Made from what owns its bytes without a copy, from a borrowed slice with one:
///
/// ```
/// use ringloop::Payload;
/// use std::sync::Arc;
///
/// let owned = Payload::from(vec![1, 2, 3]);
/// let shared: Arc<[u8]> = Arc::from(&b"to many receivers"[..]);
/// let first = Payload::from(shared.clone());
/// let copied = Payload::from(&owned[1..]);
/// let constant = Payload::from_static(b"HTTP/1.1 204 No Content\r\n\r\n");
/// assert_eq!(&*copied, [2, 3]);
/// # drop((first, constant));
/// ```
pub struct Payload(Bytes);

/// Up to this many bytes are copied together.
const LONGEST_COPY: usize = 64 * 1024;

enum Bytes {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
    Piece(Piece),
}

impl Payload {
    /// Data that is always there.
    pub const fn from_static(bytes: &'static [u8]) -> Payload {
        Payload(Bytes::Static(bytes))
    }

    /// Gives the pool's buffer back, if it has one, by copying the bytes out of it.
    pub(crate) fn give_back(&mut self) {
        if let Bytes::Piece(piece) = &mut self.0 {
            piece.give_back();
        }
    }

    /// Whether it keeps a buffer of another loop's than this.
    #[inline]
    pub(super) fn is_foreign(&self, own: &Shared) -> bool {
        matches!(&self.0, Bytes::Piece(piece) if piece.is_foreign(own))
    }

    /// Copies the bytes, if they are in a buffer of another loop's than this.
    pub(crate) fn give_back_foreign(&mut self, own: &Shared) {
        if let Bytes::Piece(piece) = &mut self.0 {
            piece.give_back_foreign(own);
        }
    }

    /// The same in memory of its own.
    pub(crate) fn into_owned(self) -> Payload {
        match self.0 {
            Bytes::Owned(_) => self,
            _ => self.to_vec().into(),
        }
    }

    /// Adds a copy of `more` to the end, if this is memory of its own and has not grown large.
    pub(crate) fn append(&mut self, more: &[u8]) -> bool {
        match &mut self.0 {
            Bytes::Owned(bytes) if bytes.len() + more.len() <= LONGEST_COPY => {
                bytes.extend_from_slice(more);
                true
            }
            _ => false,
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
            Bytes::Piece(piece) => piece,
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::from_static(&[])
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Bytes::Owned(bytes))
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        text.into_bytes().into()
    }
}

impl From<Box<[u8]>> for Payload {
    fn from(bytes: Box<[u8]>) -> Payload {
        bytes.into_vec().into()
    }
}

impl From<Arc<[u8]>> for Payload {
    fn from(bytes: Arc<[u8]>) -> Payload {
        Payload(Bytes::Shared(bytes))
    }
}

impl From<Arc<str>> for Payload {
    fn from(text: Arc<str>) -> Payload {
        Arc::<[u8]>::from(text).into()
    }
}

impl From<Chunk> for Payload {
    fn from(chunk: Chunk) -> Payload {
        Piece::from(chunk).into()
    }
}

impl From<Piece> for Payload {
    fn from(piece: Piece) -> Payload {
        Payload(Bytes::Piece(piece))
    }
}

/// Copies.
impl From<&Vec<u8>> for Payload {
    fn from(bytes: &Vec<u8>) -> Payload {
        bytes.as_slice().into()
    }
}

/// Copies.
impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Payload {
        bytes.to_vec().into()
    }
}

/// Copies.
impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Payload {
        bytes.to_vec().into()
    }
}

/// Copies.
impl From<&str> for Payload {
    fn from(text: &str) -> Payload {
        text.as_bytes().into()
    }
}

/// Copies.
impl From<&String> for Payload {
    fn from(text: &String) -> Payload {
        text.as_str().into()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_added_to_memory_of_its_own_alone() {
        let mut owned = Payload::from(b"ab");
        assert!(owned.append(b"cd"));
        assert_eq!(&*owned, b"abcd");
        assert!(!Payload::from_static(b"ab").append(b"cd"));
        assert!(!Payload::from(Arc::<[u8]>::from(&b"ab"[..])).append(b"cd"));
        assert!(!Payload::from(Piece::copy_of(b"ab")).append(b"cd"));
    }

    #[test]
    fn text_and_bytes_that_are_owned_stay_where_they_are() {
        let (boxed, text) = (Box::<[u8]>::from(&b"ab"[..]), Arc::<str>::from("ab"));
        let (boxed_at, text_at) = (boxed.as_ptr(), text.as_ptr());
        assert_eq!(Payload::from(boxed).as_ptr(), boxed_at);
        assert_eq!(Payload::from(text).as_ptr(), text_at);
        let lent = String::from("ab");
        assert_eq!(*Payload::from(&lent), *lent.as_bytes());
    }

    #[test]
    fn a_payload_does_not_grow_without_end() {
        let mut owned = Payload::from(vec![0; LONGEST_COPY - 1]);
        assert!(owned.append(&[1]));
        assert!(!owned.append(&[1]));
        assert_eq!(owned.len(), LONGEST_COPY);
    }
}
