//! What the loop allocates, and gives back.
//!
//! Each test runs alone: tables go by descriptor numbers, which other tests would drive up.

mod counting;
mod stress_support;
mod support;

use counting::{allocations, growth};
use ringloop::{Events, IoLoop, Timeout, Trigger, time};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stress_support::{
    alone, eventfd, raise_fd_limit, signal, small_loop, take_count, turn_at_most,
};
use support::{Count, pair, turn};

#[test]
fn the_allocator_counts() {
    let mut kept = Vec::new();
    assert_eq!(allocations(|| kept.push(Box::new([0u8; 1000]))), 2);
    assert!(growth(|| drop(kept)) <= -1000);
}

fn dispatching_allocates_nothing(trigger: Trigger, handled: Events) {
    let _alone = alone();
    const FDS: usize = 50;
    let io_loop = small_loop();
    let calls = Count::default();
    let mut peers = Vec::new();
    for _ in 0..FDS {
        let (stream, peer) = pair();
        let calls = calls.clone();
        let handler = move |stream: &mut UnixStream, _| {
            calls.hit();
            let _ = stream.read(&mut [0; 64]);
        };
        io_loop.add_handler_with(stream, handled, trigger, handler).unwrap();
        peers.push(peer);
    }
    let round = || {
        for mut peer in &peers {
            peer.write_all(b"x").unwrap();
        }
        turn(&io_loop);
    };
    // Tables and queues find their size.
    (0..10).for_each(|_| round());
    calls.take();
    assert_eq!(allocations(|| (0..200).for_each(|_| round())), 0);
    assert_eq!(calls.get(), 200 * FDS);
}

#[test]
fn dispatching_level_triggered_events_allocates_nothing() {
    dispatching_allocates_nothing(Trigger::Level, Events::READ);
    dispatching_allocates_nothing(Trigger::Level, Events::READ | Events::WRITE);
}

#[test]
fn dispatching_edge_triggered_events_allocates_nothing() {
    dispatching_allocates_nothing(Trigger::Edge, Events::READ);
}

#[test]
fn changing_interests_allocates_nothing() {
    let _alone = alone();
    let io_loop = small_loop();
    let (stream, _peer) = pair();
    let fd = stream.as_raw_fd();
    let interests = [Events::WRITE, Events::NONE, Events::READ];
    let mut next = 0;
    io_loop
        .add_handler(stream, Events::WRITE, move |stream, _| {
            next = (next + 1) % interests.len();
            IoLoop::current().update_handler(stream, interests[next]).unwrap();
        })
        .unwrap();
    let round = || {
        io_loop.update_handler(&fd, Events::WRITE).unwrap();
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..200).for_each(|_| round())), 0);
    assert!(io_loop.metrics().handler_calls >= 200);
}

#[test]
fn a_turn_with_a_deadline_allocates_nothing() {
    let _alone = alone();
    let io_loop = small_loop();
    io_loop.call_later(Duration::from_secs(3600), || {});
    let round = || io_loop.turn(Some(Duration::from_micros(10))).unwrap();
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..200).for_each(|_| round())), 0);
}

#[test]
fn a_callback_allocates_its_box_and_nothing_else() {
    let _alone = alone();
    let io_loop = small_loop();
    let runs = Count::default();
    let round = || {
        for number in 0..100 {
            let runs = runs.clone();
            io_loop.add_callback(move || runs.add(number % 2));
        }
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..20).for_each(|_| round())), 20 * 100);
    assert_eq!(runs.get(), 30 * 50);
    assert_eq!(growth(|| (0..20).for_each(|_| round())), 0);
}

#[test]
fn a_timeout_allocates_its_box_and_nothing_else() {
    let _alone = alone();
    let io_loop = small_loop();
    let fired = Count::default();
    let round = || {
        for _ in 0..100 {
            let fired = fired.clone();
            io_loop.call_later(Duration::ZERO, move || fired.hit());
        }
        turn(&io_loop);
    };
    (0..50).for_each(|_| round());
    let before = fired.get();
    let made = allocations(|| (0..20).for_each(|_| round()));
    assert_eq!(fired.get() - before, 20 * 100);
    // Buckets of the queue come and go with the hour; they are few.
    assert!((20 * 100..20 * 110).contains(&made), "{made}");
}

#[test]
fn a_timeout_added_and_cancelled_allocates_its_box_and_nothing_else() {
    let _alone = alone();
    let io_loop = small_loop();
    let round = || {
        let timeout = io_loop.call_later(Duration::from_secs(60), {
            let captured = [0u8; 16];
            move || assert_eq!(captured[0], 0)
        });
        io_loop.remove_timeout(timeout);
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..1000).for_each(|_| round())), 1000);
}

#[test]
fn a_task_allocates_its_cell_and_nothing_else() {
    let _alone = alone();
    let io_loop = small_loop();
    let runs = Count::default();
    let round = || {
        for _ in 0..100 {
            let runs = runs.clone();
            drop(io_loop.spawn(async move { runs.hit() }));
        }
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..20).for_each(|_| round())), 20 * 100);
    assert_eq!(runs.get(), 30 * 100);
    assert_eq!(growth(|| (0..20).for_each(|_| round())), 0);
}

#[test]
fn waking_and_polling_a_task_allocates_nothing() {
    let _alone = alone();
    let io_loop = small_loop();
    let (polls, waker) = (Count::default(), Rc::new(RefCell::new(None::<Waker>)));
    let (hit, kept) = (polls.clone(), waker.clone());
    let task = io_loop.spawn(poll_fn(move |context| -> Poll<()> {
        hit.hit();
        kept.replace(Some(context.waker().clone()));
        Poll::Pending
    }));
    let round = || {
        turn(&io_loop);
        let woken = waker.take().unwrap();
        woken.wake_by_ref();
        woken.wake();
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..200).for_each(|_| round())), 0);
    assert_eq!(polls.get(), 210);
    drop(task);
}

#[test]
fn sleeping_allocates_nothing() {
    let _alone = alone();
    let io_loop = small_loop();
    let mut context = Context::from_waker(Waker::noop());
    let mut round = || {
        let mut kept = [const { None }; 100];
        for slot in &mut kept {
            let sleep = slot.insert(time::sleep(Duration::from_secs(60)));
            assert!(Pin::new(sleep).poll(&mut context).is_pending());
            let mut dropped = time::sleep(Duration::from_secs(60));
            assert!(Pin::new(&mut dropped).poll(&mut context).is_pending());
        }
        turn(&io_loop);
    };
    (0..200).for_each(|_| round());
    let made = allocations(|| (0..20).for_each(|_| round()));
    // Buckets of the queue come and go with the hour; they are few.
    assert!(made <= 100, "{made}");
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
}

/// Timeouts that are all cancelled. The size of what the callbacks capture is `SIZE`.
fn add_and_cancel<const SIZE: usize>(io_loop: &IoLoop, number: usize) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let add = |_| -> Timeout {
        let captured = [0u8; SIZE];
        let delay = Duration::from_micros(random.u64(1_000_000..100_000_000_000));
        io_loop.call_later(delay, move || assert_eq!(captured[0], 0))
    };
    let mut timeouts: Vec<_> = (0..number).map(add).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut timeouts);
    timeouts.into_iter().for_each(|timeout| io_loop.remove_timeout(timeout));
}

/// What a queue that had many timeouts may keep: less than a byte for each.
const KEPT: isize = 64 << 10;

#[test]
fn cancelled_timeouts_give_their_memory_back_at_once() {
    let _alone = alone();
    let io_loop = small_loop();
    let left = growth(|| add_and_cancel::<256>(&io_loop, 100_000));
    assert!(left <= KEPT, "{left}");
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
}

#[test]
fn fired_timeouts_give_their_memory_back() {
    let _alone = alone();
    let io_loop = small_loop();
    let left = growth(|| {
        for number in 0..100_000 {
            let captured = [number; 8];
            io_loop.call_later(Duration::ZERO, move || assert_eq!(captured, [number; 8]));
        }
        turn_at_most(&io_loop, 1000, || io_loop.metrics().timeouts == 100_000);
    });
    assert!(left <= KEPT, "{left}");
}

/// More turns than it takes to find out what is not needed any more.
fn settle_down(io_loop: &IoLoop) {
    (0..3 * 1024).for_each(|_| turn(io_loop));
}

#[test]
fn finished_tasks_and_sleeps_give_their_memory_back() {
    let _alone = alone();
    let io_loop = small_loop();
    let left = growth(|| {
        for _ in 0..100_000 {
            drop(io_loop.spawn(time::sleep(Duration::from_micros(1))));
        }
        turn_at_most(&io_loop, 100_000, || io_loop.metrics().tasks == 0);
        settle_down(&io_loop);
    });
    assert!(left <= KEPT, "{left}");
}

#[test]
fn a_burst_of_callbacks_gives_its_memory_back() {
    let _alone = alone();
    let io_loop = small_loop();
    let left = growth(|| {
        (0..100_000).for_each(|_| io_loop.add_callback(|| {}));
        turn(&io_loop);
        settle_down(&io_loop);
    });
    assert!(left <= KEPT, "{left}");
}

#[test]
fn a_burst_of_posts_gives_its_memory_back() {
    let _alone = alone();
    let io_loop = small_loop();
    let handle = io_loop.handle();
    let left = growth(|| {
        // What they are posted into and what they are collected from take turns.
        for _ in 0..2 {
            (0..100_000).for_each(|_| assert!(handle.add_callback(|| {})));
            turn(&io_loop);
        }
        settle_down(&io_loop);
    });
    assert!(left <= KEPT, "{left}");
}

#[test]
fn a_posted_callback_allocates_its_box_and_nothing_else() {
    let _alone = alone();
    let io_loop = small_loop();
    let handle = io_loop.handle();
    let round = || {
        (0..100).for_each(|number| {
            assert!(handle.add_callback(move || assert!(number < 100)));
        });
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    assert_eq!(allocations(|| (0..20).for_each(|_| round())), 20 * 100);
}

#[test]
fn room_that_is_needed_again_and_again_is_kept() {
    const CALLBACKS: usize = 10_000;
    let _alone = alone();
    let io_loop = small_loop();
    let burst = || {
        (0..CALLBACKS).for_each(|_| io_loop.add_callback(|| {}));
        (0..400).for_each(|_| turn(&io_loop));
    };
    burst();
    // There is room already. What is allocated are the callbacks' boxes.
    assert_eq!(allocations(|| (0..10).for_each(|_| burst())), 10 * CALLBACKS);
}

#[test]
fn timeouts_added_and_cancelled_for_ever_do_not_make_the_queue_grow() {
    let _alone = alone();
    let io_loop = small_loop();
    let round = || {
        add_and_cancel::<16>(&io_loop, 1000);
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    let left = growth(|| (0..100).for_each(|_| round()));
    assert!(left <= 4096, "{left}");
}

#[test]
fn a_timeout_moved_again_and_again_keeps_the_queue_small() {
    let _alone = alone();
    let io_loop = small_loop();
    let far = || io_loop.call_later(Duration::from_secs(60), || {});
    let mut idle: Vec<_> = (0..100).map(|_| far()).collect();
    let mut round = || {
        for timeout in &mut idle {
            io_loop.remove_timeout(*timeout);
            *timeout = far();
        }
        turn(&io_loop);
    };
    (0..50).for_each(|_| round());
    let left = growth(|| (0..1000).for_each(|_| round()));
    assert!(left <= 4096, "{left}");
}

/// Registers as many eventfds, closed with the loop; their handlers capture a `Capture`.
fn register<Capture: Default + 'static>(io_loop: &IoLoop, number: usize) -> Vec<RawFd> {
    raise_fd_limit();
    let register = |_| {
        let event = eventfd(0).unwrap();
        let (fd, captured) = (event.as_raw_fd(), Capture::default());
        let handler = move |event: &mut OwnedFd, _| {
            let _ = (take_count(event), &captured);
        };
        io_loop.add_handler(event, Events::READ, handler).unwrap();
        fd
    };
    (0..number).map(register).collect()
}

#[test]
fn an_idle_descriptor_costs_no_more_than_256_bytes() {
    let _alone = alone();
    // Just past a power of two, where tables that double are at their emptiest.
    for number in [1000, 4096, 4200, 8300] {
        let io_loop = small_loop();
        let mut fds = Vec::new();
        let grown = growth(|| {
            fds = register::<[u64; 2]>(&io_loop, number);
            turn(&io_loop);
            fds.iter().for_each(signal);
            // A turn collects about a hundred wake-ups.
            turn_at_most(&io_loop, 200, || io_loop.metrics().handler_calls == number as u64);
        });
        let list = (fds.capacity() * size_of::<RawFd>()) as isize;
        let each = (grown - list) / number as isize;
        assert!(each <= 256, "{each} bytes each of {number}");
    }
}

#[test]
fn removed_handlers_give_their_memory_back() {
    let _alone = alone();
    const NUMBER: usize = 2000;
    const SIZE: usize = 1024;
    let io_loop = small_loop();
    let left = growth(|| {
        let fds = register::<[[u64; 16]; SIZE / 128]>(&io_loop, NUMBER);
        turn(&io_loop);
        let mut removed = 0;
        let freed = growth(|| {
            removed = fds.iter().filter(|fd| io_loop.remove_handler(*fd)).count();
            turn(&io_loop);
        });
        assert_eq!(removed, NUMBER);
        assert!(freed <= -((NUMBER * SIZE) as isize), "{freed}");
    });
    // The tables stay as large as the highest number they have seen.
    assert!(left <= (NUMBER * 256) as isize, "{left}");
}

#[test]
fn handlers_added_and_removed_for_ever_do_not_make_the_tables_grow() {
    let _alone = alone();
    let io_loop = small_loop();
    let round = || {
        for fd in register::<[u64; 8]>(&io_loop, 100) {
            signal(&fd);
            turn(&io_loop);
            assert!(io_loop.remove_handler(&fd));
        }
        turn(&io_loop);
    };
    (0..10).for_each(|_| round());
    let left = growth(|| (0..50).for_each(|_| round()));
    assert!(left <= 4096, "{left}");
}

#[test]
fn a_closed_loop_gives_everything_back() {
    let _alone = alone();
    drop(small_loop());
    let left = growth(|| {
        for _ in 0..5 {
            let io_loop = small_loop();
            register::<[u64; 8]>(&io_loop, 200);
            io_loop.call_later(Duration::from_secs(1), || {});
            io_loop.add_callback(|| {});
            turn(&io_loop);
            io_loop.add_callback(|| {});
        }
    });
    assert!(left.abs() <= 64, "{left}");
}
