//! Servers whose handlers have ended before everything is sent.

mod stream_support;
mod support;

use ringloop::net::{TcpServer, TcpServerBuilder};
use ringloop::{IoLoop, IoStream};
use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::TcpStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use stream_support::{poll_once, run, settle};
use support::new_loop;

/// More than the kernel takes for a client that does not read.
const ANSWER: usize = 12 << 20;
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

fn local() -> TcpServerBuilder {
    TcpServer::builder().listen("127.0.0.1", 0)
}

fn connect(server: &TcpServer) -> TcpStream {
    TcpStream::connect(server.local_addrs()[0]).unwrap()
}

/// Queues an answer, and does not wait until it is sent.
async fn answer(stream: IoStream) -> std::io::Result<()> {
    stream.write(vec![7; ANSWER]).queued()
}

fn turn_until(io_loop: &IoLoop, condition: impl Fn() -> bool) {
    while !condition() {
        io_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Reads on a thread of its own, until the end or an error.
fn read_on_thread(mut client: TcpStream) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            total += length;
        }
        total
    })
}

#[test]
fn a_connection_counts_until_what_was_written_to_it_is_sent() {
    let io_loop = new_loop();
    let served = Rc::new(Cell::new(0));
    let count = served.clone();
    let server = local().max_connections(2).serve(move |stream| {
        count.set(count.get() + 1);
        answer(stream)
    });
    let server = server.unwrap();
    let clients: Vec<_> = (0..6).map(|_| connect(&server)).collect();
    turn_until(&io_loop, || served.get() == 2);
    settle(&io_loop);
    assert_eq!((served.get(), server.connections()), (2, 2));
    let readers: Vec<_> = clients.into_iter().map(read_on_thread).collect();
    turn_until(&io_loop, || {
        assert!(server.connections() <= 2);
        served.get() == 6 && server.connections() == 0
    });
    readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), ANSWER));
}

#[test]
fn a_graceful_shutdown_waits_until_what_handlers_wrote_is_sent() {
    let io_loop = new_loop();
    let server = local().serve(answer).unwrap();
    let client = connect(&server);
    turn_until(&io_loop, || server.connections() == 1);
    settle(&io_loop);
    let (begin, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        begun.recv().unwrap();
        read_on_thread(client).join().unwrap()
    });
    let cancelled = run(&io_loop, async || {
        let mut shutdown = pin!(server.shutdown(LONG));
        assert!(poll_once(shutdown.as_mut()).is_pending());
        begin.send(()).unwrap();
        shutdown.await
    });
    assert_eq!((cancelled, server.connections()), (0, 0));
    drop(server);
    drop(io_loop);
    assert_eq!(reader.join().unwrap(), ANSWER);
}

#[test]
fn a_shutdown_closes_connections_whose_peers_do_not_read_in_time() {
    let io_loop = new_loop();
    let server = local().serve(answer).unwrap();
    let client = connect(&server);
    turn_until(&io_loop, || server.connections() == 1);
    settle(&io_loop);
    let cancelled = run(&io_loop, async || server.shutdown(SHORT).await);
    assert_eq!((cancelled, server.connections()), (1, 0));
    settle(&io_loop);
    assert!(read_on_thread(client).join().unwrap() < ANSWER);
}

#[test]
fn a_stream_that_its_handler_gave_away_counts_and_is_closed_by_a_shutdown() {
    let io_loop = new_loop();
    let given: Rc<RefCell<Vec<IoStream>>> = Rc::default();
    let away = given.clone();
    let server = local().serve(move |stream| {
        away.borrow_mut().push(stream);
        async {}
    });
    let server = server.unwrap();
    let (first, second) = (connect(&server), connect(&server));
    turn_until(&io_loop, || given.borrow().len() == 2);
    settle(&io_loop);
    assert_eq!(server.connections(), 2);
    drop(given.borrow_mut().pop());
    settle(&io_loop);
    assert_eq!(server.connections(), 1);
    // It is still kept when the shutdown has ended.
    let cancelled = run(&io_loop, async || server.shutdown(SHORT).await);
    assert_eq!((cancelled, server.connections()), (1, 0));
    assert!(given.borrow()[0].is_closed());
    for client in [first, second] {
        assert_eq!(read_on_thread(client).join().unwrap(), 0);
    }
}
