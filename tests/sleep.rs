//! Futures that wait for a time: sleeps, timeouts of futures, intervals.

mod support;
mod waker_support;

use futures::FutureExt;
use futures::future::{join, join_all};
use ringloop::time::{self, Elapsed, Sleep};
use ringloop::{IoLoop, Panics};
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use support::{Count, OnDrop, Trace, new_loop, turn, turn_until, virtual_loop};
use waker_support::runs_when_cloned;

const SHORT: Duration = Duration::from_millis(4);
const LONG: Duration = Duration::from_secs(3600);

fn poll(sleep: &mut Sleep) -> Poll<()> {
    Pin::new(sleep).poll(&mut Context::from_waker(Waker::noop()))
}

fn pending_timeouts(io_loop: &IoLoop) -> usize {
    io_loop.metrics().timeouts_pending
}

#[test]
fn a_sleep_never_ends_early() {
    let io_loop = new_loop();
    for micros in [0, 1, 100, 262, 1_000, 5_000] {
        let duration = Duration::from_micros(micros);
        let began = Instant::now();
        io_loop.run_sync(|| time::sleep(duration), None).unwrap();
        assert!(began.elapsed() >= duration, "{:?} for {duration:?}", began.elapsed());
        let deadline = Instant::now() + duration;
        io_loop.run_sync(|| time::sleep_until(deadline), None).unwrap();
        assert!(Instant::now() >= deadline);
    }
}

#[test]
fn a_sleep_counts_from_where_it_was_made() {
    let io_loop = new_loop();
    let began = Instant::now();
    let sleep = time::sleep(SHORT);
    let deadline = sleep.deadline().unwrap();
    assert!(deadline >= began + SHORT && deadline <= Instant::now() + SHORT);
    thread::sleep(2 * SHORT);
    let timeouts = io_loop.metrics().timeouts;
    turn(&io_loop);
    let task = io_loop.spawn(sleep);
    // The poll, the timeout, which is due at once, and the end.
    (0..3).for_each(|_| turn(&io_loop));
    assert!(task.is_finished());
    assert_eq!(io_loop.metrics().timeouts, timeouts + 1);
}

#[test]
fn a_sleep_made_while_another_loop_was_current_counts_from_there() {
    let _first = new_loop();
    let mut sleep = time::sleep(LONG);
    let deadline = sleep.deadline();
    let _other = new_loop();
    assert!(poll(&mut sleep).is_pending());
    assert_eq!(sleep.deadline(), deadline);
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_equal_ones_as_they_began() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let base = Instant::now() + SHORT;
    let task = |name: &'static str, micros| {
        let trace = trace.clone();
        async move {
            time::sleep_until(base + Duration::from_micros(micros)).await;
            trace.push(name);
        }
    };
    let tasks = [
        io_loop.spawn(task("c", 2)),
        io_loop.spawn(task("a", 0)),
        io_loop.spawn(task("d", 2)),
        io_loop.spawn(task("b", 1)),
    ];
    turn_until(&io_loop, || tasks.iter().all(|task| task.is_finished()));
    assert_eq!(trace.take(), ["a", "b", "c", "d"]);
}

#[test]
fn a_sleep_in_the_past_is_over_in_a_later_turn_and_starves_nobody() {
    let io_loop = new_loop();
    let count = Count::new();
    let hit = count.clone();
    io_loop.spawn(async move {
        loop {
            time::sleep(Duration::ZERO).await;
            hit.hit();
        }
    });
    turn(&io_loop);
    assert_eq!(count.get(), 0);
    let called = Count::new();
    io_loop.call_later(Duration::ZERO, called.counter());
    (0..5).for_each(|_| turn(&io_loop));
    assert_eq!(called.get(), 1);
    assert!((1..=5).contains(&count.get()));
}

#[test]
fn dropping_a_sleep_cancels_it_and_drops_its_waker() {
    let io_loop = new_loop();
    let (waker, woken) = counting_waker();
    let mut sleep = time::sleep(SHORT);
    assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((pending_timeouts(&io_loop), references(&woken)), (1, 3));
    drop(sleep);
    assert_eq!((pending_timeouts(&io_loop), references(&woken)), (0, 2));
    io_loop.turn(Some(2 * SHORT)).unwrap();
    assert_eq!(io_loop.metrics().timeouts, 0);
}

/// A waker that says how many of it there are, and how often they were woken.
fn counting_waker() -> (Waker, std::sync::Arc<CountWakes>) {
    let wakes = std::sync::Arc::new(CountWakes::default());
    (wakes.clone().into(), wakes)
}

#[derive(Default)]
struct CountWakes(std::sync::atomic::AtomicUsize);

impl std::task::Wake for CountWakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn references(wakes: &std::sync::Arc<CountWakes>) -> usize {
    std::sync::Arc::strong_count(wakes)
}

fn wakes(wakes: &std::sync::Arc<CountWakes>) -> usize {
    wakes.0.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn the_last_waker_that_polled_a_sleep_is_woken_and_no_other() {
    let io_loop = new_loop();
    let (first, first_woken) = counting_waker();
    let (second, second_woken) = counting_waker();
    let mut sleep = time::sleep(SHORT);
    for waker in [&first, &second, &first, &second, &second] {
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(waker)).is_pending());
    }
    assert_eq!(pending_timeouts(&io_loop), 1);
    turn_until(&io_loop, || wakes(&second_woken) == 1);
    assert_eq!(wakes(&first_woken), 0);
    assert!(poll(&mut sleep).is_ready());
    assert!(sleep.is_elapsed() && poll(&mut sleep).is_ready());
    drop(sleep);
    assert_eq!((references(&first_woken), references(&second_woken)), (2, 2));
}

#[test]
fn a_sleep_that_ends_as_its_new_waker_is_cloned_is_over() {
    let io_loop = new_loop();
    let mut sleep = time::sleep(Duration::ZERO);
    assert!(poll(&mut sleep).is_pending());
    let running = io_loop.clone();
    let (alarm, waker) = runs_when_cloned(move || turn(&running));
    assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_ready());
    assert_eq!((alarm.rings(), pending_timeouts(&io_loop)), (0, 0));
}

#[test]
fn a_sleep_whose_waker_closes_the_loop_as_it_is_cloned_says_so() {
    for has_begun in [false, true] {
        let io_loop = new_loop();
        let mut sleep = time::sleep(LONG);
        if has_begun {
            assert!(poll(&mut sleep).is_pending());
        }
        let (_, waker) = runs_when_cloned(move || io_loop.close(false).unwrap());
        let mut context = Context::from_waker(&waker);
        let sleep = Pin::new(&mut sleep);
        let message = message_of(|| assert!(sleep.poll(&mut context).is_pending()));
        assert!(message.contains("the loop is closed"), "{message}");
    }
}

#[test]
fn a_waker_that_panics_is_caught_and_the_loop_goes_on() {
    struct Explosive;
    impl std::task::Wake for Explosive {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("on purpose");
        }
    }
    support::watchdog();
    let reports = Count::new();
    let hit = reports.clone();
    let io_loop = IoLoop::builder().panic_hook(move |_| hit.hit()).build().unwrap();
    let waker = Waker::from(std::sync::Arc::new(Explosive));
    let mut sleep = time::sleep(Duration::ZERO);
    assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_pending());
    turn_until(&io_loop, || reports.get() == 1);
    assert!(poll(&mut sleep).is_ready());
}

#[test]
fn a_reset_sleep_ends_at_its_new_time() {
    let io_loop = new_loop();
    let mut sleep = time::sleep(LONG);
    assert!(poll(&mut sleep).is_pending());
    let deadline = Instant::now() + SHORT;
    sleep.reset(deadline);
    assert_eq!(pending_timeouts(&io_loop), 0);
    io_loop.run_sync(|| &mut sleep, None).unwrap();
    assert!(Instant::now() >= deadline && sleep.is_elapsed());
    sleep.reset(Instant::now() + LONG);
    assert!(!sleep.is_elapsed() && poll(&mut sleep).is_pending());
}

#[test]
fn a_sleep_beyond_the_end_of_time_is_pending_for_ever() {
    let io_loop = new_loop();
    let mut sleep = time::sleep(Duration::MAX);
    assert_eq!(sleep.deadline(), None);
    assert!(poll(&mut sleep).is_pending());
    let limited = io_loop.run_sync(|| time::timeout(SHORT, sleep), None).unwrap();
    assert!(limited.is_err());
    let far = io_loop.spawn(time::sleep(Duration::from_secs(1 << 40)));
    turn(&io_loop);
    turn(&io_loop);
    assert!(!far.is_finished());
}

/// The message of the panic that polling a sleep ends with.
fn message_of(poll: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(poll)).unwrap_err();
    payload.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_sleep_polled_without_a_loop_says_so() {
    support::watchdog();
    let message = message_of(|| assert!(poll(&mut time::sleep(SHORT)).is_pending()));
    assert!(message.contains("no loop is current on this thread"), "{message}");
    assert!(message.starts_with("time::sleep was polled"), "{message}");
}

#[test]
fn a_sleep_polled_on_another_thread_than_the_loops_says_so() {
    let _io_loop = new_loop();
    let message = || message_of(|| futures::executor::block_on(time::sleep(SHORT)));
    let message = thread::spawn(message).join().unwrap();
    assert!(message.contains("no loop is current on this thread"), "{message}");
}

#[test]
fn a_sleep_on_a_closed_loop_says_so_instead_of_waiting_for_ever() {
    let io_loop = new_loop();
    let mut sleep = time::sleep(SHORT);
    let mut endless = time::sleep(Duration::MAX);
    assert!(poll(&mut sleep).is_pending() && poll(&mut endless).is_pending());
    io_loop.close(false).unwrap();
    for mut sleep in [sleep, endless, time::sleep(SHORT), time::sleep(Duration::MAX)] {
        let message = message_of(|| assert!(poll(&mut sleep).is_pending()));
        assert!(message.contains("the loop is closed"), "{message}");
    }
}

#[test]
fn a_sleep_outlives_its_loop() {
    let io_loop = new_loop();
    let mut sleep = time::sleep(SHORT);
    assert!(poll(&mut sleep).is_pending());
    drop(io_loop);
    let _other = new_loop();
    let message = message_of(|| assert!(poll(&mut sleep).is_pending()));
    assert!(message.contains("the loop is closed"), "{message}");
}

#[test]
fn a_sleep_is_dropped_by_its_task_while_the_loop_closes() {
    let io_loop = new_loop();
    io_loop.spawn(time::sleep(LONG));
    io_loop.spawn(async { join(time::sleep(LONG), time::sleep(LONG)).await });
    turn(&io_loop);
    assert_eq!(pending_timeouts(&io_loop), 3);
    io_loop.close(false).unwrap();
    assert_eq!(pending_timeouts(&io_loop), 0);
}

#[test]
fn a_sleep_stays_with_the_loop_on_which_it_began() {
    let first = new_loop();
    let mut sleep = time::sleep(SHORT);
    assert!(poll(&mut sleep).is_pending());
    let second = new_loop();
    assert!(poll(&mut sleep).is_pending());
    assert_eq!((pending_timeouts(&first), pending_timeouts(&second)), (1, 0));
    drop(sleep);
    assert_eq!(pending_timeouts(&first), 0);
}

#[test]
fn many_sleeps_at_once_all_end() {
    let io_loop = new_loop();
    let sleeps = (0..1000).map(|micros| time::sleep(Duration::from_micros(micros)));
    io_loop.run_sync(|| join_all(sleeps), None).unwrap();
    assert_eq!(pending_timeouts(&io_loop), 0);
}

#[test]
fn a_future_within_its_time_gives_its_value_and_the_timeout_is_gone() {
    let io_loop = new_loop();
    let mut first = true;
    let second_poll = poll_fn(move |context| {
        context.waker().wake_by_ref();
        if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(5) }
    });
    let task = io_loop.spawn(time::timeout(LONG, second_poll));
    turn(&io_loop);
    assert_eq!(pending_timeouts(&io_loop), 1);
    turn(&io_loop);
    assert_eq!(task.now_or_never().unwrap().unwrap(), Ok(5));
    assert_eq!(pending_timeouts(&io_loop), 0);
}

#[test]
fn a_future_that_is_ready_at_once_is_never_too_late_and_needs_no_loop() {
    support::watchdog();
    assert_eq!(time::timeout(Duration::ZERO, ready(1)).now_or_never(), Some(Ok(1)));
}

#[test]
fn a_future_beyond_its_time_is_dropped_with_an_error() {
    let io_loop = new_loop();
    let dropped = Count::new();
    let on_drop = OnDrop(dropped.counter());
    let began = Instant::now();
    let result = io_loop.run_sync(
        || async {
            let slow = async move {
                let _on_drop = on_drop;
                pending::<()>().await;
            };
            let result = time::timeout(SHORT, slow).await;
            (result, dropped.get())
        },
        None,
    );
    assert!(began.elapsed() >= SHORT);
    let (result, dropped) = result.unwrap();
    assert_eq!(dropped, 1);
    let error: Elapsed = result.unwrap_err();
    assert_eq!(error.to_string(), "timed out");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn an_interval_ticks_on_its_grid_and_never_early() {
    let io_loop = new_loop();
    let began = Instant::now();
    let times = io_loop.run_sync(
        || async {
            let mut interval = time::interval(SHORT);
            let mut times = Vec::new();
            for _ in 0..5 {
                let due = interval.tick().await;
                times.push((due, Instant::now()));
            }
            times
        },
        None,
    );
    let times = times.unwrap();
    assert!(times[0].0 >= began + SHORT);
    for (due, now) in &times {
        assert!(now >= due);
        let offset = due.duration_since(times[0].0).as_nanos();
        assert_eq!(offset % SHORT.as_nanos(), 0);
    }
    assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn an_interval_skips_the_ticks_that_nobody_waited_for() {
    let io_loop = virtual_loop();
    let ticks = async || {
        let mut interval = time::interval(SHORT);
        let began = IoLoop::current().time();
        // Over a tick, and then some: also over the first.
        IoLoop::current().advance(SHORT * 3 / 2);
        assert_eq!(interval.tick().await, began + 2 * SHORT);
        IoLoop::current().advance(SHORT * 7 / 2);
        assert_eq!(interval.tick().await, began + 6 * SHORT);
    };
    io_loop.run_sync(ticks, None).unwrap();
}

#[test]
fn a_tick_that_was_not_awaited_to_its_end_is_not_lost() {
    let io_loop = new_loop();
    let mut interval = time::interval(SHORT);
    let began = Instant::now();
    assert_eq!(interval.tick().now_or_never(), None);
    let due = io_loop.run_sync(|| interval.tick(), None).unwrap();
    assert!(due <= began + SHORT);
    assert_eq!(interval.period(), SHORT);
}

#[test]
fn an_interval_that_is_reset_starts_again() {
    let io_loop = new_loop();
    let mut interval = time::interval(SHORT);
    thread::sleep(SHORT);
    let now = Instant::now();
    interval.reset();
    assert!(io_loop.run_sync(|| interval.tick(), None).unwrap() >= now + SHORT);
}

#[test]
fn an_interval_that_is_reset_while_it_waits_starts_again() {
    let io_loop = virtual_loop();
    let began = io_loop.time();
    let mut interval = time::interval(LONG);
    assert!(interval.poll_tick(&mut Context::from_waker(Waker::noop())).is_pending());
    io_loop.advance(LONG / 2);
    interval.reset();
    let tick = io_loop.run_sync(|| interval.tick(), None).unwrap();
    assert_eq!(tick, began + LONG / 2 + LONG);
}

#[test]
fn a_period_beyond_the_range_of_nanoseconds_is_the_longest_there_is() {
    let io_loop = new_loop();
    let mut interval = time::interval(Duration::MAX);
    assert_eq!(interval.period(), Duration::from_nanos(u64::MAX));
    assert!(io_loop.run_sync(|| time::timeout(SHORT, interval.tick()), None).unwrap().is_err());
}

#[test]
fn an_interval_of_nothing_is_refused() {
    support::watchdog();
    let message = message_of(|| drop(time::interval(Duration::ZERO)));
    assert_eq!(message, "time::interval: the period must be longer than zero");
}

#[test]
fn a_sleep_may_be_dropped_by_a_callback_of_the_turn_in_which_it_is_due() {
    let io_loop = IoLoop::builder().panics(Panics::Propagate).build().unwrap();
    let (waker, woken) = counting_waker();
    let mut sleep = time::sleep(Duration::ZERO);
    assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_pending());
    let slot = Rc::new(RefCell::new(Some(sleep)));
    thread::sleep(Duration::from_micros(10));
    io_loop.add_callback(move || drop(slot.take()));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!((wakes(&woken), io_loop.metrics().timeouts), (0, 0));
}
