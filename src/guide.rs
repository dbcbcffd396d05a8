//! For those who come from Tornado: what to use for what.
//!
//! The loop's own methods have the names they have in Tornado. Coroutines are futures, and what
//! Tornado's `gen`, `locks` and `queues` offer comes from crates that work with any executor. All of
//! these examples run.
//!
//! # `gen.sleep`, `gen.with_timeout`
//!
//! [`time::sleep`](crate::time::sleep) and [`time::timeout`](crate::time::timeout). Unlike Tornado's,
//! a timeout ends what it waited for: the future is dropped.
//!
//! ```
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! async fn answer() -> u32 {
//!     time::sleep(Duration::from_millis(1)).await;
//!     42
//! }
//!
//! IoLoop::new()?.run_sync(
//!     || async {
//!         assert_eq!(time::timeout(Duration::from_secs(10), answer()).await, Ok(42));
//!         let never = std::future::pending::<()>();
//!         assert!(time::timeout(Duration::from_millis(1), never).await.is_err());
//!     },
//!     None,
//! )?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `gen.multi`, `gen.WaitIterator`
//!
//! `futures::future::join_all` waits for all, `try_join_all` up to the first error, and
//! `FuturesUnordered` gives results as they come. [`IoLoop::spawn`](crate::IoLoop::spawn) makes a
//! task of its own of each, if they are to go on without anybody waiting.
//!
//! ```
//! use futures::StreamExt;
//! use futures::stream::FuturesUnordered;
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! async fn after(milliseconds: u64) -> u64 {
//!     time::sleep(Duration::from_millis(milliseconds)).await;
//!     milliseconds
//! }
//!
//! IoLoop::new()?.run_sync(
//!     || async {
//!         let all = futures::future::join_all([after(20), after(1)]).await;
//!         assert_eq!(all, [20, 1]);
//!         let first: FuturesUnordered<_> = [after(20), after(1)].into_iter().collect();
//!         assert_eq!(first.collect::<Vec<_>>().await, [1, 20]);
//!     },
//!     None,
//! )?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `gen.moment`
//!
//! Sleeping for no time lets everything else have a turn: callbacks, handlers, other tasks.
//!
//! ```
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! IoLoop::new()?.run_sync(
//!     || async {
//!         for part in 0..3 {
//!             println!("part {part} of a long calculation");
//!             time::sleep(Duration::ZERO).await;
//!         }
//!     },
//!     None,
//! )?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `locks.Event`
//!
//! `event_listener::Event` wakes those who listen; whether it is set is a flag beside it. Listen
//! first, then look at the flag, and nothing slips through between the two.
//!
//! ```
//! use event_listener::Event;
//! use ringloop::IoLoop;
//! use std::cell::Cell;
//! use std::rc::Rc;
//!
//! #[derive(Default)]
//! struct Flag {
//!     set: Cell<bool>,
//!     event: Event,
//! }
//!
//! impl Flag {
//!     fn set(&self) {
//!         self.set.set(true);
//!         self.event.notify(usize::MAX);
//!     }
//!
//!     async fn wait(&self) {
//!         while !self.set.get() {
//!             let listener = self.event.listen();
//!             if !self.set.get() {
//!                 listener.await;
//!             }
//!         }
//!     }
//! }
//!
//! let flag = Rc::new(Flag::default());
//! let io_loop = IoLoop::new()?;
//! let waiting = flag.clone();
//! let waiter = io_loop.spawn(async move { waiting.wait().await });
//! io_loop.add_callback(move || flag.set());
//! io_loop.run_sync(|| waiter, None)?.unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `locks.Condition`
//!
//! The same crate: `notify(n)` wakes as many, and [`time::timeout`](crate::time::timeout) says
//! whether it came in time.
//!
//! ```
//! use event_listener::Event;
//! use ringloop::{IoLoop, time};
//! use std::time::Duration;
//!
//! let condition = Event::new();
//! IoLoop::new()?.run_sync(
//!     || async {
//!         let listener = condition.listen();
//!         condition.notify(1);
//!         assert!(time::timeout(Duration::from_secs(10), listener).await.is_ok());
//!         let nobody_notifies = condition.listen();
//!         assert!(time::timeout(Duration::from_millis(1), nobody_notifies).await.is_err());
//!     },
//!     None,
//! )?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `locks.Semaphore`, `locks.Lock`
//!
//! `async_lock::Semaphore` and `async_lock::Mutex`. A guard gives its place back when it is dropped.
//! What is shared between tasks but never held across an `await` needs no lock at all: all tasks of
//! a loop are on one thread, and a `RefCell` does.
//!
//! ```
//! use async_lock::{Mutex, Semaphore};
//! use ringloop::{IoLoop, time};
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! let io_loop = IoLoop::new()?;
//! let total = Rc::new(Mutex::new(0));
//! let two_at_a_time = Rc::new(Semaphore::new(2));
//! let workers: Vec<_> = (0..5)
//!     .map(|_| {
//!         let (total, limit) = (total.clone(), two_at_a_time.clone());
//!         io_loop.spawn(async move {
//!             let _place = limit.acquire().await;
//!             let mut total = total.lock().await;
//!             time::sleep(Duration::from_millis(1)).await;
//!             *total += 1;
//!         })
//!     })
//!     .collect();
//! io_loop.run_sync(|| futures::future::join_all(workers), None)?;
//! assert_eq!(*total.try_lock().unwrap(), 5);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # `queues.Queue`
//!
//! `async_channel`: bounded or not, for any number of senders and receivers, on one loop or between
//! threads. `task_done` and `join` are a `JoinHandle` of each worker.
//!
//! ```
//! use ringloop::IoLoop;
//!
//! let io_loop = IoLoop::new()?;
//! let (sender, receiver) = async_channel::bounded(2);
//! let worker = io_loop.spawn(async move {
//!     let mut sum = 0;
//!     while let Ok(item) = receiver.recv().await {
//!         sum += item;
//!     }
//!     sum
//! });
//! io_loop.run_sync(
//!     || async move {
//!         for item in 1..=10 {
//!             sender.send(item).await.unwrap();
//!         }
//!     },
//!     None,
//! )?;
//! assert_eq!(io_loop.run_sync(|| worker, None)?.unwrap(), 55);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Names that changed
//!
//! | in Tornado | here |
//! |---|---|
//! | `IOLoop.current()` | [`IoLoop::current`](crate::IoLoop::current); never makes one |
//! | `add_callback` from another thread | [`LoopHandle::add_callback`](crate::LoopHandle::add_callback) |
//! | `add_callback_from_signal` | [`LoopHandle::stop`](crate::LoopHandle::stop); or [`wake`](crate::LoopHandle::wake), and a flag of your own |
//! | `handle_callback_exception` | [`Builder::panic_hook`](crate::Builder::panic_hook) |
//! | `set_blocking_log_threshold` | [`Builder::slow_callback`](crate::Builder::slow_callback) |
//! | `callback_time` in milliseconds | a `Duration`, as everywhere |
//! | `PeriodicCallback(f, t).start()` | to be kept: a [`PeriodicCallback`](crate::PeriodicCallback) that is dropped stops |
//! | `fd.close()` after `remove_handler` | dropped with the handler, if the loop owns it |
//! | `TCPServer.handle_stream` | the closure of [`serve`](crate::net::TcpServerBuilder::serve) |
//! | `TCPServer.stop` | [`TcpServer::stop`](crate::net::TcpServer::stop), or [`shutdown`](crate::net::TcpServer::shutdown), which waits |
//! | `TCPClient.connect` | [`connect_tcp`](crate::net::connect_tcp); its time limit covers the lookup, too |
//! | `IOStream.connect` with a name | an address only: a lookup would hold the loop up |
//! | `IOStream.closed()` | [`IoStream::is_closed`](crate::IoStream::is_closed); [`closed`](crate::IoStream::closed) waits |
//! | `read_bytes(n, partial=True)` | [`IoStream::read_partial`](crate::IoStream::read_partial) |
//! | `StreamClosedError`, `real_error` | [`StreamError`](crate::net::StreamError), or the error itself |
//! | `UnsatisfiableReadError` | [`StreamError::ReadLimit`](crate::net::StreamError::ReadLimit), and the stream goes on |
//! | `max_buffer_size`, 100 MB | [128 KiB](crate::IoStream::set_max_buffer_size), at which a stream stops receiving, but does not fail |
//! | `max_write_buffer_size`, no limit | [16 MiB](crate::IoStream::set_max_write_buffer_size) |
//! | `netutil.bind_sockets`, `bind_unix_socket`, `is_valid_ip` | [`net`](crate::net) has them; a socket that somebody listens at is left alone |
//! | `add_accept_handler` | [`TcpListener::accept`](crate::net::TcpListener::accept), and [`UnixListener::accept`](crate::net::UnixListener::accept) |
//! | `Resolver.configure` | [`TcpConnector::resolver`](crate::net::TcpConnector::resolver) |
//! | `OverrideResolver` | [`OverrideResolver`](crate::net::OverrideResolver), by name, by name and port, or by those and a family |
