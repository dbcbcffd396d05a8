//! Connections that are reset, whatever notices it first: nobody takes that for an end.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::Poll;
use stream_support::{
    errno, poll_and_drop, poll_once, reset, run, send, settle, stream, tcp_stream,
};
use support::new_loop;

/// More than the kernel takes from a peer that does not receive.
const MUCH: usize = 16 << 20;

/// Waits until a socket has this to tell, and leaves it there.
fn wait_until(socket: &impl AsRawFd, events: libc::c_short) {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: one valid pollfd, and a length of one.
    assert_eq!(unsafe { libc::poll(&mut entry, 1, -1) }, 1);
    assert_ne!(entry.revents & (events | libc::POLLHUP), 0);
}

/// The peer resets the connection, and that arrives while the loop is busy.
fn reset_now(stream: &IoStream, peer: TcpStream) {
    reset(peer);
    wait_until(stream, libc::POLLHUP);
}

/// The same after the peer has ended what it sends.
fn end_and_reset_now(stream: &IoStream, peer: TcpStream) {
    peer.shutdown(Shutdown::Write).unwrap();
    wait_until(stream, libc::POLLRDHUP);
    reset_now(stream, peer);
}

/// What is told of a stream that has ended.
async fn told(stream: &IoStream) -> Option<i32> {
    assert!(stream.is_closed());
    let error = stream.error().and_then(|error| error.raw_os_error());
    let closed = stream.closed().await.err().and_then(|error| error.raw_os_error());
    assert_eq!(closed, error);
    error
}

/// What a send gets when a read that waits may have met the reset before it.
#[track_caller]
fn assert_broken(result: io::Result<()>) {
    let failure = errno(result);
    assert!(matches!(failure, libc::ECONNRESET | libc::EPIPE), "{failure}");
}

fn end_of<T: std::fmt::Debug>(polled: Poll<io::Result<T>>) -> i32 {
    match polled {
        Poll::Ready(result) => errno(result),
        Poll::Pending => panic!("it waits for what never comes"),
    }
}

/// A stream to which `much` was written, of which the kernel has taken what it takes.
fn stuck_stream(io_loop: &IoLoop) -> (IoStream, TcpStream, ringloop::net::Write) {
    let (stream, peer) = tcp_stream();
    let write = stream.write(vec![0; MUCH]);
    settle(io_loop);
    (stream, peer, write)
}

#[test]
fn a_reset_that_a_send_meets_first_is_no_end_to_the_read_that_waits() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    send(&peer, "data");
    let mut read = pin!(stream.read_until_close(100));
    assert!(poll_once(read.as_mut()).is_pending());
    settle(&io_loop);
    reset_now(&stream, peer);
    run(&io_loop, async || {
        assert_broken(stream.write("x").await);
        assert_eq!(errno(read.await), libc::ECONNRESET);
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"data");
        assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
        assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
    });
}

#[test]
fn a_reset_that_a_send_meets_first_is_no_end_to_later_reads() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    send(&peer, "data");
    reset_now(&stream, peer);
    run(&io_loop, async || {
        assert_eq!(errno(stream.write("x").await), libc::ECONNRESET);
        assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
        assert_eq!(&*stream.chunk().await.unwrap().unwrap(), b"data");
        assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
        assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
    });
}

#[test]
fn a_reset_that_ends_a_long_send_is_no_end_to_the_read_that_waits() {
    for reads_first in [false, true] {
        let io_loop = new_loop();
        let (stream, peer) = tcp_stream();
        send(&peer, "data");
        let mut read = pin!(stream.read_until_close(100));
        if reads_first {
            assert!(poll_once(read.as_mut()).is_pending());
            settle(&io_loop);
        }
        let write = stream.write(vec![0; MUCH]);
        settle(&io_loop);
        assert!(poll_once(read.as_mut()).is_pending());
        settle(&io_loop);
        reset_now(&stream, peer);
        run(&io_loop, async || {
            assert_eq!(errno(read.await), libc::ECONNRESET);
            assert_broken(write.await);
            assert_eq!(stream.read_bytes(4).await.unwrap(), b"data");
            assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
            assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
        });
    }
}

#[test]
fn a_reset_that_ends_a_long_send_is_no_end_to_later_reads() {
    let io_loop = new_loop();
    let (stream, peer, write) = stuck_stream(&io_loop);
    send(&peer, "data");
    reset_now(&stream, peer);
    run(&io_loop, async || {
        let failure = errno(write.await);
        assert_eq!(told(&stream).await, Some(failure));
        assert_eq!(&*stream.chunk().await.unwrap().unwrap(), b"data");
        assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
        assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
    });
}

#[test]
fn a_reset_that_ends_a_long_send_is_told_to_its_writer_and_to_later_ones() {
    for reads in [false, true] {
        let io_loop = new_loop();
        let (stream, peer, write) = stuck_stream(&io_loop);
        let mut read = pin!(stream.read_until_close(100));
        if reads {
            assert!(poll_once(read.as_mut()).is_pending());
            settle(&io_loop);
        }
        reset_now(&stream, peer);
        run(&io_loop, async || {
            assert_eq!(errno(write.await), libc::ECONNRESET);
            assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
            assert_eq!(errno(stream.write("x").await), libc::ECONNRESET);
            assert_eq!(errno(read.await), libc::ECONNRESET);
        });
    }
}

#[test]
fn what_a_read_was_told_first_is_told_to_later_writes() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    reset_now(&stream, peer);
    run(&io_loop, async || {
        assert_eq!(errno(stream.chunk().await), libc::ECONNRESET);
        for _ in 0..2 {
            assert_eq!(errno(stream.write("x").await), libc::ECONNRESET);
            assert_eq!(errno(stream.flush().await), libc::ECONNRESET);
        }
    });
}

#[test]
fn a_send_that_is_broken_by_a_shutdown_of_the_socket_here_was_not_reset() {
    for how in [Shutdown::Write, Shutdown::Both] {
        let io_loop = new_loop();
        let (stream, _peer) = tcp_stream();
        socket2::SockRef::from(&stream).shutdown(how).unwrap();
        run(&io_loop, async || {
            assert_eq!(errno(stream.write("x").await), libc::EPIPE, "{how:?}");
            if how == Shutdown::Both {
                assert!(stream.chunk().await.unwrap().is_none());
            }
            assert_eq!(told(&stream).await, Some(libc::EPIPE));
        });
    }
}

#[test]
fn an_end_that_came_before_a_reset_stays_an_end_to_reads_also_if_a_send_meets_the_reset_first() {
    for waits in [false, true] {
        let io_loop = new_loop();
        let (stream, peer) = tcp_stream();
        let mut read = pin!(stream.read_until_close(100));
        if waits {
            assert!(poll_once(read.as_mut()).is_pending());
            settle(&io_loop);
        }
        send(&peer, "data");
        end_and_reset_now(&stream, peer);
        run(&io_loop, async || {
            assert_eq!(errno(stream.write("x").await), libc::EPIPE);
            assert_eq!(read.await.unwrap(), b"data");
            assert!(stream.chunk().await.unwrap().is_none());
            // Sending has failed all the same.
            assert_eq!(told(&stream).await, Some(libc::EPIPE));
        });
    }
}

#[test]
fn an_end_that_came_before_a_reset_stays_an_end_to_reads_also_if_that_ends_a_long_send() {
    for waits in [false, true] {
        let io_loop = new_loop();
        let (stream, peer, write) = stuck_stream(&io_loop);
        let mut read = pin!(stream.read_until_close(100));
        if waits {
            assert!(poll_once(read.as_mut()).is_pending());
            settle(&io_loop);
        }
        send(&peer, "data");
        end_and_reset_now(&stream, peer);
        run(&io_loop, async || {
            assert_eq!(errno(write.await), libc::EPIPE);
            assert_eq!(read.await.unwrap(), b"data");
            assert!(stream.chunk().await.unwrap().is_none());
            assert_eq!(told(&stream).await, Some(libc::EPIPE));
        });
    }
}

#[test]
fn an_end_that_was_told_before_sending_failed_stays_an_end_to_reads() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    peer.shutdown(Shutdown::Write).unwrap();
    run(&io_loop, async || {
        assert!(stream.chunk().await.unwrap().is_none());
        assert_eq!(told(&stream).await, None);
        reset_now(&stream, peer);
        assert_eq!(errno(stream.write("x").await), libc::EPIPE);
        assert!(stream.chunk().await.unwrap().is_none());
        assert_eq!(told(&stream).await, Some(libc::EPIPE));
    });
}

#[test]
fn reading_that_was_shut_down_here_is_no_reset_though_something_is_being_sent() {
    let io_loop = new_loop();
    let (stream, _peer, write) = stuck_stream(&io_loop);
    stream.shutdown(Shutdown::Read);
    run(&io_loop, async || assert!(stream.chunk().await.unwrap().is_none()));
    assert!(poll_and_drop(write).is_pending());
    assert!(stream.error().is_none());
}

#[test]
fn an_end_while_something_is_being_sent_is_no_reset() {
    let io_loop = new_loop();
    let (stream, peer, write) = stuck_stream(&io_loop);
    send(&peer, "data");
    peer.shutdown(Shutdown::Write).unwrap();
    run(&io_loop, async || {
        assert_eq!(stream.read_until_close(100).await.unwrap(), b"data");
    });
    assert!(poll_and_drop(write).is_pending());
    assert!(stream.error().is_none());
}

#[test]
fn a_unix_peer_that_leaves_data_unread_resets_and_one_that_does_not_ends() {
    for (unread, end) in [("unread", Some(libc::ECONNRESET)), ("", None)] {
        let io_loop = new_loop();
        let (stream, peer) = stream();
        run(&io_loop, async || stream.write(unread).await.unwrap());
        send(&peer, "data");
        drop(peer);
        run(&io_loop, async || {
            assert_eq!(errno(stream.write("x").await), libc::EPIPE);
            assert_eq!(stream.read_bytes(4).await.unwrap(), b"data");
            match end {
                Some(reset) => assert_eq!(errno(stream.chunk().await), reset),
                None => assert!(stream.chunk().await.unwrap().is_none()),
            }
            assert_eq!(told(&stream).await, Some(end.unwrap_or(libc::EPIPE)));
        });
    }
}

/// A connection over several paths, where the kernel has that, or else over one.
fn multipath_pair() -> (TcpStream, TcpStream) {
    let socket = || {
        let multipath = Some(Protocol::MPTCP);
        Socket::new(Domain::IPV4, Type::STREAM, multipath)
            .or_else(|_| Socket::new(Domain::IPV4, Type::STREAM, None))
            .unwrap()
    };
    let (listener, peer) = (socket(), socket());
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(1).unwrap();
    peer.connect(&listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), peer.into())
}

#[test]
fn a_multipath_connection_tells_resets_from_ends() {
    for ends in [false, true] {
        let io_loop = new_loop();
        let (socket, peer) = multipath_pair();
        let stream = IoStream::new(socket).unwrap();
        send(&peer, "data");
        let mut read = pin!(stream.read_until_close(100));
        assert!(poll_once(read.as_mut()).is_pending());
        settle(&io_loop);
        if ends {
            end_and_reset_now(&stream, peer);
        } else {
            reset_now(&stream, peer);
        }
        run(&io_loop, async || {
            if ends {
                assert_eq!(errno(stream.write("x").await), libc::EPIPE);
                assert_eq!(read.await.unwrap(), b"data");
                assert_eq!(told(&stream).await, Some(libc::EPIPE));
            } else {
                assert_broken(stream.write("x").await);
                assert_eq!(errno(read.await), libc::ECONNRESET);
                assert_eq!(told(&stream).await, Some(libc::ECONNRESET));
            }
        });
    }
}

#[test]
fn a_read_after_a_reset_does_not_wait() {
    let io_loop = new_loop();
    let (stream, peer) = tcp_stream();
    reset_now(&stream, peer);
    run(&io_loop, async || assert_eq!(errno(stream.write("x").await), libc::ECONNRESET));
    assert!(poll_and_drop(stream.chunk()).is_pending());
    settle(&io_loop);
    assert_eq!(end_of(poll_and_drop(stream.chunk())), libc::ECONNRESET);
}
