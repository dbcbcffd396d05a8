//! Sockets that send often, in the ring's own table of files: they get there, and are closed all the same.

mod stream_support;
mod support;

use ringloop::{IoLoop, IoStream, KernelFeatures, Panics, time};
use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;
use stream_support::{errno, read_all, run, settle, stream, tcp_stream};
use support::{at_end, in_child, in_own_process, move_to, watchdog};

/// Sends, each in a turn of its own, after which a socket is in the table.
const SENDS: usize = 17;

/// Runs a test with a table, where the kernel has one for us, and without.
fn both_ways(test: impl Fn(&IoLoop)) {
    for without in [KernelFeatures::empty(), KernelFeatures::REGISTERED_FILES] {
        watchdog();
        let builder = IoLoop::builder().panics(Panics::Propagate).without(without);
        test(&builder.build().unwrap());
    }
}

/// Whether the loop puts sockets into a table.
fn registers(io_loop: &IoLoop) -> bool {
    let needed =
        KernelFeatures::REGISTERED_FILES | KernelFeatures::CQE_SKIP | KernelFeatures::SILENT_SEND;
    io_loop.metrics().features.contains(needed)
}

/// What the kernel calls an open file: the same for all its descriptors.
fn name(fd: RawFd) -> String {
    fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().to_str().unwrap().to_owned()
}

/// Whether a ring of this process has a file in its table.
fn is_registered(name: &str) -> bool {
    // A ring that somebody else looks into does not show its table.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let rings = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let is_ring =
            fs::read_link(&path).is_ok_and(|file| file.ends_with("anon_inode:[io_uring]"));
        is_ring.then(|| fs::read_to_string(path.to_str().unwrap().replace("/fd/", "/fdinfo/")))
    });
    // Those of other tests come and go.
    rings.flatten().any(|info| info.lines().any(|line| line.trim_end().ends_with(name)))
}

/// Sends `times` bytes, each with a system call of its own.
fn send_often(io_loop: &IoLoop, stream: &IoStream, times: usize) {
    for _ in 0..times {
        stream.write("x").queued().unwrap();
        settle(io_loop);
    }
}

/// Has a stream send until it is in the table, if there is one; what the kernel calls it.
#[track_caller]
fn register(io_loop: &IoLoop, stream: &IoStream) -> String {
    send_often(io_loop, stream, SENDS);
    let name = name(stream.as_raw_fd());
    assert_eq!(is_registered(&name), registers(io_loop));
    name
}

/// Reads what [`register`] has sent.
#[track_caller]
fn read_sends(mut peer: impl Read) {
    let mut bytes = [0; SENDS];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [b'x'; SENDS]);
}

#[test]
fn a_socket_that_has_sent_often_is_registered_and_sends_on() {
    both_ways(|io_loop| {
        for (stream, peer) in [tcp_stream_and_reader(), unix_stream_and_reader()] {
            send_often(io_loop, &stream, SENDS - 1);
            let name = name(stream.as_raw_fd());
            assert!(!is_registered(&name));
            send_often(io_loop, &stream, 1);
            assert_eq!(is_registered(&name), registers(io_loop));
            send_often(io_loop, &stream, 100);
            drop(stream);
            settle(io_loop);
            assert!(!is_registered(&name));
            assert_eq!(read_all(peer), [b'x'; SENDS + 100]);
        }
    });
}

fn tcp_stream_and_reader() -> (IoStream, Box<dyn Read>) {
    let (stream, peer) = tcp_stream();
    (stream, Box::new(peer))
}

fn unix_stream_and_reader() -> (IoStream, Box<dyn Read>) {
    let (stream, peer) = stream();
    (stream, Box::new(peer))
}

#[test]
fn the_descriptor_of_a_registered_socket_is_not_looked_up_to_send() {
    both_ways(|io_loop| {
        const NUMBER: RawFd = 710;
        let (stream, peer) = stream_at(NUMBER);
        register(io_loop, &stream);
        read_sends(&peer);
        // SAFETY: the stream is forgotten below, and nobody else has the number.
        unsafe { libc::close(NUMBER) };
        let result = run(io_loop, async || stream.write("x").await);
        std::mem::forget(stream);
        match registers(io_loop) {
            true => assert_eq!((result.unwrap(), (&peer).read(&mut [0; 2]).unwrap()), ((), 1)),
            false => assert_eq!(errno(result), libc::EBADF),
        }
    });
}

#[test]
fn what_a_registered_socket_cannot_send_at_once_is_sent_when_there_is_room() {
    both_ways(|io_loop| {
        let (stream, mut peer) = tcp_stream();
        register(io_loop, &stream);
        let mut written = 0;
        while !stream.writing() || written == 0 {
            stream.write(vec![written as u8; 50_000]).queued().unwrap();
            written += 1;
            settle(io_loop);
        }
        let reader = std::thread::spawn(move || {
            read_sends(&mut peer);
            for number in 0..written {
                let mut piece = vec![0; 50_000];
                peer.read_exact(&mut piece).unwrap();
                assert!(piece == vec![number as u8; 50_000], "piece {number}");
            }
        });
        run(io_loop, async || stream.flush().await.unwrap());
        reader.join().unwrap();
    });
}

#[test]
fn the_peer_of_a_registered_stream_sees_its_end_while_the_loop_sleeps() {
    both_ways(|io_loop| {
        let (stream, peer) = tcp_stream();
        register(io_loop, &stream);
        run(io_loop, async || {
            drop(stream);
            // Nothing else happens until it has come.
            let received = io_loop.run_in_executor(move || read_all(peer)).await.unwrap();
            assert_eq!(received.len(), SENDS);
        });
    });
}

#[test]
fn the_last_data_of_a_registered_stream_comes_before_its_end() {
    both_ways(|io_loop| {
        let (stream, peer) = tcp_stream();
        register(io_loop, &stream);
        run(io_loop, async || {
            stream.write("last words").queued().unwrap();
            drop(stream);
            let received = io_loop.run_in_executor(move || read_all(peer)).await.unwrap();
            assert!(received.ends_with(b"last words"));
        });
    });
}

#[test]
fn the_peer_of_a_registered_stream_sees_its_end_at_once_if_the_loop_does_not_run() {
    both_ways(|io_loop| {
        let (stream, peer) = stream();
        register(io_loop, &stream);
        read_sends(&peer);
        peer.set_nonblocking(true).unwrap();
        drop(stream);
        assert!(at_end(&peer));
    });
}

#[test]
fn a_registered_stream_that_is_closed_with_data_queued_leaves_nothing_behind() {
    both_ways(|io_loop| {
        let (stream, peer) = stream();
        let name = register(io_loop, &stream);
        read_sends(&peer);
        stream.write("never mind").queued().unwrap();
        stream.close();
        drop(stream);
        settle(io_loop);
        assert!(!is_registered(&name));
        assert_eq!(read_all(&peer), b"");
    });
}

/// A stream whose descriptor has a number of the test's choice.
fn stream_at(number: RawFd) -> (IoStream, UnixStream) {
    let (stream, peer) = UnixStream::pair().unwrap();
    let stream = IoStream::new(move_to(stream, number)).unwrap();
    (stream, peer)
}

#[test]
fn a_number_that_is_used_again_is_the_next_streams() {
    for running in [true, false] {
        both_ways(|io_loop| {
            const NUMBER: RawFd = 711;
            let (first, first_peer) = stream_at(NUMBER);
            let name_of_first = register(io_loop, &first);
            match running {
                true => run(io_loop, async || {
                    drop(first);
                    time::sleep(Duration::from_millis(1)).await;
                }),
                false => drop(first),
            }
            assert!(!is_registered(&name_of_first));
            let (second, second_peer) = stream_at(NUMBER);
            second.write("y").queued().unwrap();
            settle(io_loop);
            assert!(!is_registered(&name(NUMBER)), "it starts anew");
            register(io_loop, &second);
            drop(second);
            settle(io_loop);
            assert_eq!(read_all(&first_peer), [b'x'; SENDS]);
            assert_eq!(read_all(&second_peer), [b"y".as_slice(), &[b'x'; SENDS]].concat());
        });
    }
}

#[test]
fn a_number_taken_from_a_registered_stream_behind_its_back_is_the_next_streams() {
    both_ways(|io_loop| {
        const NUMBER: RawFd = 712;
        let (first, first_peer) = stream_at(NUMBER);
        let name_of_first = register(io_loop, &first);
        // It still has the number.
        std::mem::forget(first);
        let (second, second_peer) = stream_at(NUMBER);
        second.write("y").queued().unwrap();
        settle(io_loop);
        assert!(!is_registered(&name_of_first));
        register(io_loop, &second);
        drop(second);
        settle(io_loop);
        assert_eq!(read_all(&first_peer), [b'x'; SENDS]);
        assert_eq!(read_all(&second_peer), [b"y".as_slice(), &[b'x'; SENDS]].concat());
    });
}

#[test]
fn a_stream_that_has_lost_its_descriptor_when_it_is_to_be_registered_fails_alone() {
    both_ways(|io_loop| {
        const NUMBER: RawFd = 713;
        let (first, first_peer) = stream_at(NUMBER);
        send_often(io_loop, &first, SENDS - 1);
        // SAFETY: the stream is forgotten below, and nobody else has the number.
        unsafe { libc::close(NUMBER) };
        assert_eq!(errno(run(io_loop, async || first.write("x").await)), libc::EBADF);
        std::mem::forget(first);
        let (second, second_peer) = stream_at(NUMBER);
        register(io_loop, &second);
        drop(second);
        settle(io_loop);
        assert_eq!(read_all(&first_peer), [b'x'; SENDS - 1]);
        assert_eq!(read_all(&second_peer), [b'x'; SENDS]);
    });
}

#[test]
fn a_loop_that_is_closed_has_let_go_of_many_registered_streams() {
    const STREAMS: usize = 200;
    both_ways(|io_loop| {
        let (streams, peers): (Vec<_>, Vec<_>) = (0..STREAMS).map(|_| stream()).unzip();
        // As many at once cannot be registered in one turn, but in some.
        for _ in 0..SENDS + STREAMS / 50 {
            for stream in &streams {
                stream.write("x").queued().unwrap();
            }
            settle(io_loop);
        }
        for (stream, peer) in streams.iter().zip(&peers) {
            assert_eq!(is_registered(&name(stream.as_raw_fd())), registers(io_loop));
            assert_eq!((&mut &*peer).read(&mut [0; 100]).unwrap(), SENDS + STREAMS / 50);
            peer.set_nonblocking(true).unwrap();
        }
        io_loop.spawn(async move {
            std::future::pending::<()>().await;
            drop(streams);
        });
        settle(io_loop);
        io_loop.close(false).unwrap();
        assert!(peers.iter().all(at_end));
    });
}

#[test]
fn the_port_of_a_registered_stream_is_free_when_the_loop_is_closed() {
    both_ways(|io_loop| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = own_port();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let stream = IoStream::new(TcpStream::from(socket)).unwrap();
        register(io_loop, &stream);
        read_sends(&peer);
        // Who ends a connection first keeps the port for a while.
        drop(peer);
        io_loop.spawn(async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        settle(io_loop);
        let socket = blank_socket();
        assert_eq!(socket.bind(&address.into()).unwrap_err().kind(), ErrorKind::AddrInUse);
        io_loop.close(false).unwrap();
        socket.bind(&address.into()).unwrap();
    });
}

/// A socket that shares no port.
fn blank_socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

fn own_port() -> socket2::Socket {
    let socket = blank_socket();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket
}

#[test]
fn a_child_that_drops_a_registered_stream_leaves_the_parents_alone() {
    both_ways(|io_loop| {
        let (stream, peer) = stream();
        let name = register(io_loop, &stream);
        let stream = Cell::new(Some(stream));
        in_child(|| {
            drop(stream.take());
            Ok(())
        })
        .unwrap();
        assert_eq!(is_registered(&name), registers(io_loop));
        let stream = stream.take().unwrap();
        send_often(io_loop, &stream, 1);
        drop(stream);
        settle(io_loop);
        assert_eq!(read_all(&peer), [b'x'; SENDS + 1]);
    });
}

/// Sets the process's limit of descriptors, and returns what it was.
fn set_limit(current: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to, and to read from.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, current);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        before
    }
}

#[test]
fn numbers_beyond_the_limit_of_descriptors_are_not_registered() {
    in_own_process("numbers_beyond_the_limit_of_descriptors_are_not_registered", || {
        both_ways(|io_loop| {
            let (low, low_peer) = stream();
            let (high, high_peer) = stream_at(714);
            let before = set_limit(714);
            send_often(io_loop, &high, 2 * SENDS);
            send_often(io_loop, &low, SENDS);
            set_limit(before);
            assert!(!is_registered(&name(high.as_raw_fd())));
            assert_eq!(is_registered(&name(low.as_raw_fd())), registers(io_loop));
            drop((low, high));
            assert_eq!(read_all(&low_peer), [b'x'; SENDS]);
            assert_eq!(read_all(&high_peer), [b'x'; 2 * SENDS]);
        });
    });
}

#[test]
fn a_loop_that_is_refused_a_table_does_without() {
    in_own_process("a_loop_that_is_refused_a_table_does_without", || {
        both_ways(|io_loop| {
            let (stream, peer) = stream();
            // No table is that small.
            let before = set_limit(0);
            send_often(io_loop, &stream, 2 * SENDS);
            set_limit(before);
            let features = io_loop.metrics().features;
            assert!(!registers(io_loop), "{features:?}");
            send_often(io_loop, &stream, 2 * SENDS);
            assert!(!is_registered(&name(stream.as_raw_fd())));
            drop(stream);
            assert_eq!(read_all(&peer), [b'x'; 4 * SENDS]);
        });
    });
}

#[test]
fn a_registered_stream_gives_its_descriptor_to_a_listener_that_waits_for_one() {
    let name = "a_registered_stream_gives_its_descriptor_to_a_listener_that_waits_for_one";
    in_own_process(name, || {
        both_ways(|io_loop| {
            let listener = ringloop::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let (stream, peer) = stream();
            let name = register(io_loop, &stream);
            read_sends(&peer);
            peer.set_nonblocking(true).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let highest = fs::File::open("/dev/null").unwrap().as_raw_fd();
            let before = set_limit(highest as libc::rlim_t);
            run(io_loop, async || {
                time::timeout(Duration::from_millis(5), listener.accept()).await.unwrap_err();
                drop(stream);
                assert!(at_end(&peer));
                listener.accept().await.unwrap();
            });
            set_limit(before);
            assert!(io_loop.metrics().accept_pauses > 0);
            assert!(!is_registered(&name));
        });
    });
}
