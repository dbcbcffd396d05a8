//! Tornado's `IOLoop` on io_uring: an event loop for Linux servers.
//!
//! A loop calls closures of yours: *handlers* when a file descriptor is ready, *timeouts* when it is
//! time, *callbacks* as soon as it gets round to them. And it runs futures, as *tasks*. There is one
//! loop per thread, each with a ring of its own.
//!
//! # The loop in five minutes
//!
//! **Callbacks and timeouts.** A loop is made, given something to do, and started. It runs until
//! something stops it. Closures that run on it find it with [`IoLoop::current`].
//!
//! ```
//! use ringloop::IoLoop;
//! use std::time::Duration;
//!
//! let io_loop = IoLoop::new()?;
//! io_loop.add_callback(|| println!("first"));
//! io_loop.call_later(Duration::from_millis(10), || {
//!     println!("last");
//!     IoLoop::current().stop();
//! });
//! io_loop.start()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Handlers.** [`IoLoop::add_handler`] hands a source to the loop, which owns it from then on, and
//! names the [`Events`] to wait for. The handler gets the source back at each call, and what it is
//! ready for. It removes itself when it is done, which also closes the source.
//!
//! ```
//! use ringloop::{Events, IoLoop};
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//!
//! let io_loop = IoLoop::new()?;
//! let (stream, mut peer) = UnixStream::pair()?;
//! stream.set_nonblocking(true)?;
//! io_loop.add_handler(stream, Events::READ, |stream, events| {
//!     let mut buffer = [0; 1024];
//!     match stream.read(&mut buffer) {
//!         Ok(length @ 1..) => println!("{events:?}: {length} bytes"),
//!         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
//!         _ => {
//!             IoLoop::current().remove_handler(stream);
//!             IoLoop::current().stop();
//!         }
//!     }
//! })?;
//! peer.write_all(b"hello")?;
//! drop(peer);
//! io_loop.start()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`IoLoop::update_handler`] changes what it waits for: `WRITE` only while there is something that
//! could not be sent, [`Events::NONE`] while it is to rest. Make sources non-blocking: a handler that
//! blocks holds up everything else on the loop. ([`Builder::slow_callback`] finds those that do.)
//!
//! **Other threads.** An [`IoLoop`] stays on its thread; its [`LoopHandle`] goes anywhere.
//!
//! ```
//! use ringloop::IoLoop;
//!
//! let io_loop = IoLoop::new()?;
//! let handle = io_loop.handle();
//! let worker = std::thread::spawn(move || {
//!     let result = 6 * 7;
//!     handle.add_callback(move || {
//!         println!("{result}");
//!         IoLoop::current().stop();
//!     });
//! });
//! io_loop.start()?;
//! # worker.join().unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Tasks.** Any [`Future`] runs on the loop, whichever crate it comes from, and need not be [`Send`]:
//! [`IoLoop::run_sync`] runs the loop for one, [`IoLoop::spawn`] starts others beside it, and
//! [`time`] has those that wait. Functions that block go to other threads, with
//! [`IoLoop::run_in_executor`].
//!
//! ```
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! async fn fetch(name: &'static str) -> String {
//!     time::sleep(Duration::from_millis(5)).await;
//!     name.to_uppercase()
//! }
//!
//! let io_loop = IoLoop::new()?;
//! let both = io_loop.run_sync(
//!     || async {
//!         let first = IoLoop::current().spawn(fetch("a"));
//!         let second = IoLoop::current().run_in_executor(|| "b".to_uppercase());
//!         let first = time::timeout(Duration::from_secs(1), first).await.expect("in time");
//!         (first.unwrap(), second.await.unwrap())
//!     },
//!     None,
//! )?;
//! assert_eq!(both, ("A".to_owned(), "B".to_owned()));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A task that is woken is a callback of the next turn. So tasks, handlers and callbacks can call
//! upon each other: a handler sends into a channel, and the task that receives goes on in the next
//! turn; a task adds a handler; [`IoLoop::add_future`] calls back.
//!
//! The loop has no channels and locks of its own, because those that others make work as they are:
//! `async-channel`, `async-lock`, `event-listener`, `futures`. The [`guide`] shows what to use for
//! what there is in Tornado.
//!
//! **Servers.** In [`net`] there are streams, which receive and send by themselves, servers that run a
//! task for each connection, and clients.
//!
//! ```
//! use ringloop::IoLoop;
//! use ringloop::net::TcpServer;
//!
//! let io_loop = IoLoop::new()?;
//! let server = TcpServer::builder().listen("localhost", 0).serve(|stream| async move {
//!     let line = stream.read_until(b"\n", 1024).await?;
//!     stream.write(line).await
//! })?;
//! println!("listening on {:?}", server.local_addrs());
//! # io_loop.add_callback(|| IoLoop::current().stop());
//! io_loop.start()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Tests.** A loop with [virtual time](Builder::virtual_time) waits for nothing but what is really
//! under way: its clock jumps to the next deadline. So what takes hours is tested in milliseconds, and to
//! the nanosecond.
//!
//! ```
//! use ringloop::{IoLoop, PeriodicCallback};
//! use std::cell::RefCell;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! let hour = Duration::from_secs(3600);
//! let io_loop = IoLoop::builder().virtual_time().build()?;
//! let (began, calls) = (io_loop.time(), Rc::new(RefCell::new(Vec::new())));
//! let log = calls.clone();
//! let hourly = PeriodicCallback::new(
//!     move || log.borrow_mut().push(IoLoop::current().time() - began),
//!     hour,
//! )?;
//! hourly.start()?;
//! io_loop.call_later(3 * hour, || IoLoop::current().stop());
//! io_loop.start()?;
//! assert_eq!(*calls.borrow(), [hour, 2 * hour, 3 * hour]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # A turn
//!
//! 1. The callbacks that were queued, and the tasks that were woken, when the turn began.
//! 2. The timeouts that were due when the turn began, earliest first.
//! 3. One `io_uring_enter`: it submits what the turn has changed and written, and waits for what comes
//!    next.
//! 4. The handlers of what is ready, once each, with all that is ready in one mask; and the tasks that
//!    wait for what has been received, sent or accepted are woken.
//!
//! What is added by a callback or timeout, and a task that is woken by one, waits for the next turn,
//! after a look at the kernel: no amount of callbacks starves the handlers, nor the other way round.
//! [`IoLoop::stop`] lets the turn finish.
//!
//! # What is guaranteed
//!
//! * Handlers are **level-triggered**: one that leaves data unread is called again in the next turn.
//!   [`Trigger::Edge`] is a choice.
//! * [`IoLoop::remove_handler`] and [`IoLoop::remove_timeout`] work **at once**: what is removed is
//!   not called again, even if it has been found ready or due in the same turn, and even if its fd
//!   number has a new owner by then.
//! * Timeouts **never run early**; equal deadlines run in the order added.
//! * Callbacks posted by one thread run in the order posted, each exactly once, or are dropped with
//!   the loop. **No wake-up is lost.**
//! * A source that the loop owns is dropped after the kernel has let go of it. A number of which the
//!   loop is not the owner may be closed right after `remove_handler`.
//! * A future is polled and dropped **on its loop's thread**, and dropped exactly once. Its wakers may
//!   be used and dropped on any thread, at any time, also after the loop is gone.
//! * **No byte is lost.** What a stream has received stays in it until a read is done that takes it: one
//!   that is dropped, or comes too late, has taken nothing. What was written is sent also if nobody
//!   waits for that, and the stream is dropped. No connection is lost with an `accept` that is dropped.
//! * **Memory** that the kernel may still read or write is not freed, whatever is dropped when.
//! * A **panic** in a closure or task is caught, counted and reported, and the loop goes on; the
//!   handler stays registered. [`Builder::panics`] turns that off. A panic of a task whose
//!   [`JoinHandle`] is kept is returned by that instead.
//! * Signals, full queues, and kernels out of memory are absorbed and counted; see [`Metrics`].
//! * After a `fork` the child cannot touch the parent's loop: it gets an error, and builds its own. A
//!   child that returns from the closure that forked runs no other: `start` and `turn` end at once.
//!
//! # What is not
//!
//! * Order between the handlers of one turn.
//! * That an event is still true when its handler runs: an earlier handler may have seen to it. This
//!   is why sources have to be non-blocking.
//! * That the mask is complete at the first call: it tells what woke the fd up. What else it is
//!   ready for is in the next turn's.
//! * Fairness between a handler that does too much in one call and the others.
//! * Regular files: they are always ready, and refused.
//! * Ports that are free as soon as a process is gone that was killed, or called `exit` with its loop
//!   open: the kernel takes 10 ms or more to give up what its ring was waiting for. A loop that is
//!   closed, or dropped, has seen to that.
//!
//! # Where it runs
//!
//! Linux 5.15 and newer: with all that matters from 6.12, and everything from 6.15. Optional kernel
//! features are probed for, not read off a version; [`KernelFeatures`] lists them. Where io_uring
//! is refused, [`Builder::build`] says who refused it and what to do about it.
//!
//! # Features
//!
//! Neither is on by default.
//!
//! * `futures-io`: that crate's `AsyncRead`, `AsyncBufRead` and `AsyncWrite` for [`IoStream`] and its
//!   halves, and with them codecs and whatever else is written for these traits.
//! * `regex`: `IoStream::read_until_regex`.

// From the user inwards:
// - what users call: `io_loop`, `handle`, `builder`, `periodic`, `time`, `net`, and the `guide`;
// - the turn, and closing: `io_loop/core`;
// - what a turn runs: `callbacks`, `timeouts`, `sleepers`, `handlers`, `task`, all by way of
//   `report`, which runs user code;
// - what other threads send, and waking: `posts`, `wake`, `futex`;
// - the kernel: `driver`, which is the contract, and `driver/uring`;
// - data received and to be sent: `buffer`;
// - all else: `clock`, `error`, `events`, `executor`, `features`, `fork`, `metrics`, `spare`,
//   `sys`.

mod buffer;
mod builder;
mod callbacks;
mod clock;
mod driver;
mod error;
mod events;
mod executor;
mod features;
mod fork;
mod futex;
pub mod guide;
mod handle;
mod handlers;
mod io_loop;
mod metrics;
pub mod net;
mod periodic;
mod posts;
mod report;
mod sleepers;
mod spare;
mod sys;
mod task;
pub mod time;
mod timeouts;
mod wake;

pub use buffer::{Chunk, Payload, Piece};
pub use builder::Builder;
pub use clock::Deadline;
pub use error::LoopError;
pub use events::{Events, Trigger};
pub use executor::{Executor, Job, ThreadPool};
pub use features::KernelFeatures;
pub use handle::LoopHandle;
pub use handlers::AddHandlerError;
pub use io_loop::{BufferPool, IoLoop, Timeout};
pub use metrics::Metrics;
pub use net::IoStream;
pub use periodic::PeriodicCallback;
pub use report::{CallbackKind, Cause, Origin, PanicReport, Panics, SlowReport};
pub use task::join::{JoinError, JoinHandle};
pub use task::outcome::Outcome;
pub use task::run_sync::RunSyncError;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
