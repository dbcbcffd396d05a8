//! `PeriodicCallback`: its grid, its overruns, and its one chain.
//!
//! On virtual time, so that each call has to come at its time exactly.

mod support;

use ringloop::{IoLoop, LoopError, PeriodicCallback};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Count, OnDrop, turn, turn_until, virtual_loop};

const PERIOD: Duration = Duration::from_millis(4);

/// When calls began.
type Times = Rc<RefCell<Vec<Instant>>>;

/// Holds the loop up, as a slow callback does.
fn hold(time: Duration) {
    IoLoop::current().advance(time);
}

/// A series that writes down when it is called, and takes `time` each time.
fn timed(period: Duration, time: Duration) -> (PeriodicCallback, Times) {
    let times = Times::default();
    let called = times.clone();
    let callback = move || {
        called.borrow_mut().push(IoLoop::current().time());
        hold(time);
    };
    (PeriodicCallback::new(callback, period).unwrap(), times)
}

/// Runs a series until `calls` calls; when they came, from its start.
fn run(periodic: &PeriodicCallback, times: &Times, calls: usize) -> Vec<Duration> {
    let io_loop = IoLoop::current();
    times.borrow_mut().clear();
    let began = io_loop.time();
    periodic.start().unwrap();
    turn_until(&io_loop, || times.borrow().len() >= calls);
    periodic.stop();
    times.borrow().iter().map(|time| time.duration_since(began)).collect()
}

#[test]
fn the_first_call_comes_one_period_after_the_start_and_each_other_one_later() {
    let _io_loop = virtual_loop();
    let (periodic, times) = timed(PERIOD, Duration::ZERO);
    for (index, time) in run(&periodic, &times, 10).into_iter().enumerate() {
        assert_eq!(time, PERIOD * (index as u32 + 1), "call {index}");
    }
}

#[test]
fn neither_lateness_nor_run_time_makes_it_drift() {
    let io_loop = virtual_loop();
    let (periodic, times) = timed(PERIOD, PERIOD / 4);
    let began = io_loop.time();
    periodic.start().unwrap();
    // The first call is late, and no other.
    hold(PERIOD * 3 / 2);
    turn_until(&io_loop, || times.borrow().len() == 3);
    let expected = [PERIOD * 3 / 2, 2 * PERIOD, 3 * PERIOD];
    assert!(times.borrow().iter().map(|time| *time - began).eq(expected));
}

#[test]
fn an_overrun_skips_whole_periods() {
    let _io_loop = virtual_loop();
    // Each call begins on the grid at the earliest, and covers the next two ticks.
    let (periodic, times) = timed(PERIOD, PERIOD * 5 / 2);
    for (index, time) in run(&periodic, &times, 6).into_iter().enumerate() {
        assert_eq!(time, PERIOD * (3 * index as u32 + 1), "call {index}");
    }
}

#[test]
fn an_overrun_is_not_made_up_for() {
    let io_loop = virtual_loop();
    let count = Count::new();
    let periodic = PeriodicCallback::new(count.counter(), PERIOD).unwrap();
    periodic.start().unwrap();
    io_loop.add_callback(|| hold(10 * PERIOD));
    turn(&io_loop);
    // Due ten times over by now.
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}

#[test]
fn jitter_stays_within_its_window() {
    let _io_loop = virtual_loop();
    for jitter in [0.0, 0.5, 1.0] {
        let (periodic, times) = timed(PERIOD, Duration::ZERO);
        let periodic = periodic.with_jitter(jitter).unwrap();
        // A nanosecond may be lost to rounding.
        let rounding = Duration::from_nanos(1);
        let shortest = PERIOD.mul_f64(1.0 - jitter / 2.0) - rounding;
        let longest = PERIOD.mul_f64(1.0 + jitter / 2.0) + rounding;
        for _ in 0..20 {
            for (index, time) in run(&periodic, &times, 2).into_iter().enumerate() {
                let step = index as u32 + 1;
                let window = shortest * step..=longest * step;
                assert!(window.contains(&time), "call {index} after {time:?} with jitter {jitter}");
            }
        }
    }
}

#[test]
fn jitter_moves_the_calls() {
    let _io_loop = virtual_loop();
    let (periodic, times) = timed(PERIOD, Duration::ZERO);
    let periodic = periodic.with_jitter(1.0).unwrap();
    assert!((0..20).any(|_| run(&periodic, &times, 1) != [PERIOD]));
}

#[test]
fn starting_twice_makes_one_chain() {
    let io_loop = virtual_loop();
    let (periodic, times) = timed(PERIOD, Duration::ZERO);
    let began = io_loop.time();
    periodic.start().unwrap();
    periodic.start().unwrap();
    assert_eq!(io_loop.metrics().timeouts_pending, 1);
    turn_until(&io_loop, || times.borrow().len() >= 6);
    for (index, time) in times.borrow().iter().enumerate() {
        assert!(time.duration_since(began) >= PERIOD * (index as u32 + 1), "call {index}");
    }
    periodic.stop();
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
}

#[test]
fn stopping_and_starting_again_makes_one_chain() {
    let io_loop = virtual_loop();
    let (periodic, times) = timed(PERIOD, Duration::ZERO);
    for _ in 0..10 {
        periodic.start().unwrap();
        periodic.stop();
        periodic.stop();
    }
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
    for (index, time) in run(&periodic, &times, 6).into_iter().enumerate() {
        assert_eq!(time, PERIOD * (index as u32 + 1), "call {index}");
    }
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
}

/// A series that does something to itself in every call.
fn reflexive(act: impl Fn(&PeriodicCallback) + 'static) -> (Rc<PeriodicCallback>, Times) {
    let times = Times::default();
    let called = times.clone();
    let series = Rc::new_cyclic(|own: &std::rc::Weak<PeriodicCallback>| {
        let own = own.clone();
        let callback = move || {
            called.borrow_mut().push(IoLoop::current().time());
            act(&own.upgrade().unwrap());
        };
        PeriodicCallback::new(callback, PERIOD).unwrap()
    });
    (series, times)
}

#[test]
fn stopping_and_starting_inside_its_own_call_makes_one_chain() {
    let _io_loop = virtual_loop();
    let (periodic, times) = reflexive(|periodic| {
        for _ in 0..3 {
            periodic.stop();
            periodic.start().unwrap();
        }
    });
    for (index, time) in run(&periodic, &times, 6).into_iter().enumerate() {
        assert_eq!(time, PERIOD * (index as u32 + 1), "call {index}");
    }
    assert_eq!(IoLoop::current().metrics().timeouts_pending, 0);
}

#[test]
fn stopping_inside_its_own_call_ends_the_series() {
    let io_loop = virtual_loop();
    let (periodic, times) = reflexive(PeriodicCallback::stop);
    for runs in 1..=3 {
        periodic.start().unwrap();
        turn_until(&io_loop, || times.borrow().len() == runs);
        assert!(!periodic.is_running());
        assert_eq!(io_loop.metrics().timeouts_pending, 0);
    }
}

#[test]
fn a_stopped_series_is_not_called_although_it_was_due() {
    let io_loop = virtual_loop();
    let count = Count::new();
    let periodic = Rc::new(PeriodicCallback::new(count.counter(), PERIOD).unwrap());
    periodic.start().unwrap();
    assert!(periodic.is_running());
    hold(2 * PERIOD);
    let stopped = periodic.clone();
    io_loop.add_callback(move || stopped.stop());
    turn(&io_loop);
    io_loop.turn(Some(2 * PERIOD)).unwrap();
    turn(&io_loop);
    assert_eq!((count.get(), periodic.is_running()), (0, false));
}

#[test]
fn dropping_it_stops_it_and_drops_its_closure() {
    let io_loop = virtual_loop();
    let (count, dropped) = (Count::new(), Count::new());
    let (mut call, on_drop) = (count.counter(), OnDrop(dropped.counter()));
    let callback = move || {
        let _ = &on_drop;
        call();
    };
    let periodic = PeriodicCallback::new(callback, PERIOD).unwrap();
    periodic.start().unwrap();
    drop(periodic);
    assert_eq!((dropped.get(), io_loop.metrics().timeouts_pending), (1, 0));
    io_loop.turn(Some(2 * PERIOD)).unwrap();
    turn(&io_loop);
    assert_eq!(count.get(), 0);
}

#[test]
fn dropping_it_inside_its_own_call_is_fine() {
    let io_loop = virtual_loop();
    let (count, dropped) = (Count::new(), Count::new());
    let own: Rc<RefCell<Option<PeriodicCallback>>> = Rc::default();
    let (cell, hit, on_drop) = (own.clone(), count.clone(), OnDrop(dropped.counter()));
    let callback = move || {
        let _ = &on_drop;
        drop(cell.take());
        hit.hit();
    };
    own.replace(Some(PeriodicCallback::new(callback, PERIOD).unwrap()));
    own.borrow().as_ref().unwrap().start().unwrap();
    turn_until(&io_loop, || dropped.get() == 1);
    assert_eq!((count.get(), io_loop.metrics().timeouts_pending), (1, 0));
}

#[test]
fn a_series_that_runs_another_loop_in_its_call_is_not_entered_again() {
    let io_loop = virtual_loop();
    let inner = IoLoop::builder().virtual_time().make_current(false).build().unwrap();
    let (busy, calls) = (RefCell::new(()), Count::new());
    let own: Rc<RefCell<Option<Rc<PeriodicCallback>>>> = Rc::default();
    let (this, hit, nested) = (own.clone(), calls.clone(), inner.clone());
    let callback = move || {
        let _busy = busy.try_borrow_mut().expect("never two calls at once");
        hit.hit();
        // Taken, so that the call on the inner loop does not do it, too.
        let Some(series) = this.take() else { return };
        series.stop();
        // The loop that runs then is the inner one.
        nested.add_callback(move || series.start().unwrap());
        let before = nested.metrics().timeouts;
        turn_until(&nested, || nested.metrics().timeouts >= before + 3);
    };
    let series = Rc::new(PeriodicCallback::new(callback, PERIOD).unwrap());
    own.replace(Some(series.clone()));
    series.start().unwrap();
    turn_until(&io_loop, || calls.get() > 0);
    assert_eq!(calls.get(), 1);
    // It goes on where it is now.
    turn_until(&inner, || calls.get() > 1);
    assert_eq!((inner.metrics().panics, io_loop.metrics().panics), (0, 0));
}

#[test]
fn it_runs_on_the_loop_that_is_current_at_its_start() {
    let first = virtual_loop();
    let (periodic, times) = timed(PERIOD, Duration::ZERO);
    let second = virtual_loop();
    periodic.start().unwrap();
    let pending = |io_loop: &IoLoop| io_loop.metrics().timeouts_pending;
    assert_eq!((pending(&first), pending(&second)), (0, 1));
    turn_until(&second, || times.borrow().len() == 2);
    periodic.stop();
    first.make_current();
    periodic.start().unwrap();
    assert_eq!((pending(&first), pending(&second)), (1, 0));
}

#[test]
fn a_series_ends_with_its_loop_and_can_be_started_on_another() {
    let closed = virtual_loop();
    let count = Count::new();
    let periodic = PeriodicCallback::new(count.counter(), Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    closed.close(false).unwrap();
    assert!(!periodic.is_running());
    let refused = periodic.start().unwrap_err();
    assert_eq!(LoopError::of(&refused), Some(&LoopError::Closed));
    assert!(!periodic.is_running());
    let io_loop = virtual_loop();
    periodic.start().unwrap();
    assert!(periodic.is_running());
    turn_until(&io_loop, || count.get() == 2);
}
