//! `PeriodicCallback` with an async body: it never overlaps itself, and there is never but one chain.

mod support;

use futures::channel::oneshot;
use ringloop::{CallbackKind, IoLoop, PeriodicCallback, time};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use support::{Count, OnDrop, new_loop, turn, turn_until};

const PERIOD: Duration = Duration::from_millis(4);

/// When calls began, and how many are under way.
#[derive(Clone, Default)]
struct Calls {
    times: Rc<RefCell<Vec<Instant>>>,
    active: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

impl Calls {
    fn begin(&self) -> impl Drop + use<> {
        self.times.borrow_mut().push(Instant::now());
        self.active.set(self.active.get() + 1);
        self.most.set(self.most.get().max(self.active.get()));
        let active = self.active.clone();
        OnDrop(move || active.set(active.get() - 1))
    }

    fn number(&self) -> usize {
        self.times.borrow().len()
    }
}

/// A series whose calls take `time`.
fn series(time: Duration) -> (PeriodicCallback, Calls) {
    let calls = Calls::default();
    let own = calls.clone();
    let callback = move || {
        let call = own.begin();
        async move {
            time::sleep(time).await;
            drop(call);
        }
    };
    (PeriodicCallback::new_async(callback, PERIOD).unwrap(), calls)
}

/// A series whose calls end when they are told to.
fn held() -> (PeriodicCallback, Calls, Rc<RefCell<Option<oneshot::Sender<()>>>>) {
    let (calls, release) = (Calls::default(), Rc::new(RefCell::new(None)));
    let (own, store) = (calls.clone(), release.clone());
    let callback = move || {
        let call = own.begin();
        let (sender, receiver) = oneshot::channel::<()>();
        store.replace(Some(sender));
        async move {
            let _ = receiver.await;
            drop(call);
        }
    };
    (PeriodicCallback::new_async(callback, PERIOD).unwrap(), calls, release)
}

/// Turns for several periods.
fn turn_for(io_loop: &IoLoop, periods: u32) {
    let until = Instant::now() + PERIOD * periods;
    while Instant::now() < until {
        io_loop.turn(Some(PERIOD / 4)).unwrap();
    }
}

#[test]
fn the_first_call_comes_one_period_after_the_start_and_each_other_one_later() {
    let io_loop = new_loop();
    let (periodic, calls) = series(Duration::ZERO);
    let began = Instant::now();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 5);
    for (index, time) in calls.times.borrow().iter().enumerate() {
        assert!(time.duration_since(began) >= PERIOD * (index as u32 + 1), "call {index}");
    }
}

#[test]
fn a_call_that_takes_longer_than_the_period_skips_periods_and_never_overlaps() {
    let io_loop = new_loop();
    let (periodic, calls) = series(PERIOD * 5 / 2);
    let began = Instant::now();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 4);
    for (index, time) in calls.times.borrow().iter().enumerate() {
        assert!(time.duration_since(began) >= PERIOD * (3 * index as u32 + 1), "call {index}");
    }
    assert_eq!(calls.most.get(), 1);
}

#[test]
fn no_timeout_is_pending_while_a_call_is_under_way() {
    let io_loop = new_loop();
    let (periodic, calls, release) = held();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 1);
    turn_for(&io_loop, 3);
    assert_eq!((calls.number(), io_loop.metrics().timeouts_pending), (1, 0));
    assert!(periodic.is_running());
    drop(release.take());
    turn_until(&io_loop, || calls.number() == 2);
}

#[test]
fn the_next_call_is_scheduled_when_the_future_before_is_dropped() {
    let io_loop = new_loop();
    let pending: Rc<RefCell<Vec<usize>>> = Rc::default();
    let log = pending.clone();
    let callback = move || {
        let log = log.clone();
        let guard = OnDrop(move || {
            log.borrow_mut().push(IoLoop::current().metrics().timeouts_pending);
        });
        poll_fn(move |_| {
            let _ = &guard;
            Poll::Ready(())
        })
    };
    let periodic = PeriodicCallback::new_async(callback, PERIOD).unwrap();
    periodic.start().unwrap();
    turn_until(&io_loop, || pending.borrow().len() == 2);
    assert_eq!((pending.take(), io_loop.metrics().timeouts_pending), (vec![0, 0], 1));
}

#[test]
fn stopping_while_a_call_is_under_way_lets_it_end_and_is_the_end() {
    let io_loop = new_loop();
    let (periodic, calls, release) = held();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 1);
    periodic.stop();
    assert!(!periodic.is_running());
    turn(&io_loop);
    assert_eq!(calls.active.get(), 1);
    drop(release.take());
    turn_until(&io_loop, || calls.active.get() == 0);
    turn_for(&io_loop, 3);
    assert_eq!((calls.number(), io_loop.metrics().timeouts_pending), (1, 0));
}

#[test]
fn stopping_and_starting_while_a_call_is_under_way_leaves_one_chain_and_no_overlap() {
    let io_loop = new_loop();
    let (periodic, calls, release) = held();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 1);
    for _ in 0..3 {
        periodic.stop();
        periodic.start().unwrap();
    }
    assert_eq!(io_loop.metrics().timeouts_pending, 1);
    // The new chain ticks, and has to wait.
    turn_for(&io_loop, 3);
    assert_eq!((calls.number(), io_loop.metrics().timeouts_pending), (1, 1));
    drop(release.take());
    turn_until(&io_loop, || calls.number() == 2);
    assert_eq!((calls.most.get(), io_loop.metrics().timeouts_pending), (1, 0));
}

#[test]
fn dropping_it_while_a_call_is_under_way_lets_that_end() {
    let io_loop = new_loop();
    let (periodic, calls, release) = held();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 1);
    drop(periodic);
    let released = release.take();
    // The closure is gone, and what it captured; the future is not.
    assert_eq!((Rc::strong_count(&release), calls.active.get()), (1, 1));
    drop(released);
    turn_until(&io_loop, || calls.active.get() == 0);
    turn_for(&io_loop, 2);
    assert_eq!(calls.number(), 1);
}

#[test]
fn stopping_and_dropping_it_inside_its_own_call_is_fine() {
    let io_loop = new_loop();
    let own: Rc<RefCell<Option<PeriodicCallback>>> = Rc::default();
    let (cell, count) = (own.clone(), Count::new());
    let hit = count.clone();
    let callback = move || {
        let (cell, hit) = (cell.clone(), hit.clone());
        async move {
            cell.borrow().as_ref().unwrap().stop();
            drop(cell.take());
            hit.hit();
        }
    };
    own.replace(Some(PeriodicCallback::new_async(callback, PERIOD).unwrap()));
    own.borrow().as_ref().unwrap().start().unwrap();
    turn_until(&io_loop, || count.get() == 1);
    turn_for(&io_loop, 2);
    assert_eq!((count.get(), io_loop.metrics().timeouts_pending), (1, 0));
}

#[test]
fn failures_are_reported_and_the_series_goes_on() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let io_loop = IoLoop::builder()
        .panic_hook(move |report| {
            assert_eq!(report.origin.kind, CallbackKind::Periodic);
            told.borrow_mut()
                .push((report.origin.site.unwrap().line(), report.message().to_owned()));
        })
        .build()
        .unwrap();
    let mut calls = 0;
    let callback = move || {
        calls += 1;
        assert!(calls != 1, "in the closure");
        async move {
            assert!(calls != 2, "in the future");
            if calls == 3 { Err("as an error") } else { Ok(()) }
        }
    };
    let periodic = PeriodicCallback::new_async(callback, PERIOD).unwrap();
    let line = line!() - 1;
    periodic.start().unwrap();
    turn_until(&io_loop, || reports.borrow().len() == 3 && io_loop.metrics().timeouts >= 4);
    let texts = ["in the closure", "in the future", "as an error"];
    assert_eq!(reports.take(), texts.map(|text| (line, text.to_owned())));
}

#[test]
fn closing_the_loop_ends_the_call_and_the_series() {
    let io_loop = new_loop();
    let (periodic, calls, _release) = held();
    periodic.start().unwrap();
    turn_until(&io_loop, || calls.number() == 1);
    io_loop.close(false).unwrap();
    assert_eq!((calls.active.get(), periodic.is_running()), (0, false));
    let other = new_loop();
    periodic.start().unwrap();
    turn_until(&other, || calls.number() == 2);
}

#[test]
fn a_period_of_nothing_is_refused() {
    support::watchdog();
    assert!(PeriodicCallback::new_async(|| async {}, Duration::ZERO).is_err());
}
