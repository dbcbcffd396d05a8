//! How many connections a listener takes ahead, and when.

mod listener_support;
mod stress_support;
mod support;

use futures::future::FutureExt;
use futures::poll;
use listener_support::{SHORT, assert_same, both_ways, connect, connect_many, listen, run};
use ringloop::net::TcpListener;
use ringloop::{IoLoop, time};
use std::net::TcpStream;
use stress_support::{assert_open_fds, open_fds};
use support::{Count, turn};

#[test]
fn nothing_is_accepted_before_somebody_asks() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let client = connect(address);
        let before = open_fds();
        (0..3).for_each(|_| turn(io_loop));
        assert_open_fds(before);
        drop((listener, client));
    });
}

#[test]
fn when_the_queue_is_full_the_rest_waits_in_the_backlog() {
    const CLIENTS: usize = 100;
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(8);
        let clients = connect_many(address, CLIENTS);
        let before = open_fds();
        let mut taken = Vec::new();
        run(io_loop, async || taken.push(listener.accept().await.unwrap()));
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8, "one is taken, and seven wait");
        // Down to four, and nothing more; then, again up to eight.
        run(io_loop, async || {
            for _ in 0..2 {
                taken.push(listener.accept().await.unwrap());
            }
        });
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8);
        run(io_loop, async || taken.push(listener.accept().await.unwrap()));
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 4 + 8);
        run(io_loop, async || {
            while taken.len() < CLIENTS {
                taken.push(listener.accept().await.unwrap());
            }
        });
        taken.iter().zip(&clients).for_each(|(stream, client)| assert_same(stream, client));
    });
}

#[test]
fn a_queue_that_fills_while_the_kernel_accepts_is_emptied_all_the_same() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(1);
        run(io_loop, async || {
            for _ in 0..20 {
                // Armed on an empty backlog, and full with the first that comes.
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
                let clients = connect_many(address, 3);
                for client in &clients {
                    assert_same(&listener.accept().await.unwrap(), client);
                }
            }
        });
    });
}

fn all_are_accepted<'a>(
    io_loop: &IoLoop,
    listener: &TcpListener,
    clients: impl Iterator<Item = &'a TcpStream>,
) {
    run(io_loop, async || {
        for client in clients {
            assert_same(&listener.accept().await.unwrap(), client);
        }
    });
}

#[test]
fn when_the_queue_fills_while_the_kernel_accepts_the_rest_waits_in_the_backlog() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(8);
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        let before = open_fds();
        let first = connect_many(address, 8);
        (0..3).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8 + 8, "both ends of all");
        let rest = connect_many(address, 50);
        let before = open_fds();
        (0..3).for_each(|_| turn(io_loop));
        assert_open_fds(before);
        all_are_accepted(io_loop, &listener, first.iter().chain(&rest));
    });
}

#[test]
fn when_the_limit_is_lowered_to_what_is_queued_the_rest_waits_in_the_backlog() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        let before = open_fds();
        let first = connect_many(address, 4);
        (0..3).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 4 + 4, "both ends of all");
        listener.set_accept_limit(4);
        (0..3).for_each(|_| turn(io_loop));
        let rest = connect_many(address, 50);
        let before = open_fds();
        (0..3).for_each(|_| turn(io_loop));
        assert_open_fds(before);
        all_are_accepted(io_loop, &listener, first.iter().chain(&rest));
    });
}

#[test]
fn a_listener_that_is_emptied_while_it_stops_goes_on_when_it_has_stopped() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let before = open_fds();
            let clients = connect_many(address, 3);
            while open_fds() < before + 2 * clients.len() {
                time::sleep(SHORT).await;
            }
            // The kernel may have made them before the loop has heard of it.
            time::sleep(SHORT).await;
            // That is too many now; but then they are gone before the kernel has heard of it.
            listener.set_accept_limit(2);
            for client in &clients {
                let stream = listener.accept().now_or_never().unwrap().unwrap();
                assert_same(&stream, client);
            }
            let mut accept = Box::pin(listener.accept());
            assert!(poll!(&mut accept).is_pending());
            let client = connect(address);
            assert_same(&accept.await.unwrap(), &client);
        });
    });
}

/// Tornado's batch: what is queued is handed out over several turns.
#[test]
fn no_turn_accepts_more_than_the_limit_out_of_a_long_backlog() {
    const CLIENTS: usize = 500;
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, CLIENTS);
        let accepted = Count::default();
        let count = accepted.clone();
        let serving = io_loop.spawn(async move {
            while listener.accept().await.is_ok() {
                count.hit();
            }
        });
        let mut before = 0;
        for _ in 0..CLIENTS {
            turn(io_loop);
            let now = accepted.get();
            assert!(now - before <= 128, "{} in one turn", now - before);
            before = now;
        }
        assert_eq!(before, CLIENTS);
        serving.abort();
        turn(io_loop);
        drop(clients);
    });
}
