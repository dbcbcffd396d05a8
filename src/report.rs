//! Running user code: what happens when it panics, and when it takes too long.

use crate::sys;
use std::any::{Any, type_name};
use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;

/// How a piece of user code came to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallbackKind {
    /// `add_callback`, from whichever thread.
    Callback,
    /// `call_later`, `call_at` or `add_timeout`.
    Timeout,
    /// The handler of this fd.
    Handler(RawFd),
    /// A [`PeriodicCallback`](crate::PeriodicCallback).
    Periodic,
    /// A poll of a [spawned](crate::IoLoop::spawn) task, or the end of it.
    Task,
    /// A waker that the loop woke or dropped: that of another executor, or one made by hand.
    Waker,
    /// The destructor of something else that the loop dropped.
    Destructor,
}

/// Which piece of user code it was.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Origin {
    /// How it was registered, or what it is.
    pub kind: CallbackKind,
    /// The name of the closure's or future's type, such as `server::main::{{closure}}`. `None` for
    /// wakers and destructors.
    pub type_name: Option<&'static str>,
    /// The place in the source that registered it. `None` for wakers and destructors.
    pub site: Option<&'static Location<'static>>,
}

impl Origin {
    /// Of a closure or future of type `F`.
    pub(crate) fn of<F>(kind: CallbackKind, site: &'static Location<'static>) -> Origin {
        Origin { kind, type_name: Some(type_name::<F>()), site: Some(site) }
    }

    pub(crate) fn waker() -> Origin {
        Origin { kind: CallbackKind::Waker, type_name: None, site: None }
    }

    pub(crate) fn destructor() -> Origin {
        Origin { kind: CallbackKind::Destructor, type_name: None, site: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CallbackKind::Callback => f.write_str("callback")?,
            CallbackKind::Timeout => f.write_str("timeout")?,
            CallbackKind::Handler(fd) => write!(f, "handler of fd {fd}")?,
            CallbackKind::Periodic => f.write_str("periodic callback")?,
            CallbackKind::Task => f.write_str("task")?,
            CallbackKind::Waker => f.write_str("a waker")?,
            CallbackKind::Destructor => {
                f.write_str("the destructor of something that the loop dropped")?;
            }
        }
        if let Some(type_name) = self.type_name {
            write!(f, " {type_name}")?;
        }
        match self.site {
            Some(site) => write!(f, " registered at {site}"),
            None => Ok(()),
        }
    }
}

/// What a [`PanicReport`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A panic.
    Panic,
    /// An error that a task returned with nobody waiting for it: one of
    /// [`spawn_callback`](crate::IoLoop::spawn_callback). The payload is its text.
    Error,
}

/// A panic that the loop caught, or an error that nobody waits for, as the loop's hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct PanicReport<'a> {
    /// What panicked, or failed.
    pub origin: Origin,
    /// Whether it panicked or failed.
    pub cause: Cause,
    /// What it panicked with.
    pub payload: &'a (dyn Any + Send),
}

impl PanicReport<'_> {
    /// The message of the panic, if it has one that is text, or of the error.
    pub fn message(&self) -> &str {
        text_of(self.payload)
    }
}

/// The text of a panic's payload.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text")
}

impl fmt::Display for PanicReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.cause {
            Cause::Panic => "panicked",
            Cause::Error => "failed",
        };
        write!(f, "{} {what}: {}", self.origin, self.message())
    }
}

/// A piece of user code that held the loop for too long, as the hook sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SlowReport {
    /// What took so long.
    pub origin: Origin,
    /// How long it took.
    pub held: Duration,
}

impl fmt::Display for SlowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held the loop for {:?}", self.origin, self.held)
    }
}

/// What the loop does about a panic in user code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Panics {
    /// Catches it, counts it, tells the panic hook, and goes on.
    #[default]
    Catch,
    /// Lets it out of `start` or `turn`. The loop can be started again, and has lost nothing.
    Propagate,
}

/// A panic, or an error, on its way to the hook.
pub(crate) struct Caught {
    pub(crate) cause: Cause,
    pub(crate) payload: Box<dyn Any + Send>,
}

impl Caught {
    pub(crate) fn panic(payload: Box<dyn Any + Send>) -> Caught {
        Caught { cause: Cause::Panic, payload }
    }

    pub(crate) fn error(text: String) -> Caught {
        Caught { cause: Cause::Error, payload: Box::new(text) }
    }
}

pub(crate) type PanicHook = Box<dyn Fn(&PanicReport<'_>)>;
pub(crate) type SlowHook = Box<dyn Fn(&SlowReport)>;

/// Runs every piece of user code on the loop.
pub(crate) struct Watch {
    panics: Panics,
    panic_hook: PanicHook,
    slow: Option<(Duration, SlowHook)>,
    panic_count: Cell<u64>,
    error_count: Cell<u64>,
    slow_count: Cell<u64>,
}

impl Watch {
    pub(crate) fn new(
        panics: Panics,
        panic_hook: Option<PanicHook>,
        slow: Option<(Duration, SlowHook)>,
    ) -> Watch {
        Watch {
            panics,
            panic_hook: panic_hook.unwrap_or_else(|| Box::new(|report| log(report))),
            slow,
            panic_count: Cell::new(0),
            error_count: Cell::new(0),
            slow_count: Cell::new(0),
        }
    }

    pub(crate) fn panic_count(&self) -> u64 {
        self.panic_count.get()
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.error_count.get()
    }

    pub(crate) fn slow_count(&self) -> u64 {
        self.slow_count.get()
    }

    /// Whether pieces of user code have to be run one by one, with [`run`](Self::run).
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.slow.is_some()
    }

    /// Runs `pieces` of user code until one panics; `panicked` then says which.
    #[inline]
    pub(crate) fn run_many<T>(
        &self,
        pieces: &mut T,
        run: impl FnOnce(&mut T),
        panicked: impl FnOnce(&mut T) -> Option<Origin>,
    ) {
        if self.panics == Panics::Propagate {
            return run(pieces);
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(pieces))) {
            match panicked(pieces) {
                Some(origin) => self.report(origin, Caught::panic(payload)),
                None => resume_unwind(payload),
            }
        }
    }

    /// Runs `body`, which may panic and take its time.
    #[inline]
    pub(crate) fn run(&self, origin: impl FnOnce() -> Origin, body: impl FnOnce()) {
        match &self.slow {
            None => self.run_caught(origin, body),
            Some((limit, hook)) => {
                let origin = origin();
                let began = sys::monotonic_now();
                self.run_caught(|| origin, body);
                let held = Duration::from_nanos(sys::monotonic_now() - began);
                if held > *limit {
                    self.slow_count.set(self.slow_count.get() + 1);
                    self.run_caught(|| origin, || hook(&SlowReport { origin, held }));
                }
            }
        }
    }

    /// Drops values of users, each of which may panic in its destructor. A panic that is let through
    /// comes out after all are dropped, and it is the first; none is while the thread unwinds.
    pub(crate) fn drop_all<T>(&self, values: impl IntoIterator<Item = (Origin, T)>) {
        self.report_all(values.into_iter().filter_map(|(origin, value)| {
            let payload = catch_unwind(AssertUnwindSafe(|| drop(value))).err()?;
            Some((origin, Caught::panic(payload)))
        }));
    }

    /// Reports errors, and panics or lets the first of them through, once all are known.
    pub(crate) fn report_all(&self, all: impl IntoIterator<Item = (Origin, Caught)>) {
        let mut let_through = None;
        for (origin, caught) in all {
            if self.panics == Panics::Catch
                || caught.cause == Cause::Error
                || std::thread::panicking()
            {
                self.report(origin, caught);
            } else if let_through.is_none() {
                let_through = Some(caught.payload);
            } else {
                drop_payload(caught.payload);
            }
        }
        if let Some(payload) = let_through {
            resume_unwind(payload);
        }
    }

    #[inline]
    fn run_caught(&self, origin: impl FnOnce() -> Origin, body: impl FnOnce()) {
        self.run_many(&mut (), |()| body(), |()| Some(origin()));
    }

    #[cold]
    pub(crate) fn report(&self, origin: Origin, Caught { cause, payload }: Caught) {
        let count = match cause {
            Cause::Panic => &self.panic_count,
            Cause::Error => &self.error_count,
        };
        count.set(count.get() + 1);
        let report = PanicReport { origin, cause, payload: &*payload };
        // Panics of the hook, and of the payloads' own destructors, end here: `std`'s own hook has
        // printed them.
        let heard = catch_unwind(AssertUnwindSafe(|| (self.panic_hook)(&report)));
        let _ = heard.map_err(drop_payload);
        drop_payload(payload);
    }
}

/// Reports what no loop is there to report.
#[cold]
pub(crate) fn report_without_loop(origin: Origin, Caught { cause, payload }: Caught) {
    log(&PanicReport { origin, cause, payload: &*payload });
    drop_payload(payload);
}

/// Drops a panic's payload, whose own destructor may panic.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// One line on standard error, if it can be written.
fn log(message: &dyn fmt::Display) {
    let _ = writeln!(std::io::stderr(), "ringloop: {message}");
}
