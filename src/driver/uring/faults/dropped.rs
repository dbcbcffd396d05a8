//! Completions that the kernel has dropped, as it had no memory to keep them.

use super::line::{Line, new_loop, new_silent_loop, next_turn, run, turn};
use super::{Fault, Faults};
use crate::IoStream;
use crate::net::StreamError;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

#[track_caller]
fn assert_told(result: io::Result<()>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("Builder::cq_entries"), "{error}");
}

#[test]
fn sends_that_may_not_have_been_done_fail_their_streams() {
    let Some(io_loop) = new_silent_loop(64, 64) else { return };
    let mut lines = [Line::new(), Line::full()];
    turn(&io_loop).unwrap();
    let _faults = Faults::script([Fault::Drop]);
    let data: Arc<[u8]> = [7; 1000].into();
    for line in &mut lines {
        let write = line.write_shared(&data);
        line.wait_for(write);
    }
    turn(&io_loop).unwrap();
    for line in &mut lines {
        line.check();
        assert_eq!(line.sent, 0);
        assert_eq!(line.refusal(), Some(StreamError::SendUnknown));
    }
    assert_eq!(Arc::strong_count(&data), 1, "they are over all the same");
    assert_told(turn(&io_loop));
    io_loop.close(false).unwrap();
}

#[test]
fn sends_that_are_not_taken_in_yet_are_not_given_up_with_others() {
    let Some(io_loop) = new_silent_loop(64, 64) else { return };
    let mut lines = [Line::full(), Line::new(), Line::new()];
    turn(&io_loop).unwrap();
    // The last one takes out what has completed.
    let _faults = Faults::script([Fault::Take(2), Fault::Fail(libc::EAGAIN), Fault::Drop]);
    let data: Arc<[u8]> = [7; 1000].into();
    run(&io_loop, async || {
        for line in &mut lines {
            let write = line.write_shared(&data);
            line.wait_for(write);
        }
        next_turn().await;
        lines.iter_mut().for_each(Line::check);
        assert!(lines[1].received() == 1000 && lines[2].received() == 0);
        assert!(lines.iter_mut().all(|line| line.refusal().is_none()));
        assert_eq!(Arc::strong_count(&data), 4);
    });
    assert_told(turn(&io_loop));
    io_loop.close(false).unwrap();
    lines.iter_mut().for_each(Line::check);
    assert!(lines[2].received() == 1000);
    assert!(lines.iter_mut().all(|line| line.refusal() == Some(StreamError::SendUnknown)));
}

/// Closes a loop that has lost what came of a reception, by itself the last word or not.
fn lose_what_is_received(then: impl FnOnce(UnixStream) -> Option<UnixStream>) {
    let io_loop = new_loop(64, 64);
    let (stream, peer) = UnixStream::pair().unwrap();
    let stream = IoStream::from(stream);
    let reader = io_loop.spawn(async move { stream.read_bytes(1).await });
    turn(&io_loop).unwrap();
    let _peer = then(peer);
    // The kernel lets nobody sleep after that, once.
    let _faults = Faults::script([Fault::Drop, Fault::Fail(libc::EBADR)]);
    assert_told(io_loop.start());
    assert_told(io_loop.start());
    assert!(!reader.is_finished());
    let before = io_loop.metrics().enters;
    io_loop.close(false).unwrap();
    assert!(reader.is_finished());
    // It gives up looking for what is not there, and sleeps.
    let enters = io_loop.metrics().enters - before;
    assert!(enters < 1000, "{enters} enters");
}

#[test]
fn a_loop_that_waits_for_what_was_dropped_ends_and_can_be_closed() {
    lose_what_is_received(|mut peer| {
        peer.write_all(b"x").unwrap();
        Some(peer)
    });
}

#[test]
fn a_loop_whose_operation_never_completes_can_be_closed() {
    lose_what_is_received(|_peer| None);
}

#[test]
fn nobody_is_given_what_was_received_for_another_whose_completion_was_dropped() {
    let io_loop = new_loop(64, 64);
    let mut lines = Vec::new();
    for byte in [1u8, 2] {
        let (stream, peer) = UnixStream::pair().unwrap();
        let stream = IoStream::from(stream);
        let reader = io_loop.spawn(async move { stream.read_partial(100).await });
        lines.push((byte, peer, reader));
    }
    turn(&io_loop).unwrap();
    for (byte, peer, _) in &mut lines {
        peer.write_all(&[*byte; 100]).unwrap();
    }
    let _faults = Faults::script([Fault::DropFirst(1)]);
    turn(&io_loop).unwrap();
    assert_told(turn(&io_loop));
    io_loop.close(false).unwrap();
    for (byte, _peer, reader) in lines {
        if let Some(Ok(Ok(bytes))) = reader.into_output() {
            assert_eq!(bytes, [byte; 100]);
        }
    }
}
