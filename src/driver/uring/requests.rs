//! Operations as requests: what is handed to the kernel for each.

use super::operations::LONGEST_QUICK_SEND;
use crate::buffer::Rest;
use crate::driver::operation::{Operation, PoolId, QuickSend, StreamKind};
use crate::features::KernelFeatures as Features;
use crate::sys;
use io_uring::{opcode, squeue, types};

/// What one request sends at most, if it is one payload: as much as the buffer of a socket may hold
/// (`tcp_wmem`). While a peer keeps up, the kernel would go on with more, and nobody has a turn.
const LONGEST_SEND: usize = if cfg!(test) { LONGEST_QUICK_SEND } else { 4 * 1024 * 1024 };
/// What does not complete when all of it is sent has to be one request.
const _: () = assert!(LONGEST_QUICK_SEND <= LONGEST_SEND);
/// The length of a read into a buffer yet to be chosen, which has its own: what one system call reads
/// at most (`MAX_RW_COUNT`).
const WHOLE_BUFFER: u32 = 0x7fff_f000;
/// Without `MSG_WAITALL` a send ends with what fits into the socket's buffer.
const ALL_OF_IT: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// Reads and writes where the file stands.
const NO_OFFSET: u64 = u64::MAX;

/// For what the kernel has no request, or not yet.
pub(super) fn poll(operation: &Operation) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(operation.fd()), operation.readiness()).build()
}

/// What one request does many times, where the kernel has it.
pub(super) fn multishot(operation: &Operation) -> Features {
    match operation {
        Operation::Accept { .. } => Features::MULTISHOT_ACCEPT,
        Operation::Receive { kind: StreamKind::Socket, .. } => Features::MULTISHOT_RECV,
        _ => Features::empty(),
    }
}

/// Whether the kernel has a request for an operation. `has_ring` tells of the pool that is received
/// into.
pub(super) fn is_native(operation: &Operation, features: Features, has_ring: bool) -> bool {
    match operation {
        Operation::Accept { .. } => features.contains(Features::MULTISHOT_ACCEPT),
        Operation::AwaitConnection { .. } => false,
        Operation::Receive { kind, .. } => has_ring && *kind != StreamKind::PipeWriter,
        Operation::Send { .. } | Operation::Connect { .. } => true,
    }
}

/// The request for an operation that the kernel has one for.
pub(super) fn native(operation: &mut Operation, features: Features) -> squeue::Entry {
    match *operation {
        Operation::Accept { listener } => {
            opcode::AcceptMulti::new(types::Fd(listener)).flags(sys::ACCEPT_FLAGS).build()
        }
        Operation::AwaitConnection { .. } => poll(operation),
        Operation::Receive { stream, kind, pool } => {
            receive(types::Fd(stream), kind, pool, features)
        }
        Operation::Send { stream, kind: StreamKind::Socket, ref mut data, sent } => {
            send(types::Fd(stream), data.rest(sent), ALL_OF_IT)
        }
        Operation::Send { stream, ref mut data, sent, .. } => {
            write(types::Fd(stream), data.rest(sent))
        }
        Operation::Connect { socket, ref address } => {
            let (pointer, length) = (address.as_ptr().cast(), address.len());
            opcode::Connect::new(types::Fd(socket), pointer, length).build()
        }
    }
}

fn receive(stream: types::Fd, kind: StreamKind, pool: PoolId, features: Features) -> squeue::Entry {
    let nowhere = std::ptr::null_mut();
    let one = match kind {
        StreamKind::Socket if features.contains(Features::MULTISHOT_RECV) => {
            return opcode::RecvMulti::new(stream, pool.0).build();
        }
        StreamKind::Socket => {
            opcode::Recv::new(stream, nowhere, WHOLE_BUFFER).buf_group(pool.0).build()
        }
        StreamKind::Pipe | StreamKind::PipeWriter => {
            opcode::Read::new(stream, nowhere, WHOLE_BUFFER)
                .offset(NO_OFFSET)
                .buf_group(pool.0)
                .build()
        }
    };
    one.flags(squeue::Flags::BUFFER_SELECT)
}

/// The request for a send that does not wait, which completes only if it did not send everything.
/// A socket that is `registered` has the place of its number in the ring's table.
#[inline]
pub(super) fn quick_send(send: QuickSend, rest: Rest<'_>, registered: bool) -> squeue::Entry {
    // The end of the stream goes out with it, in one segment.
    let more = if send.last { libc::MSG_MORE } else { 0 };
    let flags = ALL_OF_IT | libc::MSG_DONTWAIT | more;
    let request = self::send(types::Fd(send.stream), rest, flags);
    let by_place = if registered { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() };
    request.flags(squeue::Flags::SKIP_SUCCESS | by_place)
}

#[inline]
fn send(stream: types::Fd, rest: Rest<'_>, flags: i32) -> squeue::Entry {
    match rest {
        Rest::Slice(bytes) => {
            let length = bytes.len().min(LONGEST_SEND) as u32;
            opcode::Send::new(stream, bytes.as_ptr(), length).flags(flags).build()
        }
        Rest::Message(header) => opcode::SendMsg::new(stream, header).flags(flags as u32).build(),
    }
}

fn write(stream: types::Fd, rest: Rest<'_>) -> squeue::Entry {
    match rest {
        Rest::Slice(bytes) => {
            let length = bytes.len().min(LONGEST_SEND) as u32;
            opcode::Write::new(stream, bytes.as_ptr(), length).offset(NO_OFFSET).build()
        }
        Rest::Message(header) => {
            let (slices, count) = (header.msg_iov, header.msg_iovlen as u32);
            opcode::Writev::new(stream, slices, count).offset(NO_OFFSET).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LONGEST_SEND;
    use crate::{IoLoop, IoStream};
    use socket2::SockRef;
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream;

    /// More than one request sends, and less than there is room for in a socket.
    const LENGTH: usize = LONGEST_SEND + LONGEST_SEND / 8;

    fn pair() -> (IoStream, UnixStream) {
        let (stream, peer) = UnixStream::pair().unwrap();
        SockRef::from(&stream).set_send_buffer_size(4 * LONGEST_SEND).unwrap();
        peer.set_nonblocking(true).unwrap();
        (stream.into(), peer)
    }

    fn received(mut peer: &UnixStream) -> usize {
        let mut bytes = Vec::new();
        match peer.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        bytes.len()
    }

    #[test]
    fn a_loop_that_is_closed_has_sent_all_parts_that_there_is_room_for() {
        for is_dropped in [false, true] {
            let io_loop = IoLoop::new().unwrap();
            let (stream, peer) = pair();
            stream.write(vec![1; LENGTH]).queued().unwrap();
            let kept = (!is_dropped).then_some(stream);
            io_loop.close(false).unwrap();
            assert_eq!(received(&peer), LENGTH);
            drop(kept);
        }
    }

    #[test]
    fn a_loop_that_stops_has_sent_all_parts_that_there_is_room_for() {
        let io_loop = IoLoop::new().unwrap();
        let (stream, peer) = pair();
        stream.write(vec![1; LENGTH]).queued().unwrap();
        io_loop.add_callback(|| IoLoop::current().stop());
        io_loop.start().unwrap();
        assert_eq!(received(&peer), LENGTH);
    }
}
