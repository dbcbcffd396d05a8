//! Listeners: what is accepted, and in which order.

mod listener_support;
mod meddling;
mod stress_support;
mod support;
mod waker_support;

use futures::StreamExt;
use futures::future::{FutureExt, join};
use futures::stream::FusedStream;
use listener_support::{SHORT, assert_same, both_ways, build, connect, connect_many, listen, run};
use meddling::meddling_waker;
use ringloop::net::{TcpListener, UnixListener};
use ringloop::{IoLoop, KernelFeatures, LoopError, time};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use stress_support::alone;
use support::{Count, turn, turn_until};
use waker_support::panics_when_woken;

#[test]
fn accept_gives_the_connections_in_the_order_in_which_they_came() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        run(io_loop, async || {
            for client in &clients {
                assert_same(&listener.accept().await.unwrap(), client);
            }
        });
    });
}

#[test]
fn accept_waits_for_a_connection_that_comes_later() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let client = Rc::new(RefCell::new(None));
        let later = client.clone();
        io_loop.call_later(SHORT, move || drop(later.replace(Some(connect(address)))));
        let stream = run(io_loop, async || listener.accept().await.unwrap());
        assert_same(&stream, client.borrow().as_ref().unwrap());
    });
}

#[test]
fn bytes_go_both_ways_over_what_was_accepted() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = connect(address);
        client.write_all(b"ping").unwrap();
        run(io_loop, async || {
            let stream = listener.accept().await.unwrap();
            assert_eq!(stream.read_bytes(4).await.unwrap(), b"ping");
            stream.write(&b"pong"[..]).await.unwrap();
        });
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    });
}

#[test]
fn several_tasks_may_accept_at_a_time() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let count = Count::default();
        for _ in 0..4 {
            let (listener, count) = (listener.clone(), count.clone());
            io_loop.spawn(async move {
                for _ in 0..25 {
                    listener.accept().await.unwrap();
                    count.hit();
                }
            });
        }
        turn(io_loop);
        let clients = connect_many(address, 100);
        turn_until(io_loop, || count.get() == 100);
        drop(clients);
    });
}

#[test]
fn incoming_is_a_stream_of_connections_that_ends_when_the_listener_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 10);
        let count = Count::default();
        run(io_loop, async || {
            let serve = async {
                let mut incoming = listener.incoming();
                assert!(!incoming.is_terminated());
                while let Some(stream) = StreamExt::next(&mut incoming).await {
                    assert_same(&stream.unwrap(), &clients[count.get()]);
                    count.hit();
                }
                assert!(incoming.is_terminated());
                assert!(incoming.next().await.is_none());
            };
            let close = async {
                while count.get() < clients.len() {
                    time::sleep(SHORT).await;
                }
                listener.close();
            };
            join(serve, close).await;
        });
    });
}

#[test]
fn a_connection_reset_before_it_is_accepted_harms_nobody() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let gone = connect(address);
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        let client = connect(address);
        run(io_loop, async || {
            let mut stream = listener.accept().await.unwrap();
            if stream.peer_addr().is_err() {
                stream.read_bytes(1).await.unwrap_err();
                stream = listener.accept().await.unwrap();
            }
            assert_same(&stream, &client);
        });
    });
}

#[test]
fn a_listener_needs_a_loop_that_is_open() {
    let _alone = alone();
    IoLoop::clear_current();
    let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    let io_loop = build(KernelFeatures::empty());
    io_loop.close(false).unwrap();
    let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::Closed));
}

#[test]
fn an_address_in_use_is_named_in_the_error() {
    both_ways(|_| {
        let (_listener, address) = listen();
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn a_socket_that_does_not_listen_is_an_error_of_accept_and_costs_no_feature() {
    both_ways(|io_loop| {
        let before = io_loop.metrics().features;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = TcpListener::from_std(socket.unwrap().into()).unwrap();
        run(io_loop, async || {
            for _ in 0..2 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            }
            let mut incoming = listener.incoming();
            let error = incoming.next().await.unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert!(incoming.is_terminated());
            assert!(incoming.next().await.is_none());
        });
        assert_eq!(io_loop.metrics().features, before);
    });
}

#[test]
fn unix_connections_are_accepted_likewise() {
    both_ways(|io_loop| {
        let path = std::env::temp_dir().join(format!("ringloop-listener-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let mut clients: Vec<_> =
            (0..3).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        run(io_loop, async || {
            time::timeout(SHORT, async {}).await.unwrap();
            for client in &mut clients {
                client.write_all(b"x").unwrap();
                let stream = listener.accept().await.unwrap();
                assert_eq!(stream.read_bytes(1).await.unwrap(), b"x");
                assert_eq!(stream.peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
            }
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        drop(listener);
        std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_blocking_socket_is_made_non_blocking() {
    both_ways(|_| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::from_std(socket).unwrap();
        // SAFETY: passes no memory.
        let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
    });
}

#[test]
fn accepted_sockets_are_non_blocking_and_not_inherited() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, async || {
            // One out of the backlog, and one by the kernel.
            for _ in 0..2 {
                let client = connect(address);
                let stream = listener.accept().await.unwrap();
                let socket = socket2::SockRef::from(&stream);
                assert!(socket.nonblocking().unwrap());
                // SAFETY: passes no memory.
                let flags = unsafe { libc::fcntl(stream.as_fd().as_raw_fd(), libc::F_GETFD) };
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
                drop(client);
            }
        });
    });
}

#[test]
fn wakers_may_use_the_listener_whenever_they_are_cloned_woken_or_dropped() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let (count, taken) = (Count::default(), Rc::new(RefCell::new(Vec::new())));
        let (meddled, meddled_with, taking) = (count.clone(), listener.clone(), taken.clone());
        let waker = meddling_waker(move || {
            meddled.hit();
            let taken = meddled_with.accept().now_or_never();
            taking.borrow_mut().extend(taken);
            meddled_with.set_accept_limit(3);
        });
        let context = &mut Context::from_waker(&waker);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut given_up = Box::pin(listener.accept());
            assert!(given_up.as_mut().poll(context).is_pending());
            drop(given_up);
            let (mut first, mut second) = (pin!(listener.accept()), pin!(listener.accept()));
            for _ in 0..2 {
                assert!(first.as_mut().poll(context).is_pending());
                assert!(second.as_mut().poll(context).is_pending());
            }
            clients.extend(connect_many(address, 4));
            // Whoever is woken takes one; the rest is taken here.
            turn_until(io_loop, || {
                let rest = listener.accept().now_or_never();
                taken.borrow_mut().extend(rest);
                taken.borrow().len() == clients.len()
            });
        }
        let mut last = pin!(listener.accept());
        assert!(last.as_mut().poll(context).is_pending());
        listener.close();
        assert!(count.get() > 10);
        assert!(matches!(last.poll(context), Poll::Ready(Err(_))));
        let taken = taken.take().into_iter().filter_map(Result::ok);
        let mut taken: Vec<_> = taken.map(|stream| stream.peer_addr().unwrap()).collect();
        let mut made: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        taken.sort_unstable();
        made.sort_unstable();
        assert_eq!(taken, made);
    });
}

#[test]
fn wakers_may_use_a_listener_that_an_error_has_ended() {
    both_ways(|io_loop| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = Rc::new(TcpListener::from_std(socket.unwrap().into()).unwrap());
        let (errors, meddled_with) = (Count::default(), listener.clone());
        let count = errors.clone();
        let waker = meddling_waker(move || {
            let accepted = meddled_with.accept().now_or_never();
            count.add(accepted.filter(Result::is_err).iter().count());
        });
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(errors.get(), 0);
        turn(io_loop);
        assert!(errors.get() > 0);
        assert!(accept.now_or_never().unwrap().is_err());
    });
}

#[test]
fn one_request_accepts_many_connections() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let is_one = io_loop.metrics().features.contains(KernelFeatures::MULTISHOT_ACCEPT);
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let before = io_loop.metrics().submissions;
            let mut streams = Vec::new();
            for _ in 0..10 {
                let client = connect(address);
                streams.push(listener.accept().await.unwrap());
                assert_same(streams.last().unwrap(), &client);
            }
            let submissions = io_loop.metrics().submissions - before;
            assert!(!is_one || submissions == 0, "{submissions}");
        });
    });
}

#[test]
fn a_waker_that_panics_keeps_no_connection_from_others() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut clients = Vec::new();
        // Out of the backlog, and then from the kernel.
        for _ in 0..2 {
            clients.extend(connect_many(address, 3));
            let mut broken = Box::pin(listener.accept());
            let waker = panics_when_woken();
            assert!(broken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let turns = || (0..5).for_each(|_| turn(io_loop));
            catch_unwind(AssertUnwindSafe(turns)).unwrap_err();
            drop(broken);
            for client in clients.drain(..) {
                assert_same(&run(io_loop, || listener.accept()).unwrap(), &client);
            }
            // Until it has nothing to accept.
            (0..5).for_each(|_| turn(io_loop));
        }
    });
}
