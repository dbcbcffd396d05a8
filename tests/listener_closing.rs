//! The end of a listener: the port is free, and who waits is told.

mod listener_support;
mod meddling;
mod stress_support;
mod support;
mod waker_support;

use futures::future::FutureExt;
use listener_support::{both_ways, build, connect_many, is_closed, listen, rebind, run};
use meddling::meddling_waker;
use ringloop::KernelFeatures;
use ringloop::net::ListenerError;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use stress_support::{alone, assert_open_fds, open_fds, turn_at_most};
use support::{Count, turn, turn_until};
use waker_support::{Alarm, panics_when_woken, runs_when_cloned};

#[test]
fn close_frees_the_port_at_once_while_the_loop_does_not_run() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        // Never armed, armed, and with a full queue.
        listener.close();
        for connections in [0, 3] {
            let listener = rebind(address);
            listener.set_accept_limit(2);
            let clients = connect_many(address, connections);
            assert!(listener.accept().now_or_never().is_none());
            (0..3).for_each(|_| turn(io_loop));
            listener.close();
            drop(rebind(address));
            assert!(clients.iter().all(is_closed));
        }
    });
}

#[test]
fn close_frees_the_port_by_the_end_of_the_turn_while_the_loop_runs() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let waiting = listener.clone();
        let task = io_loop.spawn(async move { waiting.accept().await.map(drop) });
        turn(io_loop);
        turn(io_loop);
        io_loop.add_callback(move || listener.close());
        turn(io_loop);
        drop(rebind(address));
        let error = run(io_loop, async || task.await.unwrap()).unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
    });
}

#[test]
fn dropping_a_listener_closes_it_and_what_nobody_has_taken() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        run(io_loop, async || drop(listener.accept().await.unwrap()));
        turn(io_loop);
        drop(listener);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
    });
}

#[test]
fn a_closed_listener_says_so_again_and_again() {
    both_ways(|io_loop| {
        let (listener, _) = listen();
        listener.close();
        listener.close();
        run(io_loop, async || {
            for _ in 0..2 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
            }
        });
        let error = listener.local_addr().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
        assert_eq!(listener.as_raw_fd(), -1);
    });
}

#[test]
fn closing_the_loop_frees_the_port_although_the_listener_is_still_there() {
    let _alone = alone();
    for turns in 0..3 {
        let before = open_fds();
        let io_loop = build(KernelFeatures::empty());
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let clients = connect_many(address, 3);
        listener.set_accept_limit(2);
        if turns > 0 {
            let waiting = listener.clone();
            io_loop.spawn(async move { drop(waiting.accept().await) });
            (0..turns).for_each(|_| turn(&io_loop));
        }
        io_loop.close(false).unwrap();
        drop(std::net::TcpListener::bind(address).expect("the port is free"));
        assert!(clients.iter().all(is_closed));
        let error = listener.accept().now_or_never().unwrap().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::LoopClosed));
        drop((io_loop, listener, clients));
        assert_open_fds(before);
    }
}

#[test]
fn closing_the_loop_tells_who_waits_for_a_connection() {
    both_ways(|io_loop| {
        let (listener, _) = listen();
        let (alarm, waker) = Alarm::new();
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (0..3).for_each(|_| turn(io_loop));
        io_loop.close(false).unwrap();
        assert_eq!(alarm.rings(), 1);
        let error = accept.now_or_never().unwrap().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::LoopClosed));
    });
}

#[test]
fn a_listener_is_closed_by_who_is_woken_by_it() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let clients = connect_many(address, 40);
        let count = Count::default();
        let (closing, closed) = (listener.clone(), count.clone());
        io_loop.spawn(async move {
            let stream = closing.accept().await.unwrap();
            closing.close();
            closed.hit();
            drop(stream);
        });
        turn_at_most(io_loop, 20, || count.get() == 1);
        turn(io_loop);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
        drop(listener);
    });
}

#[test]
fn a_connection_that_comes_with_the_end_of_its_listener_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let closing = listener.clone();
        let waker = meddling_waker(move || {
            // When it is woken: the queue has what was accepted before.
            if closing.accept().now_or_never().is_some() {
                closing.close();
            }
        });
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (0..3).for_each(|_| turn(io_loop));
        let clients = connect_many(address, 3);
        turn_until(io_loop, || listener.as_raw_fd() == -1);
        assert!(clients.iter().all(is_closed));
        let error = accept.now_or_never().unwrap().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
    });
}

#[test]
fn a_listener_that_is_closed_as_a_waker_is_cloned_says_so() {
    both_ways(|_| {
        let (listener, _) = listen();
        let listener = Rc::new(listener);
        let closing = listener.clone();
        let (_alarm, waker) = runs_when_cloned(move || closing.close());
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    });
}

#[test]
fn a_waker_that_panics_keeps_the_end_of_a_listener_from_nobody() {
    both_ways(|_| {
        let (listener, _) = listen();
        let (mut first, mut second) = (pin!(listener.accept()), pin!(listener.accept()));
        let (alarm, waker) = Alarm::new();
        for (accept, waker) in [(&mut first, &panics_when_woken()), (&mut second, &waker)] {
            assert!(accept.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        catch_unwind(AssertUnwindSafe(|| listener.close())).unwrap_err();
        assert_eq!(alarm.rings(), 1);
    });
}

#[test]
fn a_forked_child_does_not_hold_the_port() {
    let _alone = alone();
    let io_loop = build(KernelFeatures::empty());
    let (listener, address) = listen();
    assert!(listener.accept().now_or_never().is_none());
    turn(&io_loop);
    turn(&io_loop);
    let (mut reader, mut writer) = io::pipe().unwrap();
    let (mut goes_on, hold) = io::pipe().unwrap();
    // SAFETY: the child drops what it has, writes a byte, waits, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => {
            drop(hold);
            drop(listener);
            let _ = writer.write_all(b"x");
            let _ = goes_on.read(&mut [0]);
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(0) }
        }
        child => {
            reader.read_exact(&mut [0]).unwrap();
            listener.close();
            drop(rebind(address));
            drop(hold);
            let mut status = -1;
            // SAFETY: `status` is valid to write to.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0);
        }
    }
}
