//! Polls that fail: for a while, or for good.

use super::fail_next;
use super::line::{new_loop, turn};
use crate::net::TcpListener;
use crate::{Events, IoLoop, KernelFeatures, Panics};
use std::cell::RefCell;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

const PASSING: [i32; 4] = [libc::ENOMEM, libc::EAGAIN, libc::EINTR, libc::ECANCELED];

/// The masks that a handler is called with, of a file that can be read, in each of three turns, if the
/// first poll fails.
fn told_in_three_turns(errno: i32) -> [Vec<Events>; 3] {
    let io_loop = new_loop(8, 16);
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let masks = Rc::new(RefCell::new(Vec::new()));
    let told = masks.clone();
    let handler = move |_: &mut UnixStream, events| told.borrow_mut().push(events);
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    peer.write_all(b"x").unwrap();
    fail_next(errno);
    [(); 3].map(|()| {
        turn(&io_loop).unwrap();
        masks.take()
    })
}

#[test]
fn a_handler_whose_poll_fails_for_a_while_is_told_in_the_next_turn() {
    for errno in PASSING {
        let told = [vec![], vec![Events::READ], vec![Events::READ]];
        assert_eq!(told_in_three_turns(errno), told, "{errno}");
    }
}

#[test]
fn a_handler_whose_poll_fails_for_good_is_told_once() {
    assert_eq!(told_in_three_turns(libc::EBADF), [vec![Events::ERROR], vec![], vec![]]);
}

/// What one who waits for a connection is told, if the first poll of the listener fails.
fn accept(errno: i32) -> Option<i32> {
    let builder = IoLoop::builder().entries(8).panics(Panics::Propagate);
    let io_loop = builder.without(KernelFeatures::MULTISHOT_ACCEPT).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = io_loop.spawn(async move { listener.accept().await.map(drop) });
    // It looks itself before it asks.
    (0..2).for_each(|_| turn(&io_loop).unwrap());
    let _client = TcpStream::connect(address).unwrap();
    fail_next(errno);
    (0..4).for_each(|_| turn(&io_loop).unwrap());
    let result = accepting.into_output().expect("nobody is told").unwrap();
    result.err().map(|error| error.raw_os_error().unwrap())
}

#[test]
fn an_operation_whose_poll_fails_for_a_while_is_done_all_the_same() {
    for errno in [libc::ENOMEM, libc::EAGAIN, libc::EINTR] {
        assert_eq!(accept(errno), None, "{errno}");
    }
}

#[test]
fn an_operation_whose_poll_fails_for_good_ends() {
    assert_eq!(accept(libc::EBADF), Some(libc::EBADF));
}
