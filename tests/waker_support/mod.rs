//! Wakers of other executors: one that counts, and those that panic.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

/// Counts how often its waker is woken.
#[derive(Default)]
pub(crate) struct Alarm(AtomicUsize);

impl Alarm {
    pub(crate) fn new() -> (Arc<Alarm>, Waker) {
        let alarm = Arc::new(Alarm::default());
        (alarm.clone(), alarm.into())
    }

    pub(crate) fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// A waker that runs `body` when it is cloned for the first time. Its wake-ups are counted.
pub(crate) fn runs_when_cloned(body: impl FnOnce() + 'static) -> (Arc<Alarm>, Waker) {
    thread_local! {
        static BODY: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::default();
    }

    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |alarm| {
            if let Some(body) = BODY.take() {
                body();
            }
            // SAFETY: the pointer of a waker that is alive, so that a reference is.
            unsafe { Arc::increment_strong_count(alarm.cast::<Alarm>()) };
            RawWaker::new(alarm, &VTABLE)
        },
        // SAFETY: the pointer of a waker, which gives up its reference.
        |alarm| unsafe { Arc::from_raw(alarm.cast::<Alarm>()) }.wake(),
        // SAFETY: the pointer of a waker that is alive.
        |alarm| unsafe { &*alarm.cast::<Alarm>() }.ring(),
        // SAFETY: the pointer of a waker, which gives up its reference.
        |alarm| drop(unsafe { Arc::from_raw(alarm.cast::<Alarm>()) }),
    );

    BODY.replace(Some(Box::new(body)));
    let alarm = Arc::new(Alarm::default());
    // SAFETY: the functions are for a reference to an `Alarm`, which may go to any thread.
    let waker = unsafe { Waker::new(Arc::into_raw(alarm.clone()).cast(), &VTABLE) };
    (alarm, waker)
}

/// A waker that panics with "woken".
pub(crate) fn panics_when_woken() -> Waker {
    struct Broken;

    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }

    Arc::new(Broken).into()
}

/// A waker that panics with "dropped" when the last of its clones is.
pub(crate) fn panics_when_dropped() -> Waker {
    struct Fragile;

    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    Arc::new(Fragile).into()
}
