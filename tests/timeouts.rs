//! Timeouts: when, in which order, and how they are cancelled.

mod support;

use ringloop::{Events, IoLoop, Timeout};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Count, OnDrop, Trace, new_loop, turn, turn_until};

/// Counts the bytes that each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; what is added touches plain integers only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MS: Duration = Duration::from_millis(1);

#[test]
fn timeouts_never_fire_early() {
    let io_loop = new_loop();
    let fired = Count::new();
    for step in 0..60 {
        let delay = Duration::from_nanos(step * 333_337);
        let (deadline, count) = (Instant::now() + delay, fired.clone());
        let check = move || {
            assert!(Instant::now() >= deadline);
            count.hit();
        };
        match step % 3 {
            0 => io_loop.call_later(delay, check),
            1 => io_loop.call_at(deadline, check),
            _ => io_loop.add_timeout(delay, check),
        };
    }
    turn_until(&io_loop, || fired.get() == 60);
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
}

#[test]
fn a_sleeping_loop_wakes_up_for_a_timeout_in_time() {
    let io_loop = new_loop();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let deadline = Instant::now() + 10 * MS;
        io_loop.call_at(deadline, || IoLoop::current().stop());
        io_loop.start().unwrap();
        best = best.min(deadline.elapsed());
        assert!(Instant::now() >= deadline);
    }
    assert!(best < 20 * MS, "{best:?} late at best");
}

#[test]
fn a_loop_that_sleeps_for_a_timeout_takes_few_turns() {
    let io_loop = new_loop();
    io_loop.call_later(30 * MS, || IoLoop::current().stop());
    io_loop.start().unwrap();
    assert!(io_loop.metrics().turns < 10);
}

#[test]
fn equal_deadlines_fire_in_the_order_added() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let deadline = Instant::now() + 5 * MS;
    let expected: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
    for name in expected.clone() {
        let trace = trace.clone();
        io_loop.call_at(deadline, move || trace.push(name));
    }
    turn_until(&io_loop, || io_loop.metrics().timeouts == 1000);
    assert_eq!(trace.take(), expected);
}

#[test]
fn earlier_deadlines_fire_first_also_of_those_in_the_past() {
    let io_loop = new_loop();
    let trace = Trace::new();
    // 32 steps of 1 ms around now, in a mixed order: 11 and 32 have no common factor.
    let begin = Instant::now() - 16 * MS;
    let expected: Vec<String> = (0..32).map(|index| index.to_string()).collect();
    for index in (0..32).map(|index| index * 11 % 32) {
        let trace = trace.clone();
        io_loop.call_at(begin + index * MS, move || trace.push(index.to_string()));
    }
    turn(&io_loop);
    assert!(io_loop.metrics().timeouts >= 16);
    turn_until(&io_loop, || io_loop.metrics().timeouts == 32);
    assert_eq!(trace.take(), expected);
}

#[test]
fn handlers_are_called_between_thousands_of_timeouts_that_are_due_at_once() {
    const MANY: u64 = 10_000;
    let io_loop = new_loop();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"x").unwrap();
    let handled = Count::new();
    let mut count = handled.counter();
    io_loop.add_handler(stream, Events::READ, move |_, _| count()).unwrap();
    let next = Rc::new(Cell::new(0));
    for number in 0..MANY {
        let next = next.clone();
        io_loop.call_later(Duration::ZERO, move || assert_eq!(next.replace(number + 1), number));
    }
    let mut turns = 0;
    while io_loop.metrics().timeouts < MANY {
        turn(&io_loop);
        turns += 1;
        assert_eq!(handled.get(), turns);
    }
    assert!(turns > 1 && turns < 100, "{turns}");
}

#[test]
fn a_timeout_added_by_a_timeout_with_a_past_deadline_waits_for_the_next_turn() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let mut outer = trace.mark("outer");
    let inner = trace.mark("inner");
    io_loop.call_later(Duration::ZERO, move || {
        outer();
        IoLoop::current().call_at(Instant::now() - 1000 * MS, inner);
    });
    io_loop.call_later(Duration::ZERO, trace.mark("later"));
    turn(&io_loop);
    assert_eq!(trace.take(), ["outer", "later"]);
    turn(&io_loop);
    assert_eq!(trace.take(), ["inner"]);
}

#[test]
fn a_timeout_of_no_delay_runs_after_a_callback_added_at_the_same_place() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let (callback, timeout) = (trace.mark("callback"), trace.mark("timeout"));
    io_loop.add_callback(move || {
        IoLoop::current().call_later(Duration::ZERO, timeout);
        IoLoop::current().add_callback(callback);
    });
    turn(&io_loop);
    assert!(trace.take().is_empty());
    turn(&io_loop);
    assert_eq!(trace.take(), ["callback", "timeout"]);
}

#[test]
fn a_timeout_cancelled_by_a_callback_of_the_same_turn_does_not_run() {
    let io_loop = new_loop();
    let count = Count::new();
    let timeout = io_loop.call_later(Duration::ZERO, count.counter());
    io_loop.call_later(Duration::ZERO, count.counter());
    io_loop.add_callback(move || IoLoop::current().remove_timeout(timeout));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_timeout_cancelled_by_an_earlier_timeout_of_the_same_turn_does_not_run() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let cancelled: Rc<Cell<Option<Timeout>>> = Rc::default();
    let to_cancel = cancelled.clone();
    let (mut first, never) = (trace.mark("first"), trace.mark("never"));
    io_loop.call_later(Duration::ZERO, move || {
        first();
        let io_loop = IoLoop::current();
        io_loop.remove_timeout(to_cancel.get().unwrap());
        // Takes the place of the cancelled one, and must not be mistaken for it.
        io_loop.call_later(Duration::from_secs(3600), never);
    });
    let second = trace.mark("second");
    cancelled.set(Some(io_loop.call_later(Duration::ZERO, second)));
    io_loop.call_later(Duration::ZERO, trace.mark("third"));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(trace.take(), ["first", "third"]);
    assert_eq!(io_loop.metrics().timeouts, 2);
}

#[test]
fn cancelling_a_timeout_from_within_it_is_harmless() {
    let io_loop = new_loop();
    let own: Rc<Cell<Option<Timeout>>> = Rc::default();
    let (cell, count) = (own.clone(), Count::new());
    let hit = count.clone();
    let timeout = io_loop.call_later(Duration::ZERO, move || {
        let io_loop = IoLoop::current();
        // Takes the place that the running one has left.
        io_loop.call_later(Duration::ZERO, hit.counter());
        io_loop.remove_timeout(cell.get().unwrap());
        hit.hit();
    });
    own.set(Some(timeout));
    turn(&io_loop);
    turn(&io_loop);
    assert_eq!(count.get(), 2);
}

#[test]
fn cancelling_twice_or_after_firing_or_after_close_is_harmless() {
    let io_loop = new_loop();
    let count = Count::new();
    let fired = io_loop.call_later(Duration::ZERO, count.counter());
    turn(&io_loop);
    assert_eq!(count.get(), 1);
    let cancelled = io_loop.call_later(MS, count.counter());
    io_loop.remove_timeout(cancelled);
    // Takes the place of those before it, and must not be mistaken for them.
    let pending = io_loop.call_later(Duration::ZERO, count.counter());
    for timeout in [fired, cancelled, fired, cancelled] {
        assert_ne!(timeout, pending);
        io_loop.remove_timeout(timeout);
    }
    turn(&io_loop);
    assert_eq!(count.get(), 2);

    let open = io_loop.call_later(Duration::ZERO, count.counter());
    io_loop.close(false).unwrap();
    let closed = io_loop.call_later(Duration::ZERO, count.counter());
    for timeout in [fired, pending, open, closed] {
        io_loop.remove_timeout(timeout);
    }
    assert_eq!(count.get(), 2);
}

#[test]
fn a_timeout_is_not_cancelled_through_another_loop() {
    let (io_loop, other) = (new_loop(), new_loop());
    let count = Count::new();
    let timeout = io_loop.call_later(Duration::ZERO, count.counter());
    other.call_later(Duration::ZERO, count.counter());
    other.remove_timeout(timeout);
    turn(&io_loop);
    turn(&other);
    assert_eq!(count.get(), 2);
}

#[test]
fn a_cancelled_callback_is_dropped_at_once_and_may_use_the_loop_as_it_goes() {
    let io_loop = new_loop();
    let count = Count::new();
    let (dropped, other) = (count.clone(), io_loop.call_later(Duration::ZERO, || {}));
    let on_drop = OnDrop(move || {
        let io_loop = IoLoop::current();
        io_loop.remove_timeout(other);
        io_loop.call_later(Duration::ZERO, dropped.counter());
        dropped.hit();
    });
    let timeout = io_loop.call_later(MS, move || drop(on_drop));
    io_loop.remove_timeout(timeout);
    assert_eq!(count.get(), 1);
    turn(&io_loop);
    assert_eq!((count.get(), io_loop.metrics().timeouts), (2, 1));
}

#[test]
fn many_added_and_cancelled_timeouts_leave_no_memory_behind() {
    const MANY: usize = 100_000;
    let io_loop = new_loop();
    let (dropped, fired) = (Count::new(), Count::new());
    let add = |index: u32| {
        let (on_drop, fired) = (OnDrop(dropped.counter()), fired.clone());
        let delay = Duration::from_secs(1) + MS * (index % 100_000);
        io_loop.call_later(delay, move || {
            drop(on_drop);
            fired.hit();
        })
    };
    let before = HELD.get();
    // One after the other, then all together.
    for index in 0..MANY as u32 {
        let timeout = add(index);
        io_loop.remove_timeout(timeout);
    }
    turn(&io_loop);
    turn(&io_loop);
    let one_by_one = HELD.get() - before;
    let timeouts: Vec<Timeout> = (0..MANY as u32).map(add).collect();
    assert_eq!(io_loop.metrics().timeouts_pending, MANY);
    timeouts.into_iter().for_each(|timeout| io_loop.remove_timeout(timeout));
    assert_eq!((dropped.get(), fired.get()), (2 * MANY, 0));
    assert_eq!(io_loop.metrics().timeouts_pending, 0);
    turn(&io_loop);
    turn(&io_loop);
    let together = HELD.get() - before;
    assert!(one_by_one < 16 << 10, "{one_by_one} bytes for one timeout at a time");
    assert!(together < 64 << 10, "{together} bytes for timeouts that are gone");
}

#[test]
fn deadlines_out_of_reach_never_come_and_hold_nothing_up() {
    let io_loop = new_loop();
    let (never, soon) = (Count::new(), Count::new());
    let year = Duration::from_secs(365 * 24 * 3600);
    let mut far = Vec::new();
    for delay in [Duration::MAX, Duration::from_nanos(u64::MAX), 300 * year, 280 * year, year] {
        far.push(io_loop.call_later(delay, never.counter()));
        let deadlines = [Instant::now().checked_add(delay), Instant::now().checked_add(delay / 2)];
        for deadline in deadlines.into_iter().flatten() {
            far.push(io_loop.call_at(deadline, never.counter()));
        }
    }
    let began = Instant::now();
    io_loop.turn(Some(5 * MS)).unwrap();
    assert!(began.elapsed() >= 5 * MS);
    io_loop.call_later(5 * MS, soon.counter());
    turn_until(&io_loop, || soon.get() == 1);
    io_loop.call_later(5 * MS, || IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(io_loop.metrics().timeouts_pending, far.len());
    far.into_iter().for_each(|timeout| io_loop.remove_timeout(timeout));
    assert_eq!((io_loop.metrics().timeouts_pending, never.get()), (0, 0));
}

#[test]
fn a_turn_may_be_told_to_wait_for_ever_in_seconds() {
    let io_loop = new_loop();
    let count = Count::new();
    for wait in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(1 << 40)] {
        io_loop.call_later(5 * MS, count.counter());
        io_loop.turn(Some(wait)).unwrap();
        turn(&io_loop);
    }
    assert_eq!(count.get(), 3);
}

#[test]
fn a_deadline_in_the_past_is_due_in_the_next_turn() {
    let io_loop = new_loop();
    let count = Count::new();
    let now = Instant::now();
    for age in [Duration::ZERO, MS, Duration::from_secs(3600), Duration::from_secs(1 << 33)] {
        io_loop.call_at(now.checked_sub(age).unwrap(), count.counter());
    }
    turn(&io_loop);
    assert_eq!(count.get(), 4);
}
