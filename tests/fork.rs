//! A forked child and its parent's loop: the child is refused, the parent is left alone.

mod stress_support;
mod support;

use ringloop::{
    Events, IoLoop, IoStream, JoinHandle, KernelFeatures, LoopError, LoopHandle, PeriodicCallback,
    Trigger, time,
};
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io::{self, PipeReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;
use stress_support::{alone, small_loop};
use support::{Count, pair, thread_id, turn, turn_until, wait_until_asleep};

/// A forked child, which runs a closure.
#[must_use]
struct Child {
    pid: libc::pid_t,
    messages: PipeReader,
}

impl Child {
    /// The child has this thread alone. What `body` panics with comes out in
    /// [`assert_success`](Self::assert_success).
    fn run(body: impl FnOnce()) -> Child {
        let (messages, mut writer) = io::pipe().unwrap();
        // SAFETY: the child runs no other thread's code, waits for no lock but the allocator's,
        // which the C library keeps usable, and leaves by `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", io::Error::last_os_error()),
            0 => {
                // SAFETY: passes no memory. Ends the child if it hangs.
                unsafe { libc::alarm(60) };
                let told = writer.try_clone().unwrap();
                // The one of the test harness takes locks.
                std::panic::set_hook(Box::new(move |info| drop(writeln!(&told, "{info}"))));
                let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
                let _ = writer.flush();
                // SAFETY: ends the child without running the harness's exit handlers.
                unsafe { libc::_exit(if failed { 1 } else { 0 }) }
            }
            pid => Child { pid, messages },
        }
    }

    #[track_caller]
    fn assert_success(mut self) {
        let (mut message, mut status) = (String::new(), -1);
        self.messages.read_to_string(&mut message).unwrap();
        // SAFETY: `status` is valid to write to.
        let waited = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        assert_eq!((waited, status), (self.pid, 0), "in the child: {message}");
    }
}

#[track_caller]
fn assert_forked<T: Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::Forked));
    assert!(error.to_string().contains("fork"), "{error}");
}

/// A parent with a handler that counts what it reads.
struct Parent {
    io_loop: IoLoop,
    fd: RawFd,
    peer: UnixStream,
    read: Count,
}

impl Parent {
    fn new(trigger: Trigger) -> Parent {
        let io_loop = small_loop();
        let (stream, peer) = pair();
        let (fd, read) = (stream.as_raw_fd(), Count::default());
        let count = read.clone();
        let handler = move |stream: &mut UnixStream, _| {
            while stream.read(&mut [0]).is_ok() {
                count.hit();
            }
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        turn(&io_loop);
        Parent { io_loop, fd, peer, read }
    }

    /// Asserts that the loop works, and has lost nothing.
    #[track_caller]
    fn assert_well(&mut self) {
        let before = self.read.get();
        for number in 1..=3 {
            self.peer.write_all(b"x").unwrap();
            turn(&self.io_loop);
            assert_eq!(self.read.get(), before + number);
        }
        let fired = Count::default();
        let (callback, timeout) = (fired.clone(), fired.clone());
        self.io_loop.add_callback(move || callback.hit());
        self.io_loop.call_later(Duration::from_millis(1), move || timeout.hit());
        turn_until(&self.io_loop, || fired.get() == 2);
        let handle = self.io_loop.handle();
        thread::spawn(move || assert!(handle.add_callback(|| IoLoop::current().stop())));
        self.io_loop.start().unwrap();
        assert_eq!(self.io_loop.metrics().handlers, 1);
    }
}

/// Each runs in a child of its own.
fn in_child_of_each_trigger(body: impl Fn(&Parent)) {
    let _alone = alone();
    for trigger in [Trigger::Level, Trigger::Edge] {
        let mut parent = Parent::new(trigger);
        Child::run(|| body(&parent)).assert_success();
        parent.assert_well();
        // With something of the parent's found ready, and not collected.
        parent.peer.write_all(b"y").unwrap();
        Child::run(|| body(&parent)).assert_success();
        turn(&parent.io_loop);
        assert_eq!(parent.read.get(), 4);
        parent.assert_well();
    }
}

#[test]
fn a_child_cannot_start_the_parents_loop() {
    in_child_of_each_trigger(|parent| assert_forked(parent.io_loop.start()));
}

#[test]
fn a_child_cannot_turn_the_parents_loop() {
    in_child_of_each_trigger(|parent| {
        assert_forked(parent.io_loop.turn(None));
        assert_forked(parent.io_loop.turn(Some(Duration::ZERO)));
    });
}

#[test]
fn a_child_cannot_close_the_parents_loop() {
    in_child_of_each_trigger(|parent| {
        assert_forked(parent.io_loop.close(false));
        assert_forked(parent.io_loop.close(true));
    });
}

#[test]
fn a_child_cannot_add_a_handler_to_the_parents_loop_and_gets_its_source_back() {
    in_child_of_each_trigger(|parent| {
        let (stream, _peer) = pair();
        let fd = stream.as_raw_fd();
        let refused = parent.io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap_err();
        assert_eq!(LoopError::of(refused.error()), Some(&LoopError::Forked));
        assert!(refused.to_string().contains("fork"), "{refused}");
        assert_eq!(refused.into_source().as_raw_fd(), fd);
    });
}

#[test]
fn a_child_can_neither_update_remove_nor_take_a_handler_of_the_parents_loop() {
    in_child_of_each_trigger(|parent| {
        assert_forked(parent.io_loop.update_handler(&parent.fd, Events::NONE));
        assert!(!parent.io_loop.remove_handler(&parent.fd));
        assert!(parent.io_loop.take_handler::<UnixStream>(&parent.fd).is_none());
    });
}

#[test]
fn what_a_child_schedules_on_the_parents_loop_is_harmless_to_both() {
    in_child_of_each_trigger(|parent| {
        let io_loop = &parent.io_loop;
        io_loop.add_callback(|| panic!("runs nowhere"));
        let timeout = io_loop.call_later(Duration::ZERO, || panic!("runs nowhere"));
        io_loop.call_at(io_loop.time(), || panic!("runs nowhere"));
        io_loop.remove_timeout(timeout);
        io_loop.stop();
        let _ = io_loop.metrics();
        io_loop.make_current();
        let periodic = PeriodicCallback::new(|| {}, Duration::from_millis(1)).unwrap();
        let _ = periodic.start();
        drop(periodic);
        assert_forked(io_loop.start());
    });
}

#[test]
fn a_handle_of_the_parents_loop_refuses_what_a_child_posts() {
    in_child_of_each_trigger(|parent| {
        let handle = parent.io_loop.handle();
        let dropped = Arc::new(());
        let posted = dropped.clone();
        assert!(!handle.add_callback(move || drop(posted)));
        assert_eq!(Arc::strong_count(&dropped), 1);
        handle.stop();
        handle.wake();
    });
}

/// A task that waits, what its future holds, and its waker.
fn pending_task(io_loop: &IoLoop) -> (JoinHandle<()>, Arc<()>, Waker) {
    let (held, kept) = (Arc::new(()), Rc::new(RefCell::new(None)));
    let (hold, keep) = (held.clone(), kept.clone());
    let task = io_loop.spawn(poll_fn(move |context| {
        let _ = &hold;
        match keep.replace(Some(context.waker().clone())) {
            None => Poll::Pending,
            Some(_) => Poll::Ready(()),
        }
    }));
    turn(io_loop);
    let waker = kept.borrow().clone().unwrap();
    (task, held, waker)
}

#[test]
fn a_parents_task_that_another_thread_of_a_child_wakes_is_not_dropped() {
    let _alone = alone();
    let io_loop = small_loop();
    let (task, held, waker) = pending_task(&io_loop);
    Child::run(|| {
        let waker = waker.clone();
        thread::spawn(move || waker.wake()).join().unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
    })
    .assert_success();
    waker.wake();
    turn(&io_loop);
    assert!(task.is_finished());
}

#[test]
fn a_parents_task_that_was_posted_is_not_dropped_with_the_loop_by_a_child() {
    let _alone = alone();
    let io_loop = small_loop();
    let (task, held, waker) = pending_task(&io_loop);
    thread::spawn(move || waker.wake()).join().unwrap();
    let (io_loop, task) = (Cell::new(Some(io_loop)), Cell::new(Some(task)));
    Child::run(|| {
        drop((io_loop.take(), task.take()));
        assert_eq!(Arc::strong_count(&held), 2);
    })
    .assert_success();
    turn(&io_loop.take().unwrap());
    assert!(task.take().unwrap().is_finished());
}

/// A loop that sleeps on another thread, to be woken by nobody.
#[test]
fn a_handle_used_by_a_child_does_not_wake_the_parents_loop() {
    let _alone = alone();
    let (sender, receiver) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        let io_loop = small_loop();
        sender.send((io_loop.handle(), thread_id())).unwrap();
        io_loop.start().unwrap();
        io_loop.metrics()
    });
    let (handle, thread) = receiver.recv().unwrap();
    wait_until_asleep(thread);
    let child = Child::run(|| {
        assert!(!handle.add_callback(|| panic!("runs nowhere")));
        handle.wake();
        handle.stop();
    });
    child.assert_success();
    wait_until_asleep(thread);
    handle.stop();
    let metrics = sleeper.join().unwrap();
    assert_eq!((metrics.turns, metrics.wakeups), (2, 1));
}

/// A loop made and used here, with a bit of everything.
fn use_own_loop() {
    let io_loop = small_loop();
    let (mut stream, peer) = pair();
    let count = Count::default();
    let (read, called, fired) = (count.clone(), count.clone(), count.clone());
    io_loop
        .add_handler(peer, Events::READ, move |peer, _| {
            peer.read_exact(&mut [0]).unwrap();
            read.hit();
        })
        .unwrap();
    io_loop.add_callback(move || called.hit());
    io_loop.call_later(Duration::from_millis(1), move || {
        fired.hit();
        stream.write_all(b"x").unwrap();
    });
    turn_until(&io_loop, || count.get() == 3);
    io_loop.close(false).unwrap();
}

#[test]
fn a_child_builds_and_uses_a_loop_of_its_own() {
    in_child_of_each_trigger(|parent| {
        use_own_loop();
        assert_forked(parent.io_loop.turn(None));
        use_own_loop();
    });
}

#[test]
fn a_grandchild_is_refused_both_its_ancestors_loops() {
    in_child_of_each_trigger(|parent| {
        let own = small_loop();
        turn(&own);
        let grandchild = Child::run(|| {
            assert_forked(parent.io_loop.turn(None));
            assert_forked(own.turn(None));
            use_own_loop();
        });
        grandchild.assert_success();
        turn(&own);
    });
}

#[test]
fn a_child_that_drops_all_it_has_of_the_parents_loop_leaves_the_parent_alone() {
    let _alone = alone();
    let parent = RefCell::new(Some(Parent::new(Trigger::Level)));
    let periodic = PeriodicCallback::new(|| {}, Duration::from_secs(1)).unwrap();
    periodic.start().unwrap();
    let mut periodic = Some(periodic);
    Child::run(|| {
        drop(parent.take());
        drop(periodic.take());
        assert!(IoLoop::try_current().is_none());
        use_own_loop();
    })
    .assert_success();
    parent.into_inner().unwrap().assert_well();
}

/// Rings are registered with a thread by the same numbers in both.
#[test]
fn a_child_that_drops_its_parents_loop_goes_on_with_one_of_its_own() {
    let _alone = alone();
    for without in [KernelFeatures::empty(), KernelFeatures::DEFER_TASKRUN] {
        let build = || {
            let builder = IoLoop::builder().entries(8).cq_entries(16).make_current(false);
            builder.without(without).build().unwrap()
        };
        let parents = RefCell::new(Some(build()));
        Child::run(|| {
            let (own, called) = (build(), Count::default());
            let (count, (stream, mut peer)) = (called.clone(), pair());
            own.add_handler(stream, Events::READ, move |_, _| count.hit()).unwrap();
            turn(&own);
            drop(parents.take());
            peer.write_all(b"x").unwrap();
            turn(&own);
            assert_eq!(called.get(), 1);
        })
        .assert_success();
        turn(&parents.into_inner().unwrap());
    }
}

#[test]
fn a_child_forked_by_a_callback_of_the_running_loop_is_refused_and_the_loop_runs_on() {
    let _alone = alone();
    let mut parent = Parent::new(Trigger::Level);
    let forked = Count::default();
    for _ in 0..3 {
        let forked = forked.clone();
        parent.io_loop.add_callback(move || {
            let io_loop = IoLoop::current();
            let child = Child::run(|| {
                assert_forked(io_loop.turn(None));
                assert_forked(io_loop.close(false));
                use_own_loop();
            });
            child.assert_success();
            forked.hit();
        });
    }
    turn(&parent.io_loop);
    assert_eq!(forked.get(), 3);
    parent.assert_well();
}

/// What the closures of a turn do in the order of their calls. One of them forks; the child's part
/// goes to a pipe, where the parent reads it.
struct Forked {
    io_loop: IoLoop,
    child: Rc<Cell<libc::pid_t>>,
    trace: Rc<RefCell<Vec<&'static str>>>,
}

impl Forked {
    fn new() -> Forked {
        Forked { io_loop: small_loop(), child: Rc::new(Cell::new(-1)), trace: Rc::default() }
    }

    fn mark(&self, what: &'static str) -> impl Fn() + Clone + use<> {
        let trace = self.trace.clone();
        move || trace.borrow_mut().push(what)
    }

    /// Forks, and returns in both processes.
    fn fork(&self) -> impl Fn() + use<> {
        let (child, mark) = (self.child.clone(), self.mark("fork"));
        move || {
            mark();
            // SAFETY: the child runs this test's code, and leaves by `_exit` in `outcome`.
            child.set(unsafe { libc::fork() });
            if child.get() == 0 {
                // SAFETY: passes no memory. Ends the child if it hangs.
                unsafe { libc::alarm(60) };
            }
        }
    }

    /// Runs the loop; what was called, and whether that ended with `LoopError::Forked`, in the
    /// parent and in the child.
    fn run(&self, run: impl Fn(&IoLoop) -> io::Result<()>) -> [(String, bool); 2] {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let result = run(&self.io_loop);
        let forked = result.is_err_and(|error| LoopError::of(&error) == Some(&LoopError::Forked));
        let called = self.trace.borrow().join(" ");
        if self.child.get() == 0 {
            let _ = write!(writer, "{called},{forked}");
            // SAFETY: ends the child without running the harness's exit handlers.
            unsafe { libc::_exit(0) }
        }
        drop(writer);
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        let (messages, _) = io::pipe().unwrap();
        Child { pid: self.child.get(), messages }.assert_success();
        let (in_child, child_forked) = told.split_once(',').unwrap();
        [(called, forked), (in_child.to_owned(), child_forked == "true")]
    }
}

/// One callback forks, between others, and before timeouts and handlers.
fn fork_in_a_callback(run: impl Fn(&IoLoop) -> io::Result<()>) {
    let _alone = alone();
    let forked = Forked::new();
    let io_loop = &forked.io_loop;
    io_loop.add_callback(forked.mark("before"));
    io_loop.add_callback(forked.fork());
    io_loop.add_callback(forked.mark("after"));
    let timeout = forked.mark("timeout");
    io_loop.call_later(Duration::ZERO, timeout);
    let (stream, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    let handler = forked.mark("handler");
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            handler();
            stream.read_exact(&mut [0]).unwrap();
            IoLoop::current().stop();
        })
        .unwrap();
    let [parent, child] = forked.run(run);
    assert_eq!(parent, ("before fork after timeout handler".to_owned(), false));
    assert_eq!(child, ("before fork".to_owned(), true));
}

#[test]
fn a_child_that_returns_from_its_callback_runs_nothing_of_the_parents_turn() {
    fork_in_a_callback(|io_loop| io_loop.turn(None));
}

#[test]
fn a_child_that_returns_from_its_callback_runs_nothing_of_the_parents_loop() {
    fork_in_a_callback(IoLoop::start);
}

#[test]
fn a_child_that_returns_from_its_timeout_runs_nothing_of_the_parents_turn() {
    let _alone = alone();
    let forked = Forked::new();
    let io_loop = &forked.io_loop;
    io_loop.call_later(Duration::ZERO, forked.fork());
    io_loop.call_later(Duration::ZERO, forked.mark("after"));
    let [parent, child] = forked.run(|io_loop| io_loop.turn(Some(Duration::ZERO)));
    assert_eq!(parent, ("fork after".to_owned(), false));
    assert_eq!(child, ("fork".to_owned(), true));
}

/// Three handlers of one batch fork, whichever is first, and stop the loop.
fn fork_in_a_handler(run: impl Fn(&IoLoop) -> io::Result<()>) {
    let _alone = alone();
    for trigger in [Trigger::Level, Trigger::Edge] {
        let forked = Forked::new();
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (stream, mut peer) = pair();
            peer.write_all(b"x").unwrap();
            peers.push(peer);
            let (child, fork, mark) = (forked.child.clone(), forked.fork(), forked.mark("after"));
            let callback = forked.mark("callback");
            let handler = move |stream: &mut UnixStream, _| {
                stream.read_exact(&mut [0]).unwrap();
                if child.get() != -1 {
                    return mark();
                }
                IoLoop::current().stop();
                IoLoop::current().add_callback(callback.clone());
                fork();
            };
            forked.io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        }
        let [parent, child] = forked.run(&run);
        assert!(parent.0.starts_with("fork after after") && !parent.1, "{parent:?}");
        assert_eq!(child, ("fork".to_owned(), true));
    }
}

#[test]
fn a_child_that_returns_from_its_handler_runs_nothing_of_the_parents_turn() {
    fork_in_a_handler(|io_loop| io_loop.turn(None));
}

#[test]
fn a_child_that_returns_from_its_handler_runs_nothing_of_the_parents_loop() {
    fork_in_a_handler(IoLoop::start);
}

#[test]
fn a_periodic_callback_of_the_parents_loop_does_not_run_in_a_child_and_can_be_started_anew() {
    let _alone = alone();
    let io_loop = small_loop();
    let called = Count::default();
    let count = called.clone();
    let tick = move || {
        count.hit();
        IoLoop::current().stop();
    };
    let periodic = PeriodicCallback::new(tick, Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    Child::run(|| {
        assert!(!periodic.is_running());
        assert_forked(periodic.start());
        assert!(!periodic.is_running());
        let own = small_loop();
        periodic.start().unwrap();
        assert!(periodic.is_running());
        own.start().unwrap();
        assert_eq!(called.get(), 1);
    })
    .assert_success();
    assert!(periodic.is_running());
    io_loop.start().unwrap();
    assert_eq!(called.get(), 1);
}

#[test]
fn an_async_periodic_callback_started_anew_in_a_child_does_not_wait_for_the_parents_call() {
    let _alone = alone();
    let io_loop = small_loop();
    let (called, ended) = (Count::default(), Count::default());
    let (count, done) = (called.clone(), ended.clone());
    let tick = move || {
        count.hit();
        let done = done.clone();
        async move {
            time::sleep(Duration::from_millis(1)).await;
            done.hit();
        }
    };
    let periodic = PeriodicCallback::new_async(tick, Duration::from_millis(1)).unwrap();
    periodic.start().unwrap();
    turn_until(&io_loop, || called.get() == 1);
    Child::run(|| {
        let own = small_loop();
        periodic.start().unwrap();
        turn_until(&own, || ended.get() == 3);
        assert_eq!(called.get() - 1, 3);
    })
    .assert_success();
    turn_until(&io_loop, || ended.get() == 2);
    assert_eq!(called.get(), 2);
}

#[test]
fn a_child_that_returns_from_the_future_of_a_run_is_told_that_it_has_no_loop() {
    for limit in [None, Some(Duration::from_secs(3600))] {
        let _alone = alone();
        let forked = Forked::new();
        let fork = forked.fork();
        let run = |io_loop: &IoLoop| Ok(io_loop.run_sync(|| async { fork() }, limit)?);
        let [parent, child] = forked.run(run);
        assert_eq!(parent, ("fork".to_owned(), false));
        assert_eq!(child, ("fork".to_owned(), true));
    }
}

#[test]
fn a_child_forked_by_a_waker_while_the_loop_is_closed_is_refused_when_it_returns() {
    thread_local! {
        static FORK: RefCell<Option<Box<dyn Fn()>>> = RefCell::default();
    }

    struct Forks;

    impl Wake for Forks {
        fn wake(self: Arc<Self>) {
            FORK.take().into_iter().for_each(|fork| fork());
        }
    }

    let _alone = alone();
    let forked = Forked::new();
    let [(reading, mut sender), (writing, _receiver)] = [pair(), pair()];
    let [reading, writing] = [reading, writing].map(|stream| IoStream::new(stream).unwrap());
    let mut read = Box::pin(reading.chunk());
    let waker = Arc::new(Forks).into();
    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    turn(&forked.io_loop);
    // Closing sends what is left, which also brings what has come.
    sender.write_all(b"x").unwrap();
    writing.write("y").queued().unwrap();
    FORK.set(Some(Box::new(forked.fork())));
    let [parent, child] = forked.run(|io_loop| io_loop.close(false));
    assert_eq!(parent, ("fork".to_owned(), false));
    assert_eq!(child, ("fork".to_owned(), true));
}

#[test]
fn a_child_forked_by_a_handler_is_refused_when_it_returns_to_the_loop() {
    let _alone = alone();
    let io_loop = small_loop();
    let (stream, mut peer) = pair();
    let child: Rc<RefCell<Option<Child>>> = Rc::default();
    let slot = child.clone();
    // In the child, `start` goes on behind the handler: it has to end there, with the error.
    let is_child = Rc::new(RefCell::new(false));
    let told = is_child.clone();
    let (mut result, mut answer) = io::pipe().unwrap();
    io_loop
        .add_handler(stream, Events::READ, move |stream, _| {
            stream.read_exact(&mut [0]).unwrap();
            // SAFETY: the child leaves by `_exit`, below.
            let pid = unsafe { libc::fork() };
            *told.borrow_mut() = pid == 0;
            if pid > 0 {
                let (messages, _) = io::pipe().unwrap();
                *slot.borrow_mut() = Some(Child { pid, messages });
                IoLoop::current().stop();
            }
        })
        .unwrap();
    peer.write_all(b"x").unwrap();
    let outcome = io_loop.start();
    if *is_child.borrow() {
        let forked = outcome.is_err_and(|error| LoopError::of(&error) == Some(&LoopError::Forked));
        let _ = answer.write_all(&[u8::from(forked)]);
        // SAFETY: ends the child without running the harness's exit handlers.
        unsafe { libc::_exit(0) }
    }
    outcome.unwrap();
    let mut forked = [0];
    result.read_exact(&mut forked).unwrap();
    child.take().unwrap().assert_success();
    assert_eq!(forked, [1]);
    turn(&io_loop);
}

#[test]
fn a_child_forked_while_another_threads_loop_sleeps_does_not_disturb_it() {
    let _alone = alone();
    let (sender, receiver) = mpsc::channel::<(LoopHandle, libc::pid_t)>();
    let sleeper = thread::spawn(move || {
        let io_loop = small_loop();
        sender.send((io_loop.handle(), thread_id())).unwrap();
        io_loop.start().unwrap();
    });
    let (handle, thread) = receiver.recv().unwrap();
    for _ in 0..10 {
        wait_until_asleep(thread);
        Child::run(use_own_loop).assert_success();
        let (answer, answered) = mpsc::channel();
        assert!(handle.add_callback(move || answer.send(()).unwrap()));
        answered.recv().unwrap();
    }
    handle.stop();
    sleeper.join().unwrap();
}

/// The child has the listener, too, and may listen on: it is the parent's registration that ends.
#[test]
fn the_parent_closes_its_loop_while_a_child_lives() {
    let _alone = alone();
    let (mut go, mut on) = io::pipe().unwrap();
    let io_loop = small_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = listener.as_raw_fd();
    io_loop.add_handler(listener, Events::READ, |_, _| {}).unwrap();
    turn(&io_loop);
    let child = Child::run(|| {
        go.read_exact(&mut [0]).unwrap();
        assert_forked(io_loop.update_handler(&fd, Events::NONE));
        use_own_loop();
    });
    io_loop.close(false).unwrap();
    use_own_loop();
    on.write_all(b"x").unwrap();
    child.assert_success();
}
