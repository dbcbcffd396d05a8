//! What the integration tests share.

// Every test file is a crate of its own, and uses its share of this.
#![allow(dead_code)]

use ringloop::{Events, IoLoop, Panics};
use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a test process may take before it counts as hung.
const LONGEST_RUN: Duration = Duration::from_secs(120);

/// The threads that run tests.
static RUNNING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Ends the process, with a message, if it hangs. Called by every test, if only through
/// [`new_loop`].
pub(crate) fn watchdog() {
    static START: Once = Once::new();
    START.call_once(|| {
        thread::spawn(|| {
            thread::sleep(LONGEST_RUN);
            let running = RUNNING.lock().map(|names| names.join(", "));
            // Not `eprintln`, which the test harness captures and an abort loses.
            let _ = writeln!(io::stderr(), "hung for {LONGEST_RUN:?}; unfinished: {running:?}");
            std::process::abort();
        });
    });
    thread_local! {
        static ENTRY: Entry = Entry::new();
    }
    ENTRY.with(|_| {});
}

struct Entry(String);

impl Entry {
    fn new() -> Entry {
        let name = thread::current().name().unwrap_or("unnamed").to_owned();
        RUNNING.lock().unwrap().push(name.clone());
        Entry(name)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            running.retain(|name| *name != self.0);
        }
    }
}

/// A loop that lets panics out: an assertion that fails in a handler must fail the test.
pub(crate) fn new_loop() -> IoLoop {
    watchdog();
    IoLoop::builder().panics(Panics::Propagate).build().unwrap()
}

/// As [`new_loop`], with virtual time.
pub(crate) fn virtual_loop() -> IoLoop {
    watchdog();
    IoLoop::builder().panics(Panics::Propagate).virtual_time().build().unwrap()
}

/// One turn that does not wait.
#[track_caller]
pub(crate) fn turn(io_loop: &IoLoop) {
    io_loop.turn(Some(Duration::ZERO)).unwrap();
}

/// Turns until `done`, however long that takes.
#[track_caller]
pub(crate) fn turn_until(io_loop: &IoLoop, done: impl Fn() -> bool) {
    while !done() {
        io_loop.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace::default()
    }

    pub(crate) fn push(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// A callback that writes this down.
    pub(crate) fn mark(&self, what: &'static str) -> impl FnMut() + use<> {
        let trace = self.clone();
        move || trace.push(what)
    }

    /// A handler that writes this down, and reads nothing.
    pub(crate) fn handler<S>(&self, what: &'static str) -> impl FnMut(&mut S, Events) + use<S> {
        let trace = self.clone();
        move |_, _| trace.push(what)
    }

    /// What happened since this was called last.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Counts calls, and other things.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn new() -> Count {
        Count::default()
    }

    pub(crate) fn hit(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, number: usize) {
        self.0.set(self.0.get() + number);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }

    /// Starts again at zero.
    pub(crate) fn take(&self) -> usize {
        self.0.take()
    }

    /// A callback that counts.
    pub(crate) fn counter(&self) -> impl FnMut() + use<> {
        let count = self.clone();
        move || count.hit()
    }

    /// A handler that counts, and reads nothing.
    pub(crate) fn handler<S>(&self) -> impl FnMut(&mut S, Events) + use<S> {
        let count = self.clone();
        move |_, _| count.hit()
    }
}

/// The masks that a handler was called with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(Rc<RefCell<Vec<Events>>>);

impl Masks {
    pub(crate) fn new() -> Masks {
        Masks::default()
    }

    /// A handler that writes its mask down, and reads nothing.
    pub(crate) fn handler<S>(&self) -> impl FnMut(&mut S, Events) + use<S> {
        let masks = self.clone();
        move |_, events| masks.0.borrow_mut().push(events)
    }

    /// Those since this was called last.
    pub(crate) fn take(&self) -> Vec<Events> {
        self.0.take()
    }
}

/// Runs a closure when dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Two connected sockets, non-blocking.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (stream, peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    (stream, peer)
}

/// As [`pair`], with a byte waiting in the first.
pub(crate) fn ready_pair() -> (UnixStream, UnixStream) {
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    (stream, peer)
}

/// Reads until that would block; the number of bytes.
pub(crate) fn drain(mut source: impl Read) -> usize {
    let mut total = 0;
    let mut buffer = [0; 4096];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return total,
            Ok(length) => total += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return total,
            Err(error) => panic!("{error}"),
        }
    }
}

/// In a child of `in_child`, where nobody else is, and the lock stays as it was.
static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Another process has this one's descriptors, too, when it begins. Meanwhile, no test looks whether
/// one is closed.
fn hold_descriptors() -> Option<MutexGuard<'static, ()>> {
    static HELD: Mutex<()> = Mutex::new(());
    let is_child = IN_CHILD.load(Ordering::Relaxed);
    (!is_child).then(|| HELD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// True if the other side has closed this non-blocking socket, and all is read.
pub(crate) fn at_end(mut peer: &UnixStream) -> bool {
    let _alone = hold_descriptors();
    match peer.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => panic!("unread data"),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

/// Moves a file to a number of the test's choice, which other threads cannot take by chance.
///
/// Whatever has the number is closed.
pub(crate) fn move_to(source: impl Into<OwnedFd>, number: RawFd) -> OwnedFd {
    let source = source.into();
    // SAFETY: no memory is passed, and numbers this high belong to the calling test alone.
    let fd = unsafe { libc::dup3(source.as_raw_fd(), number, libc::O_CLOEXEC) };
    assert_eq!(fd, number, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor has just been made, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes a number that the test owns.
pub(crate) fn close_raw(fd: RawFd) {
    // SAFETY: the caller gave the number up.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// This thread, for [`wait_until_asleep`].
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: the call passes nothing.
    unsafe { libc::gettid() }
}

/// Returns once a thread of this process sleeps in a system call.
pub(crate) fn wait_until_asleep(thread: libc::pid_t) {
    let path = format!("/proc/self/task/{thread}/stat");
    loop {
        let stat = std::fs::read_to_string(&path).unwrap();
        // The state follows the name, which is in brackets and may hold anything.
        if stat[stat.rfind(')').unwrap()..].starts_with(") S") {
            return;
        }
        thread::yield_now();
    }
}

/// Runs `body` in a forked child. What it returns, or its panic's message, comes back.
///
/// The child has this thread alone, and no watchdog but an alarm. It must not panic as a rule: other
/// threads may have held the locks that this takes.
pub(crate) fn in_child(body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    watchdog();
    let _alone = hold_descriptors();
    let (mut reader, mut writer) = io::pipe().unwrap();
    // SAFETY: the child runs `body`, whose author knows, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => {
            IN_CHILD.store(true, Ordering::Relaxed);
            // SAFETY: passes no memory.
            unsafe { libc::alarm(LONGEST_RUN.as_secs() as u32 / 2) };
            let body = std::panic::AssertUnwindSafe(body);
            let result = std::panic::catch_unwind(body);
            let result = result.unwrap_or_else(|_| Err("panicked".to_owned()));
            if let Err(message) = &result {
                let _ = writer.write_all(message.as_bytes());
            }
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        child => {
            drop(writer);
            let mut message = String::new();
            reader.read_to_string(&mut message).unwrap();
            let mut status = -1;
            // SAFETY: `status` is valid to write to.
            unsafe { libc::waitpid(child, &mut status, 0) };
            match ExitStatus::from_raw(status) {
                status if status.success() => Ok(()),
                status => Err(format!("{status}: {message}")),
            }
        }
    }
}

/// Runs `body`, which is all of the test `name`, in a process of its own: for what may end one. (Not
/// in a forked child: other threads' panics hold locks that a panic in the child would wait for.)
pub(crate) fn in_own_process(name: &str, body: impl FnOnce()) {
    const INSIDE: &str = "RINGLOOP_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let _alone = hold_descriptors();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, "1")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}
