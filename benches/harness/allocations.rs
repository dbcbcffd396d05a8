//! Counts what a program allocates, while it is told to. For the programs that include this file,
//! and no others.

#![allow(dead_code, reason = "each benchmark program uses its part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was allocated.
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// By how much the memory in use has grown.
    pub(crate) bytes: i64,
}

/// Counts, for all threads, while `work` runs.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (T, Tally) {
    let read = || (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let (calls, bytes) = read();
    ON.store(true, Ordering::Relaxed);
    let result = work();
    ON.store(false, Ordering::Relaxed);
    let after = read();
    (result, Tally { calls: after.0 - calls, bytes: after.1 - bytes })
}

#[inline]
fn note(calls: u64, bytes: i64) {
    if ON.load(Ordering::Relaxed) {
        CALLS.fetch_add(calls, Ordering::Relaxed);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}
