//! Kernels that do not have what no bit tells of: the first who needs it finds out.

use super::line::{new_loop, run, turn};
use super::{OlderKernel, fail_next};
use crate::IoStream;
use crate::features::KernelFeatures as Features;
use crate::net::TcpListener;
use crate::sys;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

/// Two connections come in, one after the other, and on each of them two pieces of data.
async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        let mut client = TcpStream::connect(address).unwrap();
        let stream = listener.accept().await.unwrap();
        for text in ["one", "two"] {
            client.write_all(text.as_bytes()).unwrap();
            assert_eq!(stream.read_bytes(3).await.unwrap(), text.as_bytes());
        }
        drop(client);
        assert!(stream.chunk().await.unwrap().is_none());
    }
}

#[test]
fn what_the_kernel_does_not_have_is_done_without_from_then_on() {
    let buffers = Features::BUFFER_RING | Features::INCREMENTAL;
    let multishot = Features::MULTISHOT_ACCEPT | Features::MULTISHOT_RECV;
    for lacking in [
        Features::MULTISHOT_ACCEPT,
        Features::MULTISHOT_RECV,
        Features::INCREMENTAL,
        buffers,
        multishot | buffers,
    ] {
        let io_loop = new_loop(8, 16);
        let before = io_loop.metrics().features;
        let older = OlderKernel::without(lacking);
        run(&io_loop, serve);
        drop(older);
        run(&io_loop, serve);
        let lost = match before.contains(Features::BUFFER_RING) && !lacking.contains(buffers) {
            true => lacking,
            // Without rings of buffers, nothing asks for it.
            false => lacking - Features::MULTISHOT_RECV,
        };
        assert_eq!(io_loop.metrics().features, before - lost);
    }
}

#[test]
fn what_came_on_a_connection_that_is_over_is_read_by_the_first_who_finds_that_out() {
    let io_loop = new_loop(8, 16);
    let _older = OlderKernel::without(Features::MULTISHOT_RECV);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    client.write_all(b"data").unwrap();
    drop(client);
    stream.shutdown(Shutdown::Write).unwrap();
    while !sys::is_closed_tcp(stream.as_raw_fd()) {
        thread::yield_now();
    }
    let read = run(&io_loop, async || IoStream::from(stream).read_until_close(10).await);
    assert_eq!(read.unwrap(), b"data");
}

/// It takes the descriptor's own mode for that of a request.
#[test]
fn what_the_kernel_does_not_wait_for_is_asked_for_again_when_the_file_is_ready() {
    let io_loop = new_loop(8, 16);
    let (stream, peer) = UnixStream::pair().unwrap();
    let stream = IoStream::from(stream);
    let reading = io_loop.spawn(async move { stream.read_until_close(10).await });
    (0..2).for_each(|_| turn(&io_loop).unwrap());
    drop(peer);
    fail_next(libc::EAGAIN);
    (0..4).for_each(|_| turn(&io_loop).unwrap());
    assert_eq!(reading.into_output().expect("it waits").unwrap().unwrap(), b"");
}
