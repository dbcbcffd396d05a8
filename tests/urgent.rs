//! Urgent data of sockets, and exceptional conditions of other files.

mod support;

use ringloop::{Events, IoLoop, KernelFeatures, Panics, Trigger};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use support::{Masks, in_child, new_loop, pair, ready_pair, turn};

const TRIGGERS: [Trigger; 2] = [Trigger::Level, Trigger::Edge];

fn send_urgent(stream: &TcpStream) {
    // SAFETY: the descriptor is open, and one byte is read from a static string.
    let sent = unsafe { libc::send(stream.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
}

fn receive_urgent(stream: &TcpStream) {
    let mut byte = 0u8;
    let target = ptr::from_mut(&mut byte).cast();
    // SAFETY: one byte may be written to `byte`.
    let received = unsafe { libc::recv(stream.as_raw_fd(), target, 1, libc::MSG_OOB) };
    assert_eq!((received, byte), (1, b'!'));
}

#[test]
fn urgent_data_of_a_socket_is_told_every_turn_until_it_is_received_or_once_an_edge() {
    for trigger in TRIGGERS {
        let io_loop = new_loop();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (masks, clone) = (Masks::new(), stream.try_clone().unwrap());
        io_loop.add_handler_with(stream, Events::PRIORITY, trigger, masks.handler()).unwrap();
        for _ in 0..2 {
            turn(&io_loop);
            assert!(masks.take().is_empty());
            send_urgent(&peer);
            (0..3).for_each(|_| turn(&io_loop));
            let calls = if trigger == Trigger::Level { 3 } else { 1 };
            assert_eq!(masks.take(), vec![Events::PRIORITY; calls], "{trigger:?}");
            receive_urgent(&clone);
        }
    }
}

/// Two ends of a pseudo-terminal. The first is told of changes of state, too (`TIOCPKT`).
fn pseudo_terminal() -> (File, File) {
    let (mut master, mut slave) = (-1, -1);
    let (name, settings, size) = (ptr::null_mut(), ptr::null(), ptr::null());
    // SAFETY: the first two are written to, the others are none.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, name, settings, size) };
    assert_eq!(opened, 0, "{}", io::Error::last_os_error());
    let on: libc::c_int = 1;
    // SAFETY: reads the number during the call.
    assert_eq!(unsafe { libc::ioctl(master, libc::TIOCPKT, &raw const on) }, 0);
    // SAFETY: both have just been made, and nobody else owns them.
    unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) }
}

fn stop_output(slave: &File, stop: bool) {
    let action = if stop { libc::TCOOFF } else { libc::TCOON };
    // SAFETY: passes no memory.
    assert_eq!(unsafe { libc::tcflow(slave.as_raw_fd(), action) }, 0);
}

#[test]
fn a_change_of_state_of_a_pseudo_terminal_is_told_every_turn_until_it_is_read_or_once_an_edge() {
    for interest in [Events::PRIORITY, Events::PRIORITY | Events::READ] {
        for (io_loop, trigger) in loops().zip(TRIGGERS.into_iter().cycle()) {
            let (master, mut slave) = pseudo_terminal();
            let (masks, mut clone) = (Masks::new(), master.try_clone().unwrap());
            io_loop.add_handler_with(master, interest, trigger, masks.handler()).unwrap();
            let calls = || {
                (0..3).for_each(|_| turn(&io_loop));
                masks.take()
            };
            assert!(calls().is_empty());
            for stops in [true, false, true] {
                stop_output(&slave, stops);
                let told = vec![interest; if trigger == Trigger::Level { 3 } else { 1 }];
                assert_eq!(calls(), told, "{trigger:?}");
                assert_eq!(clone.read(&mut [0; 9]).unwrap(), 1);
                assert!(calls().is_empty());
            }
            stop_output(&slave, false);
            assert_eq!(clone.read(&mut [0; 9]).unwrap(), 1);
            calls();
            // That is not urgent.
            slave.write_all(b"x").unwrap();
            let ordinary = interest - Events::PRIORITY;
            assert!(calls().iter().all(|events| *events == ordinary && !ordinary.is_empty()));
        }
    }
}

/// What nobody asked for, ordinary data, has the poll of a level armed as an edge's, until it finds
/// something.
#[test]
fn an_edge_in_place_of_a_level_that_ordinary_data_came_to_is_told_once() {
    let io_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let (level, edge, fd) = (Masks::new(), Masks::new(), stream.as_raw_fd());
    io_loop.add_handler(fd, Events::PRIORITY, level.handler()).unwrap();
    turn(&io_loop);
    peer.write_all(b"x").unwrap();
    (0..2).for_each(|_| turn(&io_loop));
    assert!(level.take().is_empty());
    send_urgent(&peer);
    turn(&io_loop);
    assert_eq!(level.take(), [Events::PRIORITY]);
    assert!(io_loop.remove_handler(&fd));
    io_loop.add_handler_with(fd, Events::READ, Trigger::Edge, edge.handler()).unwrap();
    (0..3).for_each(|_| turn(&io_loop));
    assert_eq!(edge.take(), [Events::READ]);
}

/// The list of mounts of a child process that has them to itself. `poll(2)` tells of a change once,
/// to whoever asks first.
struct Mounts {
    io_loop: IoLoop,
    masks: Masks,
}

fn mount(what: &CStr, place: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let [what, place, kind] = [what, place, kind].map(CStr::as_ptr);
    // SAFETY: three strings that end, and no data.
    match unsafe { libc::mount(what, place, kind, flags, ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Mounts {
    fn watch(io_loop: IoLoop, interest: Events, trigger: Trigger) -> Mounts {
        let (file, masks) = (File::open("/proc/self/mounts").unwrap(), Masks::new());
        io_loop.add_handler_with(file, interest, trigger, masks.handler()).unwrap();
        turn(&io_loop);
        turn(&io_loop);
        masks.take();
        Mounts { io_loop, masks }
    }

    fn change(&self) {
        mount(c"none", c"/tmp", c"tmpfs", 0).unwrap();
    }

    /// Some turn of three has told of a change, and it was once.
    fn assert_told(&self, before: Vec<Events>, what: &str) -> Result<(), String> {
        (0..3).for_each(|_| turn(&self.io_loop));
        let told = [before, self.masks.take()].concat();
        match told.iter().filter(|events| events.contains(Events::PRIORITY)).count() {
            1 => Ok(()),
            _ => Err(format!("{what}: {told:?}")),
        }
    }
}

/// Runs `body` where mounts may be changed without anybody noticing. Where that is forbidden, there
/// is nothing to be tested.
fn with_mounts(body: impl FnOnce() -> Result<(), String>) {
    let result = in_child(|| {
        let alone = [libc::CLONE_NEWNS, libc::CLONE_NEWUSER | libc::CLONE_NEWNS].into_iter().any(
            |spaces| {
                // SAFETY: passes no memory.
                unsafe { libc::unshare(spaces) == 0 }
            },
        );
        match alone && mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE).is_ok() {
            true => body(),
            false => Ok(()),
        }
    });
    assert_eq!(result, Ok(()));
}

fn loops() -> impl Iterator<Item = IoLoop> {
    let without = [KernelFeatures::empty(), KernelFeatures::DEFER_TASKRUN, KernelFeatures::all()];
    // Each twice, for both triggers.
    without.into_iter().flat_map(|without| [without; 2]).map(|without| {
        let builder = IoLoop::builder().entries(8).cq_entries(16).without(without);
        builder.panics(Panics::Propagate).build().unwrap()
    })
}

#[test]
fn what_a_file_that_is_no_socket_tells_but_once_is_told() {
    with_mounts(|| {
        for interest in [Events::PRIORITY, Events::PRIORITY | Events::READ] {
            for (io_loop, trigger) in loops().zip(TRIGGERS.into_iter().cycle()) {
                let mounts = Mounts::watch(io_loop, interest, trigger);
                for _ in 0..2 {
                    mounts.change();
                    mounts.assert_told(Vec::new(), &format!("{interest:?}, {trigger:?}"))?;
                }
                mounts.io_loop.close(false).unwrap();
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_told_but_once_is_not_lost_right_after_another() {
    with_mounts(|| {
        for interest in [Events::PRIORITY, Events::PRIORITY | Events::READ] {
            for (io_loop, trigger) in loops().zip(TRIGGERS.into_iter().cycle()) {
                let mounts = Mounts::watch(io_loop, interest, trigger);
                mounts.change();
                turn(&mounts.io_loop);
                for _ in 0..4 {
                    let told = mounts.masks.take();
                    if !told.iter().any(|events| events.contains(Events::PRIORITY)) {
                        return Err(format!("{interest:?}, {trigger:?}: {told:?}"));
                    }
                    mounts.change();
                    turn(&mounts.io_loop);
                }
                mounts.io_loop.close(false).unwrap();
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_told_but_once_is_not_lost_when_a_removal_takes_it_in() {
    with_mounts(|| {
        for io_loop in loops() {
            let (idle, _peer) = pair();
            io_loop.add_handler(idle.as_raw_fd(), Events::READ, |_, _| {}).unwrap();
            let mounts = Mounts::watch(io_loop, Events::PRIORITY, Trigger::Level);
            mounts.change();
            assert!(mounts.io_loop.remove_handler(&idle));
            mounts.assert_told(Vec::new(), "after a removal")?;
            mounts.io_loop.close(false).unwrap();
        }
        Ok(())
    });
}

#[test]
fn what_is_told_but_once_is_not_lost_when_something_else_is_asked_for() {
    with_mounts(|| {
        let both = Events::PRIORITY | Events::READ;
        for io_loop in loops() {
            let (file, masks) = (File::open("/proc/self/mounts").unwrap(), Masks::new());
            let fd = file.as_raw_fd();
            io_loop.add_handler(file, both, masks.handler()).unwrap();
            let mounts = Mounts { io_loop, masks };
            for interest in [Events::PRIORITY, both] {
                (0..3).for_each(|_| turn(&mounts.io_loop));
                mounts.masks.take();
                mounts.change();
                mounts.io_loop.update_handler(&fd, interest).unwrap();
                mounts.assert_told(Vec::new(), &format!("{interest:?}"))?;
            }
            mounts.io_loop.close(false).unwrap();
        }
        Ok(())
    });
}

#[test]
fn what_is_told_but_once_is_not_lost_with_the_rest_of_a_batch_that_a_panic_ends() {
    with_mounts(|| {
        for io_loop in loops() {
            let mounts = Mounts::watch(io_loop, Events::PRIORITY, Trigger::Level);
            let io_loop = &mounts.io_loop;
            // Whichever comes first in the batch.
            let (bombs, _peers): (Vec<_>, Vec<_>) = (0..2).map(|_| ready_pair()).unzip();
            mounts.change();
            for bomb in bombs {
                let explode = |bomb: &mut UnixStream, _| {
                    assert!(IoLoop::current().remove_handler(bomb));
                    std::panic::resume_unwind(Box::new("on purpose"));
                };
                io_loop.add_handler(bomb, Events::READ, explode).unwrap();
            }
            let run = || catch_unwind(AssertUnwindSafe(|| turn(io_loop))).is_err();
            assert_eq!([(); 3].map(|()| run()), [true, true, false]);
            mounts.assert_told(mounts.masks.take(), "after a panic")?;
            io_loop.close(false).unwrap();
        }
        Ok(())
    });
}

#[test]
fn what_a_removal_takes_in_of_a_file_that_is_no_socket_makes_one_call_whatever_is_asked_for_then() {
    support::watchdog();
    for io_loop in loops() {
        let asked = Events::READ | Events::PRIORITY;
        for (then, calls) in [(Events::READ, 1), (asked, 1), (Events::PRIORITY, 0)] {
            let (reader, mut writer) = io::pipe().unwrap();
            let (idle, _peer) = pair();
            let (masks, fd) = (Masks::new(), reader.as_raw_fd());
            io_loop.add_handler(reader, asked, masks.handler()).unwrap();
            io_loop.add_handler(idle.as_raw_fd(), Events::READ, |_, _| {}).unwrap();
            turn(&io_loop);
            writer.write_all(b"x").unwrap();
            assert!(io_loop.remove_handler(&idle));
            io_loop.update_handler(&fd, then).unwrap();
            for _ in 0..2 {
                turn(&io_loop);
                assert_eq!(masks.take(), vec![Events::READ; calls], "{then:?}");
            }
            assert!(io_loop.remove_handler(&fd));
        }
    }
}

#[test]
fn what_was_found_between_turns_and_is_read_since_is_not_told() {
    for asked in [Events::READ, Events::READ | Events::PRIORITY] {
        let io_loop = new_loop();
        let (reader, mut writer) = io::pipe().unwrap();
        let (idle, _peer) = pair();
        let (masks, mut clone) = (Masks::new(), reader.try_clone().unwrap());
        io_loop.add_handler(reader, asked, masks.handler()).unwrap();
        io_loop.add_handler(idle.as_raw_fd(), Events::READ, |_, _| {}).unwrap();
        turn(&io_loop);
        writer.write_all(b"x").unwrap();
        // This takes in what the kernel has to tell.
        assert!(io_loop.remove_handler(&idle));
        clone.read_exact(&mut [0]).unwrap();
        (0..2).for_each(|_| turn(&io_loop));
        assert_eq!(masks.take(), []);
    }
}
