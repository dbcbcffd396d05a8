//! Enters that take in a part of what is queued, or of what has completed.

use super::line::{Line, new_loop, new_silent_loop, next_turn, run, turn};
use super::{Fault, Faults};
use crate::time;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn lines(count: usize, make: fn() -> Line) -> Vec<Line> {
    (0..count).map(|_| make()).collect()
}

#[test]
fn requests_that_the_kernel_has_not_taken_in_do_not_count_as_sent() {
    for taken in 0..4 {
        let io_loop = new_loop(64, 64);
        let mut lines = lines(4, Line::new);
        turn(&io_loop).unwrap();
        run(&io_loop, async || {
            let mut first = true;
            let _faults = Faults::new(move |enter| match enter.submit {
                0 => Fault::None,
                _ if std::mem::take(&mut first) => Fault::Take(taken),
                _ => Fault::Fail(libc::EAGAIN),
            });
            lines.iter_mut().for_each(|line| line.write_and_wait(1000));
            for _ in 0..3 {
                next_turn().await;
                lines.iter_mut().for_each(Line::check);
                let arrived = lines.iter_mut().filter(|line| line.received() > 0).count();
                assert_eq!(arrived, taken as usize);
            }
        });
        turn(&io_loop).unwrap();
        lines.iter_mut().for_each(Line::check_all);
        assert!(lines.iter().all(|line| line.sent == 1000));
        assert!(io_loop.metrics().submit_retries > 0);
    }
}

/// Until told otherwise, nothing is taken in early, and one enter takes in what fills the queue.
fn refuse_early_enters() -> (Faults, Rc<Cell<bool>>) {
    let (refuses, rule) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(true)));
    let switch = refuses.clone();
    let faults = Faults::new(move |enter| match enter.submit {
        0 => Fault::None,
        _ if !refuses.get() => Fault::None,
        _ if enter.collects && rule.take() => Fault::None,
        _ => Fault::Fail(libc::ENOMEM),
    });
    (faults, switch)
}

#[test]
fn requests_that_stand_in_line_do_not_count_as_sent() {
    let io_loop = new_loop(2, 64);
    let mut lines = lines(7, Line::new);
    turn(&io_loop).unwrap();
    run(&io_loop, async || {
        let (_faults, refuses) = refuse_early_enters();
        lines.iter_mut().for_each(|line| line.write_and_wait(1000));
        for _ in 0..3 {
            next_turn().await;
            lines.iter_mut().for_each(Line::check);
            let arrived = lines.iter_mut().filter(|line| line.received() > 0).count();
            assert_eq!(arrived, 2);
        }
        refuses.set(false);
        next_turn().await;
        lines.iter_mut().for_each(Line::check_all);
    });
}

#[test]
fn a_turn_does_not_sleep_while_requests_stand_in_line() {
    let io_loop = new_loop(2, 64);
    let mut lines = lines(7, Line::new);
    turn(&io_loop).unwrap();
    let early = Faults::new(|enter| {
        assert!(!enter.waits, "nobody may ever wake it");
        if enter.collects { Fault::None } else { Fault::Fail(libc::ENOMEM) }
    });
    lines.iter_mut().for_each(|line| drop(line.write(1000)));
    io_loop.turn(None).unwrap();
    drop(early);
    lines.iter_mut().for_each(Line::check_all);
}

#[test]
fn a_stream_dropped_while_its_data_is_not_taken_in_ends_without_a_wait() {
    let Some(io_loop) = new_silent_loop(64, 64) else { return };
    let mut line = Line::new();
    turn(&io_loop).unwrap();
    let mut enters = 0;
    let _faults = Faults::new(move |enter| {
        enters += 1;
        match enters {
            ..=3 => return Fault::Fail(libc::EAGAIN),
            4 => assert!(!enter.waits, "nobody would hear of it"),
            _ => {}
        }
        Fault::None
    });
    run(&io_loop, async || {
        drop(line.write(1000));
        next_turn().await;
        line.check();
        assert_eq!(line.received(), 0);
        line.stream = None;
        time::sleep(Duration::from_millis(1)).await;
        line.check_all();
    });
    line.drain_to_end(&io_loop);
}

#[test]
fn sends_whose_completions_overflow_do_not_count_as_sent() {
    let Some(io_loop) = new_silent_loop(2, 4) else { return };
    let mut lines = lines(12, Line::full);
    turn(&io_loop).unwrap();
    run(&io_loop, async || {
        let collect_nothing = Faults::new(|enter| match enter.submit {
            0 => Fault::Fail(libc::EAGAIN),
            _ => Fault::None,
        });
        lines.iter_mut().for_each(|line| line.write_and_wait(1000));
        next_turn().await;
        lines.iter_mut().for_each(Line::check);
        drop(collect_nothing);
    });
    assert!(io_loop.metrics().completion_overflows > 0);
    lines.iter_mut().for_each(|line| line.drain(&io_loop));
    turn(&io_loop).unwrap();
    lines.iter_mut().for_each(Line::check_all);
}

#[test]
fn completions_taken_out_to_make_room_are_heeded() {
    let io_loop = new_loop(2, 64);
    let mut lines = lines(12, Line::full);
    turn(&io_loop).unwrap();
    // Every other attempt to submit early fails, and what has completed until then is taken out.
    let (mut early, makes_room) = (0, Rc::new(Cell::new(0)));
    let counted = makes_room.clone();
    let faults = Faults::new(move |enter| {
        early += u32::from(!enter.collects);
        match enter.submit {
            0 => counted.set(counted.get() + 1),
            _ if !enter.collects && early % 2 == 0 => return Fault::Fail(libc::EBUSY),
            _ => {}
        }
        Fault::None
    });
    lines.iter_mut().for_each(|line| line.write_and_wait(1000));
    turn(&io_loop).unwrap();
    assert!(makes_room.get() > 0);
    drop(faults);
    lines.iter_mut().for_each(|line| line.drain(&io_loop));
    turn(&io_loop).unwrap();
    lines.iter_mut().for_each(Line::check_all);
    assert!(lines.iter().all(|line| line.sent > 1000));
}
