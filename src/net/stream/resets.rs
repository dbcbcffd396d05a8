//! Telling resets from ends.
//!
//! A socket tells of an error once. If a send has taken it, there is nothing left for the receiving
//! side to find, and that looks like the end of what the other side sends.

use super::error::Reason;
use super::inner::Inner;
use crate::driver::operation::StreamKind;
use crate::sys;
use std::os::fd::{AsFd, AsRawFd};
use std::task::Poll;

impl Inner {
    /// What it means that nothing more comes: the other side has ended what it sends, or it has not.
    /// Pending if a send is about to tell.
    pub(super) fn nothing_more(&self) -> Poll<Result<(), Reason>> {
        let (failed, is_sending) = {
            let outgoing = self.outgoing.borrow();
            (outgoing.failed(), outgoing.is_sending())
        };
        let may_be_reset = failed.is_some() || is_sending;
        if may_be_reset && self.kind == StreamKind::Socket {
            return self.find_reset(failed);
        }
        Poll::Ready(Ok(()))
    }

    #[cold]
    fn find_reset(&self, failed: Option<Reason>) -> Poll<Result<(), Reason>> {
        let socket = self.as_fd().as_raw_fd();
        let is_over = sys::poll_now(socket, 0) & libc::POLLHUP as u32 != 0;
        if !is_over {
            // It can still send: this is the end, or reading was shut down here.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match (sys::has_received_end(socket), failed) {
            (Some(true), _) => Ok(()),
            // What is being sent fails at once.
            (_, None) => return Poll::Pending,
            // The socket was shut down here.
            (Some(false), Some(_)) if !sys::is_closed_tcp(socket) => Ok(()),
            // A send that was done in part has taken the error, and has not told.
            (Some(false), Some(Reason::BROKEN)) => Err(Reason::RESET),
            (Some(false), Some(reason)) => Err(reason),
            (None, Some(Reason::RESET)) => Err(Reason::RESET),
            (None, Some(_)) => Ok(()),
        })
    }

    /// Why nothing can be sent to a socket that is broken. Whoever has met the reason first has taken
    /// it away: a receive, which has told, or a send that was done in part, which has not.
    #[cold]
    pub(super) fn why_broken(&self) -> Reason {
        match self.incoming.borrow().ended() {
            Some(Err(reason @ Reason::Os(_))) => return reason,
            Some(Ok(())) => return Reason::BROKEN,
            Some(Err(_)) | None => {}
        }
        let socket = self.as_fd().as_raw_fd();
        // Shut down here, it would be closed only when both sides have ended.
        match sys::is_closed_tcp(socket) && sys::has_received_end(socket) == Some(false) {
            true => Reason::RESET,
            false => Reason::BROKEN,
        }
    }
}
