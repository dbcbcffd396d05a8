//! Wakers of other executors: one that counts, and those that panic.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

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
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
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
