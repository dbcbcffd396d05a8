//! The end of a loop, at any moment and with anything armed: nothing is left behind.

mod stress_support;
mod support;

use ringloop::{Events, IoLoop, Panics, PeriodicCallback, Trigger};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use stress_support::{
    alone, assert_open_fds, eventfd, open_fds, signal, sized_loop, small_loop, tiny_loop,
};
use support::{Count, pair, turn};

const TRIGGERS: [Trigger; 2] = [Trigger::Level, Trigger::Edge];

/// Runs `body` alone, and asserts that it leaves no descriptor open.
fn leaving_nothing_open(body: impl Fn()) {
    let _alone = alone();
    // Whatever is made once per process.
    drop(small_loop());
    let before = open_fds();
    body();
    assert_open_fds(before);
    assert!(IoLoop::try_current().is_none(), "a loop outlived its test");
}

/// Counts the values that are alive.
#[derive(Default)]
struct Alive(Rc<()>);

impl Alive {
    fn token(&self) -> Rc<()> {
        self.0.clone()
    }

    #[track_caller]
    fn assert_none(&self) {
        assert_eq!(Rc::strong_count(&self.0), 1, "closures, and this, are alive");
    }
}

/// Connections, listeners, an eventfd, timeouts, a periodic callback and callbacks; each closure
/// has a token.
struct Everything {
    address: SocketAddr,
    clients: Vec<TcpStream>,
    peers: Vec<UnixStream>,
    /// Stays with the test: a periodic callback belongs to whoever made it.
    _periodic: PeriodicCallback,
}

fn arm_everything(io_loop: &IoLoop, alive: &Alive) -> Everything {
    let keep = |token: Rc<()>| move || drop(token);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut clients, mut peers) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let trigger = TRIGGERS[number % 2];
        let client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let token = alive.token();
        let interest = if number % 3 == 0 { Events::READ | Events::WRITE } else { Events::READ };
        let handler = move |_: &mut TcpStream, _| drop(token.clone());
        io_loop.add_handler_with(stream, interest, trigger, handler).unwrap();
        clients.push(client);
        let (stream, mut peer) = pair();
        if number % 4 == 0 {
            peer.write_all(b"never read").unwrap();
        }
        let token = alive.token();
        let handler = move |_: &mut UnixStream, _| drop(token.clone());
        io_loop.add_handler_with(stream, interest, trigger, handler).unwrap();
        peers.push(peer);
    }
    for (trigger, listener) in TRIGGERS.into_iter().zip([listener.try_clone().unwrap(), listener]) {
        listener.set_nonblocking(true).unwrap();
        let token = alive.token();
        let handler = move |_: &mut TcpListener, _| drop(token.clone());
        io_loop.add_handler_with(listener, Events::READ, trigger, handler).unwrap();
    }
    let event = eventfd(1).unwrap();
    let token = alive.token();
    io_loop.add_handler(event, Events::READ, move |_, _| drop(token.clone())).unwrap();
    for number in 0..20 {
        io_loop.call_later(Duration::from_millis(number), keep(alive.token()));
        io_loop.call_later(Duration::from_secs(3600 * number), keep(alive.token()));
        io_loop.add_callback(keep(alive.token()));
    }
    let token = alive.token();
    let tick = move || drop(token.clone());
    let _periodic = PeriodicCallback::new(tick, Duration::from_millis(1)).unwrap();
    _periodic.start().unwrap();
    Everything { address, clients, peers, _periodic }
}

impl Everything {
    /// The loop has just ended: everybody knows, and the port is free.
    fn assert_released(self, alive: &Alive) {
        let listener = TcpListener::bind(self.address);
        // Connections that the server ended first linger, which is TCP's way and no listener.
        drop(listener.expect("the port is free"));
        for mut peer in self.peers {
            let end = peer.read(&mut [0; 64]);
            assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        }
        for mut client in self.clients {
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(client.read(&mut [0; 64]).unwrap(), 0);
        }
        drop(self._periodic);
        alive.assert_none();
    }
}

#[test]
fn dropping_a_loop_with_everything_armed_frees_its_port_and_its_descriptors() {
    leaving_nothing_open(|| {
        for turns in [0, 1, 2, 10] {
            for io_loop in [small_loop(), tiny_loop()] {
                let alive = Alive::default();
                let everything = arm_everything(&io_loop, &alive);
                (0..turns).for_each(|_| turn(&io_loop));
                drop(io_loop);
                everything.assert_released(&alive);
            }
        }
    });
}

#[test]
fn a_port_is_bound_again_and_again_by_one_loop_after_another() {
    leaving_nothing_open(|| {
        let mut address = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
        for round in 0..100 {
            let io_loop = small_loop();
            let listener = TcpListener::bind(address).unwrap();
            address = listener.local_addr().unwrap();
            let trigger = TRIGGERS[round % 2];
            io_loop.add_handler_with(listener, Events::READ, trigger, |_, _| {}).unwrap();
            if round % 3 > 0 {
                turn(&io_loop);
            }
        }
    });
}

#[test]
fn a_thousand_loops_in_a_row_leave_nothing_open() {
    leaving_nothing_open(|| {
        for number in 0..1000 {
            let io_loop = sized_loop(4, 8);
            let (stream, mut peer) = pair();
            let called = Count::default();
            let (count, trigger) = (called.clone(), TRIGGERS[number % 2]);
            let handler = move |_: &mut UnixStream, _| count.hit();
            io_loop.add_handler_with(stream, Events::READ, trigger, handler).unwrap();
            peer.write_all(b"x").unwrap();
            turn(&io_loop);
            assert_eq!(called.get(), 1);
        }
    });
}

#[test]
fn loops_of_the_usual_size_follow_each_other_without_running_out_of_memory() {
    leaving_nothing_open(|| {
        for _ in 0..100 {
            let io_loop = IoLoop::new().unwrap();
            turn(&io_loop);
        }
    });
}

#[test]
fn a_loop_that_was_never_started_drops_everything() {
    leaving_nothing_open(|| {
        let alive = Alive::default();
        let io_loop = small_loop();
        let everything = arm_everything(&io_loop, &alive);
        io_loop.stop();
        drop(io_loop);
        everything.assert_released(&alive);
    });
}

#[test]
fn a_loop_given_up_by_its_own_callback_ends_with_its_run() {
    leaving_nothing_open(|| {
        let alive = Alive::default();
        let io_loop = small_loop();
        let everything = arm_everything(&io_loop, &alive);
        let owner = Rc::new(RefCell::new(Some(io_loop)));
        let only = owner.clone();
        let borrowed = owner.borrow().clone().unwrap();
        borrowed.add_callback(move || {
            drop(only.take());
            IoLoop::current().stop();
        });
        borrowed.start().unwrap();
        assert!(owner.borrow().is_none());
        drop(borrowed);
        everything.assert_released(&alive);
    });
}

#[test]
fn another_loop_dropped_inside_a_callback_and_a_handler_ends_at_once() {
    leaving_nothing_open(|| {
        let io_loop = small_loop();
        let alive = Rc::new(Alive::default());
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        let end_another = {
            let alive = alive.clone();
            move || {
                let other = small_loop();
                let everything = arm_everything(&other, &alive);
                turn(&other);
                drop(other);
                everything.assert_released(&alive);
            }
        };
        io_loop.add_callback(end_another.clone());
        io_loop
            .add_handler(stream, Events::READ, move |stream, _| {
                stream.read_exact(&mut [0]).unwrap();
                end_another();
            })
            .unwrap();
        turn(&io_loop);
        assert_eq!(io_loop.metrics().handler_calls, 1);
        drop(io_loop);
    });
}

/// A loop that unwinding drops, in the frame where the panic passes.
fn unwind(panics: Panics, schedule: impl Fn(&IoLoop)) {
    leaving_nothing_open(|| {
        let alive = Alive::default();
        let everything = Cell::new(None);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let io_loop = IoLoop::builder().entries(64).panics(panics).build().unwrap();
            everything.set(Some(arm_everything(&io_loop, &alive)));
            schedule(&io_loop);
            io_loop.start().unwrap();
            panic!("after a loop that caught them all");
        }));
        assert!(unwound.is_err());
        everything.take().unwrap().assert_released(&alive);
    });
}

#[test]
fn a_loop_dropped_by_the_panic_of_a_callback_drops_everything() {
    unwind(Panics::Propagate, |io_loop| io_loop.add_callback(|| panic!("let through")));
}

#[test]
fn a_loop_dropped_by_the_panic_of_a_timeout_drops_everything() {
    unwind(Panics::Propagate, |io_loop| {
        io_loop.call_later(Duration::from_millis(1), || panic!("let through"));
    });
}

#[test]
fn a_loop_dropped_by_the_panic_of_a_handler_drops_everything() {
    unwind(Panics::Propagate, |io_loop| {
        let event = eventfd(1).unwrap();
        io_loop.add_handler(event, Events::READ, |_, _| panic!("let through")).unwrap();
    });
}

#[test]
fn a_loop_dropped_by_a_panic_around_it_drops_everything() {
    unwind(Panics::Catch, |io_loop| {
        io_loop.add_callback(|| panic!("caught"));
        io_loop.call_later(Duration::from_millis(1), || IoLoop::current().stop());
    });
}

#[test]
fn a_loop_that_its_own_handlers_and_timeouts_keep_alive_is_freed_by_close() {
    leaving_nothing_open(|| {
        let alive = Alive::default();
        for _ in 0..10 {
            let io_loop = small_loop();
            let (stream, _peer) = pair();
            let (itself, token) = (io_loop.clone(), alive.token());
            let handler = move |_: &mut UnixStream, _| drop((itself.clone(), token.clone()));
            io_loop.add_handler(stream, Events::READ | Events::WRITE, handler).unwrap();
            let (itself, token) = (io_loop.clone(), alive.token());
            io_loop.call_later(Duration::from_secs(3600), move || drop((itself, token)));
            let (itself, token) = (io_loop.clone(), alive.token());
            io_loop.add_callback(move || drop((itself, token)));
            turn(&io_loop);
            let (itself, token) = (io_loop.clone(), alive.token());
            io_loop.add_callback(move || drop((itself, token)));
            io_loop.close(false).unwrap();
            drop(io_loop);
            alive.assert_none();
        }
    });
}

#[test]
fn a_source_whose_drop_needs_the_loop_finds_it_closed() {
    struct Nosy(OwnedFd, IoLoop, Count);
    impl AsRawFd for Nosy {
        fn as_raw_fd(&self) -> i32 {
            self.0.as_raw_fd()
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            assert!(!self.1.remove_handler(&self.0));
            assert!(self.1.turn(None).is_err());
            let refused = self.1.add_handler(self.0.as_raw_fd(), Events::READ, |_, _| {});
            assert!(refused.is_err());
            self.1.add_callback(|| panic!("runs nowhere"));
            self.1.call_later(Duration::ZERO, || panic!("runs nowhere"));
            self.1.close(true).unwrap();
            self.2.hit();
        }
    }
    leaving_nothing_open(|| {
        let (io_loop, dropped) = (small_loop(), Count::default());
        for number in 0..10 {
            let event = eventfd(number).unwrap();
            let source = Nosy(event, io_loop.clone(), dropped.clone());
            io_loop.add_handler(source, Events::READ, |_, _| {}).unwrap();
        }
        turn(&io_loop);
        io_loop.close(false).unwrap();
        assert_eq!(dropped.get(), 10);
    });
}

#[test]
fn bare_numbers_stay_open_when_the_loop_is_dropped_and_can_be_watched_by_the_next() {
    leaving_nothing_open(|| {
        let event = eventfd(0).unwrap();
        for trigger in TRIGGERS.repeat(20) {
            let io_loop = small_loop();
            let called = Count::default();
            let count = called.clone();
            let handler = move |_: &mut i32, _| count.hit();
            io_loop.add_handler_with(event.as_raw_fd(), Events::READ, trigger, handler).unwrap();
            signal(&event);
            turn(&io_loop);
            assert_eq!(called.get(), 1);
        }
    });
}
