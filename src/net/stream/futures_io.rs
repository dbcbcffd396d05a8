//! The traits of `futures-io`, for codecs and other crates that know of no particular runtime.

use super::inner::Inner;
use super::{IoStream, ReadHalf, WriteHalf};
use crate::buffer::{Payload, Piece};
use crate::net::waiters::Ticket;
use crate::net::wakers::Wakers;
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// What is kept between one poll and the next.
#[derive(Default)]
pub(super) struct Polled {
    /// Shown to whoever reads, who has not said yet how much of it is read.
    piece: RefCell<Option<Piece>>,
    ticket: Option<Ticket>,
}

impl Polled {
    /// Puts back what was shown and not read: another read is to have it.
    pub(super) fn put_back(&self, inner: &Inner) {
        let piece = self.piece.take();
        if let Some(piece) = piece {
            let scarce = inner.are_buffers_scarce();
            let waiting = inner.incoming.borrow_mut().unread(piece, scarce);
            Wakers::one(waiting).wake();
        }
    }

    fn fill_buffer(
        &mut self,
        inner: &Rc<Inner>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>> {
        let piece = self.piece.get_mut();
        if piece.is_none() {
            *piece = ready!(inner.poll_read(context, None, |incoming| incoming.read_piece()))?;
        }
        Poll::Ready(Ok(piece.as_deref().unwrap_or(&[])))
    }

    /// What is not consumed goes back at once, to be had by all who read, and by those who look for
    /// buffers.
    fn consume(&mut self, inner: &Inner, count: usize) {
        if let Some(piece) = self.piece.get_mut() {
            piece.advance(count);
            self.put_back(inner);
        }
    }

    fn read(
        &mut self,
        inner: &Rc<Inner>,
        context: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.put_back(inner);
        inner.poll_read(context, None, |incoming| incoming.read_into(target))
    }

    fn write(
        &mut self,
        inner: &Rc<Inner>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let find_room = || inner.outgoing.borrow().room().min(wanted);
        let mut room = find_room();
        if room == 0 && wanted > 0 {
            inner.wait_for_room(&mut self.ticket, context);
            // The waker was cloned, which is user code, and may have run the loop.
            room = find_room();
            if room == 0 {
                return Poll::Pending;
            }
        }
        let mut bytes = Vec::with_capacity(room);
        for piece in pieces {
            let part = piece.len().min(room - bytes.len());
            bytes.extend_from_slice(&piece[..part]);
        }
        Poll::Ready(inner.write(Payload::from(bytes)).map(|_| room))
    }

    fn flush(&mut self, inner: &Inner, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = inner.outgoing.borrow().written();
        inner.poll_taken(written, &mut self.ticket, context)
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").finish_non_exhaustive()
    }
}

impl IoStream {
    pub(super) fn put_back(&self) {
        self.polled.put_back(&self.inner);
    }
}

/// The parts of a stream or a half that the traits need.
trait Parts {
    fn parts(&mut self) -> (&Rc<Inner>, &mut Polled);
}

impl Parts for IoStream {
    fn parts(&mut self) -> (&Rc<Inner>, &mut Polled) {
        (&self.inner, &mut self.polled)
    }
}

impl Parts for ReadHalf {
    fn parts(&mut self) -> (&Rc<Inner>, &mut Polled) {
        (&self.stream.inner, &mut self.polled)
    }
}

impl Parts for WriteHalf {
    fn parts(&mut self) -> (&Rc<Inner>, &mut Polled) {
        (&self.stream.inner, &mut self.polled)
    }
}

macro_rules! reads {
    ($reader:ty) => {
        /// With the feature `futures-io`. Copies once, out of the buffer that the kernel has filled.
        impl AsyncRead for $reader {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                target: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let (inner, polled) = self.get_mut().parts();
                polled.read(inner, context, target)
            }
        }

        /// With the feature `futures-io`. Copies nothing: what is shown is the buffer that the kernel has filled.
        impl AsyncBufRead for $reader {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                let (inner, polled) = self.get_mut().parts();
                polled.fill_buffer(inner, context)
            }

            fn consume(self: Pin<&mut Self>, count: usize) {
                let (inner, polled) = self.get_mut().parts();
                polled.consume(inner, count);
            }
        }
    };
}

macro_rules! writes {
    ($writer:ty) => {
        /// With the feature `futures-io`. Copies once, into the queue of what is sent. What does not
        /// fit there waits, instead of being refused. Closing ends what the other side reads; if that
        /// is the other end of a pipe, then only when the stream is dropped.
        impl AsyncWrite for $writer {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let (inner, polled) = self.get_mut().parts();
                polled.write(inner, context, &[IoSlice::new(bytes)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let (inner, polled) = self.get_mut().parts();
                polled.write(inner, context, pieces)
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let (inner, polled) = self.get_mut().parts();
                polled.flush(inner, context)
            }

            fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let (inner, polled) = self.get_mut().parts();
                inner.end_sending();
                polled.flush(inner, context)
            }
        }
    };
}

reads!(IoStream);
reads!(ReadHalf);
writes!(IoStream);
writes!(WriteHalf);
