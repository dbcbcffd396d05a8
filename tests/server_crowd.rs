//! Ten thousand connections at once, whose other ends are in a process of their own.

mod counting;
mod stress_support;
mod support;

use counting::live_bytes;
use ringloop::net::{StreamError, TcpListener, TcpServer};
use ringloop::{IoLoop, IoStream, Panics, time};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use stress_support::{alone, assert_open_fds, open_fds, raise_fd_limit};
use support::turn;

const CROWD: usize = 10_000;
/// Fewer are no crowd.
const FEWEST: usize = 2_000;
/// Descriptors for all else, on either side.
const SPARE: usize = 100;
/// As many connect and have not been answered yet.
const BATCH: usize = 500;
/// Said to the client's process: what it is to connect to, and the number of its connections.
const INSIDE: &str = "RINGLOOP_TEST_CROWD";
const TEST: &str = "ten_thousand_connections_at_once_are_served_and_leave_nothing";
/// Of the loop's own memory. A connection holds a task with a stream in it.
const MOST_BYTES_EACH: isize = 1500;

const LENGTH: usize = 32;
type Message = [u8; LENGTH];

/// What connection `number` says in a round, or is told. No two are alike.
fn message(number: u64, round: u64, is_reply: bool) -> Message {
    let mut message = [0; LENGTH];
    let seed = (number << 8) | (round << 1) | u64::from(is_reply);
    fastrand::Rng::with_seed(seed).fill(&mut message[8..]);
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// The connections, in a process of their own.
struct Clients(Child);

impl Clients {
    fn start(server: SocketAddr, control: SocketAddr, count: usize) -> Clients {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST])
            .env(INSIDE, format!("{server} {control} {count}"))
            .stdout(Stdio::null())
            .spawn();
        Clients(child.unwrap())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Over already, unless this test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that the client's process does.
fn be_the_crowd(told: &str) {
    support::watchdog();
    raise_fd_limit();
    let mut told = told.split(' ');
    let mut next = || told.next().unwrap();
    let (server, control): (SocketAddr, SocketAddr) =
        (next().parse().unwrap(), next().parse().unwrap());
    let count: usize = next().parse().unwrap();
    let mut control = TcpStream::connect(control).unwrap();
    let mut ready = || {
        control.write_all(b"x").unwrap();
        control.read_exact(&mut [0]).unwrap();
    };
    ready();
    let mut crowd = Vec::with_capacity(count);
    while crowd.len() < count {
        let first = crowd.len();
        let more = BATCH.min(count - first);
        crowd.extend((0..more).map(|_| TcpStream::connect(server).unwrap()));
        say(&mut crowd[first..], first, 0);
        listen(&mut crowd[first..], first, 0);
    }
    ready();
    // Now all at once.
    say(&mut crowd, 0, 1);
    listen(&mut crowd, 0, 1);
    ready();
    drop(crowd);
    ready();
}

fn say(crowd: &mut [TcpStream], first: usize, round: u64) {
    for (number, stream) in (first as u64..).zip(crowd) {
        stream.write_all(&message(number, round, false)).unwrap();
    }
}

fn listen(crowd: &mut [TcpStream], first: usize, round: u64) {
    for (number, stream) in (first as u64..).zip(crowd) {
        let mut reply = [0; LENGTH];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, message(number, round, true), "{number}, {round}");
    }
}

/// Answers until the other side ends it.
async fn answer(stream: IoStream, seen: Rc<RefCell<HashSet<u64>>>) -> std::io::Result<()> {
    for round in 0.. {
        let said = match stream.read_bytes(LENGTH).await {
            Err(error) if StreamError::of(&error) == Some(StreamError::Ended) => break,
            said => said?,
        };
        let number = u64::from_le_bytes(said[..8].try_into().unwrap());
        assert_eq!(said, message(number, round, false), "{number}, {round}");
        assert_eq!(seen.borrow_mut().insert(number), round == 0, "{number} comes once");
        stream.write(&message(number, round, true)).await?;
    }
    Ok(())
}

#[test]
fn ten_thousand_connections_at_once_are_served_and_leave_nothing() {
    if let Ok(told) = std::env::var(INSIDE) {
        return be_the_crowd(&told);
    }
    let _alone = alone();
    let limit = raise_fd_limit();
    let count = CROWD.min(limit.saturating_sub(SPARE));
    assert!(count >= FEWEST, "{limit} descriptors (ulimit -Hn) are too few for a crowd");
    let build = || {
        // Far fewer buffers than connections: who is idle holds none.
        let builder = IoLoop::builder().buffers(256, 4096).panics(Panics::Propagate);
        builder.build().unwrap()
    };
    drop(build());
    let before = open_fds();
    let io_loop = build();
    let seen: Rc<RefCell<HashSet<u64>>> = Rc::new(RefCell::new(HashSet::with_capacity(2 * count)));
    let (table, backlog) = (seen.clone(), 2 * BATCH as u32);
    let server = TcpServer::builder().listen("127.0.0.1", 0).backlog(backlog);
    let server = server.serve(move |stream| answer(stream, table.clone())).unwrap();
    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients = Clients::start(server.local_addrs()[0], control.local_addr().unwrap(), count);
    let everything = async || {
        let control = control.accept().await.unwrap();
        control.read_bytes(1).await.unwrap();
        let (fds, bytes) = (open_fds(), live_bytes());
        control.write(b"x").await.unwrap();
        control.read_bytes(1).await.unwrap();
        assert_eq!(server.connections(), count);
        assert_eq!(open_fds(), fds + count);
        assert_eq!(seen.borrow().len(), count);
        let each = (live_bytes() - bytes) / count as isize;
        assert!(each < MOST_BYTES_EACH, "{each} bytes for each idle connection");
        control.write(b"x").await.unwrap();
        control.read_bytes(1).await.unwrap();
        assert_eq!(server.connections(), count);
        control.write(b"x").await.unwrap();
        control.read_bytes(1).await.unwrap();
        while server.connections() > 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
        control.write(b"x").await.unwrap();
        assert_eq!(control.read_partial(1).await.unwrap(), b"");
    };
    io_loop.run_sync(everything, Some(Duration::from_secs(60))).unwrap();
    assert!(clients.0.wait().unwrap().success());
    drop((server, control, clients));
    turn(&io_loop);
    drop(io_loop);
    assert_open_fds(before);
}
