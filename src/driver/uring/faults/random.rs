//! Writes, ends and faults in random order, against what was written.

use super::line::{Line, new_loop, next_turn, turn};
use super::{Enter, Fault, Faults};
use crate::IoLoop;
use fastrand::Rng;
use std::cell::Cell;
use std::net::Shutdown;
use std::rc::Rc;

const RUNS: u64 = 60;
const TURNS: usize = 60;

/// Which faults there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Such as pass.
    Passing,
    /// Such as pass, and enters that fail.
    Failing,
    /// Such as pass, and completions that are dropped.
    Dropping,
}

impl Trouble {
    fn fault(self, random: &mut Rng, enter: Enter) -> Fault {
        let transient = [libc::EAGAIN, libc::EBUSY, libc::ENOMEM];
        match random.u32(..100) {
            0..20 if enter.submit > 0 => Fault::Take(random.u32(1..=enter.submit)),
            20..40 => Fault::Fail(transient[random.usize(..transient.len())]),
            40..45 => Fault::Fail(libc::EINTR),
            45..50 if self == Trouble::Failing => Fault::Fail(libc::EFAULT),
            50..55 if self == Trouble::Failing => Fault::FailAfter(libc::EINVAL),
            55 if self == Trouble::Dropping => Fault::Drop,
            _ => Fault::None,
        }
    }
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// Everything arrives, and then the end.
    Ended,
    /// What has not been sent may be lost.
    Closed,
}

struct Model {
    random: Rng,
    lines: Vec<(Line, Fate)>,
}

impl Model {
    fn new(seed: u64) -> (IoLoop, Model) {
        let mut random = Rng::with_seed(seed);
        let io_loop = new_loop(1 << random.u32(1..6), 1 << random.u32(2..7));
        let lines = (0..random.usize(1..9))
            .map(|_| match random.u32(..4) {
                0 => Line::over_tcp(),
                1 => Line::full(),
                _ => Line::new(),
            })
            .map(|line| (line, Fate::Open))
            .collect();
        (io_loop, Model { random, lines })
    }

    /// What happens between two turns.
    fn step(&mut self) {
        let Model { random, lines } = self;
        for (line, fate) in lines {
            if random.bool() {
                line.poll();
            }
            match random.u32(..100) {
                0..30 => line.receive(random.usize(1..5), random.usize(1..8000)),
                30..80 if *fate == Fate::Open => {
                    for _ in 0..random.usize(1..4) {
                        write(random, line);
                    }
                }
                80..82 if *fate == Fate::Open => {
                    *fate = Fate::Ended;
                    line.stream().shutdown(Shutdown::Write);
                }
                82..84 if *fate == Fate::Open => {
                    *fate = Fate::Ended;
                    line.stream = None;
                }
                84 if *fate != Fate::Closed && line.stream.is_some() => {
                    *fate = Fate::Closed;
                    line.stream().close();
                }
                85..87 if *fate == Fate::Closed => line.stream = None,
                87..90 => line.check(),
                _ => {}
            }
        }
    }

    /// All that is to arrive arrives.
    fn finish(mut self, io_loop: &IoLoop) {
        for (line, fate) in &mut self.lines {
            line.stream = None;
            line.drain_to_end(io_loop);
            if *fate != Fate::Closed {
                line.check_all();
                assert!(line.error.is_none(), "{:?}", line.error);
            }
        }
    }
}

fn write(random: &mut Rng, line: &mut Line) {
    let length = match random.u32(..4) {
        0 => random.usize(1..10),
        1 => random.usize(1..70_000),
        _ => random.usize(1..3000),
    };
    let write = line.write(length);
    if random.bool() {
        line.wait_for(write);
    }
}

/// Steps and turns, in one run of the loop or many. False if the loop cannot go on.
fn run(io_loop: &IoLoop, model: &mut Model, at_once: bool) -> bool {
    if at_once {
        let all = io_loop.run_sync(
            async || {
                for _ in 0..TURNS {
                    model.step();
                    next_turn().await;
                }
            },
            None,
        );
        return all.is_ok();
    }
    let mut goes_on = true;
    for _ in 0..TURNS {
        model.step();
        goes_on &= turn(io_loop).is_ok();
    }
    goes_on
}

fn test(trouble: Trouble, runs: u64) {
    let faults = Rc::new(Cell::new(0));
    for seed in 0..runs {
        let (io_loop, mut model) = Model::new(seed);
        let (mut random, count) = (Rng::with_seed(!seed), faults.clone());
        let rule = move |enter| {
            let fault = trouble.fault(&mut random, enter);
            count.set(count.get() + u64::from(!matches!(fault, Fault::None)));
            fault
        };
        let failing = Faults::new(rule);
        let at_once = seed % 2 == 0 && trouble != Trouble::Failing;
        let goes_on = run(&io_loop, &mut model, at_once);
        match trouble {
            Trouble::Passing => assert!(goes_on),
            Trouble::Failing => {}
            Trouble::Dropping => {
                io_loop.close(false).unwrap();
                model.lines.iter_mut().for_each(|(line, _)| line.check());
                continue;
            }
        }
        drop(failing);
        model.finish(&io_loop);
    }
    assert!(faults.get() > runs);
}

#[test]
fn faults_that_pass_change_nothing_about_what_is_sent() {
    test(Trouble::Passing, RUNS);
}

#[test]
fn enters_that_fail_now_and_then_change_nothing_about_what_is_sent() {
    test(Trouble::Failing, RUNS);
}

#[test]
fn nothing_counts_as_sent_whose_completion_may_have_been_dropped() {
    // Closing waits for what never completes.
    test(Trouble::Dropping, RUNS / 6);
}
