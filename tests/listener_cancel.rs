//! Accepts that are dropped: no connection is lost, and none is left behind.

mod listener_support;
mod stress_support;
mod support;
mod waker_support;

use futures::future::FutureExt;
use futures::poll;
use listener_support::{SHORT, assert_same, both_ways, connect, connect_many, listen, run};
use ringloop::time;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use stress_support::open_fds;
use support::{turn, turn_until};
use waker_support::Alarm;

#[test]
fn five_accepts_that_took_too_long_take_no_connection_with_them() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = None;
        let stream = run(io_loop, async || {
            for _ in 0..5 {
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
            }
            client = Some(connect(address));
            listener.accept().await.unwrap()
        });
        assert_same(&stream, &client.unwrap());
    });
}

#[test]
fn a_connection_that_comes_between_two_accepts_is_there_for_the_second() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = None;
        let stream = run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            client = Some(connect(address));
            // The kernel has accepted it by then, with nobody waiting.
            time::sleep(SHORT).await;
            listener.accept().await.unwrap()
        });
        assert_same(&stream, &client.unwrap());
    });
}

/// Whenever an accept is dropped, the connections go to the others.
#[test]
fn an_accept_dropped_after_any_number_of_polls_loses_no_connection() {
    const CLIENTS: usize = 3;
    for polls in 0..8 {
        both_ways(|io_loop| {
            let (listener, address) = listen();
            let mut clients = Vec::new();
            let streams = run(io_loop, async || {
                let mut streams = Vec::new();
                let mut accept = Box::pin(listener.accept());
                for number in 0..polls {
                    if number == 2 {
                        clients = connect_many(address, CLIENTS);
                    }
                    if let Poll::Ready(stream) = poll!(&mut accept) {
                        streams.push(stream.unwrap());
                        break;
                    }
                    time::sleep(Duration::ZERO).await;
                }
                drop(accept);
                if clients.is_empty() {
                    clients = connect_many(address, CLIENTS);
                }
                while streams.len() < CLIENTS {
                    streams.push(listener.accept().await.unwrap());
                }
                streams
            });
            streams.iter().zip(&clients).for_each(|(stream, client)| assert_same(stream, client));
        });
    }
}

#[test]
fn an_accept_that_loses_a_select_takes_no_connection_with_it() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 20);
        let streams = run(io_loop, async || {
            let mut streams = Vec::new();
            while streams.len() < clients.len() {
                let mut accept = pin!(listener.accept().fuse());
                let mut other = pin!(time::sleep(Duration::ZERO).fuse());
                futures::select_biased! {
                    () = other => {}
                    stream = accept => streams.push(stream.unwrap()),
                }
                // Without the other one, to get on.
                if let Some(stream) = listener.accept().now_or_never() {
                    streams.push(stream.unwrap());
                }
            }
            streams
        });
        for (stream, client) in streams.iter().zip(&clients) {
            assert_same(stream, client);
        }
    });
}

#[test]
fn those_who_wait_are_served_in_order_and_one_who_leaves_passes_its_turn_on() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let accept = || {
            let listener = listener.clone();
            io_loop.spawn(async move { listener.accept().await.unwrap() })
        };
        let (first, second, third) = (accept(), accept(), accept());
        (0..3).for_each(|_| turn(io_loop));
        let before = open_fds();
        let mut clients = vec![connect(address)];
        turn_until(io_loop, || open_fds() > before + 1);
        // The first is woken, and ends without having looked.
        first.abort();
        let second = run(io_loop, || second).unwrap();
        assert_same(&second, &clients[0]);
        assert!(!third.is_finished());
        clients.push(connect(address));
        let third = run(io_loop, || third).unwrap();
        assert_same(&third, &clients[1]);
    });
}

#[test]
fn one_who_leaves_without_a_turn_to_pass_on_wakes_nobody() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let ((woken, waker), (other, patient)) = (Alarm::new(), Alarm::new());
        let (mut first, mut second) = (Box::pin(listener.accept()), pin!(listener.accept()));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&patient)).is_pending());
        let _client = connect(address);
        turn_until(io_loop, || woken.rings() == 1);
        // Somebody else has taken the connection by then.
        listener.accept().now_or_never().unwrap().unwrap();
        drop(first);
        assert_eq!(other.rings(), 0);
    });
}

#[test]
fn an_accept_that_is_given_up_keeps_no_waker() {
    both_ways(|_| {
        let (listener, _) = listen();
        let (alarm, waker) = Alarm::new();
        let mut accept = Box::pin(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop((accept, waker));
        assert_eq!(Arc::strong_count(&alarm), 1);
    });
}

#[test]
fn an_accept_wakes_who_polled_it_last_once_and_keeps_no_other_waker() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let ((before, old), (alarm, waker)) = (Alarm::new(), Alarm::new());
        let mut accept = pin!(listener.accept());
        for waker in [&old, &waker] {
            assert!(accept.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        drop(old);
        assert_eq!(Arc::strong_count(&before), 1);
        let _clients = connect_many(address, 2);
        turn_until(io_loop, || alarm.rings() > 0);
        (0..10).for_each(|_| turn(io_loop));
        assert_eq!((before.rings(), alarm.rings()), (0, 1));
        assert!(accept.poll(&mut Context::from_waker(&waker)).is_ready());
    });
}
