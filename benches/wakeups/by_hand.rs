//! The least that runs callbacks of other threads: a list under a mutex, an eventfd, and a flag
//! that tells whether it has to be written to.

use crate::harness::sys;
use crate::posted::Target;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};

type Posted = Box<dyn FnOnce() + Send>;

pub(crate) struct ByHand {
    posted: Mutex<Vec<Posted>>,
    asleep: AtomicBool,
    stop: AtomicBool,
    eventfd: File,
}

impl ByHand {
    pub(crate) fn new() -> io::Result<ByHand> {
        // SAFETY: no memory is passed; the descriptor is new.
        let eventfd = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC))? };
        Ok(ByHand {
            posted: Mutex::default(),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            eventfd: File::from(eventfd),
        })
    }

    pub(crate) fn run(&self) -> io::Result<()> {
        let mut batch = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            std::mem::swap(&mut batch, &mut *self.posted.lock().expect("nobody panics"));
            if batch.is_empty() {
                self.sleep()?;
            }
            batch.drain(..).for_each(|callback| callback());
        }
        Ok(())
    }

    fn sleep(&self) -> io::Result<()> {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.posted.lock().expect("nobody panics").is_empty() {
            (&self.eventfd).read_exact(&mut [0; 8])?;
        }
        self.asleep.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = (&self.eventfd).write_all(&1u64.to_ne_bytes());
    }
}

impl Target for Arc<ByHand> {
    fn post(&self, callback: impl FnOnce() + Send + 'static) {
        self.posted.lock().expect("nobody panics").push(Box::new(callback));
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let _ = (&self.eventfd).write_all(&1u64.to_ne_bytes());
        }
    }
}
