//! Connections to addresses, names and paths.

mod meddling;
mod stress_support;
mod support;

use futures::FutureExt;
use futures::future::join;
use meddling::meddling_waker;
use ringloop::net::{
    Family, OverrideResolver, ResolveError, Resolver, Resolving, StreamError, SystemResolver,
    TcpConnector, TcpListener, UnixListener, connect_tcp,
};
use ringloop::{IoLoop, IoStream, Job, LoopError, Panics, time};
use socket2::{Domain, Socket, Type};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use stress_support::{alone, assert_open_fds, open_fds};
use support::turn;

const SHORT: Duration = Duration::from_millis(2);

/// Runs a test on a loop that looks names up. Threads that do so have descriptors of their own.
fn on_loop_with_threads(test: impl FnOnce(&IoLoop)) {
    let _alone = alone();
    test(&IoLoop::builder().panics(Panics::Propagate).build().unwrap());
}

/// Runs a test on a loop. Nothing is left open in the end.
fn on_loop(test: impl FnOnce(&IoLoop)) {
    let _alone = alone();
    drop(IoLoop::new().unwrap());
    let before = open_fds();
    let io_loop = IoLoop::builder().panics(Panics::Propagate).build().unwrap();
    test(&io_loop);
    drop(io_loop);
    assert_open_fds(before);
}

#[track_caller]
fn run<F, Fut>(io_loop: &IoLoop, body: F) -> Fut::Output
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    io_loop.run_sync(body, Some(Duration::from_secs(30))).unwrap()
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Where nobody listens, and nobody else can for as long as the socket lives.
fn refusing(domain: Domain, address: SocketAddr) -> (Socket, SocketAddr) {
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn refusing_v4() -> (Socket, SocketAddr) {
    refusing(Domain::IPV4, (Ipv4Addr::LOCALHOST, 0).into())
}

/// A listener whose backlog is full: what connects there waits.
fn stuck() -> (std::net::TcpListener, Vec<Socket>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let fill = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        let _ = client.connect(&address);
        client
    };
    let clients = (0..4).map(|_| fill()).collect();
    (socket.into(), clients, address.as_socket().unwrap())
}

/// The number of what the operating system reported, of an error that says more.
fn original(error: &io::Error) -> Option<i32> {
    assert_eq!(error.raw_os_error(), None);
    error.source()?.downcast_ref::<io::Error>()?.raw_os_error()
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringloop-connect-{}-{name}", std::process::id()))
}

/// Knows the addresses of every name.
struct Fixed(Vec<SocketAddr>);

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, _: &'a str, _: u16, _: Option<Family>) -> Resolving<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn to(addresses: &[SocketAddr]) -> TcpConnector {
    TcpConnector::new().resolver(Fixed(addresses.to_vec()))
}

#[test]
fn bytes_go_both_ways_over_a_connection() {
    on_loop(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, || async {
            let (client, server) = join(IoStream::connect(address), listener.accept()).await;
            let (client, server) = (client.unwrap(), server.unwrap());
            assert_eq!(client.peer_addr().unwrap(), address);
            assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
            client.write(&b"ping"[..]).await.unwrap();
            assert_eq!(server.read_bytes(4).await.unwrap(), b"ping");
            server.write(&b"pong"[..]).await.unwrap();
            assert_eq!(client.read_bytes(4).await.unwrap(), b"pong");
        });
    });
}

#[test]
fn sockets_that_are_connected_are_non_blocking_and_not_inherited() {
    on_loop(|io_loop| {
        let (_tcp, address) = listen();
        let name = format!("\0ringloop-flags-{}", std::process::id());
        let _unix = UnixListener::bind(&name).unwrap();
        let tcp = run(io_loop, || IoStream::connect(address)).unwrap();
        let unix = run(io_loop, || IoStream::connect_unix(&name)).unwrap();
        for stream in [tcp, unix] {
            assert!(socket2::SockRef::from(&stream).nonblocking().unwrap());
            // SAFETY: passes no memory.
            let flags = unsafe { libc::fcntl(stream.as_fd().as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    });
}

#[test]
fn a_refused_connection_says_so() {
    on_loop(|io_loop| {
        let (_socket, address) = refusing_v4();
        let error = run(io_loop, || IoStream::connect(address)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        let error = run(io_loop, || connect_tcp("127.0.0.1", address.port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let message = error.to_string();
        assert!(message.contains("127.0.0.1") && message.contains(&address.port().to_string()));
        assert_eq!(original(&error), Some(libc::ECONNREFUSED));
    });
}

#[test]
fn an_attempt_that_is_dropped_closes_its_socket() {
    on_loop(|io_loop| {
        let (_listener, _clients, address) = stuck();
        let before = open_fds();
        // Never polled, polled, and on its way in the kernel.
        drop(IoStream::connect(address));
        assert!(IoStream::connect(address).now_or_never().is_none());
        assert_open_fds(before);
        run(io_loop, || async {
            time::timeout(SHORT, IoStream::connect(address)).await.unwrap_err();
        });
        turn(io_loop);
        assert_open_fds(before);
    });
}

#[test]
fn a_connection_that_is_made_and_not_taken_is_closed() {
    on_loop(|io_loop| {
        let (listener, address) = listen();
        run(io_loop, || async {
            let mut connect = Box::pin(IoStream::connect(address));
            assert!(futures::poll!(&mut connect).is_pending());
            let server = listener.accept().await.unwrap();
            drop(connect);
            assert_eq!(server.read_partial(1).await.unwrap(), b"");
        });
    });
}

#[test]
fn closing_the_loop_gives_up_what_is_on_its_way() {
    let _alone = alone();
    let (_listener, _clients, address) = stuck();
    let before = open_fds();
    let io_loop = IoLoop::builder().panics(Panics::Propagate).build().unwrap();
    let task = io_loop.spawn(IoStream::connect(address));
    turn(&io_loop);
    turn(&io_loop);
    io_loop.close(false).unwrap();
    assert!(task.now_or_never().unwrap().unwrap_err().is_closed());
    drop(io_loop);
    assert_open_fds(before);
}

#[test]
fn connections_that_outlive_their_loop_say_so() {
    let _alone = alone();
    let (_listener, _clients, address) = stuck();
    let io_loop = IoLoop::builder().panics(Panics::Propagate).build().unwrap();
    let mut connections = pin!(join(
        IoStream::connect(address),
        // What is said of an error comes on top of it, but not of this one.
        connect_tcp("127.0.0.1", address.port()),
    ));
    assert!(connections.as_mut().now_or_never().is_none());
    turn(&io_loop);
    io_loop.close(false).unwrap();
    let (direct, by_name) = connections.now_or_never().unwrap();
    for error in [direct.unwrap_err(), by_name.unwrap_err()] {
        assert_eq!(StreamError::of(&error), Some(StreamError::LoopClosed), "{error}");
    }
}

#[test]
fn connecting_needs_a_loop() {
    let _alone = alone();
    IoLoop::clear_current();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let error = IoStream::connect(address).now_or_never().unwrap().unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    let error = connect_tcp("127.0.0.1", 9).now_or_never().unwrap().unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
    let error = IoStream::connect_unix("/nowhere").now_or_never().unwrap().unwrap_err();
    assert_eq!(LoopError::of(&error), Some(&LoopError::NoCurrent));
}

#[test]
fn unix_sockets_are_connected_to_by_path_and_by_abstract_name() {
    on_loop(|io_loop| {
        let path = temporary("unix");
        let name = format!("\0ringloop-connect-{}", std::process::id());
        for path in [path.as_path(), name.as_ref()] {
            let listener = UnixListener::bind(path).unwrap();
            run(io_loop, || async {
                let connect = IoStream::connect_unix(path);
                let (client, server) = join(connect, listener.accept()).await;
                client.unwrap().write(&b"hello"[..]).await.unwrap();
                assert_eq!(server.unwrap().read_bytes(5).await.unwrap(), b"hello");
            });
        }
        let error = run(io_loop, || IoStream::connect_unix(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(original(&error), Some(libc::ECONNREFUSED));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = run(io_loop, || IoStream::connect_unix(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let long = format!("/tmp/{}", "x".repeat(200));
        let error = run(io_loop, || IoStream::connect_unix(&long)).unwrap_err();
        assert!(error.to_string().contains(&long), "{error}");
    });
}

#[test]
fn a_path_is_quoted_in_an_error_and_printable() {
    on_loop(|io_loop| {
        let nobody = format!("\0ringloop-nobody-{}", std::process::id());
        let error = run(io_loop, || IoStream::connect_unix(&nobody)).unwrap_err();
        assert!(error.to_string().contains(&format!("{nobody:?}: ")), "{error}");
        let error = run(io_loop, || IoStream::connect_unix("")).unwrap_err();
        assert!(error.to_string().contains(r#"connect to "": "#), "{error}");
    });
}

#[test]
fn a_path_is_not_cut_off_at_a_zero_byte() {
    on_loop(|io_loop| {
        let path = temporary("zero");
        let listener = UnixListener::bind(&path).unwrap();
        let longer = format!("{}\0.more", path.display());
        let error = run(io_loop, || IoStream::connect_unix(&longer)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{longer:?}: ")), "{error}");
        // It is a name, with a zero byte in it.
        let name = format!("\0{longer}");
        let error = run(io_loop, || IoStream::connect_unix(&name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        drop(listener);
    });
}

#[test]
fn a_unix_connection_waits_for_room_in_the_backlog() {
    on_loop(|io_loop| {
        let path = temporary("backlog");
        let options = ringloop::net::BindUnixOptions::new().backlog(0);
        let socket = ringloop::net::bind_unix_socket(&path, &options).unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let listener = UnixListener::from_std(socket).unwrap();
        run(io_loop, || async {
            let connect = IoStream::connect_unix(&path);
            let serve = async {
                time::sleep(SHORT).await;
                let before = io_loop.metrics().turns;
                time::sleep(10 * SHORT).await;
                let turns = io_loop.metrics().turns - before;
                assert!(turns < 10, "{turns} turns: it asks again and again");
                Ok((listener.accept().await?, listener.accept().await?))
            };
            let (client, _servers) = futures::future::try_join(connect, serve).await.unwrap();
            assert!(client.local_addr().is_err());
        });
        std::fs::remove_file(&path).unwrap();
    });
}

/// The kernel has a thread wait for this, which it begins after the first attempt.
#[test]
fn a_unix_connection_is_given_up_at_whatever_turn() {
    on_loop(|io_loop| {
        let path = temporary("given-up");
        let options = ringloop::net::BindUnixOptions::new().backlog(0);
        let _listener = ringloop::net::bind_unix_socket(&path, &options).unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let before = open_fds();
        for turns in 0..3 {
            let mut connect = Box::pin(IoStream::connect_unix(&path));
            assert!(connect.as_mut().now_or_never().is_none());
            (0..turns).for_each(|_| turn(io_loop));
            drop(connect);
            (0..1000).take_while(|_| open_fds() > before).for_each(|_| {
                io_loop.turn(Some(SHORT)).unwrap();
            });
            assert_open_fds(before);
            let other = IoLoop::builder().make_current(false).build().unwrap();
            let connecting = other.spawn(IoStream::connect_unix(path.clone()));
            (0..=turns).for_each(|_| turn(&other));
            other.close(false).unwrap();
            assert!(connecting.now_or_never().unwrap().unwrap_err().is_closed());
            drop(other);
            assert_open_fds(before);
        }
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    on_loop(|io_loop| {
        let (_socket, refused) = refusing_v4();
        let (_listener, address) = listen();
        let stream = run(io_loop, || async { to(&[refused, address]).connect("x", 1).await });
        assert_eq!(stream.unwrap().peer_addr().unwrap(), address);
    });
}

#[test]
fn the_other_family_is_tried_at_once_when_one_refuses() {
    on_loop(|io_loop| {
        if !has_ipv6() {
            return;
        }
        let (_listener, address) = listen();
        let (_socket, refused) = refusing(Domain::IPV6, (Ipv6Addr::LOCALHOST, 0).into());
        let before = io_loop.metrics().timeouts;
        let stream = run(io_loop, || async { to(&[refused, address]).connect("x", 1).await });
        assert_eq!(stream.unwrap().peer_addr().unwrap(), address);
        assert_eq!(io_loop.metrics().timeouts, before, "it waited for the head start to end");
    });
}

#[test]
fn the_other_family_wins_when_the_first_gives_no_answer_and_its_attempt_is_given_up() {
    on_loop(|io_loop| {
        let Ok(listener) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
        let address = listener.local_addr().unwrap();
        let (_stuck, _clients, silent) = stuck();
        let before = open_fds();
        let stream = run(io_loop, || async { to(&[silent, address]).connect("x", 1).await });
        let stream = stream.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        turn(io_loop);
        drop(stream);
        assert_open_fds(before);
    });
}

#[test]
fn the_head_start_is_three_tenths_of_a_second() {
    let _alone = alone();
    let builder = IoLoop::builder().panics(Panics::Propagate);
    let io_loop = builder.virtual_time().build().unwrap();
    let (_stuck, _clients, silent) = stuck();
    // Whatever comes of this one: it is not tried before.
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
    let connect = io_loop.spawn(async move { to(&[silent, other]).connect("x", 1).await });
    let almost = Duration::from_millis(299);
    run(&io_loop, || time::sleep(almost));
    assert_eq!(io_loop.metrics().timeouts_pending, 1, "the other family is tried too soon");
    run(&io_loop, || time::sleep(Duration::from_millis(300) - almost));
    turn(&io_loop);
    assert_eq!(io_loop.metrics().timeouts_pending, 0, "the other family is tried too late");
    connect.abort();
}

/// Never answers.
struct Slow;

impl Resolver for Slow {
    fn resolve<'a>(&'a self, _: &'a str, _: u16, _: Option<Family>) -> Resolving<'a> {
        Box::pin(pending())
    }
}

/// A loop is dropped while a task of it waits for this.
fn assert_keeps_no_loop<T: 'static>(future: impl Future<Output = T> + 'static) {
    let io_loop = IoLoop::builder().panics(Panics::Propagate).build().unwrap();
    io_loop.set_default_executor(|job: Job| std::mem::forget(job));
    let token = Rc::new(());
    let held = token.clone();
    io_loop.spawn(async move {
        let _held = held;
        future.await
    });
    turn(&io_loop);
    assert_eq!(Rc::strong_count(&token), 2, "it is not waited for");
    drop(io_loop);
    assert_eq!(Rc::strong_count(&token), 1, "it keeps the loop");
}

#[test]
fn what_waits_for_a_connection_or_an_address_does_not_keep_its_loop() {
    on_loop(|_| {
        let (_stuck, _clients, silent) = stuck();
        let connect = |connector: TcpConnector| async move { connector.connect("x", 1).await };
        assert_keeps_no_loop(IoStream::connect(silent));
        assert_keeps_no_loop(connect(to(&[silent])));
        assert_keeps_no_loop(connect(to(&[silent]).timeout(Duration::MAX)));
        assert_keeps_no_loop(connect(TcpConnector::new().resolver(Slow)));
        assert_keeps_no_loop(connect(TcpConnector::new()));
    });
}

#[test]
fn the_time_given_covers_the_lookup_and_the_connection() {
    on_loop(|io_loop| {
        let (_stuck, _clients, silent) = stuck();
        let before = open_fds();
        let connector = to(&[silent]).timeout(SHORT);
        let error = run(io_loop, || connector.connect("silent", 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("silent"), "{error}");
        let connector = TcpConnector::new().resolver(Slow).timeout(SHORT);
        let error = run(io_loop, || connector.connect("slow", 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        turn(io_loop);
        assert_open_fds(before);
        assert_eq!(io_loop.metrics().timeouts_pending, 0);
    });
}

#[test]
fn a_connection_leaves_from_the_source_that_was_asked_for() {
    on_loop(|io_loop| {
        let (_listener, address) = listen();
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
        let connector = TcpConnector::new().source(source);
        let stream = run(io_loop, || connector.connect("127.0.0.1", address.port())).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), source.ip());
        let (free, source) = refusing_v4();
        drop(free);
        let connector = TcpConnector::new().source(source);
        let stream = run(io_loop, || connector.connect("127.0.0.1", address.port())).unwrap();
        assert_eq!(stream.local_addr().unwrap(), source);
    });
}

#[test]
fn a_source_that_is_not_this_machines_is_an_error() {
    on_loop(|io_loop| {
        let (_listener, address) = listen();
        let connector = TcpConnector::new().source("192.0.2.1:0".parse().unwrap());
        let error = run(io_loop, || connector.connect("127.0.0.1", address.port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn only_addresses_of_the_family_asked_for_are_tried() {
    on_loop(|io_loop| {
        let (_listener, address) = listen();
        let other = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
        let connector = to(&[other, address]).family(Family::V4);
        let stream = run(io_loop, || connector.connect("x", 1)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let connector = to(&[address]).family(Family::V6);
        let error = run(io_loop, || connector.connect("x", 1)).unwrap_err();
        assert_eq!(ResolveError::of(&error).unwrap().host(), "x");
        let source = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let connector = to(&[address]).source(source);
        let error = run(io_loop, || connector.connect("x", 1)).unwrap_err();
        assert!(ResolveError::of(&error).is_some());
    });
}

#[test]
fn a_name_without_an_address_is_named_with_what_the_resolver_says() {
    on_loop_with_threads(|io_loop| {
        let error = run(io_loop, || connect_tcp("an impossible name", 80)).unwrap_err();
        let resolve = ResolveError::of(&error).unwrap();
        assert_eq!(resolve.host(), "an impossible name");
        assert!(!resolve.reason().is_empty());
        assert!(error.to_string().contains(resolve.reason()), "{error}");
        let connector = to(&[]);
        let nothing = run(io_loop, || connector.connect("nowhere", 80)).unwrap_err();
        assert_eq!(ResolveError::of(&nothing).unwrap().host(), "nowhere");
    });
}

#[test]
fn localhost_is_resolved_without_holding_the_loop() {
    on_loop_with_threads(|io_loop| {
        let found = run(io_loop, || SystemResolver.resolve("localhost", 80, None)).unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        // By another thread, or it would be there at once.
        assert!(SystemResolver.resolve("localhost", 80, None).now_or_never().is_none());
        // A literal needs no thread.
        let literal = SystemResolver.resolve("::1", 80, None).now_or_never().unwrap().unwrap();
        assert_eq!(literal, ["[::1]:80".parse().unwrap()]);
    });
}

thread_local! {
    /// The names that this thread has looked up.
    static LOOKUPS: Cell<usize> = const { Cell::new(0) };
}

/// Stands in for the C library's function of this name, in all of this program.
///
/// # Safety
///
/// As for that one.
// SAFETY: it has the signature of what it replaces, which it calls.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    result: *mut *mut libc::addrinfo,
) -> c_int {
    type Function = unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const libc::addrinfo,
        *mut *mut libc::addrinfo,
    ) -> c_int;
    LOOKUPS.set(LOOKUPS.get() + 1);
    // SAFETY: the name ends with a zero.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr()) };
    assert!(!next.is_null());
    // SAFETY: that is the function, and it has this type.
    let next = unsafe { std::mem::transmute::<*mut c_void, Function>(next) };
    // SAFETY: the caller's promise.
    unsafe { next(node, service, hints, result) }
}

#[test]
fn a_name_that_nobody_waits_for_any_more_is_not_looked_up() {
    on_loop(|io_loop| {
        let held: Rc<RefCell<Vec<Job>>> = Rc::default();
        let hold = held.clone();
        io_loop.set_default_executor(move |job| hold.borrow_mut().push(job));
        let run_held = || held.take().into_iter().for_each(|job| job());
        assert!(connect_tcp("localhost", 1).now_or_never().is_none());
        turn(io_loop);
        run_held();
        assert_eq!(LOOKUPS.get(), 0);
        let mut waited_for = pin!(SystemResolver.resolve("localhost", 1, None));
        assert!(waited_for.as_mut().now_or_never().is_none());
        turn(io_loop);
        run_held();
        assert_eq!(LOOKUPS.get(), 1);
        turn(io_loop);
        assert!(waited_for.now_or_never().unwrap().is_ok());
    });
}

#[test]
fn names_and_ports_are_overridden_the_more_specific_first() {
    on_loop(|io_loop| {
        let resolver = OverrideResolver::new(SystemResolver)
            .host("a.example", "127.0.0.1")
            .host_port(("a.example", 443), ("127.0.0.2", 1443))
            .host_port_family(("a.example", 443, Family::V4), ("127.0.0.3", 2443))
            .host_port_family(("a.example", 80, Family::V6), ("::1", 2080));
        let resolve = |host, port, family| {
            let found = run(io_loop, || resolver.resolve(host, port, family)).unwrap();
            found[0].to_string()
        };
        let (v4, v6) = (Some(Family::V4), Some(Family::V6));
        assert_eq!(resolve("a.example", 80, None), "127.0.0.1:80");
        assert_eq!(resolve("a.example", 80, v4), "127.0.0.1:80");
        assert_eq!(resolve("a.example", 80, v6), "[::1]:2080");
        assert_eq!(resolve("a.example", 443, None), "127.0.0.2:1443");
        assert_eq!(resolve("a.example", 443, v4), "127.0.0.3:2443");
        assert_eq!(resolve("127.0.0.4", 443, v4), "127.0.0.4:443");
        // What is put in its place has no address of the family.
        let error = run(io_loop, || resolver.resolve("a.example", 443, v6)).unwrap_err();
        assert_eq!(error.host(), "127.0.0.2");
    });
}

#[test]
fn a_resolver_is_asked_for_the_family_that_the_connection_is_to_be_of() {
    on_loop(|io_loop| {
        let (_listener, address) = listen();
        let names = OverrideResolver::new(SystemResolver)
            .host("a.example", "192.0.2.1")
            .host_port_family(("a.example", 80, Family::V4), ("127.0.0.1", address.port()));
        let to_name = TcpConnector::new().resolver(names);
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        for connector in [to_name.clone().family(Family::V4), to_name.source(source)] {
            let stream = run(io_loop, || connector.connect("a.example", 80)).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        }
    });
}

#[test]
fn the_system_is_asked_for_addresses_of_one_family() {
    on_loop_with_threads(|io_loop| {
        let resolve = |host, family| run(io_loop, || SystemResolver.resolve(host, 80, family));
        let found = resolve("localhost", Some(Family::V4)).unwrap();
        assert!(!found.is_empty() && found.iter().all(SocketAddr::is_ipv4), "{found:?}");
        for (host, family) in [("127.0.0.1", Family::V6), ("::1", Family::V4)] {
            assert_eq!(resolve(host, Some(family)).unwrap_err().host(), host);
        }
    });
}

#[test]
fn a_waker_may_poll_a_connection_as_it_is_woken() {
    on_loop(|io_loop| {
        type Connecting = Pin<Box<dyn Future<Output = io::Result<IoStream>>>>;
        let (_listener, address) = listen();
        let connecting: Connecting = Box::pin(IoStream::connect(address));
        let connecting = Rc::new(RefCell::new(Some(connecting)));
        let made: Rc<RefCell<Option<io::Result<IoStream>>>> = Rc::default();
        let (polled, stream) = (connecting.clone(), made.clone());
        let waker = meddling_waker(move || {
            // Not while it is being polled.
            if let Ok(mut connecting) = polled.try_borrow_mut()
                && let Some(result) = connecting.as_mut().and_then(|one| one.now_or_never())
            {
                *connecting = None;
                stream.replace(Some(result));
            }
        });
        let mut context = Context::from_waker(&waker);
        let first = connecting.borrow_mut().as_mut().unwrap().as_mut().poll(&mut context);
        assert!(first.is_pending());
        (0..1000).take_while(|_| made.borrow().is_none()).for_each(|_| {
            io_loop.turn(Some(SHORT)).unwrap();
        });
        let stream = made.take().unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    });
}

#[test]
fn a_waker_may_turn_the_loop_while_it_is_cloned_for_a_connection() {
    on_loop(|io_loop| {
        let (_listener, address) = listen();
        let turning = io_loop.clone();
        let waker = meddling_waker(move || {
            // Refused where a turn is going on.
            (0..3).for_each(|_| drop(turning.turn(Some(Duration::ZERO))));
        });
        let mut connecting = pin!(IoStream::connect(address));
        let stream = match connecting.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(stream) => stream.unwrap(),
            Poll::Pending => run(io_loop, || connecting).unwrap(),
        };
        assert_eq!(stream.peer_addr().unwrap(), address);
    });
}
