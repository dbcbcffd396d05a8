//! As many descriptors as a process may have, and what happens when there are no more.

mod stress_support;
mod support;

use ringloop::{Events, IoLoop, Trigger};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use stress_support::{
    alone, assert_open_fds, eventfd, open_fds, raise_fd_limit, signal, small_loop, take_count,
    turn_at_most,
};
use support::{Count, pair, turn, turn_until};

/// Takes every descriptor that is left but `spare`.
fn exhaust(spare: usize) -> Vec<File> {
    raise_fd_limit();
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                break;
            }
        }
    }
    taken.truncate(taken.len() - spare);
    taken
}

#[test]
fn the_descriptors_of_a_loop_are_not_inherited_by_other_programs() {
    let _alone = alone();
    let open = || -> HashSet<RawFd> {
        // SAFETY: passes no memory.
        let is_open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
        (0..1024).filter(is_open).collect()
    };
    let before = open();
    let _io_loop = small_loop();
    let own = &open() - &before;
    assert!(own.len() >= 3, "{own:?}");
    for fd in own {
        // SAFETY: passes no memory.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}

/// Eventfds up to the limit, each registered, each of which counts what was written to it.
fn register_all(io_loop: &IoLoop, trigger: Trigger) -> (Vec<i32>, Count) {
    let (mut fds, count) = (Vec::new(), Count::default());
    loop {
        let event = match eventfd(0) {
            Ok(event) => event,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                return (fds, count);
            }
        };
        fds.push(event.as_raw_fd());
        let count = count.clone();
        let handler = move |event: &mut OwnedFd, events| {
            assert_eq!(events, Events::READ);
            count.add(take_count(event).expect("a call with nothing to read") as usize);
        };
        io_loop.add_handler_with(event, Events::READ, trigger, handler).unwrap();
    }
}

fn as_many_as_the_limit_allows(trigger: Trigger) {
    let limit = raise_fd_limit();
    let io_loop = small_loop();
    let before = open_fds();
    let (fds, count) = register_all(&io_loop, trigger);
    assert!(fds.len() + before >= limit - 1, "{} of {limit}", fds.len());
    turn(&io_loop);
    assert_eq!(count.get(), 0);
    for round in 1..=2 {
        fds.iter().for_each(signal);
        turn_at_most(&io_loop, 2000, || count.get() == round * fds.len());
    }
    assert_eq!(io_loop.metrics().handlers, fds.len());
    for fd in &fds[fds.len() / 2..] {
        assert!(io_loop.remove_handler(fd));
    }
    turn(&io_loop);
    assert_open_fds(before + fds.len() / 2);
    io_loop.close(false).unwrap();
    assert!(open_fds() <= before);
}

#[test]
fn as_many_level_triggered_descriptors_as_the_limit_allows_all_fire() {
    let _alone = alone();
    as_many_as_the_limit_allows(Trigger::Level);
}

#[test]
fn as_many_edge_triggered_descriptors_as_the_limit_allows_all_fire() {
    let _alone = alone();
    as_many_as_the_limit_allows(Trigger::Edge);
}

#[test]
fn a_loop_without_descriptors_to_spare_still_works() {
    let _alone = alone();
    let io_loop = small_loop();
    let (stream, peer) = pair();
    let full = exhaust(0);
    let count = Count::default();
    let (read, fired) = (count.clone(), count.clone());
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            stream.read_exact(&mut [0]).unwrap();
            read.hit();
        })
        .unwrap();
    let event = OwnedFd::from(peer);
    signal(&event);
    io_loop.add_handler(event, Events::WRITE, |_, _| {}).unwrap();
    io_loop.call_later(Duration::from_millis(1), move || fired.hit());
    // The eight bytes of the signal, one a turn, and the timeout.
    turn_until(&io_loop, || count.get() == 9);
    io_loop.close(false).unwrap();
    drop(full);
}

#[test]
fn a_loop_that_cannot_be_built_for_want_of_descriptors_says_which_and_leaks_none() {
    let _alone = alone();
    drop(small_loop());
    let needed = {
        let before = open_fds();
        let _io_loop = small_loop();
        open_fds() - before
    };
    // In the order in which they are made.
    let names = ["eventfd", "io_uring_setup", "epoll"];
    assert_eq!(needed, names.len());
    for (spare, name) in names.into_iter().enumerate() {
        let full = exhaust(spare);
        for _ in 0..3 {
            let error = IoLoop::new().unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains("ulimit -n"),
                "with {spare} to spare: {message}"
            );
            assert_eq!(error.kind(), io::Error::from_raw_os_error(libc::EMFILE).kind());
        }
        // Exactly as many as before can be opened.
        let spared: Vec<_> = (0..spare).map(|_| File::open("/dev/null").unwrap()).collect();
        assert_eq!(File::open("/").unwrap_err().raw_os_error(), Some(libc::EMFILE));
        drop((full, spared));
    }
    let full = exhaust(needed);
    let io_loop = small_loop();
    turn(&io_loop);
    drop((io_loop, full));
}

/// A server at the limit: it hears of the connection it cannot take, and takes it when it can.
#[test]
fn a_listener_out_of_descriptors_hears_the_reason_and_accepts_as_soon_as_it_can() {
    const CLIENTS: usize = 20;
    let _alone = alone();
    let io_loop = small_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let (accepted, refusals) = (Rc::new(RefCell::new(Vec::new())), Count::default());
    let (taken, refused) = (accepted.clone(), refusals.clone());
    io_loop
        .add_handler(listener, Events::READ, move |listener, events| {
            assert_eq!(events, Events::READ);
            match listener.accept() {
                Ok((stream, _)) => taken.borrow_mut().push(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nobody is there"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    refused.hit();
                }
            }
        })
        .unwrap();
    let full = exhaust(5);
    turn_at_most(&io_loop, 20, || refusals.get() == 4);
    assert_eq!(accepted.borrow().len(), 5);
    drop(full);
    turn_at_most(&io_loop, CLIENTS + 5, || accepted.borrow().len() == CLIENTS);
    turn(&io_loop);
    assert_eq!(refusals.get(), 4);
    drop(clients);
}

#[test]
fn nothing_is_left_open_by_a_loop_that_was_full() {
    let _alone = alone();
    let before = open_fds();
    for _ in 0..2 {
        let io_loop = small_loop();
        let (fds, _) = register_all(&io_loop, Trigger::Level);
        turn(&io_loop);
        assert!(fds.len() > before);
        assert!(IoLoop::new().is_err());
        drop(io_loop);
        assert_open_fds(before);
    }
}
