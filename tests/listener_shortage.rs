//! Listeners without descriptors to spare.

mod listener_support;
mod stress_support;
mod support;

use futures::poll;
use listener_support::{
    SHORT, assert_same, blank_socket, both_ways, connect_many, is_closed, listen, rebind, run,
};
use ringloop::net::TcpServer;
use ringloop::{IoStream, time};
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Count, turn, turn_until};

/// The process's limit of descriptors, lowered to what is open and a few more; restored at the end.
struct LowLimit(libc::rlimit);

impl LowLimit {
    fn spare(count: usize) -> LowLimit {
        let highest = File::open("/dev/null").unwrap().as_raw_fd() as usize;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid to write to.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
        let low = LowLimit(limit);
        low.set((highest + count) as libc::rlim_t);
        low
    }

    fn set(&self, current: libc::rlim_t) {
        let limit = libc::rlimit { rlim_cur: current, ..self.0 };
        // SAFETY: `limit` is valid to read from.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    }
}

impl Drop for LowLimit {
    fn drop(&mut self) {
        self.set(self.0.rlim_cur);
    }
}

#[test]
fn out_of_descriptors_a_listener_pauses_and_goes_on_when_a_stream_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        let _limit = LowLimit::spare(2);
        let mut streams = Vec::new();
        run(io_loop, async || {
            streams.push(listener.accept().await.unwrap());
            streams.push(listener.accept().await.unwrap());
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        // One after the other, each as soon as there is a descriptor, before any pause is over.
        for (pauses, client) in (1..).zip(&clients[2..]) {
            assert_eq!(io_loop.metrics().accept_pauses, pauses);
            assert_eq!(io_loop.metrics().timeouts_pending, 1, "none of an earlier pause");
            streams.remove(0);
            let before = io_loop.metrics().timeouts;
            let stream = run(io_loop, async || listener.accept().await.unwrap());
            assert_same(&stream, client);
            assert_eq!(io_loop.metrics().timeouts, before);
            streams.push(stream);
            // Until it has run into the limit again.
            (0..4).for_each(|_| turn(io_loop));
        }
    });
}

#[test]
fn out_of_descriptors_a_listener_does_not_spin() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 3);
        let limit = LowLimit::spare(0);
        let before = io_loop.metrics();
        run(io_loop, async || {
            time::timeout(Duration::from_millis(150), listener.accept()).await.unwrap_err();
        });
        let after = io_loop.metrics();
        assert_eq!(after.accept_pauses - before.accept_pauses, 1, "one shortage, counted once");
        // Pauses of 10, 20, 40 and 80 ms; a turn or two for each.
        let turns = after.turns - before.turns;
        assert!(turns <= 16, "{turns} turns");
        assert!(after.submissions - before.submissions <= 16);
        // Descriptors that come from elsewhere are found after a while.
        drop(limit);
        let stream = run(io_loop, async || listener.accept().await.unwrap());
        assert_same(&stream, &clients[0]);
    });
}

#[test]
fn a_listener_that_has_paused_again_and_again_tries_once_when_a_stream_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let _clients = connect_many(address, 1);
        let stream = IoStream::new(UnixStream::pair().unwrap().0).unwrap();
        let _limit = LowLimit::spare(0);
        run(io_loop, async || {
            time::timeout(Duration::from_millis(100), listener.accept()).await.unwrap_err();
        });
        let before = io_loop.metrics().callbacks;
        drop(stream);
        // Somebody else is faster.
        let _taken = File::open("/dev/null").unwrap();
        turn(io_loop);
        assert_eq!(io_loop.metrics().callbacks - before, 1);
    });
}

#[test]
fn a_listener_that_pauses_can_be_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 1);
        let limit = LowLimit::spare(0);
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        listener.close();
        assert_eq!(io_loop.metrics().timeouts_pending, 0);
        drop(limit);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
    });
}

#[test]
fn out_of_descriptors_a_server_with_a_limit_goes_on_when_a_connection_ends() {
    both_ways(|io_loop| {
        let server = TcpServer::builder().listen("127.0.0.1", 0).max_connections(4);
        let served = Count::default();
        let count = served.clone();
        let server = server.serve(move |stream| {
            count.hit();
            async move { stream.read_until_close(1).await.map(drop) }
        });
        let server = server.unwrap();
        let address = server.local_addrs()[0];
        // It waits for connections.
        (0..3).for_each(|_| turn(io_loop));
        let clients = connect_many(address, 10);
        let limit = LowLimit::spare(2);
        turn_until(io_loop, || served.get() == 2);
        turn_until(io_loop, || io_loop.metrics().accept_pauses == 1);
        // Their descriptors stay, or there would be more of them for the server.
        for (number, client) in clients.iter().enumerate() {
            turn_until(io_loop, || served.get() > number);
            assert!(server.connections() <= 2);
            client.shutdown(Shutdown::Write).unwrap();
        }
        turn_until(io_loop, || server.connections() == 0);
        server.stop();
        drop(limit);
        drop(rebind(address));
    });
}

#[test]
fn a_server_with_a_limit_that_waits_for_connections_can_be_stopped() {
    both_ways(|io_loop| {
        let server = TcpServer::builder().listen("127.0.0.1", 0).max_connections(4);
        let server = server.serve(|stream| async move { drop(stream) }).unwrap();
        (0..3).for_each(|_| turn(io_loop));
        server.stop();
        drop(rebind(server.local_addrs()[0]));
    });
}

#[test]
fn one_who_waits_while_the_kernel_runs_out_of_descriptors_is_served_after_it() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let _limit = LowLimit::spare(10);
        let client = blank_socket();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let mut accept = Box::pin(listener.accept());
            assert!(poll!(&mut accept).is_pending());
            let full: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            client.connect(&address.into()).unwrap();
            while io_loop.metrics().accept_pauses == 0 {
                time::sleep(SHORT).await;
            }
            drop(full);
            let client = client.local_addr().unwrap().as_socket();
            assert_eq!(accept.await.unwrap().peer_addr().ok(), client);
        });
    });
}

#[test]
fn a_shortage_while_the_kernel_accepts_is_survived() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        // The kernel looks the limit up when a request is made, so it is low before that.
        let _limit = LowLimit::spare(10);
        let clients: Vec<_> = (0..4).map(|_| blank_socket()).collect();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let mut full: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            full.pop();
            for client in &clients {
                client.connect(&address.into()).unwrap();
            }
            let mut streams = vec![listener.accept().await.unwrap()];
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            assert_eq!(io_loop.metrics().accept_pauses, 1);
            drop(full);
            while streams.len() < clients.len() {
                streams.push(listener.accept().await.unwrap());
            }
            for (stream, client) in streams.iter().zip(&clients) {
                let client = client.local_addr().unwrap().as_socket();
                assert_eq!(stream.peer_addr().ok(), client);
            }
        });
    });
}
