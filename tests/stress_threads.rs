//! Many threads and one loop, or several: nothing posted is lost, nobody is slept over.

mod stress_support;
mod support;

use ringloop::{IoLoop, LoopHandle};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use stress_support::small_loop;
use support::{thread_id, turn, wait_until_asleep};

const THREADS: usize = 8;

thread_local! {
    /// The number of the next post of each thread, and of all posts seen.
    static NEXT: RefCell<[usize; THREADS]> = const { RefCell::new([0; THREADS]) };
    static SEEN: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn of_800_000_posts_none_is_lost_and_each_thread_keeps_its_order() {
    const POSTS: usize = 100_000;
    let io_loop = small_loop();
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (handle, start) = (io_loop.handle(), start.clone());
            thread::spawn(move || {
                start.wait();
                (0..POSTS).all(|number| handle.add_callback(move || take_in(thread, number)))
            })
        })
        .collect();
    fn take_in(thread: usize, number: usize) {
        NEXT.with_borrow_mut(|next| {
            assert_eq!(number, next[thread], "of thread {thread}");
            next[thread] += 1;
        });
        SEEN.set(SEEN.get() + 1);
        if SEEN.get() == THREADS * POSTS {
            IoLoop::current().stop();
        }
    }
    io_loop.start().unwrap();
    for thread in threads {
        assert!(thread.join().unwrap());
    }
    turn(&io_loop);
    assert_eq!(NEXT.take(), [POSTS; THREADS]);
    assert_eq!(io_loop.metrics().callbacks, (THREADS * POSTS) as u64);
}

/// What became of the posts of a race.
#[derive(Debug, Default)]
struct Fates {
    made: AtomicUsize,
    accepted: AtomicUsize,
    ran: AtomicUsize,
    dropped: AtomicUsize,
}

/// Part of a callback: tells that it ran, and, once, that it was dropped.
struct Token(Arc<Fates>);

impl Token {
    fn new(fates: &Arc<Fates>) -> Token {
        fates.made.fetch_add(1, SeqCst);
        Token(fates.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

impl Fates {
    #[track_caller]
    fn assert_accounted_for(&self) {
        let [made, accepted, ran, dropped] =
            [&self.made, &self.accepted, &self.ran, &self.dropped].map(|count| count.load(SeqCst));
        assert_eq!(dropped, made, "{self:?}");
        assert!(ran <= accepted && accepted <= made, "{self:?}");
    }
}

/// Posts until it is refused; then everything is.
fn post_until_refused(handle: &LoopHandle, fates: &Arc<Fates>) {
    loop {
        let token = Token::new(fates);
        let posted = handle.add_callback(move || {
            token.0.ran.fetch_add(1, SeqCst);
        });
        if !posted {
            break;
        }
        let accepted = fates.accepted.fetch_add(1, SeqCst) + 1;
        if accepted.saturating_sub(fates.ran.load(SeqCst)) > 1000 {
            // Several threads post faster than one runs: the queue should not grow and grow.
            thread::sleep(Duration::from_micros(50));
        }
    }
    let refused = Arc::new(());
    let inside = refused.clone();
    assert!(!handle.add_callback(move || drop(inside)));
    assert_eq!(Arc::strong_count(&refused), 1, "a refused callback is dropped before it returns");
}

/// Posts from several threads while `end` has its way with the loop, after a few turns.
fn race(races: usize, end: impl Fn(IoLoop)) {
    const POSTERS: usize = 3;
    let mut ran = 0;
    for turns in 0..races {
        let io_loop = small_loop();
        // One that outlives the loop and the race: nothing may wait in it to be dropped with it.
        let witness = io_loop.handle();
        let fates = Arc::new(Fates::default());
        let start = Arc::new(Barrier::new(POSTERS + 1));
        let posters: Vec<_> = (0..POSTERS)
            .map(|_| {
                let (handle, fates, start) = (io_loop.handle(), fates.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    post_until_refused(&handle, &fates);
                })
            })
            .collect();
        start.wait();
        for _ in 0..turns % 4 {
            io_loop.turn(None).unwrap();
        }
        end(io_loop);
        posters.into_iter().for_each(|poster| poster.join().unwrap());
        fates.assert_accounted_for();
        ran += fates.ran.load(SeqCst);
        drop(witness);
    }
    assert!(ran > 0, "no race ran anything");
}

#[test]
fn each_post_that_races_with_close_is_run_or_dropped_exactly_once() {
    race(150, |io_loop| io_loop.close(false).unwrap());
}

#[test]
fn each_post_that_races_with_the_loops_drop_is_run_or_dropped_exactly_once() {
    race(150, drop);
}

#[test]
fn each_post_that_races_with_stop_and_close_is_run_or_dropped_exactly_once() {
    race(150, |io_loop| {
        let handle = io_loop.handle();
        let stopper = thread::spawn(move || handle.stop());
        io_loop.start().unwrap();
        io_loop.close(false).unwrap();
        stopper.join().unwrap();
    });
}

/// A loop in a thread of its own, which runs until it is stopped.
fn spawn_loop() -> (LoopHandle, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let io_loop = small_loop();
        sender.send(io_loop.handle()).unwrap();
        io_loop.start().unwrap();
    });
    (receiver.recv().unwrap(), thread)
}

/// Hands the ball from loop to loop, always to one that has nothing else to do.
fn pass(loops: Arc<Vec<LoopHandle>>, passes: usize) {
    if passes == 0 {
        loops.iter().for_each(LoopHandle::stop);
        return;
    }
    let next = loops.clone();
    let posted = loops[passes % loops.len()].add_callback(move || pass(next, passes - 1));
    assert!(posted);
}

#[test]
fn two_loops_play_10_000_rounds_and_neither_sleeps_over_its_turn() {
    let (handles, threads): (Vec<_>, Vec<_>) = (0..2).map(|_| spawn_loop()).unzip();
    pass(Arc::new(handles), 2 * 10_000);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_ball_goes_round_five_loops() {
    let (handles, threads): (Vec<_>, Vec<_>) = (0..5).map(|_| spawn_loop()).unzip();
    pass(Arc::new(handles), 5 * 1000);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn every_wake_of_a_sleeping_loop_ends_its_turn() {
    const WAKES: usize = 300;
    let io_loop = small_loop();
    let (handle, sleeper) = (io_loop.handle(), thread_id());
    let (began, begun) = mpsc::channel();
    let waker = thread::spawn(move || {
        for () in begun {
            wait_until_asleep(sleeper);
            handle.wake();
        }
    });
    for _ in 0..WAKES {
        began.send(()).unwrap();
        io_loop.turn(None).unwrap();
    }
    drop(began);
    waker.join().unwrap();
    assert!(io_loop.metrics().wakeups > 0);
}

#[test]
fn a_wake_at_any_moment_is_not_lost() {
    let io_loop = small_loop();
    let handle = io_loop.handle();
    let (began, begun) = mpsc::channel();
    let waker = thread::spawn(move || begun.iter().for_each(|()| handle.wake()));
    for _ in 0..5000 {
        // Comes before the loop sleeps, or while it does.
        began.send(()).unwrap();
        io_loop.turn(None).unwrap();
    }
    drop(began);
    waker.join().unwrap();
}

#[test]
fn stops_of_many_threads_at_any_moment_are_not_lost() {
    let io_loop = small_loop();
    let start = Arc::new(Barrier::new(3));
    let stoppers: Vec<_> = (0..2)
        .map(|_| {
            let (handle, start) = (io_loop.handle(), start.clone());
            thread::spawn(move || {
                for _ in 0..2000 {
                    start.wait();
                    handle.stop();
                    start.wait();
                }
            })
        })
        .collect();
    for _ in 0..2000 {
        start.wait();
        io_loop.start().unwrap();
        start.wait();
        // The other one's, if it came after the loop had stopped.
        io_loop.stop();
        io_loop.start().unwrap();
    }
    stoppers.into_iter().for_each(|stopper| stopper.join().unwrap());
}

#[test]
fn posts_of_the_loops_own_thread_do_not_keep_it_from_its_handlers_or_others_posts() {
    let io_loop = small_loop();
    fn again(handle: LoopHandle) {
        let next = handle.clone();
        handle.add_callback(move || again(next));
    }
    again(io_loop.handle());
    let handle = io_loop.handle();
    let stopper = thread::spawn(move || handle.add_callback(|| IoLoop::current().stop()));
    io_loop.start().unwrap();
    assert!(stopper.join().unwrap());
}

#[test]
fn a_post_made_while_the_loop_falls_asleep_runs_in_that_turn_or_the_next() {
    let io_loop = small_loop();
    let (posts, posted) = mpsc::channel::<()>();
    let handle = io_loop.handle();
    let poster = thread::spawn(move || {
        for () in posted {
            assert!(handle.add_callback(|| {
                SEEN.set(SEEN.get() + 1);
                // The turn that runs this one is not to wait.
                IoLoop::current().add_callback(|| {});
            }));
        }
    });
    for number in 1..=5000 {
        posts.send(()).unwrap();
        while SEEN.get() < number {
            // The watchdog ends this if the post is slept over.
            io_loop.turn(Some(Duration::from_secs(3600))).unwrap();
        }
    }
    drop(posts);
    poster.join().unwrap();
}
