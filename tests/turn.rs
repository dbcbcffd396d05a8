//! The order of work in a turn, what it is bounded by, and `stop`.

mod support;

use ringloop::{Events, IoLoop, IoStream, net};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Count, Trace, new_loop, ready_pair, turn};

#[test]
fn a_turn_runs_callbacks_then_due_timeouts_then_handlers() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, trace.handler("handler")).unwrap();
    io_loop.call_later(Duration::ZERO, trace.mark("timeout"));
    io_loop.add_callback(trace.mark("callback"));
    turn(&io_loop);
    assert_eq!(trace.take(), ["callback", "timeout", "handler"]);
}

#[test]
fn a_callback_added_by_a_callback_runs_in_the_next_turn() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (mut first, second) = (trace.mark("first"), trace.mark("second"));
    io_loop.add_callback(move || {
        first();
        IoLoop::current().add_callback(second);
    });
    turn(&io_loop);
    assert_eq!(trace.take(), ["first"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["second"]);
}

#[test]
fn ready_io_is_delivered_between_a_callback_and_the_one_it_adds() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (stream, _peer) = ready_pair();
    let handled = trace.clone();
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            support::drain(stream);
            handled.push("handler");
        })
        .unwrap();
    let (mut first, mut second) = (trace.mark("first"), trace.mark("second"));
    io_loop.add_callback(move || {
        first();
        IoLoop::current().add_callback(move || {
            second();
            IoLoop::current().stop();
        });
    });
    io_loop.start().unwrap();
    assert_eq!(trace.take(), ["first", "handler", "second"]);
}

#[test]
fn a_callback_posted_by_a_callback_through_a_handle_runs_in_the_next_turn() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    io_loop.add_callback(move || {
        assert!(handle.add_callback(|| IoLoop::current().stop()));
    });
    turn(&io_loop);
    assert_eq!(io_loop.metrics().callbacks, 1);
    io_loop.start().unwrap();
    assert_eq!(io_loop.metrics().callbacks, 2);
}

fn re_add_callback(count: Count) {
    count.hit();
    IoLoop::current().add_callback(move || re_add_callback(count));
}

fn re_post_callback() {
    IoLoop::current().handle().add_callback(re_post_callback);
}

fn re_arm_timeout(count: Count) {
    count.hit();
    let past = Instant::now() - Duration::from_secs(1);
    IoLoop::current().call_at(past, move || re_arm_timeout(count));
}

#[test]
fn callbacks_that_re_add_themselves_starve_neither_handlers_nor_timeouts() {
    let io_loop = new_loop();
    let (callbacks, handlers, timeouts) = (Count::new(), Count::new(), Count::new());
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, handlers.handler()).unwrap();
    io_loop.call_later(Duration::ZERO, timeouts.counter());
    let spinning = callbacks.clone();
    io_loop.add_callback(move || re_add_callback(spinning));
    io_loop.handle().add_callback(re_post_callback);
    for served in 1..=10 {
        turn(&io_loop);
        assert_eq!((callbacks.get(), handlers.get(), timeouts.get()), (served, served, 1));
    }
    assert_eq!(io_loop.metrics().callbacks, 20);
    // The callbacks name no loop, but the one that is current.
    io_loop.close(false).unwrap();
}

#[test]
fn a_turn_that_need_not_ask_the_kernel_makes_no_system_call() {
    let io_loop = new_loop();
    let (stream, mut peer) = support::pair();
    let calls = Count::default();
    let handler = {
        let calls = calls.clone();
        move |stream: &mut _, _| {
            support::drain(stream);
            calls.hit();
        }
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    re_add_callback(Count::default());
    turn(&io_loop);
    turn(&io_loop);
    let before = io_loop.metrics().enters;
    (0..100).for_each(|_| turn(&io_loop));
    assert_eq!(io_loop.metrics().enters, before);
    // What comes is noticed all the same.
    peer.write_all(b"x").unwrap();
    while calls.get() == 0 {
        turn(&io_loop);
    }
}

/// Runs a loop in which callbacks follow upon callbacks, and does one thing after the other there, each
/// when the loop has found for some turns that there is nothing else to do. Then something `is_done`.
#[track_caller]
fn act_in_a_busy_loop(io_loop: &IoLoop, acts: Vec<Box<dyn FnOnce()>>, is_done: impl Fn() -> bool) {
    const TURNS_BEFORE: usize = 10;
    const TURNS_AFTER: usize = 1000;
    fn go_on(mut acts: std::vec::IntoIter<Box<dyn FnOnce()>>, turns: usize) {
        let next = (turns == 0).then(|| acts.next()).flatten();
        let has_acted = next.is_some();
        next.into_iter().for_each(|act| act());
        let turns = match turns.checked_sub(1) {
            Some(turns) => turns,
            None if !has_acted => return IoLoop::current().stop(),
            None if acts.len() == 0 => TURNS_AFTER,
            None => TURNS_BEFORE,
        };
        IoLoop::current().add_callback(move || go_on(acts, turns));
    }
    let acts = acts.into_iter();
    io_loop.add_callback(move || go_on(acts, TURNS_BEFORE));
    io_loop.start().unwrap();
    assert!(is_done());
}

#[test]
fn a_busy_loop_calls_the_handlers_that_are_added() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let count = Count::new();
    let handler = count.handler();
    let add = move || IoLoop::current().add_handler(stream, Events::READ, handler).unwrap();
    act_in_a_busy_loop(&io_loop, vec![Box::new(add)], || count.get() > 0);
}

#[test]
fn a_busy_loop_heeds_what_handlers_are_to_wait_for() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (count, fd) = (Count::new(), stream.as_raw_fd());
    io_loop.add_handler(stream, Events::NONE, count.handler()).unwrap();
    let update = move || IoLoop::current().update_handler(&fd, Events::READ).unwrap();
    act_in_a_busy_loop(&io_loop, vec![Box::new(update)], || count.get() > 0);
}

/// What nobody asked for, the peer's half-close, has the poll armed another way.
#[test]
fn a_busy_loop_calls_handlers_for_what_they_asked_for_after_something_else() {
    let io_loop = new_loop();
    let (mut stream, peer) = support::pair();
    while stream.write(&[0; 4096]).is_ok() {}
    let count = Count::new();
    io_loop.add_handler(stream, Events::WRITE, count.handler()).unwrap();
    let peer = Rc::new(peer);
    let reader = peer.clone();
    let acts: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(move || peer.shutdown(Shutdown::Write).unwrap()),
        Box::new(move || assert!(support::drain(&*reader) > 0)),
    ];
    act_in_a_busy_loop(&io_loop, acts, || count.get() > 0);
}

#[test]
fn a_busy_loop_receives_for_those_who_begin_to_read() {
    let io_loop = new_loop();
    let [first, second] = [(); 2].map(|()| ready_pair());
    let peers = (first.1, second.1);
    let [first, second] = [first.0, second.0].map(|stream| IoStream::new(stream).unwrap());
    let has_read = Count::new();
    let acts = [first, second].map(|stream| {
        let has_read = has_read.clone();
        Box::new(move || {
            IoLoop::current().spawn(async move {
                stream.read_bytes(1).await.unwrap();
                has_read.hit();
            });
        }) as Box<dyn FnOnce()>
    });
    act_in_a_busy_loop(&io_loop, acts.into(), || has_read.get() == 2);
    drop(peers);
}

#[test]
fn a_busy_loop_sends_all_parts_of_a_long_write() {
    const LENGTH: usize = 16 * 1024 * 1024;
    let io_loop = new_loop();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let stream = IoStream::new(stream).unwrap();
    let reader = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    let turns = Count::new();
    re_add_callback(turns.clone());
    io_loop.spawn(async move {
        stream.write(vec![1; LENGTH]).await.unwrap();
        drop(stream);
        IoLoop::current().stop();
    });
    io_loop.start().unwrap();
    assert_eq!(reader.join().unwrap(), LENGTH as u64);
    assert!(turns.get() > 0);
    io_loop.close(false).unwrap();
}

#[test]
fn a_busy_loop_lets_go_of_the_listeners_that_are_dropped() {
    let io_loop = new_loop();
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listening = io_loop.spawn(async move { listener.accept().await.map(drop) });
    let stop = move || listening.abort();
    act_in_a_busy_loop(&io_loop, vec![Box::new(stop)], || TcpStream::connect(address).is_err());
}

#[test]
fn timeouts_re_armed_in_the_past_starve_neither_handlers_nor_callbacks() {
    let io_loop = new_loop();
    let (callbacks, handlers, timeouts) = (Count::new(), Count::new(), Count::new());
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, handlers.handler()).unwrap();
    let spinning = timeouts.clone();
    io_loop.call_later(Duration::ZERO, move || re_arm_timeout(spinning));
    for served in 1..=10 {
        io_loop.add_callback(callbacks.counter());
        turn(&io_loop);
        assert_eq!((callbacks.get(), handlers.get(), timeouts.get()), (served, served, served));
    }
}

#[test]
fn a_handler_that_never_drains_starves_neither_other_handlers_nor_timeouts() {
    let io_loop = new_loop();
    let (greedy, modest, timeouts) = (Count::new(), Count::new(), Count::new());
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ | Events::WRITE, greedy.handler()).unwrap();
    let (stream, _other_peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, modest.handler()).unwrap();
    for served in 1..=10 {
        io_loop.call_later(Duration::ZERO, timeouts.counter());
        turn(&io_loop);
        assert_eq!((greedy.get(), modest.get(), timeouts.get()), (served, served, served));
    }
}

#[test]
fn stop_lets_the_turn_finish_and_keeps_later_callbacks_for_the_next_start() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, trace.handler("handler")).unwrap();
    let (kept, now) = (trace.mark("kept"), trace.mark("same turn"));
    io_loop.add_callback(move || {
        IoLoop::current().stop();
        IoLoop::current().add_callback(kept);
    });
    io_loop.add_callback(now);
    io_loop.call_later(Duration::ZERO, trace.mark("due"));
    io_loop.start().unwrap();
    assert_eq!(trace.take(), ["same turn", "due"]);

    io_loop.add_callback(|| IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(trace.take(), ["kept"]);
}

#[test]
fn stop_in_a_handler_comes_after_the_other_handlers_and_one_more_round_of_callbacks() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (stream, peer) = ready_pair();
        peers.push(peer);
        let trace = trace.clone();
        io_loop
            .add_handler(stream, Events::READ, move |stream, _| {
                support::drain(stream);
                trace.push("handler");
                let (mut round, kept) = (trace.mark("callback"), trace.mark("kept"));
                IoLoop::current().add_callback(move || {
                    round();
                    IoLoop::current().add_callback(kept);
                });
                IoLoop::current().call_later(Duration::ZERO, trace.mark("timeout"));
                IoLoop::current().stop();
            })
            .unwrap();
    }
    io_loop.start().unwrap();
    let expected = ["handler", "callback", "timeout"].map(|what| [what; 3]);
    assert_eq!(trace.take(), expected.as_flattened());
    turn(&io_loop);
    assert_eq!(trace.take(), ["kept"; 3]);
}

#[test]
fn stop_before_start_makes_it_return_at_once_running_nothing() {
    let io_loop = new_loop();
    let trace = Trace::new();
    io_loop.add_callback(trace.mark("callback"));
    io_loop.call_later(Duration::ZERO, trace.mark("timeout"));
    io_loop.stop();
    io_loop.start().unwrap();
    assert!(trace.take().is_empty());

    io_loop.add_callback(|| IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(trace.take(), ["callback", "timeout"]);
}

#[test]
fn several_stops_before_start_count_as_one() {
    let io_loop = new_loop();
    let count = Count::new();
    io_loop.stop();
    io_loop.handle().stop();
    io_loop.start().unwrap();
    let run = count.clone();
    io_loop.add_callback(move || {
        run.hit();
        IoLoop::current().stop();
    });
    io_loop.start().unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn start_and_stop_repeat() {
    let io_loop = new_loop();
    for round in 1..=100 {
        io_loop.add_callback(|| IoLoop::current().stop());
        io_loop.start().unwrap();
        assert_eq!(io_loop.metrics().callbacks, round);
    }
}

#[test]
fn a_turn_waits_for_as_long_as_it_may_if_nothing_happens() {
    let io_loop = new_loop();
    let (stream, _peer) = support::pair();
    let count = Count::new();
    io_loop.add_handler(stream, Events::READ, count.handler()).unwrap();
    for _ in 0..5 {
        let began = Instant::now();
        io_loop.turn(Some(Duration::from_millis(10))).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(10));
    }
    assert_eq!((count.get(), io_loop.metrics().turns), (0, 5));
}

#[test]
fn a_turn_waits_for_nothing_when_told_so_or_when_a_callback_is_queued() {
    let io_loop = new_loop();
    let second = Duration::from_secs(1);
    let mut quickest = [second; 2];
    for _ in 0..5 {
        let began = Instant::now();
        turn(&io_loop);
        quickest[0] = quickest[0].min(began.elapsed());
        io_loop.add_callback(|| IoLoop::current().add_callback(|| {}));
        let began = Instant::now();
        io_loop.turn(Some(second)).unwrap();
        quickest[1] = quickest[1].min(began.elapsed());
        turn(&io_loop);
    }
    assert!(quickest.into_iter().all(|time| time < second / 10), "{quickest:?}");
}

#[test]
fn a_turn_without_limit_ends_when_a_handler_has_been_called() {
    let io_loop = new_loop();
    let count = Count::new();
    let (stream, _peer) = ready_pair();
    io_loop.add_handler(stream, Events::READ, count.handler()).unwrap();
    io_loop.turn(None).unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn a_turn_without_limit_ends_when_a_timeout_is_due() {
    let io_loop = new_loop();
    let count = Count::new();
    let began = Instant::now();
    io_loop.call_later(Duration::from_millis(10), count.counter());
    io_loop.turn(None).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(10));
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}
