//! The write ends of pipes.

mod stream_support;
mod support;

use ringloop::IoStream;
use std::io::Read;
use stream_support::{errno, poll_once, run, settle};
use support::new_loop;

#[test]
fn the_write_end_of_a_pipe_ends_when_its_reader_is_gone_and_not_before() {
    let io_loop = new_loop();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stream = IoStream::new(writer).unwrap();
    let mut closed = Box::pin(stream.closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    settle(&io_loop);
    assert!(!stream.is_closed(), "{:?}", stream.error());
    assert!(poll_once(closed.as_mut()).is_pending());
    run(&io_loop, async || stream.write("x").await.unwrap());
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    run(&io_loop, async || drop(closed.await));
    assert!(stream.is_closed());
}

#[test]
fn nothing_is_read_from_the_write_end_of_a_pipe() {
    let io_loop = new_loop();
    let (_reader, writer) = std::io::pipe().unwrap();
    let stream = IoStream::new(writer).unwrap();
    run(&io_loop, async || {
        assert_eq!(errno(stream.read_bytes(1).await), libc::EBADF);
        // It can be written to all the same.
        stream.write("x").await.unwrap();
    });
}
