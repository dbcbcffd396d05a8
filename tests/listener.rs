//! Listeners: what is accepted, when, and what becomes of it.

mod stress_support;

use futures::future::{FutureExt, join};
use futures::{StreamExt, poll};
use ringloop::net::{IoStream, ListenerError, TcpListener, UnixListener};
use ringloop::{IoLoop, KernelFeatures, LoopError, Panics, time};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::MutexGuard;
use std::task::Poll;
use std::time::Duration;
use stress_support::{Count, alone, assert_open_fds, open_fds, turn, turn_at_most, turn_until};

const SHORT: Duration = Duration::from_millis(2);

fn build(without: KernelFeatures) -> IoLoop {
    let builder = IoLoop::builder().entries(64).cq_entries(4096).without(without);
    builder.panics(Panics::Propagate).build().unwrap()
}

/// Runs a test on a loop as it is, and on one that has to poll and accept by hand. Nothing is left
/// open in the end.
fn both_ways(test: impl Fn(&IoLoop)) {
    let _alone: MutexGuard<'_, ()> = alone();
    drop(build(KernelFeatures::empty()));
    for without in [KernelFeatures::empty(), KernelFeatures::MULTISHOT_ACCEPT] {
        let before = open_fds();
        let io_loop = build(without);
        test(&io_loop);
        drop(io_loop);
        assert_open_fds(before);
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

fn connect_many(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// True if the other side has closed the connection: nothing was sent on it.
fn is_closed(mut client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    match client.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[track_caller]
fn run<F, Fut>(io_loop: &IoLoop, body: F) -> Fut::Output
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    io_loop.run_sync(body, Some(Duration::from_secs(30))).unwrap()
}

fn assert_same(stream: &IoStream, client: &TcpStream) {
    assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(stream.local_addr().unwrap(), client.peer_addr().unwrap());
}

#[test]
fn accept_gives_the_connections_in_the_order_in_which_they_came() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        run(io_loop, async || {
            for client in &clients {
                assert_same(&listener.accept().await.unwrap(), client);
            }
        });
    });
}

#[test]
fn accept_waits_for_a_connection_that_comes_later() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let client = Rc::new(RefCell::new(None));
        let later = client.clone();
        io_loop.call_later(SHORT, move || drop(later.replace(Some(connect(address)))));
        let stream = run(io_loop, async || listener.accept().await.unwrap());
        assert_same(&stream, client.borrow().as_ref().unwrap());
    });
}

#[test]
fn bytes_go_both_ways_over_what_was_accepted() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = connect(address);
        client.write_all(b"ping").unwrap();
        run(io_loop, async || {
            let stream = listener.accept().await.unwrap();
            assert_eq!(stream.read_bytes(4).await.unwrap(), b"ping");
            stream.write(&b"pong"[..]).await.unwrap();
        });
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    });
}

#[test]
fn five_accepts_that_took_too_long_take_no_connection_with_them() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = None;
        let stream = run(io_loop, async || {
            for _ in 0..5 {
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
            }
            client = Some(connect(address));
            listener.accept().await.unwrap()
        });
        assert_same(&stream, &client.unwrap());
    });
}

#[test]
fn a_connection_that_comes_between_two_accepts_is_there_for_the_second() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let mut client = None;
        let stream = run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            client = Some(connect(address));
            // The kernel has accepted it by then, with nobody waiting.
            time::sleep(SHORT).await;
            listener.accept().await.unwrap()
        });
        assert_same(&stream, &client.unwrap());
    });
}

/// Whenever an accept is dropped, the connections go to the others.
#[test]
fn an_accept_dropped_after_any_number_of_polls_loses_no_connection() {
    const CLIENTS: usize = 3;
    for polls in 0..8 {
        both_ways(|io_loop| {
            let (listener, address) = listen();
            let mut clients = Vec::new();
            let streams = run(io_loop, async || {
                let mut streams = Vec::new();
                let mut accept = Box::pin(listener.accept());
                for number in 0..polls {
                    if number == 2 {
                        clients = connect_many(address, CLIENTS);
                    }
                    if let Poll::Ready(stream) = poll!(&mut accept) {
                        streams.push(stream.unwrap());
                        break;
                    }
                    time::sleep(Duration::ZERO).await;
                }
                drop(accept);
                if clients.is_empty() {
                    clients = connect_many(address, CLIENTS);
                }
                while streams.len() < CLIENTS {
                    streams.push(listener.accept().await.unwrap());
                }
                streams
            });
            streams.iter().zip(&clients).for_each(|(stream, client)| assert_same(stream, client));
        });
    }
}

#[test]
fn an_accept_that_loses_a_select_takes_no_connection_with_it() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 20);
        let streams = run(io_loop, async || {
            let mut streams = Vec::new();
            while streams.len() < clients.len() {
                let mut accept = pin!(listener.accept().fuse());
                let mut other = pin!(time::sleep(Duration::ZERO).fuse());
                futures::select_biased! {
                    () = other => {}
                    stream = accept => streams.push(stream.unwrap()),
                }
                // Without the other one, to get on.
                if let Some(stream) = listener.accept().now_or_never() {
                    streams.push(stream.unwrap());
                }
            }
            streams
        });
        for (stream, client) in streams.iter().zip(&clients) {
            assert_same(stream, client);
        }
    });
}

#[test]
fn those_who_wait_are_served_in_order_and_one_who_leaves_passes_its_turn_on() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let accept = || {
            let listener = listener.clone();
            io_loop.spawn(async move { listener.accept().await.unwrap() })
        };
        let (first, second, third) = (accept(), accept(), accept());
        (0..3).for_each(|_| turn(io_loop));
        let before = open_fds();
        let mut clients = vec![connect(address)];
        turn_until(io_loop, || open_fds() > before + 1);
        // The first is woken, and ends without having looked.
        first.abort();
        let second = run(io_loop, || second).unwrap();
        assert_same(&second, &clients[0]);
        assert!(!third.is_finished());
        clients.push(connect(address));
        let third = run(io_loop, || third).unwrap();
        assert_same(&third, &clients[1]);
    });
}

#[test]
fn several_tasks_may_accept_at_a_time() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let count = Count::default();
        for _ in 0..4 {
            let (listener, count) = (listener.clone(), count.clone());
            io_loop.spawn(async move {
                for _ in 0..25 {
                    listener.accept().await.unwrap();
                    count.hit();
                }
            });
        }
        turn(io_loop);
        let clients = connect_many(address, 100);
        turn_until(io_loop, || count.get() == 100);
        drop(clients);
    });
}

#[test]
fn incoming_is_a_stream_of_connections_that_ends_when_the_listener_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 10);
        let count = Count::default();
        run(io_loop, async || {
            let serve = async {
                let mut incoming = listener.incoming();
                while let Some(stream) = StreamExt::next(&mut incoming).await {
                    assert_same(&stream.unwrap(), &clients[count.get()]);
                    count.hit();
                }
                assert!(incoming.next().await.is_none());
            };
            let close = async {
                while count.get() < clients.len() {
                    time::sleep(SHORT).await;
                }
                listener.close();
            };
            join(serve, close).await;
        });
    });
}

#[test]
fn nothing_is_accepted_before_somebody_asks() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let client = connect(address);
        let before = open_fds();
        (0..3).for_each(|_| turn(io_loop));
        assert_open_fds(before);
        drop((listener, client));
    });
}

#[test]
fn when_the_queue_is_full_the_rest_waits_in_the_backlog() {
    const CLIENTS: usize = 100;
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(8);
        let clients = connect_many(address, CLIENTS);
        let before = open_fds();
        let mut taken = Vec::new();
        run(io_loop, async || taken.push(listener.accept().await.unwrap()));
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8, "one is taken, and seven wait");
        // Down to four, and nothing more; then, again up to eight.
        run(io_loop, async || {
            for _ in 0..2 {
                taken.push(listener.accept().await.unwrap());
            }
        });
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8);
        run(io_loop, async || taken.push(listener.accept().await.unwrap()));
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 4 + 8);
        run(io_loop, async || {
            while taken.len() < CLIENTS {
                taken.push(listener.accept().await.unwrap());
            }
        });
        taken.iter().zip(&clients).for_each(|(stream, client)| assert_same(stream, client));
    });
}

#[test]
fn a_queue_that_fills_while_the_kernel_accepts_is_emptied_all_the_same() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(1);
        run(io_loop, async || {
            for _ in 0..20 {
                // Armed on an empty backlog, and full with the first that comes.
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
                let clients = connect_many(address, 3);
                for client in &clients {
                    assert_same(&listener.accept().await.unwrap(), client);
                }
            }
        });
    });
}

#[test]
fn when_the_queue_fills_while_the_kernel_accepts_the_rest_waits_in_the_backlog() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        listener.set_accept_limit(8);
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        let before = open_fds();
        let first = connect_many(address, 8);
        (0..3).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 8 + 8, "both ends of all");
        let rest = connect_many(address, 50);
        let before = open_fds();
        (0..3).for_each(|_| turn(io_loop));
        assert_open_fds(before);
        run(io_loop, async || {
            for client in first.iter().chain(&rest) {
                assert_same(&listener.accept().await.unwrap(), client);
            }
        });
    });
}

#[test]
fn a_listener_that_is_emptied_while_it_stops_goes_on_when_it_has_stopped() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let before = open_fds();
            let clients = connect_many(address, 3);
            while open_fds() < before + 2 * clients.len() {
                time::sleep(SHORT).await;
            }
            // The kernel may have made them before the loop has heard of it.
            time::sleep(SHORT).await;
            // That is too many now; but then they are gone before the kernel has heard of it.
            listener.set_accept_limit(2);
            for client in &clients {
                let stream = listener.accept().now_or_never().unwrap().unwrap();
                assert_same(&stream, client);
            }
            let mut accept = Box::pin(listener.accept());
            assert!(poll!(&mut accept).is_pending());
            let client = connect(address);
            assert_same(&accept.await.unwrap(), &client);
        });
    });
}

/// Tornado's batch: what is queued is handed out over several turns.
#[test]
fn no_turn_accepts_more_than_the_limit_out_of_a_long_backlog() {
    const CLIENTS: usize = 500;
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, CLIENTS);
        let accepted = Count::default();
        let count = accepted.clone();
        let serving = io_loop.spawn(async move {
            while listener.accept().await.is_ok() {
                count.hit();
            }
        });
        let mut before = 0;
        for _ in 0..CLIENTS {
            turn(io_loop);
            let now = accepted.get();
            assert!(now - before <= 128, "{} in one turn", now - before);
            before = now;
        }
        assert_eq!(before, CLIENTS);
        serving.abort();
        turn(io_loop);
        drop(clients);
    });
}

#[test]
fn a_connection_reset_before_it_is_accepted_harms_nobody() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let gone = connect(address);
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        let client = connect(address);
        run(io_loop, async || {
            let mut stream = listener.accept().await.unwrap();
            if stream.peer_addr().is_err() {
                stream.read_bytes(1).await.unwrap_err();
                stream = listener.accept().await.unwrap();
            }
            assert_same(&stream, &client);
        });
    });
}

#[test]
fn close_frees_the_port_at_once_while_the_loop_does_not_run() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        // Never armed, armed, and with a full queue.
        listener.close();
        for connections in [0, 3] {
            let listener = rebind(address);
            listener.set_accept_limit(2);
            let clients = connect_many(address, connections);
            assert!(listener.accept().now_or_never().is_none());
            (0..3).for_each(|_| turn(io_loop));
            listener.close();
            drop(rebind(address));
            assert!(clients.iter().all(is_closed));
        }
    });
}

/// Fails as long as somebody else listens there.
#[track_caller]
fn rebind(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).expect("the port is free")
}

#[test]
fn close_frees_the_port_by_the_end_of_the_turn_while_the_loop_runs() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let waiting = listener.clone();
        let task = io_loop.spawn(async move { waiting.accept().await.map(drop) });
        turn(io_loop);
        turn(io_loop);
        io_loop.add_callback(move || listener.close());
        turn(io_loop);
        drop(rebind(address));
        let error = run(io_loop, async || task.await.unwrap()).unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
    });
}

#[test]
fn dropping_a_listener_closes_it_and_what_nobody_has_taken() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        run(io_loop, async || drop(listener.accept().await.unwrap()));
        turn(io_loop);
        drop(listener);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
    });
}

#[test]
fn a_closed_listener_says_so_again_and_again() {
    both_ways(|io_loop| {
        let (listener, _) = listen();
        listener.close();
        listener.close();
        run(io_loop, async || {
            for _ in 0..2 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
            }
        });
        let error = listener.local_addr().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::Closed));
        assert_eq!(listener.as_raw_fd(), -1);
    });
}

#[test]
fn closing_the_loop_frees_the_port_although_the_listener_is_still_there() {
    let _alone = alone();
    for turns in 0..3 {
        let before = open_fds();
        let io_loop = build(KernelFeatures::empty());
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let clients = connect_many(address, 3);
        listener.set_accept_limit(2);
        if turns > 0 {
            let waiting = listener.clone();
            io_loop.spawn(async move { drop(waiting.accept().await) });
            (0..turns).for_each(|_| turn(&io_loop));
        }
        io_loop.close(false).unwrap();
        drop(std::net::TcpListener::bind(address).expect("the port is free"));
        assert!(clients.iter().all(is_closed));
        let error = listener.accept().now_or_never().unwrap().unwrap_err();
        assert_eq!(ListenerError::of(&error), Some(ListenerError::LoopClosed));
        drop((io_loop, listener, clients));
        assert_open_fds(before);
    }
}

#[test]
fn a_listener_needs_a_loop_that_is_open() {
    let _alone = alone();
    IoLoop::clear_current();
    let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    let io_loop = build(KernelFeatures::empty());
    io_loop.close(false).unwrap();
    let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::Closed));
}

#[test]
fn an_address_in_use_is_named_in_the_error() {
    both_ways(|_| {
        let (_listener, address) = listen();
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn a_socket_that_does_not_listen_is_an_error_of_accept() {
    both_ways(|io_loop| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = TcpListener::from_std(socket.unwrap().into()).unwrap();
        run(io_loop, async || {
            for _ in 0..2 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            }
            let error = listener.incoming().next().await.unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        });
    });
}

#[test]
fn unix_connections_are_accepted_likewise() {
    both_ways(|io_loop| {
        let path = std::env::temp_dir().join(format!("ringloop-listener-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let mut clients: Vec<_> =
            (0..3).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        run(io_loop, async || {
            time::timeout(SHORT, async {}).await.unwrap();
            for client in &mut clients {
                client.write_all(b"x").unwrap();
                let stream = listener.accept().await.unwrap();
                assert_eq!(stream.read_bytes(1).await.unwrap(), b"x");
                assert_eq!(stream.peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
            }
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        drop(listener);
        std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
    });
}

/// The process's limit of descriptors, lowered to what is open and a few more; restored at the end.
struct LowLimit(libc::rlimit);

impl LowLimit {
    fn spare(count: usize) -> LowLimit {
        let highest = File::open("/dev/null").unwrap().as_raw_fd() as usize;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid to write to.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
        let low = LowLimit(limit);
        low.set((highest + count) as libc::rlim_t);
        low
    }

    fn set(&self, current: libc::rlim_t) {
        let limit = libc::rlimit { rlim_cur: current, ..self.0 };
        // SAFETY: `limit` is valid to read from.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    }
}

impl Drop for LowLimit {
    fn drop(&mut self) {
        self.set(self.0.rlim_cur);
    }
}

#[test]
fn out_of_descriptors_a_listener_pauses_and_goes_on_when_a_stream_is_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 5);
        let _limit = LowLimit::spare(2);
        let mut streams = Vec::new();
        run(io_loop, async || {
            streams.push(listener.accept().await.unwrap());
            streams.push(listener.accept().await.unwrap());
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        assert_eq!(io_loop.metrics().accept_pauses, 1);
        // One after the other, each as soon as there is a descriptor, before any pause is over.
        for client in &clients[2..] {
            streams.remove(0);
            let before = io_loop.metrics().timeouts;
            let stream = run(io_loop, async || listener.accept().await.unwrap());
            assert_same(&stream, client);
            assert_eq!(io_loop.metrics().timeouts, before);
            streams.push(stream);
            // Until it has run into the limit again.
            (0..4).for_each(|_| turn(io_loop));
        }
    });
}

#[test]
fn out_of_descriptors_a_listener_does_not_spin() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 3);
        let limit = LowLimit::spare(0);
        let before = io_loop.metrics();
        run(io_loop, async || {
            time::timeout(Duration::from_millis(150), listener.accept()).await.unwrap_err();
        });
        let after = io_loop.metrics();
        assert_eq!(after.accept_pauses - before.accept_pauses, 1, "one shortage, counted once");
        // Pauses of 10, 20, 40 and 80 ms; a turn or two for each.
        let turns = after.turns - before.turns;
        assert!(turns <= 16, "{turns} turns");
        assert!(after.submissions - before.submissions <= 16);
        // Descriptors that come from elsewhere are found after a while.
        drop(limit);
        let stream = run(io_loop, async || listener.accept().await.unwrap());
        assert_same(&stream, &clients[0]);
    });
}

#[test]
fn a_listener_that_pauses_can_be_closed() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let clients = connect_many(address, 1);
        let limit = LowLimit::spare(0);
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
        });
        listener.close();
        assert_eq!(io_loop.metrics().timeouts_pending, 0);
        drop(limit);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
    });
}

#[test]
fn a_shortage_while_the_kernel_accepts_is_survived() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        // The kernel looks the limit up when a request is made, so it is low before that.
        let _limit = LowLimit::spare(10);
        let clients: Vec<_> = (0..4).map(|_| blank_socket()).collect();
        run(io_loop, async || {
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            let mut full: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            full.pop();
            for client in &clients {
                client.connect(&address.into()).unwrap();
            }
            let mut streams = vec![listener.accept().await.unwrap()];
            time::timeout(SHORT, listener.accept()).await.unwrap_err();
            assert_eq!(io_loop.metrics().accept_pauses, 1);
            drop(full);
            while streams.len() < clients.len() {
                streams.push(listener.accept().await.unwrap());
            }
            for (stream, client) in streams.iter().zip(&clients) {
                let client = client.local_addr().unwrap().as_socket();
                assert_eq!(stream.peer_addr().ok(), client);
            }
        });
    });
}

fn blank_socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

#[test]
fn accepted_sockets_are_non_blocking_and_not_inherited() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, async || {
            // One out of the backlog, and one by the kernel.
            for _ in 0..2 {
                let client = connect(address);
                let stream = listener.accept().await.unwrap();
                let socket = socket2::SockRef::from(&stream);
                assert!(socket.nonblocking().unwrap());
                // SAFETY: passes no memory.
                let flags = unsafe { libc::fcntl(stream.as_fd().as_raw_fd(), libc::F_GETFD) };
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
                time::timeout(SHORT, listener.accept()).await.unwrap_err();
                drop(client);
            }
        });
    });
}

#[test]
fn a_listener_is_closed_by_who_is_woken_by_it() {
    both_ways(|io_loop| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let clients = connect_many(address, 40);
        let count = Count::default();
        let (closing, closed) = (listener.clone(), count.clone());
        io_loop.spawn(async move {
            let stream = closing.accept().await.unwrap();
            closing.close();
            closed.hit();
            drop(stream);
        });
        turn_at_most(io_loop, 20, || count.get() == 1);
        turn(io_loop);
        drop(rebind(address));
        assert!(clients.iter().all(is_closed));
        drop(listener);
    });
}

#[test]
fn a_forked_child_does_not_hold_the_port() {
    let _alone = alone();
    let io_loop = build(KernelFeatures::empty());
    let (listener, address) = listen();
    assert!(listener.accept().now_or_never().is_none());
    turn(&io_loop);
    turn(&io_loop);
    let (mut reader, mut writer) = io::pipe().unwrap();
    let (mut goes_on, hold) = io::pipe().unwrap();
    // SAFETY: the child drops what it has, writes a byte, waits, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => {
            drop(hold);
            drop(listener);
            let _ = writer.write_all(b"x");
            let _ = goes_on.read(&mut [0]);
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(0) }
        }
        child => {
            reader.read_exact(&mut [0]).unwrap();
            listener.close();
            drop(rebind(address));
            drop(hold);
            let mut status = -1;
            // SAFETY: `status` is valid to write to.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0);
        }
    }
}
