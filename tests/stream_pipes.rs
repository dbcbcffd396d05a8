//! The ends of pipes.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream, KernelFeatures, Panics};
use std::io::{Read, Write};
use std::time::Duration;
use stream_support::{errno, poll_and_drop, poll_once, run, settle};
use support::{new_loop, watchdog};

/// Runs a test for each way in which a pipe is read, whether what has come is completed when the loop
/// asks for it or before.
fn all_ways(test: impl Fn(&IoLoop)) {
    let on_demand = KernelFeatures::DEFER_TASKRUN | KernelFeatures::COOP_TASKRUN;
    let ways = [KernelFeatures::empty(), KernelFeatures::INCREMENTAL, KernelFeatures::BUFFER_RING];
    for without in ways.into_iter().flat_map(|way| [way, way | on_demand]) {
        watchdog();
        let builder = IoLoop::builder().panics(Panics::Propagate).without(without);
        test(&builder.build().unwrap());
    }
}

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

#[test]
fn a_pipe_that_is_closed_takes_nothing_more() {
    let io_loop = new_loop();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut other = reader.try_clone().unwrap();
    let stream = IoStream::new(reader).unwrap();
    assert!(poll_and_drop(stream.read_bytes(1)).is_pending());
    settle(&io_loop);
    stream.close();
    settle(&io_loop);
    writer.write_all(b"data").unwrap();
    settle(&io_loop);
    socket2::SockRef::from(&other).set_nonblocking(true).unwrap();
    let mut data = [0; 4];
    other.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"data");
}

#[test]
fn what_a_pipe_had_no_room_for_is_not_written_after_a_close() {
    let io_loop = new_loop();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stream = IoStream::new(writer).unwrap();
    let written = 4 << 20;
    stream.write(vec![1; written]).queued().unwrap();
    settle(&io_loop);
    stream.close();
    settle(&io_loop);
    socket2::SockRef::from(&reader).set_nonblocking(true).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = reader.read(&mut buffer) {
        assert!(count > 0);
        received += count;
        settle(&io_loop);
    }
    // Not less than a page, and no more than there was room for.
    assert!((4096..written).contains(&received), "{received} bytes");
}

#[test]
fn a_pipe_ends_without_another_piece_when_its_writer_is_gone() {
    all_ways(|io_loop| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let stream = IoStream::new(reader).unwrap();
        run(io_loop, async || {
            writer.write_all(b"data").unwrap();
            assert_eq!(&*stream.chunk().await.unwrap().unwrap(), b"data");
            let mut end = Box::pin(stream.chunk());
            assert!(poll_once(end.as_mut()).is_pending());
            ringloop::time::sleep(Duration::from_millis(1)).await;
            drop(writer);
            assert!(end.await.unwrap().is_none());
        });
    });
}

#[test]
fn a_pipe_that_is_dropped_when_data_has_just_come_is_closed() {
    all_ways(|io_loop| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let stream = IoStream::new(reader).unwrap();
        assert!(poll_and_drop(stream.read_bytes(1)).is_pending());
        settle(io_loop);
        writer.write_all(b"data").unwrap();
        drop(stream);
        assert_eq!(errno(writer.write(b"x")), libc::EPIPE);
    });
}
