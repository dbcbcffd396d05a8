//! Signals: those that wake the loop on purpose, and those that only get in its way.
//!
//! Each test has a signal of its own, and sends it to its own thread.

mod support;

use ringloop::{Events, IoLoop, LoopHandle};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use support::{Count, new_loop, pair, thread_id, turn, turn_until, wait_until_asleep};

/// Installs a handler that does not let system calls be restarted.
fn on_signal(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: the action is complete, with an empty mask, and its handler is a function that is
    // async-signal-safe.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// A thread that signals are sent to, and which outlives the sender.
#[derive(Clone, Copy)]
struct Target {
    pthread: libc::pthread_t,
    id: libc::pid_t,
}

impl Target {
    fn this_thread() -> Target {
        // SAFETY: the call passes nothing.
        Target { pthread: unsafe { libc::pthread_self() }, id: thread_id() }
    }

    fn send(self, signal: libc::c_int) {
        // SAFETY: the thread lives, as it waits for the sender to end.
        assert_eq!(unsafe { libc::pthread_kill(self.pthread, signal) }, 0);
    }

    fn send_while_asleep(self, signal: libc::c_int, times: usize) {
        for _ in 0..times {
            wait_until_asleep(self.id);
            self.send(signal);
        }
    }
}

/// Sends a signal to this thread, from a thread that begins when the loop is about to sleep.
fn interrupt(io_loop: &IoLoop, signal: libc::c_int, times: usize) -> thread::JoinHandle<()> {
    let target = Target::this_thread();
    let (sender, receiver) = mpsc::channel();
    io_loop.add_callback(move || sender.send(()).unwrap());
    thread::spawn(move || {
        receiver.recv().unwrap();
        target.send_while_asleep(signal, times);
    })
}

#[test]
fn signals_do_not_make_a_turn_shorter() {
    on_signal(libc::SIGUSR1, ignore);
    let io_loop = new_loop();
    let interrupter = interrupt(&io_loop, libc::SIGUSR1, 20);
    turn(&io_loop);
    let began = Instant::now();
    while !interrupter.is_finished() {
        let began = Instant::now();
        io_loop.turn(Some(Duration::from_millis(20))).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
    interrupter.join().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(io_loop.metrics().interrupts > 0, "{:?}", io_loop.metrics());
}

/// A loop that sleeps in its ring, as it has a handler, and one that has none.
fn both_kinds() -> [IoLoop; 2] {
    [true, false].map(|watches| {
        let io_loop = new_loop();
        if watches {
            let (stream, peer) = pair();
            let never = move |_: &mut UnixStream, _| panic!("nothing comes from {peer:?}");
            io_loop.add_handler(stream, Events::READ, never).unwrap();
        }
        turn(&io_loop);
        io_loop
    })
}

#[test]
fn signals_do_not_end_a_turn_without_limit() {
    on_signal(libc::SIGURG, ignore);
    for io_loop in both_kinds() {
        let (target, handle) = (Target::this_thread(), io_loop.handle());
        let posted = Arc::new(AtomicBool::new(false));
        let flag = posted.clone();
        let interrupter = thread::spawn(move || {
            target.send_while_asleep(libc::SIGURG, 20);
            flag.store(true, Ordering::SeqCst);
            assert!(handle.add_callback(|| {}));
        });
        io_loop.turn(None).unwrap();
        assert!(posted.load(Ordering::SeqCst));
        interrupter.join().unwrap();
        assert!(io_loop.metrics().interrupts > 0, "{:?}", io_loop.metrics());
    }
}

#[test]
fn timeouts_are_neither_early_nor_lost_among_signals() {
    on_signal(libc::SIGWINCH, ignore);
    let io_loop = new_loop();
    let interrupter = interrupt(&io_loop, libc::SIGWINCH, 50);
    let fired = Count::new();
    for step in 1..=20 {
        let deadline = Instant::now() + step * Duration::from_millis(2);
        let count = fired.clone();
        io_loop.call_at(deadline, move || {
            assert!(Instant::now() >= deadline);
            count.hit();
        });
    }
    turn_until(&io_loop, || fired.get() == 20 && interrupter.is_finished());
    interrupter.join().unwrap();
}

#[test]
fn traffic_gets_through_a_storm_of_signals() {
    const BYTES: usize = 200_000;
    on_signal(libc::SIGIO, ignore);
    let io_loop = new_loop();
    let target = Target::this_thread();
    let done = Arc::new(AtomicBool::new(false));
    let until = done.clone();
    let storm = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            target.send(libc::SIGIO);
            thread::yield_now();
        }
    });
    let (stream, mut peer) = pair();
    let mut got = 0;
    let handler = move |stream: &mut UnixStream, _| {
        // Adds and removes, so that requests are cancelled under fire.
        let (other, _peer) = pair();
        let io_loop = IoLoop::current();
        io_loop.add_handler(other, Events::READ, |_, _| {}).unwrap();
        got += stream.read(&mut [0; 500]).unwrap();
        if got == BYTES {
            io_loop.remove_handler(stream);
            io_loop.stop();
        }
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    let writer = thread::spawn(move || {
        peer.set_nonblocking(false).unwrap();
        peer.write_all(&[0; BYTES]).unwrap();
        peer
    });
    io_loop.start().unwrap();
    done.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    drop(writer.join().unwrap());
    assert!(io_loop.metrics().handler_calls >= 400);
    io_loop.close(false).unwrap();
}

static WOKEN: OnceLock<[LoopHandle; 2]> = OnceLock::new();
static WAKES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn wake(_signal: libc::c_int) {
    WAKES.fetch_add(1, Ordering::SeqCst);
    WOKEN.get().into_iter().flatten().for_each(LoopHandle::wake);
}

#[test]
fn a_signal_at_any_moment_wakes_the_loop_through_its_handle() {
    on_signal(libc::SIGUSR2, wake);
    let loops = both_kinds();
    WOKEN.set(loops.each_ref().map(IoLoop::handle)).unwrap();
    loops.iter().for_each(is_woken_by_signals);
}

fn is_woken_by_signals(io_loop: &IoLoop) {
    let mut seen = WAKES.load(Ordering::SeqCst);

    // Just before the loop sleeps.
    for _ in 0..100 {
        io_loop.call_later(Duration::ZERO, || Target::this_thread().send(libc::SIGUSR2));
        io_loop.turn(None).unwrap();
        seen += 1;
        assert_eq!(WAKES.load(Ordering::SeqCst), seen);
    }

    // At whatever moment it is.
    const SIGNALS: usize = 1000;
    let target = Target::this_thread();
    let (sender, receiver) = mpsc::channel();
    let signals = thread::spawn(move || {
        for _ in 0..SIGNALS {
            target.send(libc::SIGUSR2);
            receiver.recv().unwrap();
        }
    });
    let last = seen + SIGNALS;
    while seen < last {
        // Sleeps for ever if a signal's wake-up is lost.
        io_loop.turn(None).unwrap();
        let wakes = WAKES.load(Ordering::SeqCst);
        (seen..wakes).for_each(|_| sender.send(()).unwrap());
        seen = wakes;
    }
    signals.join().unwrap();
}

static STOPPED: OnceLock<LoopHandle> = OnceLock::new();

extern "C" fn stop(_signal: libc::c_int) {
    if let Some(handle) = STOPPED.get() {
        handle.stop();
    }
}

#[test]
fn a_signal_handler_stops_the_loop_asleep_or_awake() {
    on_signal(libc::SIGHUP, stop);
    let io_loop = new_loop();
    STOPPED.set(io_loop.handle()).unwrap();
    for _ in 0..20 {
        let interrupter = interrupt(&io_loop, libc::SIGHUP, 1);
        io_loop.start().unwrap();
        interrupter.join().unwrap();
    }
    for _ in 0..20 {
        io_loop.add_callback(|| Target::this_thread().send(libc::SIGHUP));
        io_loop.start().unwrap();
    }
}
