//! Enters that fail, and not for a want of memory that passes.

use super::line::{Line, new_loop, new_silent_loop, turn};
use super::{Fault, Faults};
use crate::IoLoop;
use crate::net::StreamError;
use std::future::Future;
use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

fn data() -> Arc<[u8]> {
    [7; 1000].into()
}

#[test]
fn what_is_queued_is_sent_by_the_first_enter_that_does_not_fail() {
    let io_loop = new_loop(2, 64);
    let mut lines = [Line::new(), Line::full(), Line::new(), Line::new()];
    turn(&io_loop).unwrap();
    let faults = Faults::new(|_| Fault::Fail(libc::EFAULT));
    lines.iter_mut().for_each(|line| line.write_and_wait(1000));
    for _ in 0..3 {
        let error = turn(&io_loop).unwrap_err();
        assert!(error.to_string().starts_with("io_uring_enter failed"), "{error}");
        lines.iter_mut().for_each(Line::check);
    }
    drop(faults);
    lines.iter_mut().for_each(|line| line.drain(&io_loop));
    turn(&io_loop).unwrap();
    lines.iter_mut().for_each(Line::check_all);
    assert!(lines.iter().all(|line| line.sent >= 1000));
}

#[test]
fn what_an_enter_has_done_before_it_failed_is_not_done_again() {
    let io_loop = new_loop(64, 64);
    let mut lines = [Line::new(), Line::full(), Line::new(), Line::full()];
    turn(&io_loop).unwrap();
    // The second is for the rest of what the first was to take in.
    let _faults = Faults::script([Fault::Take(2), Fault::FailAfter(libc::EBADF)]);
    lines.iter_mut().for_each(|line| line.write_and_wait(1000));
    turn(&io_loop).unwrap_err();
    lines.iter_mut().for_each(Line::check);
    lines.iter_mut().for_each(|line| line.drain(&io_loop));
    turn(&io_loop).unwrap();
    lines.iter_mut().for_each(Line::check_all);
    assert!(lines.iter().all(|line| line.sent >= 1000));
}

/// Closes a loop whose enters fail. What its streams have been given to send.
fn close_in_vain(io_loop: &IoLoop, fault: Fault, lines: &mut [Line]) -> Vec<Arc<[u8]>> {
    turn(io_loop).unwrap();
    let _faults = Faults::new(move |_| fault);
    let given: Vec<_> = iter::repeat_with(data).take(lines.len()).collect();
    for (line, data) in lines.iter_mut().zip(&given) {
        let write = line.write_shared(data);
        line.wait_for(write);
    }
    turn(io_loop).unwrap_err();
    let before = io_loop.metrics().enters;
    io_loop.close(false).unwrap();
    assert!(io_loop.metrics().enters - before < 10, "it tries in vain");
    for line in lines {
        line.check();
        assert_eq!(line.refusal(), Some(StreamError::LoopClosed));
        line.stream = None;
    }
    given
}

#[test]
fn a_loop_closed_in_vain_keeps_what_the_kernel_may_read_and_tells_the_writers() {
    let io_loop = new_loop(64, 64);
    let mut lines = [Line::new(), Line::new()];
    let given = close_in_vain(&io_loop, Fault::Fail(libc::EINVAL), &mut lines);
    for data in given {
        assert_eq!(Arc::strong_count(&data), 2, "it is freed");
    }
}

#[test]
fn a_loop_closed_in_vain_heeds_what_has_completed() {
    let Some(io_loop) = new_silent_loop(64, 64) else { return };
    let mut lines = [Line::full(), Line::new(), Line::full()];
    let given = close_in_vain(&io_loop, Fault::FailAfter(libc::EINVAL), &mut lines);
    let kept: Vec<_> = given.iter().map(|data| Arc::strong_count(data) - 1).collect();
    // Nobody knows of the one that has no completion.
    assert_eq!(kept, [0, 1, 0]);
}

/// Woken or not.
#[derive(Default)]
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_for_a_write_is_woken_if_its_rest_cannot_be_sent_as_the_loop_is_closed() {
    let Some(io_loop) = new_silent_loop(64, 64) else { return };
    let line = Line::full();
    turn(&io_loop).unwrap();
    let _faults = Faults::new(|_| Fault::FailAfter(libc::EINVAL));
    let mut write = line.stream().write(data());
    let alarm = Arc::<Alarm>::default();
    let mut poll = || {
        let waker = alarm.clone().into();
        Pin::new(&mut write).poll(&mut Context::from_waker(&waker))
    };
    assert!(poll().is_pending());
    turn(&io_loop).unwrap_err();
    assert!(!alarm.0.load(Ordering::Relaxed));
    io_loop.close(false).unwrap();
    assert!(alarm.0.load(Ordering::Relaxed), "it waits for ever");
    let Poll::Ready(Err(error)) = poll() else { panic!("it waits for nothing") };
    assert_eq!(StreamError::of(&error), Some(StreamError::LoopClosed));
}
