//! A gigabyte through a stream that holds little of it.
//!
//! Alone in its process, so that the memory that this takes is its own. Without optimisation it is
//! less, for checksums are slow then; `ci/test.sh` runs it with.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream};
use std::future::poll_fn;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use stream_support::{noise, run, tcp_pair};
use support::watchdog;

const BLOCK: usize = 1 << 20;
const BLOCKS: usize = if cfg!(debug_assertions) { 64 } else { 1024 };
const HIGH_WATER: usize = 64 * 1024;
const BUFFERS: u16 = 64;
const BUFFER_SIZE: usize = 16 * 1024;
/// As much is read without a break.
const LAP: usize = 16 << 20;
/// What is asked for each socket. The kernel takes twice as much.
const SOCKET_BUFFER: usize = 256 * 1024;
/// The mark, what comes before that takes effect (a pool's worth at most), and what is in the sockets.
const MOST_UNREAD: usize =
    HIGH_WATER + BUFFERS as usize * BUFFER_SIZE + 2 * 2 * SOCKET_BUFFER + BLOCK;
/// Of memory: the pool, a block, and what the queue has copied.
const MOST_GROWTH: usize = 8 << 20;

/// FNV-1a: of bytes in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Checksum(u64);

impl Checksum {
    fn new() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// A figure of this process's memory, in bytes.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Calls `each` with all blocks, no two alike.
fn blocks(mut each: impl FnMut(&[u8])) {
    let mut block = noise(BLOCK, 20);
    for number in 0..BLOCKS {
        block[..8].copy_from_slice(&number.to_le_bytes());
        each(&block);
    }
}

/// Has all that may come come, while nobody reads: until long nothing has.
async fn stall(io_loop: &IoLoop) {
    let (mut quiet, mut completions) = (0, 0);
    while quiet < 1000 {
        next_turn().await;
        let before = std::mem::replace(&mut completions, io_loop.metrics().completions);
        quiet = if completions == before { quiet + 1 } else { 0 };
    }
}

async fn next_turn() {
    let mut asked = false;
    let poll = |context: &mut Context<'_>| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(poll).await;
}

#[test]
fn a_gigabyte_passes_through_a_small_mark_unharmed_and_in_bounded_memory() {
    watchdog();
    let io_loop = IoLoop::builder().buffers(BUFFERS, BUFFER_SIZE).build().unwrap();
    let (socket, mut peer) = tcp_pair();
    socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER).unwrap();
    socket2::SockRef::from(&peer).set_send_buffer_size(SOCKET_BUFFER).unwrap();
    let stream = IoStream::new(socket).unwrap();
    stream.set_max_buffer_size(HIGH_WATER);
    // From here on, the peak is of what follows.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let sender = std::thread::spawn(move || {
        blocks(|block| {
            peer.write_all(block).unwrap();
            count.fetch_add(BLOCK, Ordering::Relaxed);
        });
    });
    let (mut checksum, mut received) = (Checksum::new(), 0);
    run(&io_loop, async || {
        while let Some(piece) = stream.chunk().await.unwrap() {
            checksum.add(&piece);
            let whole = received / LAP;
            received += piece.len();
            drop(piece);
            if received / LAP > whole {
                stall(&io_loop).await;
                let unread = sent.load(Ordering::Relaxed).saturating_sub(received);
                assert!(unread < MOST_UNREAD, "{} KiB unread", unread >> 10);
            }
        }
    });
    assert_eq!(received, BLOCKS * BLOCK);
    sender.join().unwrap();
    let mut expected = Checksum::new();
    blocks(|block| expected.add(block));
    assert_eq!(checksum, expected);
    let growth = memory("VmHWM").saturating_sub(before);
    assert!(growth < MOST_GROWTH, "{} KiB more", growth >> 10);
}
