//! Accepting connections in a handler: in bounded batches, until that would block.

mod support;

use ringloop::{Events, IoLoop, Trigger};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use support::{Count, in_child, new_loop, turn, turn_until};

/// A listener whose clients are in its backlog as soon as they have connected, unlike TCP's.
fn listener(name: &str) -> (UnixListener, PathBuf) {
    let path = std::env::temp_dir().join(format!("ringloop-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    (listener, path)
}

/// Clients in the backlog, and the file that they needed removed.
fn clients(path: PathBuf, count: usize) -> Vec<UnixStream> {
    let clients = (0..count).map(|_| UnixStream::connect(&path).unwrap()).collect();
    std::fs::remove_file(path).unwrap();
    clients
}

/// Accepts until that would block, or `limit` connections. True if more may be waiting.
fn accept_batch(
    listener: &UnixListener,
    limit: usize,
    mut on_connection: impl FnMut(UnixStream) -> bool,
) -> io::Result<bool> {
    for _ in 0..limit {
        match listener.accept() {
            Ok((stream, _)) => {
                if !on_connection(stream) {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[test]
fn a_backlog_is_accepted_in_bounded_batches_one_a_turn() {
    let io_loop = new_loop();
    let (listener, path) = listener("batches");
    let clients = clients(path, 100);
    let (accepted, others) = (Count::new(), Count::new());
    let count = accepted.clone();
    let handler = move |listener: &mut UnixListener, _| {
        let accept = |_stream| {
            count.hit();
            true
        };
        accept_batch(listener, 16, accept).unwrap();
    };
    io_loop.add_handler(listener, Events::READ, handler).unwrap();
    let (stream, _peer) = support::ready_pair();
    io_loop.add_handler(stream, Events::READ, others.handler()).unwrap();
    for turns in 1..=10 {
        turn(&io_loop);
        // Those that are open are served between two batches.
        assert_eq!((accepted.get(), others.get()), (100.min(turns * 16), turns));
    }
    assert_eq!(clients.len(), 100);
    // Six full batches, one of the rest, and the other handler's calls.
    assert_eq!(io_loop.metrics().handler_calls, 7 + 10);
}

#[test]
fn an_edge_triggered_listener_that_accepts_until_it_would_block_misses_nobody() {
    const CLIENTS: usize = 200;
    let io_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let served = Count::new();
    let count = served.clone();
    let handler = move |listener: &mut TcpListener, _| {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => stream.write_all(b"x").unwrap(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            count.hit();
        }
    };
    io_loop.add_handler_with(listener, Events::READ, Trigger::Edge, handler).unwrap();
    let client = thread::spawn(move || {
        for _ in 0..CLIENTS {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
    });
    turn_until(&io_loop, || client.is_finished());
    client.join().unwrap();
    assert_eq!(served.get(), CLIENTS);
}

#[test]
fn a_listener_removed_by_its_connection_callback_accepts_no_more() {
    let io_loop = new_loop();
    let (listener, path) = listener("removed");
    let mut clients = clients(path, 10);
    let accepted = Rc::new(RefCell::new(Vec::new()));
    let kept = accepted.clone();
    let handler = move |listener: &mut UnixListener, _| {
        let fd = listener.as_raw_fd();
        let accept = |stream| {
            kept.borrow_mut().push(stream);
            let enough = kept.borrow().len() == 3;
            if enough {
                assert!(IoLoop::current().remove_handler(&fd));
            }
            !enough
        };
        assert!(accept_batch(listener, 128, accept).unwrap());
    };
    io_loop.add_handler(listener, Events::READ, handler).unwrap();
    for _ in 0..3 {
        turn(&io_loop);
        assert_eq!((accepted.borrow().len(), io_loop.metrics().handlers), (3, 0));
    }
    // The listener is closed: those that were not accepted know.
    for client in &mut clients[3..] {
        let end = client.read(&mut [0]);
        assert!(matches!(&end, Ok(0) | Err(_)), "{end:?}");
    }
    for (stream, client) in accepted.borrow_mut().iter_mut().zip(&mut clients) {
        stream.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn clients_that_gave_up_in_the_backlog_do_not_disturb_the_others() {
    let io_loop = new_loop();
    let (listener, path) = listener("aborted");
    let mut clients = clients(path, 20);
    let answers = Count::new();
    let count = answers.clone();
    let handler = move |listener: &mut UnixListener, _| {
        let answer = |mut stream: UnixStream| {
            // Fails for those that are gone.
            let _ = stream.write_all(b"x");
            count.hit();
            true
        };
        assert!(!accept_batch(listener, 128, answer).unwrap());
    };
    clients.drain(..10).for_each(drop);
    io_loop.add_handler(listener, Events::READ, handler).unwrap();
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!((answers.get(), io_loop.metrics().handler_calls), (20, 1));
    for mut client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
}

/// Leaves room for a few more descriptors, or for as many as before.
fn limit_descriptors(limit: libc::rlim_t) -> libc::rlim_t {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limits are valid to read and to write.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limits);
        let before = limits.rlim_cur;
        limits.rlim_cur = limit;
        let result = libc::setrlimit(libc::RLIMIT_NOFILE, &limits);
        (result == 0).then_some(before)
    };
    result.unwrap()
}

/// The lowest number that is free.
fn first_free() -> libc::rlim_t {
    File::open("/").unwrap().as_raw_fd() as libc::rlim_t
}

/// Accepts; pauses for a while when there are no descriptors, and counts that.
fn add_pausing_acceptor(
    io_loop: &IoLoop,
    listener: UnixListener,
    accepted: Rc<RefCell<Vec<UnixStream>>>,
    failures: Count,
) {
    let handler = move |listener: &mut UnixListener, _| {
        let accept = |stream| {
            accepted.borrow_mut().push(stream);
            true
        };
        let Err(error) = accept_batch(listener, 128, accept) else { return };
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        failures.hit();
        let (io_loop, fd) = (IoLoop::current(), listener.as_raw_fd());
        io_loop.update_handler(&fd, Events::NONE).unwrap();
        io_loop.call_later(Duration::from_millis(10), move || {
            IoLoop::current().update_handler(&fd, Events::READ).unwrap();
        });
    };
    io_loop.add_handler(listener, Events::READ, handler).unwrap();
}

#[test]
fn running_out_of_descriptors_while_accepting_neither_spins_nor_loses_connections() {
    let result = in_child(|| {
        let io_loop = new_loop();
        let (listener, path) = listener("descriptors");
        let clients = clients(path, 60);
        let (accepted, failures) = (Rc::new(RefCell::new(Vec::new())), Count::new());
        let before = limit_descriptors(first_free() + 5);
        add_pausing_acceptor(&io_loop, listener, accepted.clone(), failures.clone());
        turn_until(&io_loop, || failures.get() >= 3);
        assert!(accepted.borrow().len() <= 5);
        // One call for each pause; between them, the loop sleeps.
        let metrics = io_loop.metrics();
        if metrics.handler_calls > 3 || metrics.turns > 40 {
            return Err(format!("it spins: {metrics:?}"));
        }
        limit_descriptors(before);
        turn_until(&io_loop, || accepted.borrow().len() == clients.len());
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn building_a_loop_without_descriptors_is_an_error_and_leaves_the_others_alone() {
    let result = in_child(|| {
        let io_loop = new_loop();
        let (stream, _peer) = support::ready_pair();
        let before = limit_descriptors(0);
        let refused = (0..3).all(|_| IoLoop::new().is_err());
        let count = Count::new();
        io_loop.add_handler(stream, Events::READ, count.handler()).unwrap();
        turn(&io_loop);
        limit_descriptors(before);
        IoLoop::new().unwrap();
        if refused && count.get() == 1 { Ok(()) } else { Err(format!("{refused} {count:?}")) }
    });
    assert_eq!(result, Ok(()));
}
