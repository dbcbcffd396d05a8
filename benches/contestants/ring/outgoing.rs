//! What a connection of the completion server has to send, and the requests that send it.

use super::buffers::{Buffers, Piece};
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;

/// All of it, or an error.
const WHOLE: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// In the enter that submits it, or never: if some of it is refused, that much was sent.
const AT_ONCE: i32 = WHOLE | libc::MSG_DONTWAIT;
/// Pieces that one request sends.
const GATHERED: usize = 16;

/// Pieces that wait for being sent, in order.
#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: Vec<Piece>,
    /// So many of them are with the kernel.
    under_way: usize,
    header: Option<Box<Header>>,
}

impl Outgoing {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the kernel is sending some of it.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Whether there is some that the kernel is not sending.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.pieces.len() > self.under_way
    }

    #[inline]
    pub(crate) fn add(&mut self, piece: Piece, buffers: &mut Buffers) {
        let last = self.pieces[self.under_way..].last_mut();
        if !last.is_some_and(|last| buffers.joined(last, &piece)) {
            self.pieces.push(piece);
        }
    }

    /// Sends without waiting. What the request refers to stays until the next call, and the pieces
    /// until they are released.
    #[inline]
    pub(crate) fn send_at_once(&mut self, fd: Fd, flags: i32) -> Entry {
        self.send(fd, AT_ONCE | flags)
    }

    /// Sends, however long it takes. As above.
    pub(crate) fn send_and_wait(&mut self, fd: Fd) -> Entry {
        self.send(fd, WHOLE)
    }

    #[inline]
    fn send(&mut self, fd: Fd, flags: i32) -> Entry {
        self.under_way = self.pieces.len().min(GATHERED);
        match &self.pieces[..self.under_way] {
            [piece] => opcode::Send::new(fd, piece.start, piece.length as u32).flags(flags).build(),
            several => {
                let header = self.header.get_or_insert_with(|| Box::new(Header::new()));
                opcode::SendMsg::new(fd, header.fill(several)).flags(flags as u32).build()
            }
        }
    }

    /// Everything under way has been sent.
    #[inline]
    pub(crate) fn sent(&mut self, buffers: &mut Buffers) {
        let sent = std::mem::take(&mut self.under_way);
        self.pieces[..sent].iter().for_each(|piece| buffers.release(piece));
        self.pieces.drain(..sent);
    }

    /// So many bytes have been sent of what was under way. True if that is all.
    pub(crate) fn sent_bytes(&mut self, mut bytes: usize, buffers: &mut Buffers) -> bool {
        let mut whole = 0;
        for piece in &mut self.pieces[..self.under_way] {
            if bytes < piece.length {
                piece.start = piece.start.wrapping_add(bytes);
                piece.length -= bytes;
                break;
            }
            bytes -= piece.length;
            whole += 1;
        }
        let all = whole == self.under_way;
        self.under_way = whole;
        self.sent(buffers);
        all
    }

    /// The peer will not have any of it.
    pub(crate) fn discard(&mut self, buffers: &mut Buffers) {
        self.under_way = self.pieces.len();
        self.sent(buffers);
    }
}

/// The header of a message of several pieces.
struct Header {
    message: libc::msghdr,
    vectors: [libc::iovec; GATHERED],
}

impl Header {
    fn new() -> Header {
        // SAFETY: numbers and pointers, of which zero is a valid value.
        unsafe { std::mem::zeroed() }
    }

    fn fill(&mut self, pieces: &[Piece]) -> &libc::msghdr {
        for (vector, piece) in self.vectors.iter_mut().zip(pieces) {
            *vector =
                libc::iovec { iov_base: piece.start.cast_mut().cast(), iov_len: piece.length };
        }
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = pieces.len();
        &self.message
    }
}
