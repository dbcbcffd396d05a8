//! Callbacks, from the loop's thread and from others, and waking the loop.

mod support;

use ringloop::net::IoStream;
use ringloop::{Events, IoLoop, LoopHandle};
use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Count, OnDrop, Trace, in_child, new_loop, pair, thread_id, turn, turn_until, wait_until_asleep,
};

#[test]
fn callbacks_run_in_the_order_added() {
    let io_loop = new_loop();
    let trace = Trace::new();
    let expected: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
    for name in expected.clone() {
        let trace = trace.clone();
        io_loop.add_callback(move || trace.push(name));
    }
    turn(&io_loop);
    assert_eq!(trace.take(), expected);
}

#[test]
fn what_a_callback_owns_is_dropped_before_the_next_one_runs() {
    let io_loop = new_loop();
    let trace = Trace::new();
    for (run, gone) in [("first", "first dropped"), ("second", "second dropped")] {
        let (mut run, gone) = (trace.mark(run), OnDrop(trace.mark(gone)));
        io_loop.add_callback(move || {
            run();
            drop(gone);
        });
    }
    let kept = OnDrop(trace.mark("third dropped"));
    io_loop.add_callback(move || {
        let _ = &kept;
    });
    io_loop.add_callback(trace.mark("fourth"));
    turn(&io_loop);
    let expected =
        ["first", "first dropped", "second", "second dropped", "third dropped", "fourth"];
    assert_eq!(trace.take(), expected);
}

#[test]
fn a_destructor_may_add_callbacks() {
    let io_loop = new_loop();
    let count = Count::new();
    let added = count.clone();
    let on_drop = OnDrop(move || IoLoop::current().add_callback(added.counter()));
    io_loop.add_callback(move || {
        let _ = &on_drop;
    });
    turn(&io_loop);
    assert_eq!(count.get(), 0);
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}

#[test]
fn posts_of_many_threads_are_all_run_in_each_threads_order() {
    const THREADS: usize = 8;
    const POSTS: usize = 2000;
    thread_local! {
        static NEXT: Cell<[usize; THREADS]> = const { Cell::new([0; THREADS]) };
    }
    let io_loop = new_loop();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = io_loop.handle();
            thread::spawn(move || {
                for post in 0..POSTS {
                    let posted = handle.add_callback(move || {
                        let mut next = NEXT.get();
                        assert_eq!(next[thread], post, "of thread {thread}");
                        next[thread] += 1;
                        NEXT.set(next);
                        if next == [POSTS; THREADS] {
                            IoLoop::current().stop();
                        }
                    });
                    assert!(posted);
                }
            })
        })
        .collect();
    io_loop.start().unwrap();
    assert_eq!(io_loop.metrics().callbacks, (THREADS * POSTS) as u64);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn posts_one_at_a_time_never_leave_the_loop_asleep() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    let poster = thread::spawn(move || {
        let (sender, receiver) = mpsc::channel();
        for post in 0..2000 {
            let sender = sender.clone();
            assert!(handle.add_callback(move || sender.send(post).unwrap()));
            assert_eq!(receiver.recv(), Ok(post));
        }
        handle.stop();
    });
    io_loop.start().unwrap();
    poster.join().unwrap();
}

#[test]
fn a_post_wakes_a_sleeping_loop_in_well_under_a_tenth_of_a_second() {
    let io_loop = new_loop();
    let sleeper = thread_id();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let handle = io_loop.handle();
        let (sender, receiver) = mpsc::channel();
        let poster = thread::spawn(move || {
            receiver.recv().unwrap();
            wait_until_asleep(sleeper);
            let posted = Instant::now();
            let (sender, receiver) = mpsc::channel();
            handle.add_callback(move || {
                sender.send(posted.elapsed()).unwrap();
                IoLoop::current().stop();
            });
            receiver.recv().unwrap()
        });
        io_loop.add_callback(move || sender.send(()).unwrap());
        io_loop.start().unwrap();
        best = best.min(poster.join().unwrap());
    }
    assert!(best < Duration::from_millis(100), "{best:?} at best");
}

#[test]
fn posts_to_an_awake_loop_cost_no_wake_up() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    io_loop.add_callback(move || {
        let post = move || (0..100).for_each(|_| assert!(handle.add_callback(|| {})));
        thread::spawn(post).join().unwrap();
    });
    turn(&io_loop);
    turn(&io_loop);
    let metrics = io_loop.metrics();
    assert_eq!((metrics.callbacks, metrics.wakeups), (101, 0));
}

/// From here on, any system call but the end of the process kills it.
fn forbid_system_calls() {
    let [load, jump_if_equal, give] = [
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ];
    let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        step(load, 0, 0),
        step(jump_if_equal, 1, libc::SYS_exit_group as u32),
        step(give, 0, libc::SECCOMP_RET_ALLOW),
        step(give, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the call, which copies them.
    let forbidden = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(forbidden);
}

/// A loop whose queues, and the allocator, have been put to use.
fn warm_loop() -> IoLoop {
    let io_loop = new_loop();
    for _ in 0..1000 {
        io_loop.add_callback(|| {});
        io_loop.handle().add_callback(|| {});
    }
    turn(&io_loop);
    io_loop
}

#[test]
fn adding_a_callback_on_the_loops_thread_makes_no_system_call() {
    let result = in_child(|| {
        let io_loop = warm_loop();
        forbid_system_calls();
        (0..100).for_each(|_| io_loop.add_callback(|| {}));
        std::mem::forget(io_loop);
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn posting_to_an_awake_loop_makes_no_system_call() {
    let result = in_child(|| {
        let io_loop = warm_loop();
        let handle = io_loop.handle();
        forbid_system_calls();
        (0..100).for_each(|_| assert!(handle.add_callback(|| {})));
        std::mem::forget((io_loop, handle));
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn waking_an_awake_loop_makes_no_system_call() {
    let result = in_child(|| {
        let io_loop = warm_loop();
        let handle = io_loop.handle();
        forbid_system_calls();
        (0..100).for_each(|_| handle.wake());
        std::mem::forget((io_loop, handle));
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn the_tests_of_system_calls_would_notice_one() {
    let result = in_child(|| {
        forbid_system_calls();
        thread::yield_now();
        Ok(())
    });
    assert!(result.unwrap_err().contains("SIGSYS"));
}

/// Gives `act` a handle of a loop that sleeps in a turn without limit, which has to end. Once the
/// loop has a handler to wait for, too, and once nothing but its handles.
fn ends_a_turn(act: impl Fn(&LoopHandle) + Copy + Send + 'static) {
    for watches in [true, false] {
        let io_loop = new_loop();
        let (stream, _peer) = pair();
        if watches {
            io_loop.add_handler(stream, Events::READ, |_, _| panic!("nothing to read")).unwrap();
        }
        let (sleeper, handle) = (thread_id(), io_loop.handle());
        let start = Arc::new(Barrier::new(2));
        let ready = start.clone();
        let actor = thread::spawn(move || {
            ready.wait();
            wait_until_asleep(sleeper);
            act(&handle);
        });
        io_loop.add_callback(move || {
            start.wait();
        });
        turn(&io_loop);
        let before = io_loop.metrics();
        io_loop.turn(None).unwrap();
        let after = io_loop.metrics();
        assert_eq!(after.wakeups, before.wakeups + 1);
        assert_eq!(after.enters > before.enters, watches);
        actor.join().unwrap();
    }
}

#[test]
fn wake_ends_the_wait_of_a_sleeping_loop() {
    ends_a_turn(LoopHandle::wake);
}

#[test]
fn many_wakes_and_posts_end_one_wait() {
    ends_a_turn(|handle| {
        (0..1000).for_each(|_| handle.wake());
        (0..1000).for_each(|_| assert!(handle.add_callback(|| {})));
    });
}

/// Gives a loop something to wait for, again and again, each time after it had nothing but its handles.
/// `watch` says what, and `done` how often it has come.
fn is_not_missed(watch: impl Fn(&IoLoop, UnixStream), done: impl Fn() -> usize) {
    let io_loop = new_loop();
    let (sleeper, handle) = (thread_id(), io_loop.handle());
    let when_asleep = |act: Box<dyn FnOnce() + Send>| {
        thread::spawn(move || {
            wait_until_asleep(sleeper);
            act();
        })
    };
    for round in 1..=3 {
        let handle = handle.clone();
        turn(&io_loop);
        let enters = io_loop.metrics().enters;
        let waker = when_asleep(Box::new(move || handle.wake()));
        io_loop.turn(None).unwrap();
        waker.join().unwrap();
        assert_eq!(io_loop.metrics().enters, enters);

        let (stream, peer) = pair();
        watch(&io_loop, stream);
        // Everything is submitted, and nothing is to be done, when it sleeps.
        (0..3).for_each(|_| turn(&io_loop));
        let writer = when_asleep(Box::new(move || (&peer).write_all(b"x").unwrap()));
        io_loop.turn(None).unwrap();
        turn_until(&io_loop, || done() == round);
        writer.join().unwrap();
        (0..3).for_each(|_| turn(&io_loop));
    }
}

#[test]
fn a_loop_that_had_only_its_handles_to_wait_for_misses_no_readiness() {
    let count = Count::new();
    let watch = |io_loop: &IoLoop, stream| {
        let count = count.clone();
        let remove = move |stream: &mut UnixStream, _| {
            IoLoop::current().remove_handler(stream);
            count.hit();
        };
        io_loop.add_handler(stream, Events::READ, remove).unwrap();
    };
    is_not_missed(watch, || count.get());
}

#[test]
fn a_loop_that_had_only_its_handles_to_wait_for_misses_no_completion() {
    let count = Count::new();
    let watch = |io_loop: &IoLoop, stream| {
        let (stream, count) = (IoStream::from(stream), count.clone());
        io_loop.spawn_callback(async move || {
            assert_eq!(stream.read_bytes(1).await.unwrap(), b"x");
            count.hit();
        });
    };
    is_not_missed(watch, || count.get());
}

#[test]
fn wake_just_before_the_loop_sleeps_is_not_lost() {
    let io_loop = new_loop();
    for _ in 0..100 {
        let handle = io_loop.handle();
        io_loop.call_later(Duration::ZERO, move || handle.wake());
        io_loop.turn(None).unwrap();
    }
    assert_eq!(io_loop.metrics().timeouts, 100);
}

#[test]
fn wake_makes_a_started_loop_go_through_a_turn() {
    let io_loop = new_loop();
    let (sleeper, handle) = (thread_id(), io_loop.handle());
    let (sender, receiver) = mpsc::channel();
    io_loop.add_callback(move || sender.send(()).unwrap());
    let waker = thread::spawn(move || {
        receiver.recv().unwrap();
        for _ in 0..10 {
            wait_until_asleep(sleeper);
            handle.wake();
        }
        handle.stop();
    });
    io_loop.start().unwrap();
    waker.join().unwrap();
    assert!(io_loop.metrics().wakeups >= 1 && io_loop.metrics().turns >= 3);
}

#[test]
fn stop_from_another_thread_ends_a_sleeping_loop() {
    let io_loop = new_loop();
    for _ in 0..20 {
        let (sleeper, handle) = (thread_id(), io_loop.handle());
        let (sender, receiver) = mpsc::channel();
        let stopper = thread::spawn(move || {
            receiver.recv().unwrap();
            wait_until_asleep(sleeper);
            handle.stop();
        });
        io_loop.add_callback(move || sender.send(()).unwrap());
        io_loop.start().unwrap();
        stopper.join().unwrap();
    }
}

#[test]
fn stop_from_another_thread_at_any_moment_is_not_lost() {
    let io_loop = new_loop();
    for _ in 0..500 {
        let handle = io_loop.handle();
        let stopper = thread::spawn(move || handle.stop());
        io_loop.start().unwrap();
        stopper.join().unwrap();
    }
}

/// A callback that says, as it is dropped, that it is.
fn dropping(dropped: &Arc<AtomicUsize>) -> impl FnOnce() + Send + use<> {
    let count = dropped.clone();
    let on_drop = OnDrop(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    move || drop(on_drop)
}

/// What a handle does for a loop that is closed or gone: nothing.
fn assert_harmless(handle: LoopHandle) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let callback = dropping(&dropped);
    let act = move || {
        assert!(!handle.add_callback(callback));
        handle.stop();
        handle.wake();
    };
    thread::spawn(act).join().unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_handle_of_a_loop_that_is_gone_does_nothing() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    drop(io_loop);
    assert_harmless(handle);
}

#[test]
fn a_handle_of_a_closed_loop_does_nothing() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    io_loop.close(false).unwrap();
    assert_harmless(handle);
    assert_harmless(io_loop.handle());
}

#[test]
fn a_handle_keeps_nothing_that_it_posted_to_a_loop_that_is_gone() {
    let io_loop = new_loop();
    let handle = io_loop.handle();
    let dropped = Arc::new(AtomicUsize::new(0));
    (0..100).for_each(|_| assert!(handle.add_callback(dropping(&dropped))));
    drop(io_loop);
    assert_eq!(dropped.load(Ordering::Relaxed), 100);
    drop(handle);
}

#[test]
fn handles_go_anywhere() {
    fn assert_shareable<T: Send + Sync + Clone + 'static>() {}
    assert_shareable::<LoopHandle>();
}
