//! One connection to one address.

use crate::driver::OperationKey;
use crate::driver::operation::{Operation, Outcome, Owner};
use crate::io_loop::Core;
use crate::net::{IoStream, StreamError};
use socket2::{SockAddr, Socket, Type};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// A connection in the making. Dropping it gives it up, and closes the socket.
pub(super) struct Attempt {
    core: Weak<Core>,
    /// `None` once it is over.
    state: Option<State>,
}

enum State {
    Failed(io::Error),
    Connecting(Rc<Connecting>, OperationKey),
}

impl Attempt {
    /// Begins, from an address of this machine's, or from any.
    pub(super) fn new(core: &Weak<Core>, to: &SockAddr, from: Option<SocketAddr>) -> Attempt {
        let state = begin(core, to, from);
        let state = state.unwrap_or_else(State::Failed);
        Attempt { core: core.clone(), state: Some(state) }
    }
}

fn begin(core: &Weak<Core>, to: &SockAddr, from: Option<SocketAddr>) -> io::Result<State> {
    let core = core.upgrade().ok_or(StreamError::LoopClosed)?;
    // The kernel waits for room in the backlog of a Unix socket, but only with a blocking one.
    let kind = if to.is_unix() { Type::STREAM } else { Type::STREAM.nonblocking() };
    let socket = Socket::new(to.domain(), kind, None)?;
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    let socket = OwnedFd::from(socket);
    let connect = Operation::Connect { socket: socket.as_raw_fd(), address: Box::new(to.clone()) };
    let connecting = Rc::new(Connecting {
        progress: RefCell::new(Progress::Waiting(socket, None)),
        is_unix: to.is_unix(),
    });
    let operation = core.submit(connect, connecting.clone())?;
    Ok(State::Connecting(connecting, operation))
}

impl Future for Attempt {
    type Output = io::Result<IoStream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let core = self.core.upgrade().ok_or(StreamError::LoopClosed)?;
        let socket = match self.state.take() {
            None => panic!("a connection polled after it was made"),
            Some(State::Failed(error)) => Err(error),
            Some(State::Connecting(connecting, operation)) => match connecting.poll(context) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    self.state = Some(State::Connecting(connecting, operation));
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(match socket {
            Ok(socket) => Ok(IoStream::of_socket(&core, socket)),
            Err(_) if !core.is_usable() => Err(StreamError::LoopClosed.into()),
            Err(error) => Err(error),
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(State::Connecting(_, operation)) = self.state.take()
            && let Some(core) = self.core.upgrade()
        {
            // Whatever it still comes to: then the socket goes.
            core.cancel(operation);
        }
    }
}

/// Owns the socket until the kernel is done with it.
struct Connecting {
    progress: RefCell<Progress>,
    is_unix: bool,
}

enum Progress {
    Waiting(OwnedFd, Option<Waker>),
    Done(io::Result<OwnedFd>),
    Taken,
}

impl Connecting {
    fn poll(&self, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        // User code, before anything is borrowed.
        let waker = context.waker().clone();
        let mut progress = self.progress.borrow_mut();
        let (result, waker) = match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Done(result) => (Poll::Ready(result), Some(waker)),
            Progress::Taken => unreachable!("the result is taken once"),
            Progress::Waiting(socket, before) => {
                *progress = Progress::Waiting(socket, Some(waker));
                (Poll::Pending, before)
            }
        };
        drop(progress);
        drop(waker);
        result
    }

    /// Makes the socket as streams want it.
    fn finish(&self, socket: OwnedFd) -> io::Result<OwnedFd> {
        if self.is_unix {
            socket2::SockRef::from(&socket).set_nonblocking(true)?;
        }
        Ok(socket)
    }
}

impl Owner for Connecting {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        let Outcome::Connected(result) = outcome else { return };
        let mut progress = self.progress.borrow_mut();
        let Progress::Waiting(socket, waker) = std::mem::replace(&mut *progress, Progress::Taken)
        else {
            return;
        };
        *progress = Progress::Done(result.and_then(|()| self.finish(socket)));
        drop(progress);
        waker.into_iter().for_each(Waker::wake);
    }
}
