//! What a loop refuses, and with which error.

mod support;

use ringloop::{Events, IoLoop, KernelFeatures, LoopError, PeriodicCallback, Trigger};
use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Count, Masks, drain, in_child, new_loop, pair, ready_pair, turn};

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: io::Result<T>, reason: LoopError) {
    let error = result.unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&reason), "{error}");
    assert_eq!(error.to_string(), reason.to_string());
}

/// That a running loop can be neither started nor closed.
fn assert_running(io_loop: &IoLoop) {
    assert_refused(io_loop.start(), LoopError::AlreadyRunning);
    assert_refused(io_loop.turn(None), LoopError::AlreadyRunning);
    assert_refused(io_loop.close(false), LoopError::StillRunning);
    assert_refused(io_loop.close(true), LoopError::StillRunning);
}

#[test]
fn a_running_loop_can_be_neither_started_nor_closed_from_inside() {
    let io_loop = new_loop();
    let checked = Count::new();
    let check = |count: &Count| {
        let count = count.clone();
        move || {
            assert_running(&IoLoop::current());
            count.hit();
        }
    };
    io_loop.add_callback(check(&checked));
    io_loop.call_later(Duration::ZERO, check(&checked));
    let (stream, _peer) = ready_pair();
    let in_handler = check(&checked);
    let handler = move |stream: &mut UnixStream, _| {
        drain(stream);
        in_handler();
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    turn(&io_loop);
    assert_eq!(checked.get(), 3);

    io_loop.add_callback(check(&checked));
    io_loop.add_callback(|| IoLoop::current().stop());
    io_loop.start().unwrap();
    assert_eq!(checked.get(), 4);
    io_loop.close(false).unwrap();
}

#[test]
fn another_loop_may_run_inside_a_running_one() {
    let io_loop = new_loop();
    let count = Count::new();
    let inner_count = count.clone();
    let outer = io_loop.clone();
    io_loop.add_callback(move || {
        let inner = new_loop();
        let hit = inner_count.clone();
        inner.add_callback(move || {
            assert_running(&outer);
            hit.hit();
            IoLoop::current().stop();
        });
        inner.start().unwrap();
        inner.close(false).unwrap();
        inner_count.hit();
    });
    turn(&io_loop);
    assert_eq!(count.get(), 2);
}

#[test]
fn a_closed_loop_refuses_what_it_cannot_do_and_drops_the_rest() {
    let io_loop = new_loop();
    let (stream, _peer) = pair();
    let fd = stream.as_raw_fd();
    io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap();
    io_loop.close(false).unwrap();
    let closed = LoopError::Closed;
    assert_refused(io_loop.start(), closed.clone());
    assert_refused(io_loop.turn(Some(Duration::ZERO)), closed.clone());
    assert_refused(io_loop.update_handler(&fd, Events::READ), closed.clone());
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (stream, _peer) = pair();
        let number = stream.as_raw_fd();
        let refused = io_loop.add_handler_with(stream, Events::READ, trigger, |_, _| {});
        let (error, stream) = refused.unwrap_err().into_parts();
        assert_eq!(stream.as_raw_fd(), number);
        assert_refused::<()>(Err(error), closed.clone());
    }
    let (stream, _other_peer) = pair();
    assert!(io_loop.add_handler(stream, Events::READ, |_, _| {}).is_err());
    assert!(!io_loop.remove_handler(&fd));
    assert!(io_loop.take_handler::<UnixStream>(&fd).is_none());
    assert_ends_quietly(&io_loop);
}

/// The methods of a closed loop that have no errors.
fn assert_ends_quietly(io_loop: &IoLoop) {
    let (dropped, run) = (Count::new(), Count::new());
    let callback = || {
        let (run, on_drop) = (run.clone(), support::OnDrop(dropped.counter()));
        move || {
            drop(on_drop);
            run.hit();
        }
    };
    io_loop.add_callback(callback());
    assert!(!io_loop.handle().add_callback(|| {}));
    let delay = Duration::ZERO;
    let when = io_loop.time();
    let timeouts = [
        io_loop.call_later(delay, callback()),
        io_loop.call_at(when, callback()),
        io_loop.add_timeout(delay, callback()),
    ];
    assert_eq!((dropped.get(), run.get()), (4, 0));
    timeouts.into_iter().for_each(|timeout| io_loop.remove_timeout(timeout));
    io_loop.stop();
    io_loop.handle().stop();
    io_loop.handle().wake();
    io_loop.make_current();
    assert!(IoLoop::try_current().is_some());
    let metrics = io_loop.metrics();
    assert_eq!((metrics.handlers, metrics.timeouts_pending), (0, 0));
    io_loop.close(false).unwrap();
    io_loop.close(true).unwrap();
    assert!(!format!("{io_loop:?}").is_empty());
}

#[test]
fn an_fd_cannot_be_added_twice_and_the_first_handler_stays() {
    let io_loop = new_loop();
    for trigger in [Trigger::Level, Trigger::Edge] {
        let (stream, _peer) = ready_pair();
        let (first, second) = (Masks::new(), Count::new());
        let number = stream.as_raw_fd();
        io_loop.add_handler(stream, Events::READ, first.handler()).unwrap();
        let refused = io_loop.add_handler_with(number, Events::WRITE, trigger, second.handler());
        let refused = refused.unwrap_err();
        assert_eq!(refused.error().raw_os_error(), Some(libc::EEXIST));
        assert!(refused.to_string().contains("registered already"), "{refused}");
        let source = refused.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(refused.into_source(), number);
        for _ in 0..2 {
            turn(&io_loop);
            assert_eq!((first.take(), second.get()), (vec![Events::READ], 0));
        }
        assert!(io_loop.remove_handler(&number));
    }
}

#[test]
fn an_fd_cannot_be_added_again_by_its_own_handler() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let handler = |stream: &mut UnixStream, _| {
        let again = IoLoop::current().add_handler(stream.as_raw_fd(), Events::READ, |_, _| {});
        assert_eq!(again.unwrap_err().error().raw_os_error(), Some(libc::EEXIST));
    };
    io_loop.add_handler(stream, Events::READ, handler).unwrap();
    for _ in 0..3 {
        turn(&io_loop);
    }
    assert_eq!(io_loop.metrics().handler_calls, 3);
}

#[test]
fn a_descriptor_that_is_not_open_is_refused() {
    let io_loop = new_loop();
    for number in [-1, RawFd::MIN, 1 << 20, RawFd::MAX] {
        for trigger in [Trigger::Level, Trigger::Edge] {
            let refused = io_loop.add_handler_with(number, Events::READ, trigger, |_, _| {});
            let refused = refused.unwrap_err();
            assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
            assert_eq!(refused.into_source(), number);
        }
    }
    let (stream, _peer) = pair();
    let closed = support::move_to(stream, 600).as_raw_fd();
    let refused = io_loop.add_handler(closed, Events::READ, |_, _| {}).unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    turn(&io_loop);
    assert_eq!(io_loop.metrics().handlers, 0);
}

#[test]
fn a_file_that_is_always_ready_is_refused_and_comes_back() {
    let io_loop = new_loop();
    for path in ["/proc/self/exe", "/", "/dev/null"] {
        let file = File::open(path).unwrap();
        let number = file.as_raw_fd();
        let refused = io_loop.add_handler(file, Events::READ, |_, _| {}).unwrap_err();
        assert_eq!(refused.error().raw_os_error(), Some(libc::EPERM), "{path}");
        let file = refused.into_source();
        assert_eq!(file.as_raw_fd(), number);
        assert!(file.metadata().is_ok());
        let refused = io_loop.add_handler(number, Events::READ, |_, _| {}).unwrap_err();
        assert_eq!(io::Error::from(refused).kind(), io::ErrorKind::PermissionDenied);
    }
    turn(&io_loop);
    assert_eq!(io_loop.metrics().handlers, 0);
}

/// A file in the guise of a socket or pipe, as a server gets it whose standard input is not what it
/// expects.
fn assert_guise_refused<S: From<OwnedFd> + AsRawFd + 'static>(io_loop: &IoLoop) {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let file = File::open("/proc/self/exe").unwrap();
        let number = file.as_raw_fd();
        let source = S::from(OwnedFd::from(file));
        let refused = io_loop.add_handler_with(source, Events::READ, trigger, |_, _| {});
        let refused = refused.unwrap_err();
        assert_eq!(refused.error().raw_os_error(), Some(libc::EPERM));
        assert_eq!(refused.into_source().as_raw_fd(), number);
    }
}

#[test]
fn a_regular_file_is_refused_whatever_type_it_comes_as() {
    let io_loop = new_loop();
    assert_guise_refused::<OwnedFd>(&io_loop);
    assert_guise_refused::<File>(&io_loop);
    assert_guise_refused::<std::net::TcpStream>(&io_loop);
    assert_guise_refused::<std::net::TcpListener>(&io_loop);
    assert_guise_refused::<std::net::UdpSocket>(&io_loop);
    assert_guise_refused::<UnixStream>(&io_loop);
    assert_guise_refused::<std::os::unix::net::UnixListener>(&io_loop);
    assert_guise_refused::<std::os::unix::net::UnixDatagram>(&io_loop);
    assert_guise_refused::<io::PipeReader>(&io_loop);
    assert_guise_refused::<io::PipeWriter>(&io_loop);
    assert_guise_refused::<std::process::ChildStdin>(&io_loop);
    turn(&io_loop);
    let metrics = io_loop.metrics();
    assert_eq!((metrics.handlers, metrics.handler_calls), (0, 0));
}

#[test]
fn a_refused_fd_can_be_added_once_it_is_free() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let (number, count) = (stream.as_raw_fd(), Count::new());
    io_loop.add_handler(number, Events::READ, |_, _| {}).unwrap();
    let refused = io_loop.add_handler(stream, Events::READ, count.handler()).unwrap_err();
    assert!(io_loop.remove_handler(&number));
    io_loop.add_handler(refused.into_source(), Events::READ, count.handler()).unwrap();
    turn(&io_loop);
    assert_eq!(count.get(), 1);
}

#[test]
fn updating_an_unknown_fd_is_an_error() {
    let io_loop = new_loop();
    let (stream, _peer) = pair();
    let fd = stream.as_raw_fd();
    for number in [fd, -1, RawFd::MAX] {
        let refused = io_loop.update_handler(&number, Events::READ);
        assert_eq!(refused.as_ref().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_refused(refused, LoopError::NotRegistered(number));
    }
    io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap();
    io_loop.update_handler(&fd, Events::WRITE).unwrap();
    io_loop.remove_handler(&fd);
    assert_refused(io_loop.update_handler(&fd, Events::READ), LoopError::NotRegistered(fd));
}

#[test]
fn a_number_closed_without_removal_is_reported_once_and_stays_registered() {
    let io_loop = new_loop();
    let (stream, _peer) = ready_pair();
    let number = std::os::fd::IntoRawFd::into_raw_fd(support::move_to(stream, 610));
    let masks = Masks::new();
    io_loop.add_handler(number, Events::READ, masks.handler()).unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
    support::close_raw(number);
    for _ in 0..3 {
        turn(&io_loop);
    }
    assert_eq!(masks.take(), [Events::ERROR]);
    assert_refused(io_loop.update_handler(&number, Events::READ), LoopError::Lost(number));
    assert!(io_loop.remove_handler(&number));
}

#[test]
fn an_unknown_kernel_feature_is_named() {
    // The second is not text.
    for names in [&b"coop_taskrun,warp_drive"[..], b"coop_taskrun,warp_drive\xff"] {
        let result = in_child(|| {
            // SAFETY: the child has one thread.
            unsafe { std::env::set_var("RINGLOOP_WITHOUT", OsStr::from_bytes(names)) };
            let error = IoLoop::new().err().ok_or("built all the same")?;
            match error.to_string() {
                message if message.contains("warp_drive") => Ok(()),
                message => Err(message),
            }
        });
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn what_the_program_and_the_environment_turn_off_adds_up() {
    let result = in_child(|| {
        // SAFETY: the child has one thread.
        unsafe { std::env::set_var("RINGLOOP_WITHOUT", "submit_all") };
        let builder = IoLoop::builder().without(KernelFeatures::ABS_TIMER);
        let io_loop = builder.without(KernelFeatures::DEFER_TASKRUN).build().unwrap();
        let off =
            KernelFeatures::SUBMIT_ALL | KernelFeatures::ABS_TIMER | KernelFeatures::DEFER_TASKRUN;
        match io_loop.metrics().features & off {
            on if on.is_empty() => Ok(()),
            on => Err(format!("{on:?}")),
        }
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_periodic_callback_needs_a_period_and_a_jitter_that_make_sense() {
    let refused = PeriodicCallback::new(|| {}, Duration::ZERO);
    assert_refused(refused, LoopError::ZeroPeriod);
    for jitter in [f64::NAN, -0.1, -f64::MIN_POSITIVE, 1.01, f64::INFINITY, f64::NEG_INFINITY] {
        let periodic = PeriodicCallback::new(|| {}, Duration::from_secs(1)).unwrap();
        assert_refused(periodic.with_jitter(jitter), LoopError::BadJitter);
    }
    for jitter in [0.0, -0.0, f64::MIN_POSITIVE, 1.0] {
        let periodic = PeriodicCallback::new(|| {}, Duration::from_nanos(1)).unwrap();
        assert!(!periodic.with_jitter(jitter).unwrap().is_running());
    }
}

#[test]
fn a_child_process_is_refused_its_parents_loop_and_builds_its_own() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let (masks, fd) = (Masks::new(), stream.as_raw_fd());
    io_loop.add_handler(stream, Events::READ, masks.handler()).unwrap();
    turn(&io_loop);
    let result = in_child(|| {
        let forked = LoopError::Forked;
        assert_refused(io_loop.start(), forked.clone());
        assert_refused(io_loop.turn(Some(Duration::ZERO)), forked.clone());
        assert_refused(io_loop.update_handler(&fd, Events::WRITE), forked.clone());
        assert_refused(io_loop.close(true), forked.clone());
        let (stream, _peer) = pair();
        let refused = io_loop.add_handler(stream, Events::READ, |_, _| {}).unwrap_err();
        assert_refused::<()>(Err(refused.into_error()), forked);
        assert!(!io_loop.remove_handler(&fd));
        use_own_loop();
        Ok(())
    });
    assert_eq!(result, Ok(()));
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
}

fn use_own_loop() {
    let io_loop = IoLoop::new().unwrap();
    let (stream, _peer) = ready_pair();
    let count = Count::new();
    io_loop.add_handler(stream, Events::READ, count.handler()).unwrap();
    io_loop.add_callback(count.counter());
    io_loop.call_later(Duration::ZERO, count.counter());
    turn(&io_loop);
    assert_eq!(count.get(), 3);
    io_loop.close(false).unwrap();
}

#[test]
fn dropping_a_parents_loop_in_a_child_does_not_disturb_the_parent() {
    let io_loop = new_loop();
    let (stream, mut peer) = pair();
    let masks = Masks::new();
    let borrowed = stream.as_fd().try_clone_to_owned().unwrap();
    io_loop.add_handler(borrowed, Events::READ, masks.handler()).unwrap();
    turn(&io_loop);
    let mut io_loop = Some(io_loop);
    let result = in_child(|| {
        drop(io_loop.take());
        Ok(())
    });
    assert_eq!(result, Ok(()));
    let io_loop = io_loop.unwrap();
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    turn(&io_loop);
    assert_eq!(masks.take(), [Events::READ]);
}
