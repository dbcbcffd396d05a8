//! Keeps a core from halting.

use crate::harness::sys;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that does nothing on a core, whenever nobody else wants it, until this is dropped.
pub(crate) struct Awake {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    pub(crate) fn keep(core: usize) -> io::Result<Awake> {
        let done = Arc::new(AtomicBool::new(false));
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let done = done.clone();
            move || {
                let _ = started.send(sys::pin(core).and_then(|()| sys::yield_to_everybody()));
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        let awake = Awake { done, thread: Some(thread) };
        start.recv().map_err(io::Error::other)??;
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
