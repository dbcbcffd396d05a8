//! Servers: handlers, their failures, places, and the end.

mod meddling;
mod server_support;
mod stress_support;
mod support;
mod waker_support;

use futures::future::pending;
use meddling::meddling_waker;
use ringloop::net::{
    BindOptions, BindUnixOptions, Family, TcpServer, bind_sockets, bind_unix_socket,
};
use ringloop::{Cause, IoLoop, IoStream, KernelFeatures, LoopError, time};
use server_support::{
    address_of, both_ways, build, connect, echo_line, is_open, local, read_to_end, run, until_end,
};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use stress_support::{alone, assert_open_fds, open_fds};
use support::{Count, turn, turn_until};
use waker_support::{Alarm, panics_when_woken};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(30);

#[test]
fn every_connection_has_a_handler_of_its_own() {
    both_ways(|io_loop, _| {
        let server = local().serve(echo_line).unwrap();
        let clients: Vec<_> = (0..300).map(|_| connect(&server)).collect();
        for (number, client) in clients.iter().enumerate().rev() {
            writeln!(&*client, "{number}").unwrap();
        }
        for (number, client) in clients.into_iter().enumerate() {
            assert_eq!(read_to_end(io_loop, client), format!("{number}\n").into_bytes());
        }
        turn(io_loop);
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn a_handler_that_returns_an_error_drops_its_connection_and_is_reported() {
    both_ways(|io_loop, reports| {
        let server = local()
            .serve(|stream| async move {
                match &stream.read_until(b"\n", 1024).await.unwrap()[..] {
                    b"fail\n" => Err("a bad day"),
                    line => {
                        stream.write(line).queued().unwrap();
                        Ok(())
                    }
                }
            })
            .unwrap();
        let (mut bad, mut good) = (connect(&server), connect(&server));
        bad.write_all(b"fail\n").unwrap();
        assert_eq!(read_to_end(io_loop, bad), b"");
        good.write_all(b"hello\n").unwrap();
        assert_eq!(read_to_end(io_loop, good), b"hello\n");
        assert_eq!(reports.take(), [(Cause::Error, "a bad day".to_owned())]);
    });
}

#[test]
fn a_handler_that_panics_drops_its_connection_and_is_reported() {
    both_ways(|io_loop, reports| {
        let calls = Cell::new(0);
        let server = local()
            .serve(move |stream| {
                calls.set(calls.get() + 1);
                assert!(calls.get() != 1, "in the call");
                let number = calls.get();
                async move {
                    assert!(number != 2, "in the future");
                    echo_line(stream).await
                }
            })
            .unwrap();
        for _ in 0..2 {
            assert_eq!(read_to_end(io_loop, connect(&server)), b"");
        }
        let mut good = connect(&server);
        good.write_all(b"hello\n").unwrap();
        assert_eq!(read_to_end(io_loop, good), b"hello\n");
        let texts = ["in the call", "in the future"];
        assert_eq!(reports.take(), texts.map(|text| (Cause::Panic, text.to_owned())));
        assert_eq!(io_loop.metrics().panics, 2);
    });
}

#[test]
fn stopping_leaves_live_connections_alone_and_frees_the_port() {
    both_ways(|io_loop, _| {
        let server = local().serve(echo_line).unwrap();
        let mut client = connect(&server);
        turn_until(io_loop, || server.connections() == 1);
        server.stop();
        drop(TcpListener::bind(address_of(&server)).expect("the port is free"));
        client.write_all(b"still there\n").unwrap();
        assert_eq!(read_to_end(io_loop, client), b"still there\n");
        turn(io_loop);
        // All is over, that which accepted included.
        assert_eq!(io_loop.metrics().tasks, 0);
    });
}

#[test]
fn stopping_twice_does_no_harm() {
    both_ways(|io_loop, _| {
        let server = local().serve(until_end).unwrap();
        server.stop();
        server.stop();
        turn(io_loop);
        let server = local().serve(until_end).unwrap();
        (0..3).for_each(|_| turn(io_loop));
        server.stop();
        server.stop();
        turn(io_loop);
        server.stop();
    });
}

#[test]
fn a_handler_may_stop_the_server_while_many_connections_wait() {
    both_ways(|io_loop, _| {
        let server: Rc<RefCell<Option<TcpServer>>> = Rc::default();
        let (handle, served) = (server.clone(), Count::default());
        let count = served.clone();
        let built = local().serve(move |stream| {
            count.hit();
            handle.borrow().as_ref().unwrap().stop();
            until_end(stream)
        });
        let built = server.borrow_mut().insert(built.unwrap()).clone();
        let clients: Vec<_> = (0..40).map(|_| connect(&built)).collect();
        turn_until(io_loop, || served.get() > 0);
        turn(io_loop);
        turn(io_loop);
        drop(TcpListener::bind(address_of(&built)).expect("the port is free"));
        // Each is served, or closed.
        let served = served.get();
        assert_eq!(clients.iter().filter(|client| is_open(client)).count(), served);
        assert_eq!(built.connections(), served);
        for client in clients {
            let _ = client.shutdown(Shutdown::Write);
            read_to_end(io_loop, client);
        }
        turn_until(io_loop, || built.connections() == 0);
        server.take();
    });
}

#[test]
fn a_server_goes_on_as_long_as_there_is_a_clone_of_it() {
    both_ways(|io_loop, _| {
        let server = local().serve(echo_line).unwrap();
        let (clone, address) = (server.clone(), address_of(&server));
        drop(server);
        let mut client = connect(&clone);
        client.write_all(b"hello\n").unwrap();
        assert_eq!(read_to_end(io_loop, client), b"hello\n");
        drop(clone);
        drop(TcpListener::bind(address).expect("the port is free"));
    });
}

#[test]
fn a_graceful_shutdown_waits_for_the_handlers_to_end() {
    both_ways(|io_loop, _| {
        let server = local().serve(echo_line).unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        turn_until(io_loop, || server.connections() == 3);
        let later = clients.iter().map(|client| client.try_clone().unwrap()).collect::<Vec<_>>();
        io_loop.call_later(SHORT, move || {
            later.iter().for_each(|mut client| client.write_all(b"bye\n").unwrap());
        });
        let cancelled = run(io_loop, || server.shutdown(Duration::from_secs(3600)));
        assert_eq!((cancelled, server.connections()), (0, 0));
        assert_eq!(io_loop.metrics().timeouts_pending, 0);
        for client in &mut clients {
            assert_eq!(read_to_end(io_loop, client), b"bye\n");
        }
    });
}

#[test]
fn a_shutdown_that_waits_for_handlers_has_freed_the_port() {
    both_ways(|io_loop, _| {
        let server = local().serve(echo_line).unwrap();
        let mut client = connect(&server);
        turn_until(io_loop, || server.connections() == 1);
        let mut shutdown = pin!(server.shutdown(LONG));
        run(io_loop, async || assert!(futures::poll!(&mut shutdown).is_pending()));
        drop(TcpListener::bind(address_of(&server)).expect("the port is free"));
        client.write_all(b"bye\n").unwrap();
        assert_eq!(run(io_loop, || shutdown), 0);
    });
}

#[test]
fn the_backlog_of_a_server_is_what_was_asked_for() {
    both_ways(|_, _| {
        let server = local().backlog(2).serve(until_end).unwrap();
        // One more than the number waits; of those beyond, the kernel takes no notice.
        let clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let patience = Duration::from_millis(20);
        let error = client.unwrap().connect_timeout(&address_of(&server).into(), patience);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(clients);
    });
}

#[test]
fn a_shutdown_cancels_the_handlers_that_do_not_end_in_time() {
    both_ways(|io_loop, reports| {
        for grace in [Duration::ZERO, SHORT] {
            let server = local()
                .serve(|stream| async move {
                    let _stream = stream;
                    pending::<()>().await;
                })
                .unwrap();
            let clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
            turn_until(io_loop, || server.connections() == 3);
            let cancelled = run(io_loop, || server.shutdown(grace));
            assert_eq!((cancelled, server.connections()), (3, 0));
            clients.into_iter().for_each(|client| assert_eq!(read_to_end(io_loop, client), b""));
            assert_eq!(run(io_loop, || server.shutdown(grace)), 0);
        }
        assert_eq!(*reports.borrow(), []);
    });
}

#[test]
fn a_handler_that_waits_for_the_shutdown_of_its_own_server_is_cancelled() {
    both_ways(|io_loop, _| {
        let server: Rc<RefCell<Option<TcpServer>>> = Rc::default();
        let handle = server.clone();
        let built = local().serve(move |stream| {
            let server = handle.borrow().clone().unwrap();
            async move {
                let _stream = stream;
                server.shutdown(SHORT).await;
                panic!("it should have been cancelled");
            }
        });
        let built = server.borrow_mut().insert(built.unwrap()).clone();
        assert_eq!(read_to_end(io_loop, connect(&built)), b"");
        turn_until(io_loop, || built.connections() == 0);
        server.take();
    });
}

#[test]
fn one_server_listens_at_several_places() {
    both_ways(|io_loop, _| {
        let path = std::env::temp_dir().join(format!("ringloop-server-{}", std::process::id()));
        let ready = bind_sockets("127.0.0.1", 0, &BindOptions::new()).unwrap();
        let mut builder = TcpServer::builder().listen("127.0.0.1", 0).listen("", 0);
        for socket in ready {
            builder = builder.add_socket(socket);
        }
        let unix = bind_unix_socket(&path, &BindUnixOptions::new()).unwrap();
        let server = builder.add_unix_socket(unix).serve(echo_line).unwrap();
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(server.local_addrs().len(), if has_ipv6 { 4 } else { 3 });
        for address in server.local_addrs() {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            writeln!(client, "{address}").unwrap();
            assert_eq!(read_to_end(io_loop, client), format!("{address}\n").into_bytes());
        }
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_nonblocking(true).unwrap();
        client.write_all(b"unix\n").unwrap();
        assert_eq!(read_to_end(io_loop, client), b"unix\n");
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn servers_share_a_port_if_all_say_so() {
    both_ways(|io_loop, _| {
        let counts = [Count::default(), Count::default()];
        let serve = |builder: ringloop::net::TcpServerBuilder, count: &Count| {
            let count = count.clone();
            builder.reuse_port(true).serve(move |_| {
                count.hit();
                async {}
            })
        };
        let first = serve(local(), &counts[0]).unwrap();
        let port = address_of(&first).port();
        let second = TcpServer::builder().listen("127.0.0.1", port);
        let _second = serve(second, &counts[1]).unwrap();
        for _ in 0..64 {
            read_to_end(io_loop, connect(&first));
        }
        assert_eq!(counts[0].get() + counts[1].get(), 64);
        assert!(counts.iter().all(|count| count.get() > 0), "{counts:?}");
        let refused = TcpServer::builder().listen("127.0.0.1", port).serve(until_end);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_server_that_cannot_have_all_its_places_has_none() {
    both_ways(|_, _| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().map(|address| (taken, address.port())).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let builder = TcpServer::builder().listen("127.0.0.1", port).listen("127.0.0.1", taken.1);
        assert_eq!(builder.serve(until_end).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"));
        let error = TcpServer::builder().serve(until_end).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = TcpServer::builder().family(Family::V4).listen("::1", 0).serve(until_end);
        assert!(error.unwrap_err().to_string().contains("::1"));
    });
}

#[test]
fn ipv6_clients_are_served() {
    both_ways(|io_loop, _| {
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return;
        }
        let server = TcpServer::builder().listen("::1", 0).serve(echo_line).unwrap();
        let mut client = connect(&server);
        client.write_all(b"hello\n").unwrap();
        assert_eq!(read_to_end(io_loop, client), b"hello\n");
    });
}

#[test]
fn a_socket_that_does_not_listen_is_reported() {
    both_ways(|io_loop, reports| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let server = TcpServer::builder().add_socket(socket.unwrap().into()).serve(until_end);
        let _server = server.unwrap();
        turn_until(io_loop, || !reports.borrow().is_empty());
        let [(Cause::Error, message)] = &reports.take()[..] else { panic!("one error") };
        assert!(message.contains("cannot accept"), "{message}");
    });
}

#[test]
fn a_server_needs_a_loop_that_is_open() {
    let _alone = alone();
    IoLoop::clear_current();
    let error = local().serve(until_end).unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    let (io_loop, _) = build(KernelFeatures::empty());
    io_loop.close(false).unwrap();
    let error = local().serve(until_end).unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::Closed));
}

#[test]
fn closing_the_loop_ends_a_server_with_all_its_connections() {
    let _alone = alone();
    let before = open_fds();
    for turns in 0..6 {
        let (io_loop, reports) = build(KernelFeatures::empty());
        let server = local().serve(until_end).unwrap();
        let clients: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        (0..turns).for_each(|_| turn(&io_loop));
        io_loop.close(false).unwrap();
        drop(TcpListener::bind(address_of(&server)).expect("the port is free"));
        assert!(clients.iter().all(|client| !is_open(client)));
        assert_eq!(server.connections(), 0);
        server.stop();
        drop((server, io_loop, clients));
        assert_eq!(*reports.borrow(), []);
    }
    assert_open_fds(before);
}

#[test]
fn a_storm_of_connections_that_come_and_go_is_served_to_the_last() {
    const CLIENTS: usize = 2000;
    both_ways(|io_loop, _| {
        let server = local().backlog(4096).serve(|stream| async move {
            // A reset is an end like any other.
            drop(until_end(stream).await);
        });
        let server = server.unwrap();
        let address = address_of(&server);
        let ended = Rc::new(Cell::new(false));
        let storm = std::thread::spawn(move || {
            for number in 0..CLIENTS {
                let client = TcpStream::connect(address).unwrap();
                if number % 3 == 0 {
                    // With a reset.
                    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
        });
        let handle = ended.clone();
        io_loop.add_future(io_loop.run_in_executor(move || storm.join().unwrap()), move |done| {
            done.unwrap();
            handle.set(true);
        });
        turn_until(io_loop, || ended.get());
        run(io_loop, || async {
            let last = IoStream::connect(address).await.unwrap();
            last.shutdown(Shutdown::Write);
            assert_eq!(last.read_partial(1).await.unwrap(), b"");
            time::sleep(SHORT).await;
        });
        turn_until(io_loop, || server.connections() == 0);
        drop(server);
    });
}

#[test]
fn a_shutdown_that_is_given_up_keeps_no_waker() {
    both_ways(|io_loop, _| {
        let server = local().serve(until_end).unwrap();
        let client = connect(&server);
        turn_until(io_loop, || server.connections() == 1);
        let (alarm, waker) = Alarm::new();
        {
            let mut shutdown = pin!(server.shutdown(LONG));
            assert!(shutdown.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&alarm), 1);
        drop(client);
        turn_until(io_loop, || server.connections() == 0);
    });
}

#[test]
fn a_waker_may_turn_the_loop_while_it_is_cloned_for_a_shutdown() {
    both_ways(|io_loop, _| {
        let server = local().serve(until_end).unwrap();
        let client = connect(&server);
        turn_until(io_loop, || server.connections() == 1);
        client.shutdown(Shutdown::Write).unwrap();
        let turning = io_loop.clone();
        let waker = meddling_waker(move || {
            // Refused where a turn is going on.
            (0..5).for_each(|_| drop(turning.turn(Some(Duration::ZERO))));
        });
        let mut shutdown = pin!(server.shutdown(Duration::from_secs(30)));
        while shutdown.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            turn(io_loop);
        }
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn a_waker_that_panics_keeps_the_end_of_a_connection_from_nobody() {
    both_ways(|io_loop, reports| {
        // The second one in a handler that is panicking.
        for text in ["", "no"] {
            let server = local().serve(async |stream: IoStream| {
                let received = stream.read_until_close(1024).await.unwrap();
                assert!(received.is_empty(), "a handler");
            });
            let server = server.unwrap();
            let mut client = connect(&server);
            turn_until(io_loop, || server.connections() == 1);
            let (mut first, mut second) =
                (pin!(server.shutdown(LONG)), pin!(server.shutdown(LONG)));
            let (alarm, waker) = Alarm::new();
            for (shutdown, waker) in [(&mut first, &panics_when_woken()), (&mut second, &waker)] {
                assert!(shutdown.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
            client.write_all(text.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            turn_until(io_loop, || server.connections() == 0);
            assert_eq!(alarm.rings(), 1);
            let told = if text.is_empty() { "woken" } else { "a handler" };
            assert_eq!(reports.take(), [(Cause::Panic, told.to_owned())]);
        }
    });
}
