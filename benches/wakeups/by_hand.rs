//! The least that runs callbacks of other threads: a queue, an eventfd, and a flag that tells whether
//! it has to be written to.

use crate::harness::sys;
use crate::posted::Target;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

type Posted = Box<dyn FnOnce() + Send>;

pub(crate) trait Queue: Send + Sync + Default + 'static {
    fn push(&self, callback: Posted);
    /// Takes out what is there, by way of `room`, and runs it. False if there was nothing.
    fn run(&self, room: &mut Vec<Posted>) -> bool;
}

/// A vector, exchanged as a whole.
#[derive(Default)]
pub(crate) struct Locked(Mutex<Vec<Posted>>);

impl Queue for Locked {
    fn push(&self, callback: Posted) {
        self.0.lock().expect("nobody panics").push(callback);
    }

    fn run(&self, room: &mut Vec<Posted>) -> bool {
        std::mem::swap(room, &mut *self.0.lock().expect("nobody panics"));
        let any = !room.is_empty();
        room.drain(..).for_each(|callback| callback());
        any
    }
}

/// A lock-free list of blocks, as which `std` makes its channels. The lock is for the type: only the
/// loop takes it, once for all that is there.
pub(crate) struct LockFree {
    sender: Sender<Posted>,
    receiver: Mutex<Receiver<Posted>>,
}

impl Default for LockFree {
    fn default() -> LockFree {
        let (sender, receiver) = mpsc::channel();
        LockFree { sender, receiver: Mutex::new(receiver) }
    }
}

impl Queue for LockFree {
    fn push(&self, callback: Posted) {
        let _ = self.sender.send(callback);
    }

    fn run(&self, _: &mut Vec<Posted>) -> bool {
        let receiver = self.receiver.lock().expect("nobody panics");
        receiver.try_iter().map(|callback| callback()).count() > 0
    }
}

pub(crate) struct ByHand<Q> {
    posted: Q,
    asleep: AtomicBool,
    stop: AtomicBool,
    eventfd: File,
}

impl<Q: Queue> ByHand<Q> {
    pub(crate) fn new() -> io::Result<ByHand<Q>> {
        // SAFETY: no memory is passed; the descriptor is new.
        let eventfd = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC))? };
        Ok(ByHand {
            posted: Q::default(),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            eventfd: File::from(eventfd),
        })
    }

    pub(crate) fn run(&self) -> io::Result<()> {
        let mut room = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if !self.posted.run(&mut room) {
                self.sleep(&mut room)?;
            }
        }
        Ok(())
    }

    fn sleep(&self, room: &mut Vec<Posted>) -> io::Result<()> {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.posted.run(room) {
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

impl<Q: Queue> Target for Arc<ByHand<Q>> {
    fn post(&self, callback: impl FnOnce() + Send + 'static) {
        self.posted.push(Box::new(callback));
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let _ = (&self.eventfd).write_all(&1u64.to_ne_bytes());
        }
    }
}
