//! Operations as requests: what is handed to the kernel for each.

use crate::driver::operation::{Operation, PoolId, StreamKind};
use crate::features::KernelFeatures as Features;
use crate::sys;
use io_uring::{opcode, squeue, types};

/// What one system call reads or writes at most (`MAX_RW_COUNT`).
const LONGEST: usize = 0x7fff_f000;
/// The length of a read into a buffer yet to be chosen, which has its own.
const WHOLE_BUFFER: u32 = LONGEST as u32;
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

/// The request for an operation, if the kernel has one. `has_ring` tells of the pool that is
/// received into.
pub(super) fn native(
    operation: &Operation,
    features: Features,
    has_ring: bool,
) -> Option<squeue::Entry> {
    match *operation {
        Operation::Accept { listener } => {
            features.contains(Features::MULTISHOT_ACCEPT).then(|| {
                opcode::AcceptMulti::new(types::Fd(listener)).flags(sys::ACCEPT_FLAGS).build()
            })
        }
        Operation::Receive { stream, kind, pool } => {
            has_ring.then(|| receive(types::Fd(stream), kind, pool, features))
        }
        Operation::Send { stream, kind, ref payload, sent } => {
            Some(send(types::Fd(stream), kind, &payload[sent..]))
        }
        Operation::Connect { socket, ref address } => {
            let (pointer, length) = (address.as_ptr().cast(), address.len());
            Some(opcode::Connect::new(types::Fd(socket), pointer, length).build())
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
        StreamKind::Pipe => opcode::Read::new(stream, nowhere, WHOLE_BUFFER)
            .offset(NO_OFFSET)
            .buf_group(pool.0)
            .build(),
    };
    one.flags(squeue::Flags::BUFFER_SELECT)
}

fn send(stream: types::Fd, kind: StreamKind, rest: &[u8]) -> squeue::Entry {
    let (address, length) = (rest.as_ptr(), rest.len().min(LONGEST) as u32);
    match kind {
        StreamKind::Socket => {
            // All of it, or the kernel would come back with what fits into its buffers.
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            opcode::Send::new(stream, address, length).flags(flags).build()
        }
        StreamKind::Pipe => opcode::Write::new(stream, address, length).offset(NO_OFFSET).build(),
    }
}
