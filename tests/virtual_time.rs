//! Virtual time: when the clock stands still, when it jumps, and how far.

mod support;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join3};
use ringloop::{Events, IoLoop, IoStream, Job, PeriodicCallback, RunSyncError, Trigger, time};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Count, Trace, drain, new_loop, pair, ready_pair, thread_id, turn, virtual_loop,
    wait_until_asleep,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A turn that waits, if only the virtual clock moves at all.
#[track_caller]
fn long_turn(io_loop: &IoLoop) {
    io_loop.turn(Some(1000 * HOUR)).unwrap();
}

#[test]
fn a_schedule_of_three_hours_takes_a_turn_for_each_deadline() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let times: Rc<RefCell<Vec<Duration>>> = Rc::default();
    let log = times.clone();
    let callback = move || log.borrow_mut().push(IoLoop::current().time() - began);
    let periodic = PeriodicCallback::new(callback, HOUR / 2).unwrap();
    periodic.start().unwrap();
    io_loop.call_later(3 * HOUR, || IoLoop::current().stop());
    io_loop.start().unwrap();
    assert!(times.borrow().iter().copied().eq((1..=6).map(|number| HOUR / 2 * number)));
    assert_eq!(io_loop.time(), began + 3 * HOUR);
    // Each turn waits for a deadline, and the next one, in which it is due, for the one after.
    assert_eq!(io_loop.metrics().turns, 7);
}

#[test]
fn the_clock_jumps_to_the_earliest_of_many_deadlines_close_together() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    for number in (0..20).rev() {
        io_loop.call_at(began + 2 * HOUR + MS * number, || {});
    }
    long_turn(&io_loop);
    assert_eq!(io_loop.time(), began + 2 * HOUR);
    assert_eq!(io_loop.metrics().turns, 1);
}

/// More completions than the loop collects in a turn come before the one that counts.
#[test]
fn the_clock_does_not_jump_past_what_the_kernel_has_yet_to_tell() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let mut peers = Vec::new();
    for _ in 0..200 {
        let (stream, peer) = support::pair();
        io_loop.add_handler(stream, Events::NONE, |_, _| {}).unwrap();
        peers.push(peer);
    }
    let (stream, peer) = support::pair();
    let called = Rc::new(Cell::new(None));
    let when = called.clone();
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            support::drain(stream);
            when.set(Some(IoLoop::current().time()));
        })
        .unwrap();
    let mut writer = peer.try_clone().unwrap();
    let half_closed = peers.iter().map(|peer| peer.try_clone().unwrap()).collect::<Vec<_>>();
    io_loop.add_callback(move || {
        half_closed.iter().for_each(|peer| peer.shutdown(Shutdown::Write).unwrap());
        writer.write_all(b"x").unwrap();
    });
    io_loop.call_later(HOUR, || IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(called.get(), Some(began));
    drop((peers, peer));
}

#[test]
fn the_clock_begins_at_the_present_and_stands_still() {
    let before = Instant::now();
    let io_loop = virtual_loop();
    let began = io_loop.time();
    assert!(began >= before && began <= Instant::now());
    io_loop.add_callback(move || {
        while Instant::now() < began + MS {}
        assert_eq!(IoLoop::current().time(), began);
    });
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(io_loop.time(), began);
}

#[test]
fn timeouts_are_on_time_to_the_nanosecond() {
    let io_loop = virtual_loop();
    let (began, fired) = (io_loop.time(), Count::new());
    for step in 0..60 {
        let delay = Duration::from_nanos(step * 333_337 % 9_999_991);
        let (deadline, count) = (began + delay, fired.clone());
        let check = move || {
            assert_eq!(IoLoop::current().time(), deadline);
            count.hit();
        };
        match step % 3 {
            0 => io_loop.call_later(delay, check),
            1 => io_loop.call_at(deadline, check),
            _ => io_loop.add_timeout(delay, check),
        };
    }
    while io_loop.metrics().timeouts_pending > 0 {
        long_turn(&io_loop);
    }
    assert_eq!(fired.get(), 60);
}

#[test]
fn everything_that_can_run_does_before_the_time_moves() {
    let io_loop = virtual_loop();
    let trace = Trace::new();
    let (began, log) = (io_loop.time(), trace.clone());
    let note = move |what: &str| {
        let time = IoLoop::current().time() - began;
        log.push(format!("{what} at {time:?}"));
    };
    let (stream, peer) = pair();
    let peer = Rc::new(peer);
    let writer = peer.clone();
    let on_ready = note.clone();
    let handler = move |stream: &mut _, _| {
        drain(stream);
        on_ready("handler");
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    let (wake, woken) = async_channel::unbounded();
    let on_wake = note.clone();
    io_loop.spawn(async move {
        on_wake("task");
        woken.recv().await.unwrap();
        on_wake("woken task");
        time::sleep(Duration::ZERO).await;
        on_wake("task that slept for nothing");
    });
    let on_time = note.clone();
    io_loop.call_later(SECOND, move || {
        on_time("timeout");
        (&*writer).write_all(b"x").unwrap();
        IoLoop::current().add_callback(move || {
            on_time("callback");
            wake.try_send(()).unwrap();
        });
    });
    io_loop.call_later(SECOND + Duration::from_nanos(1), move || {
        note("next timeout");
        IoLoop::current().stop();
    });
    io_loop.start().unwrap();
    let expected = [
        "task at 0ns",
        "timeout at 1s",
        "handler at 1s",
        "callback at 1s",
        "woken task at 1s",
        "task that slept for nothing at 1s",
        "next timeout at 1.000000001s",
    ];
    assert_eq!(trace.take(), expected);
    drop(peer);
}

/// Asserts that an hour passes for `io_loop`, and that it did not in any turn before `release`.
#[track_caller]
fn assert_held(io_loop: &IoLoop, release: impl FnOnce()) {
    let began = io_loop.time();
    let fired = Count::new();
    io_loop.call_later(HOUR, fired.counter());
    for _ in 0..100 {
        long_turn(io_loop);
    }
    assert_eq!((fired.get(), io_loop.time()), (0, began));
    release();
    while io_loop.time() == began {
        long_turn(io_loop);
    }
    turn(io_loop);
    assert_eq!((fired.get(), io_loop.time()), (1, began + HOUR));
}

#[test]
fn a_callback_that_adds_itself_again_holds_the_time_still() {
    fn again(go_on: Rc<Cell<bool>>) {
        if go_on.get() {
            IoLoop::current().add_callback(move || again(go_on));
        }
    }
    let io_loop = virtual_loop();
    let go_on = Rc::new(Cell::new(true));
    again(go_on.clone());
    assert_held(&io_loop, || go_on.set(false));
}

#[test]
fn a_callback_posted_to_itself_through_a_handle_holds_the_time_still() {
    fn again(go_on: Arc<AtomicBool>) {
        if go_on.load(Ordering::Relaxed) {
            assert!(IoLoop::current().handle().add_callback(move || again(go_on)));
        }
    }
    let io_loop = virtual_loop();
    let go_on = Arc::new(AtomicBool::new(true));
    again(go_on.clone());
    assert_held(&io_loop, || go_on.store(false, Ordering::Relaxed));
}

#[test]
fn a_task_that_wakes_itself_holds_the_time_still() {
    let io_loop = virtual_loop();
    let task = io_loop.spawn(poll_fn(|context| -> Poll<()> {
        context.waker().wake_by_ref();
        Poll::Pending
    }));
    assert_held(&io_loop, || task.abort());
}

#[test]
fn an_fd_that_stays_ready_holds_the_time_still() {
    let io_loop = virtual_loop();
    let (readable, _peer) = ready_pair();
    let fd = readable.as_raw_fd();
    io_loop.add_handler(readable, Events::READ, |_, _| {}).unwrap();
    assert_held(&io_loop, || assert!(io_loop.remove_handler(&fd)));
    let (writable, _peer) = pair();
    let fd = writable.as_raw_fd();
    io_loop.add_handler(writable, Events::WRITE, |_, _| {}).unwrap();
    assert_held(&io_loop, || io_loop.update_handler(&fd, Events::READ).unwrap());
}

#[test]
fn an_fd_that_was_told_of_by_edge_does_not() {
    let io_loop = virtual_loop();
    let (readable, _peer) = ready_pair();
    let count = Count::new();
    io_loop.add_handler_with(readable, Events::READ, Trigger::Edge, count.handler()).unwrap();
    let began = io_loop.time();
    io_loop.run_sync(|| time::sleep(HOUR), None).unwrap();
    assert_eq!((count.get(), io_loop.time()), (1, began + HOUR));
}

#[test]
fn a_function_on_the_executor_holds_the_time_still() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let (release, released) = mpsc::channel();
    let loop_thread = thread_id();
    // Not before the loop sleeps, which it would not if its time could move.
    let releaser = thread::spawn(move || {
        wait_until_asleep(loop_thread);
        release.send(5).unwrap();
    });
    let limited = async {
        let function = IoLoop::current().run_in_executor(move || released.recv().unwrap());
        time::timeout(MS, function).await
    };
    let result = io_loop.run_sync(|| limited, Some(MS)).unwrap();
    assert_eq!((result.unwrap().unwrap(), io_loop.time()), (5, began));
    releaser.join().unwrap();
    io_loop.run_sync(|| time::sleep(HOUR), None).unwrap();
    assert_eq!(io_loop.time(), began + HOUR);
}

#[test]
fn a_turn_waits_for_a_function_on_the_executor_beyond_its_limit() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let (release, released) = mpsc::channel();
    let function = io_loop.run_in_executor(move || released.recv().unwrap());
    let loop_thread = thread_id();
    let releaser = thread::spawn(move || {
        wait_until_asleep(loop_thread);
        release.send(()).unwrap();
    });
    io_loop.turn(Some(MS)).unwrap();
    assert_eq!(io_loop.time(), began);
    turn(&io_loop);
    assert!(function.is_finished());
    releaser.join().unwrap();
}

#[test]
fn what_is_due_runs_although_a_function_is_on_the_executor() {
    let io_loop = virtual_loop();
    let (release, released) = mpsc::channel();
    let function = io_loop.run_in_executor(move || released.recv());
    let fired = Count::new();
    io_loop.call_later(Duration::ZERO, fired.counter());
    io_loop.call_later(HOUR, fired.counter());
    io_loop.add_callback(|| IoLoop::current().advance(HOUR));
    long_turn(&io_loop);
    turn(&io_loop);
    assert_eq!(fired.get(), 2);
    release.send(()).unwrap();
    io_loop.run_sync(|| function, None).unwrap().unwrap().unwrap();
}

#[test]
fn a_function_whose_task_is_over_holds_nothing() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let (_release, released) = mpsc::channel::<()>();
    let aborted = io_loop.run_in_executor(move || released.recv());
    aborted.abort();
    io_loop.run_sync(|| time::sleep(HOUR), None).unwrap();
    assert_eq!(io_loop.time(), began + HOUR);
    io_loop.set_default_executor(drop::<Job>);
    let dropped = io_loop.run_in_executor(|| ());
    io_loop.run_sync(|| time::sleep(HOUR), None).unwrap();
    assert_eq!(io_loop.time(), began + 2 * HOUR);
    assert!(dropped.is_finished());
}

#[test]
fn without_a_deadline_the_loop_waits_for_what_happens() {
    let io_loop = virtual_loop();
    let (began, loop_thread, handle) = (io_loop.time(), thread_id(), io_loop.handle());
    let poster = thread::spawn(move || {
        wait_until_asleep(loop_thread);
        assert!(handle.add_callback(|| IoLoop::current().stop()));
    });
    io_loop.start().unwrap();
    assert_eq!(io_loop.time(), began);
    poster.join().unwrap();
    // A deadline beyond the end of time is none.
    io_loop.call_later(Duration::MAX, || panic!("never"));
    let handle = io_loop.handle();
    let waker = thread::spawn(move || {
        wait_until_asleep(loop_thread);
        handle.stop();
    });
    io_loop.start().unwrap();
    assert_eq!(io_loop.time(), began);
    waker.join().unwrap();
}

#[test]
fn a_turn_moves_the_clock_to_its_limit_or_the_next_deadline() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let fired = Count::new();
    io_loop.call_later(5 * SECOND, fired.counter());
    let times = [(0, 0, 0), (3, 3, 0), (0, 3, 0), (3, 5, 0), (0, 5, 1), (3, 8, 1)];
    for (limit, seconds, calls) in times {
        io_loop.turn(Some(limit * SECOND)).unwrap();
        assert_eq!((io_loop.time(), fired.get()), (began + seconds * SECOND, calls));
    }
    io_loop.call_later(SECOND, fired.counter());
    io_loop.turn(None).unwrap();
    assert_eq!((io_loop.time(), fired.get()), (began + 9 * SECOND, 1));
    io_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((io_loop.time(), fired.get()), (began + 9 * SECOND, 2));
}

#[test]
fn run_sync_times_out_by_the_virtual_clock() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let result = io_loop.run_sync(pending::<()>, Some(HOUR));
    assert!(matches!(result, Err(RunSyncError::TimedOut(HOUR))));
    assert_eq!(io_loop.time(), began + HOUR);
    io_loop.run_sync(|| time::sleep(HOUR - Duration::from_nanos(1)), Some(HOUR)).unwrap();
}

#[test]
fn sleeps_timeouts_and_intervals_go_by_the_virtual_clock() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let future = async {
        let now = || IoLoop::current().time() - began;
        time::sleep(HOUR).await;
        assert_eq!(now(), HOUR);
        time::sleep_until(began + 2 * HOUR).await;
        assert_eq!(now(), 2 * HOUR);
        assert!(time::timeout(HOUR, pending::<()>()).await.is_err());
        assert_eq!(now(), 3 * HOUR);
        assert_eq!(time::timeout(HOUR, async { 1 }).await, Ok(1));
        assert_eq!(now(), 3 * HOUR);
        let mut interval = time::interval(HOUR);
        for tick in 4..=6 {
            assert_eq!(interval.tick().await, began + tick * HOUR);
            assert_eq!(now(), tick * HOUR);
        }
        // Two ticks go by.
        time::sleep(HOUR * 5 / 2).await;
        assert_eq!((interval.tick().await, now()), (began + 9 * HOUR, 9 * HOUR));
        interval.reset();
        assert_eq!(interval.tick().await, began + 10 * HOUR);
    };
    io_loop.run_sync(|| future, None).unwrap();
}

#[test]
fn two_loops_have_two_clocks() {
    let (first, second, real) = (virtual_loop(), virtual_loop(), new_loop());
    let (began, second_began) = (first.time(), second.time());
    first.run_sync(|| time::sleep(3 * HOUR), None).unwrap();
    assert_eq!((first.time(), second.time()), (began + 3 * HOUR, second_began));
    second.run_sync(|| time::sleep(HOUR), None).unwrap();
    assert_eq!((first.time(), second.time()), (began + 3 * HOUR, second_began + HOUR));
    assert!(real.time() < began + HOUR);
    // One inside the other.
    let inner = second.clone();
    first.add_callback(move || inner.run_sync(|| time::sleep(HOUR), None).unwrap());
    turn(&first);
    assert_eq!((first.time(), second.time()), (began + 3 * HOUR, second_began + 2 * HOUR));
}

/// Polls futures made by `make` with `maker` current on `runner`; how long that lasts there.
fn time_between(
    maker: &IoLoop,
    runner: &IoLoop,
    make: fn() -> LocalBoxFuture<'static, ()>,
) -> Duration {
    maker.make_current();
    let future = make();
    let began = runner.time();
    runner.run_sync(|| future, None).unwrap();
    runner.time() - began
}

#[test]
fn what_was_made_under_another_clock_counts_from_its_first_poll() {
    let (first, second, real) = (virtual_loop(), virtual_loop(), new_loop());
    first.advance(1000 * HOUR);
    let futures: [fn() -> LocalBoxFuture<'static, ()>; 3] = [
        || Box::pin(time::sleep(HOUR)),
        || Box::pin(time::timeout(HOUR, pending::<()>()).map(drop)),
        || {
            let mut interval = time::interval(HOUR);
            Box::pin(async move {
                interval.tick().await;
            })
        },
    ];
    for make in futures {
        for (maker, runner) in
            [(&real, &first), (&real, &second), (&first, &second), (&second, &first)]
        {
            assert_eq!(time_between(maker, runner, make), HOUR);
        }
    }
    // In the first one's time, this is in the far future of the real one.
    first.make_current();
    let sleep = time::sleep(MS);
    assert!(sleep.deadline().unwrap() > real.time() + HOUR);
    let began = real.time();
    real.run_sync(|| sleep, None).unwrap();
    assert!(real.time() >= began + MS);
}

#[test]
fn what_was_made_under_the_same_clock_counts_from_where_it_was_made() {
    let io_loop = virtual_loop();
    let sleep = time::sleep(2 * HOUR);
    let limited = time::timeout(2 * HOUR, pending::<()>());
    let mut interval = time::interval(2 * HOUR);
    let began = io_loop.time();
    io_loop.advance(HOUR);
    let all = async {
        let ((), limited, tick) = join3(sleep, limited, interval.tick()).await;
        assert_eq!((limited.is_err(), tick), (true, began + 2 * HOUR));
    };
    io_loop.run_sync(|| all, None).unwrap();
    assert_eq!(io_loop.time(), began + 2 * HOUR);
}

#[test]
fn a_time_of_the_clock_means_the_same_on_every_loop() {
    let (virtual_one, real) = (virtual_loop(), new_loop());
    real.make_current();
    let deadline = virtual_one.time() + HOUR;
    let sleep = time::sleep_until(deadline);
    virtual_one.run_sync(|| sleep, None).unwrap();
    assert_eq!(virtual_one.time(), deadline);
}

#[test]
fn an_interval_that_goes_to_another_clock_starts_again_there() {
    let (first, second) = (virtual_loop(), virtual_loop());
    first.make_current();
    let mut interval = time::interval(HOUR);
    first.run_sync(|| interval.tick(), None).unwrap();
    second.advance(1000 * HOUR + HOUR / 2);
    let began = second.time();
    assert_eq!(second.run_sync(|| interval.tick(), None).unwrap(), began + HOUR);
    assert_eq!(second.run_sync(|| interval.tick(), None).unwrap(), began + 2 * HOUR);
}

#[test]
fn what_becomes_due_by_an_advance_runs_in_the_next_turn_in_its_order() {
    let io_loop = virtual_loop();
    let (began, trace) = (io_loop.time(), Trace::new());
    for (name, delay) in [("c", 3 * MS), ("a", MS), ("d", 3 * MS), ("b", 2 * MS), ("late", HOUR)] {
        io_loop.call_later(delay, trace.mark(name));
    }
    io_loop.advance(2 * MS);
    io_loop.add_callback(|| IoLoop::current().advance(MS));
    turn(&io_loop);
    assert_eq!(trace.take(), ["a", "b"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["c", "d"]);
    assert_eq!(io_loop.time(), began + 3 * MS);
    long_turn(&io_loop);
    turn(&io_loop);
    assert_eq!((trace.take(), io_loop.time()), (vec!["late".to_owned()], began + HOUR));
}

#[test]
fn the_clock_never_goes_back() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let times: Rc<RefCell<Vec<Instant>>> = Rc::default();
    // Beyond the limit of its turn, and beyond the next deadline.
    for advance in [2 * HOUR, 4 * HOUR] {
        let log = times.clone();
        io_loop.call_later(HOUR, move || {
            IoLoop::current().advance(advance);
            log.borrow_mut().push(IoLoop::current().time());
        });
        io_loop.call_later(3 * HOUR / 2, || {});
        while io_loop.metrics().timeouts_pending > 0 {
            io_loop.turn(Some(HOUR)).unwrap();
            times.borrow_mut().push(io_loop.time());
        }
    }
    assert!(times.borrow().is_sorted());
    assert!(times.borrow()[0] >= began);
}

#[test]
fn the_clock_stops_before_the_end_of_time() {
    let io_loop = virtual_loop();
    io_loop.call_later(Duration::MAX, || panic!("never"));
    io_loop.advance(Duration::MAX);
    let end = io_loop.time();
    io_loop.advance(Duration::MAX);
    assert_eq!(io_loop.time(), end);
    let fired = Count::new();
    io_loop.call_later(Duration::ZERO, fired.counter());
    turn(&io_loop);
    assert_eq!((fired.get(), io_loop.metrics().timeouts_pending), (1, 1));
}

#[test]
#[should_panic(expected = "IoLoop::advance: this loop has no virtual time")]
fn the_real_time_cannot_be_advanced() {
    new_loop().advance(HOUR);
}

/// Tornado's table: calls of these durations on a period of ten seconds.
#[test]
fn a_periodic_callback_that_overruns_skips_whole_periods() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let mut durations = [9, 9, 10, 11, 20, 20, 35, 35, 0, 0, 0].into_iter();
    let times: Rc<RefCell<Vec<u64>>> = Rc::default();
    let log = times.clone();
    let callback = move || {
        let io_loop = IoLoop::current();
        log.borrow_mut().push((io_loop.time() - began).as_secs());
        match durations.next() {
            Some(duration) => io_loop.advance(Duration::from_secs(duration)),
            None => io_loop.stop(),
        }
    };
    let periodic = PeriodicCallback::new(callback, 10 * SECOND).unwrap();
    periodic.start().unwrap();
    io_loop.start().unwrap();
    assert_eq!(*times.borrow(), [10, 20, 30, 50, 70, 100, 130, 170, 210, 220, 230, 240]);
    assert_eq!(io_loop.time(), began + 240 * SECOND);
}

/// The table of the periodic callback above: when each tick was due, and when it came.
#[test]
fn an_interval_that_is_overrun_skips_whole_periods_as_a_periodic_callback_does() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let ticks = async {
        let mut interval = time::interval(10 * SECOND);
        let mut ticks = Vec::new();
        for duration in [9, 9, 10, 11, 20, 20, 35, 35, 0, 0, 0] {
            let due = interval.tick().await;
            ticks.push(((due - began).as_secs(), (io_loop.time() - began).as_secs()));
            io_loop.advance(Duration::from_secs(duration));
        }
        ticks
    };
    let ticks = io_loop.run_sync(|| ticks, None).unwrap();
    assert_eq!(ticks, [10, 20, 30, 50, 70, 100, 130, 170, 210, 220, 230].map(|at| (at, at)));
}

#[test]
fn a_tick_that_was_waited_for_comes_late_rather_than_never() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let ticks = async {
        let mut interval = time::interval(10 * SECOND);
        // Another branch of a select was first, and took its time.
        assert!(interval.tick().now_or_never().is_none());
        io_loop.advance(35 * SECOND);
        assert_eq!(interval.tick().await, began + 10 * SECOND);
        assert_eq!(interval.tick().await, began + 40 * SECOND);
    };
    io_loop.run_sync(|| ticks, None).unwrap();
}

#[test]
fn the_slow_callback_detector_measures_real_time() {
    support::watchdog();
    let reports: Rc<RefCell<Vec<Duration>>> = Rc::default();
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .virtual_time()
        .slow_callback(HOUR / 2, move |report| told.borrow_mut().push(report.held))
        .build()
        .unwrap();
    io_loop.add_callback(|| IoLoop::current().advance(HOUR));
    turn(&io_loop);
    assert!(reports.borrow().is_empty());
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .virtual_time()
        .slow_callback(MS, move |report| told.borrow_mut().push(report.held))
        .build()
        .unwrap();
    io_loop.add_callback(|| thread::sleep(2 * MS));
    turn(&io_loop);
    assert!(matches!(reports.borrow()[..], [held] if held >= 2 * MS && held < HOUR));
}

#[test]
fn a_stop_comes_before_the_next_deadline() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let fired = Count::new();
    io_loop.call_later(HOUR, fired.counter());
    io_loop.spawn(async { IoLoop::current().handle().stop() });
    io_loop.start().unwrap();
    // Once more, at the end of a turn in which nothing else happens.
    io_loop.call_later(Duration::ZERO, || IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!((fired.get(), io_loop.time()), (0, began));
    io_loop.close(false).unwrap();
    assert_eq!((fired.get(), io_loop.time()), (0, began));
}

#[test]
fn a_stream_that_waits_for_a_buffer_does_not_hold_the_clock() {
    support::watchdog();
    let io_loop = IoLoop::builder().virtual_time().buffers(1, 64).build().unwrap();
    let ((holder, peer), (waiting, other)) = (pair(), pair());
    let (holder, waiting) = (IoStream::new(holder).unwrap(), IoStream::new(waiting).unwrap());
    (&peer).write_all(&[1; 64]).unwrap();
    let (held, is_held) = async_channel::bounded(1);
    drop(io_loop.spawn(async move {
        let chunk = holder.chunk().await.unwrap();
        held.send(()).await.unwrap();
        time::sleep(HOUR).await;
        drop(chunk);
    }));
    let data = io_loop.run_sync(
        async || {
            is_held.recv().await.unwrap();
            (&other).write_all(&[2; 64]).unwrap();
            waiting.read_bytes(64).await.unwrap()
        },
        None,
    );
    assert_eq!(data.unwrap(), [2; 64]);
}
