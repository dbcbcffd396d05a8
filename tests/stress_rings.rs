//! Rings far too small for what they carry: nothing is lost, whatever queue is full.

mod stress_support;
mod support;

use ringloop::{Events, IoLoop, Trigger};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use stress_support::{
    best_of, eventfd, raise_fd_limit, signal, take_count, tiny_loop, turn_at_most,
};
use support::{Count, pair, thread_id, turn};

const FDS: usize = 1000;
const ROUNDS: usize = 8;
/// A turn on a tiny ring takes in a few completions only; this is plenty.
const TURNS: usize = 20_000;

/// Not clones of one: each counts for itself.
fn counters() -> Vec<Count> {
    (0..FDS).map(|_| Count::default()).collect()
}

/// Asserts that the loop has been through what it was built for.
#[track_caller]
fn assert_was_tight(io_loop: &IoLoop) {
    let metrics = io_loop.metrics();
    assert!(metrics.submission_queue_full > 0, "{metrics:?}");
    assert!(metrics.completion_overflows > 0, "{metrics:?}");
}

/// Watches `FDS` sockets, and counts what is read of each: one byte a call if level-triggered, all
/// there is if edge-triggered. The peers come back.
fn watch_sockets(io_loop: &IoLoop, trigger: Trigger, counts: &[Count]) -> Vec<UnixStream> {
    raise_fd_limit();
    let watch = |count: &Count| {
        let (stream, peer) = pair();
        let count = count.clone();
        let handler = move |stream: &mut UnixStream, events: Events| {
            assert_eq!(events, Events::READ);
            match trigger {
                Trigger::Level => {
                    stream
                        .read_exact(&mut [0])
                        .expect("a level-triggered call with nothing to read");
                    count.hit();
                }
                Trigger::Edge => {
                    while stream.read(&mut [0]).is_ok() {
                        count.hit();
                    }
                }
            }
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        peer
    };
    counts.iter().map(watch).collect()
}

fn everything_arrives_through_tiny_queues(trigger: Trigger) {
    let io_loop = tiny_loop();
    let counts = counters();
    let peers = watch_sockets(&io_loop, trigger, &counts);
    turn(&io_loop);
    for round in 1..=ROUNDS {
        for mut peer in &peers {
            peer.write_all(b"x").unwrap();
        }
        let arrived = || counts.iter().all(|count| count.get() == round);
        turn_at_most(&io_loop, TURNS, arrived);
    }
    turn(&io_loop);
    assert!(counts.iter().all(|count| count.get() == ROUNDS));
    assert_was_tight(&io_loop);
}

#[test]
fn a_level_triggered_storm_through_two_entries_loses_nothing() {
    everything_arrives_through_tiny_queues(Trigger::Level);
}

#[test]
fn an_edge_triggered_storm_through_two_entries_loses_nothing() {
    everything_arrives_through_tiny_queues(Trigger::Edge);
}

#[test]
fn a_backlog_of_bytes_is_read_one_a_turn_through_two_entries() {
    let io_loop = tiny_loop();
    let counts = counters();
    let peers = watch_sockets(&io_loop, Trigger::Level, &counts);
    for mut peer in &peers {
        peer.write_all(&[0; ROUNDS]).unwrap();
    }
    let total = || counts.iter().map(Count::get).sum::<usize>();
    turn_at_most(&io_loop, TURNS, || total() == FDS * ROUNDS);
    assert!(counts.iter().all(|count| count.get() == ROUNDS));
    assert_was_tight(&io_loop);
}

/// Each event makes the next one: the ring is never quiet until the last.
#[test]
fn chains_of_events_made_by_handlers_never_break() {
    const HOPS: usize = 20;
    for trigger in [Trigger::Level, Trigger::Edge] {
        let io_loop = tiny_loop();
        raise_fd_limit();
        let eventfds: Rc<Vec<OwnedFd>> = Rc::new((0..FDS).map(|_| eventfd(0).unwrap()).collect());
        let hops = Count::default();
        for (index, event) in eventfds.iter().enumerate() {
            let (eventfds, hops) = (eventfds.clone(), hops.clone());
            let handler = move |fd: &mut i32, _| {
                for _ in 0..take_count(fd).unwrap_or(0) {
                    hops.hit();
                    if hops.get() <= FDS * (HOPS - 1) {
                        signal(&eventfds[(index + 7) % FDS]);
                    }
                }
            };
            let fd = event.as_raw_fd();
            io_loop.add_handler_with(fd, Events::READ, trigger, handler).unwrap();
        }
        turn(&io_loop);
        eventfds.iter().for_each(signal);
        turn_at_most(&io_loop, TURNS, || hops.get() == FDS * HOPS);
        assert_was_tight(&io_loop);
    }
}

/// What the handlers of the churn work on.
struct Churn {
    sources: Vec<Slot>,
    random: RefCell<fastrand::Rng>,
    read: Count,
    operations: Count,
    trigger: Trigger,
}

struct Slot {
    stream: UnixStream,
    peer: UnixStream,
}

const CHURNED: usize = 200;
const CHURN: usize = 4000;

impl Churn {
    fn pick(&self) -> usize {
        self.random.borrow_mut().usize(..self.sources.len())
    }

    fn add(self: &Rc<Self>, index: usize) {
        let this = self.clone();
        let fd = self.sources[index].stream.as_raw_fd();
        let handler = move |_: &mut i32, _| this.on_ready(index);
        // Refused if it is registered, which is fine.
        let _ = IoLoop::current().add_handler_with(fd, Events::READ, self.trigger, handler);
    }

    fn on_ready(self: &Rc<Self>, index: usize) {
        while (&self.sources[index].stream).read(&mut [0]).is_ok() {
            self.read.hit();
        }
        if self.operations.get() < CHURN {
            for _ in 0..4 {
                self.change_something();
            }
        }
    }

    fn change_something(self: &Rc<Self>) {
        self.operations.hit();
        let index = self.pick();
        let fd = self.sources[index].stream.as_raw_fd();
        let io_loop = IoLoop::current();
        let choice = self.random.borrow_mut().u8(..5);
        match choice {
            0 => drop(io_loop.remove_handler(&fd)),
            1 => self.add(index),
            2 => drop(io_loop.update_handler(&fd, Events::NONE)),
            3 => drop(io_loop.update_handler(&fd, Events::READ)),
            _ => {
                io_loop.remove_handler(&fd);
                self.add(index);
            }
        }
    }
}

fn nothing_is_lost_in_a_churn(trigger: Trigger, seed: u64) {
    let io_loop = tiny_loop();
    raise_fd_limit();
    let sources = (0..CHURNED).map(|_| pair()).map(|(stream, peer)| Slot { stream, peer });
    let churn = Rc::new(Churn {
        sources: sources.collect(),
        random: RefCell::new(fastrand::Rng::with_seed(seed)),
        read: Count::default(),
        operations: Count::default(),
        trigger,
    });
    (0..CHURNED).for_each(|index| churn.add(index));
    let mut sent = 0;
    while churn.operations.get() < CHURN {
        for _ in 0..20 {
            (&churn.sources[churn.pick()].peer).write_all(b"x").unwrap();
            sent += 1;
        }
        turn(&io_loop);
        // Without this, all might end up paused.
        churn.change_something();
    }
    for index in 0..CHURNED {
        churn.add(index);
        io_loop.update_handler(&churn.sources[index].stream, Events::READ).unwrap();
    }
    turn_at_most(&io_loop, TURNS, || churn.read.get() == sent);
    assert_eq!(io_loop.metrics().handlers, CHURNED);
    assert_was_tight(&io_loop);
    io_loop.close(false).unwrap();
}

#[test]
fn handlers_that_add_update_and_remove_each_other_lose_nothing() {
    for seed in 0..4 {
        nothing_is_lost_in_a_churn(Trigger::Level, seed);
        nothing_is_lost_in_a_churn(Trigger::Edge, seed);
    }
}

#[test]
fn removed_in_thousands_nothing_is_called_and_everything_is_let_go() {
    let io_loop = tiny_loop();
    let counts = counters();
    raise_fd_limit();
    let mut peers = Vec::new();
    for count in &counts {
        let (stream, peer) = pair();
        let (fd, count) = (stream.as_raw_fd(), count.clone());
        io_loop.add_handler(stream, Events::READ, move |_, _| count.hit()).unwrap();
        peers.push((fd, peer));
    }
    turn(&io_loop);
    for (_, peer) in &mut peers {
        peer.write_all(b"x").unwrap();
    }
    io_loop.add_callback({
        let fds: Vec<_> = peers.iter().map(|(fd, _)| *fd).collect();
        move || fds.iter().for_each(|fd| assert!(IoLoop::current().remove_handler(fd)))
    });
    turn(&io_loop);
    assert!(counts.iter().all(|count| count.get() == 0));
    for (_, mut peer) in peers {
        let end = peer.read(&mut [0]);
        // Unread data makes it a reset; what matters is that it is over now.
        assert!(matches!(&end, Ok(0)) || end.unwrap_err().raw_os_error() == Some(libc::ECONNRESET));
    }
}

/// While this lives, the thread that made it is interrupted several thousand times a second.
struct Storm(libc::timer_t);

impl Storm {
    fn new() -> Storm {
        extern "C" fn ignore(_signal: libc::c_int) {}
        // SAFETY: all-zero is a valid value of these structures. The handler does nothing, and,
        // without SA_RESTART, system calls are interrupted. `timer` is written before it is read.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
            check(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()));
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = thread_id();
            let mut timer = std::mem::zeroed();
            check(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer));
            let often = libc::timespec { tv_sec: 0, tv_nsec: 150_000 };
            let always = libc::itimerspec { it_interval: often, it_value: often };
            check(libc::timer_settime(timer, 0, &always, std::ptr::null_mut()));
            Storm(timer)
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

#[track_caller]
fn check(result: libc::c_int) {
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_storm_of_signals_loses_no_event_of_a_tiny_ring() {
    let _storm = Storm::new();
    everything_arrives_through_tiny_queues(Trigger::Level);
    everything_arrives_through_tiny_queues(Trigger::Edge);
    nothing_is_lost_in_a_churn(Trigger::Level, 4);
    nothing_is_lost_in_a_churn(Trigger::Edge, 4);
}

#[test]
fn a_storm_of_signals_ends_no_wait_before_its_time() {
    const WAIT: Duration = Duration::from_millis(20);
    let io_loop = tiny_loop();
    turn(&io_loop);
    let _storm = Storm::new();
    let best = best_of(5, || {
        let began = Instant::now();
        io_loop.turn(Some(WAIT)).unwrap();
        assert!(began.elapsed() >= WAIT);
    });
    assert!(best < WAIT * 3, "{best:?}");
    assert!(io_loop.metrics().interrupts > 0, "{:?}", io_loop.metrics());
}

#[test]
fn a_storm_of_signals_neither_loses_nor_hastens_a_timeout() {
    const TIMEOUTS: usize = 300;
    let io_loop = tiny_loop();
    let fired = Count::default();
    let mut random = fastrand::Rng::with_seed(7);
    let _storm = Storm::new();
    for _ in 0..TIMEOUTS {
        let due = Instant::now() + Duration::from_micros(random.u64(..100_000));
        let fired = fired.clone();
        io_loop.call_at(due, move || {
            assert!(Instant::now() >= due);
            fired.hit();
            if fired.get() == TIMEOUTS {
                IoLoop::current().stop();
            }
        });
    }
    io_loop.start().unwrap();
    assert_eq!(fired.get(), TIMEOUTS);
    assert!(io_loop.metrics().interrupts > 0, "{:?}", io_loop.metrics());
}

/// The peer answers from another thread: the loop sleeps between a question and its answer.
#[test]
fn a_storm_of_signals_loses_no_answer_of_another_thread() {
    const QUESTIONS: usize = 500;
    for trigger in [Trigger::Level, Trigger::Edge] {
        let io_loop = tiny_loop();
        let (mut stream, mut peer) = pair();
        peer.set_nonblocking(false).unwrap();
        let echo = std::thread::spawn(move || {
            let _storm = Storm::new();
            let mut byte = [0];
            loop {
                match peer.read(&mut byte) {
                    Ok(0) => return,
                    Ok(_) => peer.write_all(&byte).unwrap(),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
                }
            }
        });
        let _storm = Storm::new();
        stream.write_all(b"?").unwrap();
        let answers = Count::default();
        let handler = move |stream: &mut UnixStream, _| {
            if stream.read(&mut [0]).is_ok() {
                answers.hit();
                if answers.get() == QUESTIONS {
                    IoLoop::current().stop();
                } else {
                    stream.write_all(b"?").unwrap();
                }
            }
        };
        io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
        io_loop.start().unwrap();
        io_loop.close(false).unwrap();
        echo.join().unwrap();
    }
}
