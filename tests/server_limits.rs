//! Servers that may have so many connections, and no more.

mod server_support;
mod stress_support;
mod support;

use ringloop::IoLoop;
use ringloop::net::{TcpServer, TcpServerBuilder};
use server_support::{address_of, both_ways, connect, echo_line, local, read_to_end, until_end};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use stress_support::open_fds;
use support::{Count, turn, turn_until};

/// A server that sends each connection's line back.
struct Counting {
    server: TcpServer,
    /// How many connections it serves, and the most that it has served at a time.
    now: Rc<Cell<usize>>,
    most: Count,
}

fn serve_counting(builder: TcpServerBuilder) -> Counting {
    let (most, now) = (Count::default(), Rc::new(Cell::new(0_usize)));
    let (peak, running) = (most.clone(), now.clone());
    let server = builder.serve(move |stream| {
        running.set(running.get() + 1);
        peak.add(running.get().saturating_sub(peak.get()));
        let running = running.clone();
        async move {
            let result = echo_line(stream).await;
            running.set(running.get() - 1);
            result
        }
    });
    Counting { server: server.unwrap(), now, most }
}

fn each_gets_its_line_back(io_loop: &IoLoop, clients: Vec<TcpStream>) {
    for (number, client) in clients.iter().enumerate() {
        writeln!(&*client, "{number}").unwrap();
    }
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(read_to_end(io_loop, client), format!("{number}\n").into_bytes());
    }
}

#[test]
fn no_more_connections_are_served_at_a_time_than_allowed_and_the_rest_waits_in_the_backlog() {
    both_ways(|io_loop, _| {
        let Counting { server, now, most } = serve_counting(local().max_connections(3));
        let clients: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        let before = open_fds();
        turn_until(io_loop, || now.get() == 3);
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 3, "nothing is accepted ahead");
        each_gets_its_line_back(io_loop, clients);
        assert_eq!(most.get(), 3);
    });
}

#[test]
fn the_sockets_of_a_server_share_its_limit() {
    both_ways(|io_loop, _| {
        let builder = local().listen("127.0.0.1", 0).max_connections(2);
        let Counting { server, now, most } = serve_counting(builder);
        let addresses = server.local_addrs();
        let connect = |number: usize| {
            let client = TcpStream::connect(addresses[number % 2]).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        };
        // While both accept.
        turn(io_loop);
        let mut clients: Vec<_> = (0..2).map(|_| connect(0)).collect();
        turn_until(io_loop, || now.get() == 2);
        clients.extend((2..20).map(connect));
        (0..5).for_each(|_| turn(io_loop));
        each_gets_its_line_back(io_loop, clients);
        assert_eq!(most.get(), 2);
    });
}

#[test]
fn a_burst_that_comes_while_a_limited_server_waits_is_accepted_up_to_its_limit() {
    both_ways(|io_loop, _| {
        let Counting { server, now, most } = serve_counting(local().max_connections(3));
        (0..3).for_each(|_| turn(io_loop));
        let clients: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        let before = open_fds();
        turn_until(io_loop, || now.get() == 3);
        (0..5).for_each(|_| turn(io_loop));
        assert_eq!(open_fds() - before, 3, "the rest waits in the backlog");
        each_gets_its_line_back(io_loop, clients);
        assert_eq!(most.get(), 3);
    });
}

/// Connects to a server's places, one after the other, and so often.
fn connect_in_turn(server: &TcpServer, rounds: usize) -> Vec<TcpStream> {
    let addresses = server.local_addrs();
    let clients = addresses.iter().cycle().take(rounds * addresses.len()).map(|address| {
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    });
    clients.collect()
}

#[test]
fn the_sockets_of_a_server_accept_no_more_than_its_limit_together() {
    both_ways(|io_loop, _| {
        for waits in [false, true] {
            let builder = local().listen("127.0.0.1", 0).listen("127.0.0.1", 0).max_connections(4);
            let Counting { server, now, most } = serve_counting(builder);
            if waits {
                (0..3).for_each(|_| turn(io_loop));
            }
            let clients = connect_in_turn(&server, 10);
            let before = open_fds();
            turn_until(io_loop, || now.get() == 4);
            (0..5).for_each(|_| turn(io_loop));
            assert_eq!(open_fds() - before, 4, "the rest waits in the backlogs");
            each_gets_its_line_back(io_loop, clients);
            assert_eq!(most.get(), 4);
        }
    });
}

#[test]
fn a_socket_whose_connection_comes_while_others_have_filled_the_limit_is_served_when_there_is_room()
{
    both_ways(|io_loop, _| {
        let builder = local().listen("127.0.0.1", 0).max_connections(1);
        let Counting { server, now, most } = serve_counting(builder);
        // Both sockets wait for connections.
        (0..3).for_each(|_| turn(io_loop));
        let first = connect(&server);
        turn_until(io_loop, || now.get() == 1);
        (0..3).for_each(|_| turn(io_loop));
        let second = TcpStream::connect(server.local_addrs()[1]).unwrap();
        second.set_nonblocking(true).unwrap();
        (0..3).for_each(|_| turn(io_loop));
        each_gets_its_line_back(io_loop, vec![first]);
        each_gets_its_line_back(io_loop, vec![second]);
        assert_eq!(most.get(), 1);
    });
}

#[test]
fn a_server_at_its_limit_leaves_connections_to_others_that_share_its_socket() {
    both_ways(|io_loop, _| {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = [(); 3].map(|()| {
            let builder = TcpServer::builder().add_socket(socket.try_clone().unwrap());
            builder.max_connections(1).serve(until_end).unwrap()
        });
        (0..3).for_each(|_| turn(io_loop));
        let count = || servers.iter().map(TcpServer::connections).sum::<usize>();
        let clients: Vec<_> = (1..=3)
            .map(|number| {
                let client = connect(&servers[0]);
                turn_until(io_loop, || count() == number);
                client
            })
            .collect();
        assert!(servers.iter().all(|server| server.connections() == 1));
        drop(clients);
        turn_until(io_loop, || count() == 0);
    });
}

#[test]
fn the_sockets_of_a_server_that_is_at_its_limit_take_turns() {
    const ROUNDS: usize = 6;
    both_ways(|io_loop, _| {
        let builder = local().listen("127.0.0.1", 0).listen("127.0.0.1", 0).max_connections(1);
        let served: Rc<RefCell<Vec<u16>>> = Rc::default();
        let order = served.clone();
        let server = builder.serve(move |stream| {
            let place = socket2::SockRef::from(&stream).local_addr().unwrap();
            order.borrow_mut().push(place.as_socket().unwrap().port());
            async {}
        });
        let server = server.unwrap();
        let _clients = connect_in_turn(&server, ROUNDS);
        turn_until(io_loop, || served.borrow().len() == 3 * ROUNDS);
        for round in served.borrow().chunks(3) {
            let places: HashSet<_> = round.iter().collect();
            assert_eq!(places.len(), 3, "{:?}", served.borrow());
        }
    });
}

#[test]
fn a_limited_server_accepts_no_more_in_a_turn_than_one_without_a_limit() {
    const CLIENTS: usize = 300;
    both_ways(|io_loop, _| {
        for builder in [local(), local().max_connections(2 * CLIENTS)] {
            let server = builder.serve(until_end).unwrap();
            let clients: Vec<_> = (0..CLIENTS).map(|_| connect(&server)).collect();
            let mut before = 0;
            for _ in 0..CLIENTS {
                turn(io_loop);
                let now = server.connections();
                assert!(now - before <= 128, "{} in one turn", now - before);
                before = now;
            }
            assert_eq!(before, CLIENTS);
            drop(clients);
            turn_until(io_loop, || server.connections() == 0);
        }
    });
}

#[test]
fn a_limited_server_that_is_full_can_be_stopped() {
    both_ways(|io_loop, _| {
        let server = local().max_connections(1).serve(until_end).unwrap();
        let clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        turn_until(io_loop, || server.connections() == 1);
        turn(io_loop);
        server.stop();
        drop(TcpListener::bind(address_of(&server)).expect("the port is free"));
        clients[0].shutdown(Shutdown::Write).unwrap();
        turn_until(io_loop, || server.connections() == 0);
        turn(io_loop);
        turn(io_loop);
        assert_eq!(io_loop.metrics().tasks, 0);
    });
}
