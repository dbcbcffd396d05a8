//! Storms of connections that overflow the completion queue.

mod stress_support;
mod support;

use ringloop::net::TcpServer;
use ringloop::{IoLoop, KernelFeatures};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use stress_support::{alone, assert_open_fds, open_fds, raise_fd_limit, sized_loop};
use support::{turn, turn_until};

const CLIENTS: usize = 400;

/// A server that says each number that it is told back, and the numbers.
fn echo(seen: &Rc<RefCell<Vec<u32>>>) -> TcpServer {
    let seen = seen.clone();
    let server = TcpServer::builder().listen("127.0.0.1", 0).backlog(CLIENTS as u32 + 100);
    let server = server.serve(move |stream| {
        let seen = seen.clone();
        async move {
            let number = stream.read_bytes(4).await.unwrap();
            seen.borrow_mut().push(u32::from_le_bytes(number[..].try_into().unwrap()));
            stream.write(number).await.unwrap();
            assert_eq!(stream.read_partial(1).await.unwrap(), b"", "it ends");
        }
    });
    server.unwrap()
}

fn storm(io_loop: &IoLoop) {
    let seen = Rc::default();
    let server = echo(&seen);
    // The kernel accepts from here on, if it has a request for that.
    (0..4).for_each(|_| turn(io_loop));
    let connect = || TcpStream::connect(server.local_addrs()[0]).unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
    turn_until(io_loop, || server.connections() == CLIENTS);
    let (accepted, features) = (io_loop.metrics().completion_overflows, io_loop.metrics().features);
    // Accepting by hand takes one completion for many connections.
    assert_eq!(accepted > 0, features.contains(KernelFeatures::MULTISHOT_ACCEPT), "{accepted}");
    for (number, client) in (0u32..).zip(&mut clients) {
        client.write_all(&number.to_le_bytes()).unwrap();
    }
    turn_until(io_loop, || seen.borrow().len() == CLIENTS);
    assert!(io_loop.metrics().completion_overflows > accepted, "of what came for all of them");
    clients.iter().for_each(|client| client.shutdown(Shutdown::Write).unwrap());
    turn_until(io_loop, || server.connections() == 0);
    for (number, client) in (0u32..).zip(&mut clients) {
        let mut echo = Vec::new();
        client.read_to_end(&mut echo).unwrap();
        assert_eq!(echo, number.to_le_bytes());
    }
    seen.borrow_mut().sort_unstable();
    assert!(seen.borrow().iter().copied().eq(0..CLIENTS as u32), "each once");
}

#[test]
fn a_storm_that_overflows_the_completion_queue_loses_and_leaks_no_connection() {
    let _alone = alone();
    raise_fd_limit();
    drop(sized_loop(2, 4));
    let before = open_fds();
    let io_loop = sized_loop(2, 4);
    storm(&io_loop);
    drop(io_loop);
    assert_open_fds(before);
}
