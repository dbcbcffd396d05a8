//! The examples as their users run them: processes of their own, driven through sockets.

mod stress_support;
mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;
use stress_support::raise_fd_limit;
use support::watchdog;

const CLIENTS: usize = 500;

/// The same server, on streams and with a handler.
const ECHO_SERVERS: [&str; 2] = ["echo_server", "handler_echo"];

/// An example's executable: a neighbour of this test's.
fn example(name: &str) -> Command {
    watchdog();
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(path.exists(), "{path:?} is missing: run `cargo build --examples` first");
    Command::new(path)
}

/// A server, listening on a port that was free.
struct Server {
    process: Child,
    address: SocketAddr,
    /// What it prints, line by line, to the end.
    lines: Receiver<String>,
}

impl Server {
    fn start(name: &str) -> Server {
        Server::start_with(name, &[])
    }

    fn start_with(name: &str, more: &[&str]) -> Server {
        raise_fd_limit();
        let mut command = example(name);
        command.arg("127.0.0.1:0").args(more).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let greeting = lines.recv().unwrap();
        let address = greeting.strip_prefix("listening on ").unwrap().parse().unwrap();
        Server { process, address, lines }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The sockets that it has open; one is the listener.
    fn sockets(&self) -> usize {
        let is_socket = |path: PathBuf| {
            std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
        };
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        open.filter(|entry| is_socket(entry.as_ref().unwrap().path())).count()
    }

    /// Waits until it has let go of all its clients.
    fn wait_until_idle(&self) {
        // One more, the last in its backlog, is proof that it has accepted all.
        let mut last = self.connect();
        last.shutdown(Shutdown::Write).unwrap();
        assert_eq!(last.read(&mut [0]).unwrap(), 0);
        while self.sockets() > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The most memory it has ever had, in KiB.
    fn peak_memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// As Ctrl-C does.
    fn interrupt(&self) {
        // SAFETY: passes no memory; the process is ours, and not waited for yet.
        let result = unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGINT) };
        assert_eq!(result, 0);
    }

    /// Ctrl-C, and its clean end; the lines printed that have not been read.
    fn stop(mut self) -> Vec<String> {
        self.interrupt();
        let status: ExitStatus = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        let mut lines: Vec<_> = self.lines.iter().collect();
        assert_eq!(lines.pop().as_deref(), Some("stopped"));
        lines
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended by `stop` already, or a test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger`, of that size, and lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

fn assert_at_end(mut stream: TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn assert_reset(mut stream: TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// What an example says, on one line, that cannot go on.
fn complaint(example: &mut Command) -> String {
    let Output { status, stderr, .. } = example.stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// Sends a line and waits for it to come back.
fn assert_echoes(stream: &mut TcpStream, line: &str) {
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, line.as_bytes());
}

#[test]
fn the_echo_server_serves_500_clients_with_resets_and_half_closes_among_them() {
    ECHO_SERVERS.into_iter().for_each(serve_500_clients);
}

fn serve_500_clients(name: &str) {
    let server = Server::start(name);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for round in 0..4 {
        let line = |number: usize| format!("{round}: client {number}\n").repeat(1 + number % 50);
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(line(number).as_bytes()).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate().rev() {
            let mut answer = vec![0; line(number).len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, line(number).as_bytes());
        }
        if round == 1 {
            // Every fifth goes, with or without an answer on its way, and another one comes.
            for (number, client) in clients.iter_mut().enumerate().step_by(5) {
                if number % 2 == 0 {
                    client.write_all(b"not waited for").unwrap();
                }
                reset(std::mem::replace(client, server.connect()));
            }
        }
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => reset(client),
            _ => {
                let text = format!("{number}: the last word");
                client.write_all(text.as_bytes()).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, text);
            }
        }
    }
    server.wait_until_idle();
    assert_echoes(&mut server.connect(), "still there\n");
    server.stop();
}

/// Sends all of it, and half-closes; reads nothing before it has to, which is when the server has
/// stopped reading.
fn send_without_reading(mut stream: TcpStream, text: &[u8]) -> TcpStream {
    let mut sender = stream.try_clone().unwrap();
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(text).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
            done.send(()).unwrap();
        });
        // A sender that does not get through in this time is held up by us.
        let held_up = is_done.recv_timeout(Duration::from_millis(200)).is_err();
        assert!(held_up, "the server took all, although nobody read what it sent");
        let mut piece = vec![0; 50_000];
        for expected in text.chunks(piece.len()) {
            let piece = &mut piece[..expected.len()];
            stream.read_exact(piece).unwrap();
            assert!(piece == expected, "what came back is not what was sent");
        }
    });
    stream
}

#[test]
fn the_echo_server_waits_for_slow_readers_and_keeps_nothing_but_what_it_read_last() {
    ECHO_SERVERS.into_iter().for_each(wait_for_slow_readers);
}

fn wait_for_slow_readers(name: &str) {
    const SLOW: usize = 3;
    const LENGTH: usize = 24 << 20;
    let server = Server::start(name);
    let mut random = fastrand::Rng::with_seed(3);
    let text: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(LENGTH).collect();
    thread::scope(|scope| {
        for _ in 0..SLOW {
            let stream = server.connect();
            scope.spawn(|| assert_at_end(send_without_reading(stream, &text)));
        }
        // The others do not wait for those.
        let mut quick = server.connect();
        (0..200).for_each(|number| assert_echoes(&mut quick, &format!("quick {number}\n")));
    });
    let memory = server.peak_memory();
    // Half of what was sent. Besides what readers have not taken there is the pool of buffers.
    assert!(memory < SLOW * LENGTH / 2 / 1024, "{memory} KiB");
    server.wait_until_idle();
    server.stop();
}

#[test]
fn the_echo_server_survives_slow_readers_that_reset() {
    ECHO_SERVERS.into_iter().for_each(survive_slow_readers_that_reset);
}

fn survive_slow_readers_that_reset(name: &str) {
    let server = Server::start(name);
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.set_nonblocking(true).unwrap();
        // Fills everything between here and there, and back.
        while stream.write(&[7; 100_000]).is_ok() {}
        reset(stream);
    }
    server.wait_until_idle();
    assert_echoes(&mut server.connect(), "still there\n");
    server.stop();
}

#[test]
fn the_tcp_server_prints_what_each_of_500_clients_said_and_nothing_twice() {
    let server = Server::start("tcp_server");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    // Slowly, in pieces, in turns.
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            write!(client, "{number}.{round} ").unwrap();
        }
    }
    let said = |number: usize| (0..5).map(|round| format!("{number}.{round}")).collect::<Vec<_>>();
    let mut expected = Vec::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        match number % 4 {
            0 => reset(client),
            kind => {
                let address = client.local_addr().unwrap();
                expected.push(format!("{address}: {}", said(number).join(" ")));
                if kind == 1 {
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_at_end(client);
                } else if kind == 2 {
                    // With blanks that it trims.
                    client.write_all(b"\n").unwrap();
                }
            }
        }
    }
    server.wait_until_idle();
    let mut printed = server.stop();
    // But for the one who came to see whether it is idle, and said nothing.
    printed.retain(|line| !line.ends_with(": "));
    printed.sort();
    expected.sort();
    for (printed, expected) in printed.iter().zip(&expected) {
        assert_eq!(printed, expected);
    }
    assert_eq!(printed.len(), expected.len());
}

#[test]
fn the_tcp_server_hangs_up_on_who_says_too_much_and_serves_the_others() {
    let server = Server::start("tcp_server");
    let mut chatterbox = server.connect();
    let outcome = (0..64).try_for_each(|_| chatterbox.write_all(&[b'x'; 1 << 20]));
    assert!(outcome.is_err(), "all was listened to");
    let mut brief = server.connect();
    brief.write_all(b"brief").unwrap();
    let address = brief.local_addr().unwrap();
    drop(brief);
    assert_eq!(server.lines.recv().unwrap(), format!("{address}: brief"));
    assert_eq!(server.stop(), Vec::<String>::new());
}

#[test]
fn servers_say_in_plain_words_that_an_address_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["echo_server", "handler_echo", "tcp_server", "chat", "proxy"] {
        let message = complaint(example(name).arg(&address));
        let expected = format!("cannot listen at {address}: Address already in use");
        assert!(message.starts_with(&expected), "{name}: {message}");
    }
}

#[test]
fn servers_say_at_the_start_what_to_type_for_a_place_to_listen_at() {
    for name in ["echo_server", "handler_echo", "tcp_server", "chat", "proxy"] {
        for place in ["--help", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":0"] {
            let message = complaint(example(name).arg(place));
            assert!(message.starts_with(&format!("{place:?}: ")), "{name}: {message}");
            assert!(message.contains("localhost:7777 or [::1]:7777"), "{name}: {message}");
        }
    }
}

#[test]
fn clients_and_proxies_say_at_the_start_what_to_type_for_a_place_to_connect_to() {
    for place in ["localhost", "::1", "::1:7777", "[::1]", ":7777", "[]:7777", "localhost:x", ""] {
        let client = complaint(example("line_client").arg(place));
        let proxy = complaint(example("proxy").args(["127.0.0.1:0", place]));
        for message in [client, proxy] {
            assert!(message.starts_with(&format!("{place:?}: ")), "{message}");
            assert!(message.contains("localhost:7777 or [::1]:7777"), "{message}");
        }
    }
}

#[test]
fn clients_and_proxies_connect_to_ipv6_addresses_in_brackets() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let place = listener.local_addr().unwrap().to_string();
    let echo = || {
        let mut line = String::new();
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(line.as_bytes()).unwrap();
    };
    let mut command = example("line_client");
    let client = command.arg(&place).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut client = client.unwrap();
    client.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    echo();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.stdout, format!("connected to {place}\nhello\n").as_bytes());
    let proxy = Server::start_with("proxy", &[&place]);
    let mut client = proxy.connect();
    thread::scope(|scope| {
        scope.spawn(echo);
        assert_echoes(&mut client, "hello\n");
    });
    proxy.stop();
}

fn catches_interrupts(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (libc::SIGINT - 1) != 0
}

#[test]
fn a_server_whose_output_nobody_reads_any_more_ends_like_others() {
    for name in ["echo_server", "handler_echo", "tcp_server", "chat", "proxy"] {
        let mut server = example(name);
        server.arg("127.0.0.1:0").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        drop(output);
        while !catches_interrupts(server.id()) {
            thread::yield_now();
        }
        // SAFETY: passes no memory; the process is ours, and not waited for yet.
        assert_eq!(unsafe { libc::kill(server.id() as libc::pid_t, libc::SIGINT) }, 0);
        let Output { status, stderr, .. } = server.wait_with_output().unwrap();
        let complaint = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), &*complaint), (Some(0), ""), "{name}");
    }
}

#[test]
fn control_c_ends_a_server_with_clients_and_frees_its_port_at_once() {
    for name in ["echo_server", "handler_echo", "tcp_server", "chat"] {
        let server = Server::start(name);
        let clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
        // One that has come and gone: the server is past its start.
        drop(server.connect());
        while server.sockets() < 1 + clients.len() {
            thread::yield_now();
        }
        let address = server.address;
        server.stop();
        clients.into_iter().for_each(assert_at_end);
        drop(TcpListener::bind(address).expect("the port is free"));
    }
}

#[test]
fn the_proxy_hands_on_both_ways_with_half_closes_and_back_pressure() {
    // More than all the kernel's buffers on the way.
    const LENGTH: usize = 96 << 20;
    let echo = Server::start("echo_server");
    let proxy = Server::start_with("proxy", &[&echo.address.to_string()]);
    let mut clients: Vec<_> = (0..100).map(|_| proxy.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_echoes(client, &format!("client {number}\n"));
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => reset(client),
            _ => {
                client.write_all(b"the last word").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "the last word");
            }
        }
    }
    let text: Vec<u8> = (0..LENGTH).map(|number| ((number * number) >> 7) as u8).collect();
    assert_at_end(send_without_reading(proxy.connect(), &text));
    let memory = proxy.peak_memory();
    // Half of what was sent. Besides what is under way there is the pool of buffers.
    assert!(memory < LENGTH / 2 / 1024, "{memory} KiB");
    proxy.wait_until_idle();
    echo.wait_until_idle();
    proxy.stop();
    echo.stop();
}

#[test]
fn the_proxy_resets_clients_when_there_is_nobody_to_talk_to_and_goes_on() {
    let echo = Server::start("echo_server");
    let address = echo.address;
    let proxy = Server::start_with("proxy", &[&address.to_string()]);
    assert_echoes(&mut proxy.connect(), "hello\n");
    echo.stop();
    assert_reset(proxy.connect());
    assert_reset(proxy.connect());
    proxy.stop();
}

#[test]
fn the_proxy_resets_one_side_when_the_other_one_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let proxy = Server::start_with("proxy", &[&address]);
    for is_client in [true, false] {
        let mut client = proxy.connect();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let (breaks_off, other) = if is_client { (client, server) } else { (server, client) };
        reset(breaks_off);
        assert_reset(other);
    }
    proxy.stop();
}

fn read_line(client: &mut impl BufRead) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn the_chat_tells_everybody_but_the_one_who_speaks_and_shows_the_deaf_the_door() {
    const LINE: usize = 32 * 1024;
    let chat = Server::start("chat");
    let mut speaker = chat.connect();
    let speaks = speaker.local_addr().unwrap();
    let mut listener = BufReader::new(chat.connect());
    let listens = listener.get_ref().local_addr().unwrap();
    let deaf = chat.connect();
    let is_deaf = deaf.local_addr().unwrap();
    for _ in 0..3 {
        assert!(chat.lines.recv().unwrap().ends_with(" joins"));
    }
    speaker.write_all(b"hello\n").unwrap();
    assert_eq!(read_line(&mut listener), format!("{speaks}: hello\n"));
    writeln!(listener.get_ref(), "hi").unwrap();
    let mut speaker = BufReader::new(speaker);
    assert_eq!(read_line(&mut speaker), format!("{listens}: hi\n"));
    // More than the kernel keeps for somebody who does not listen.
    let line = "x".repeat(LINE);
    let mut lines = 0;
    let news = loop {
        if let Ok(news) = chat.lines.try_recv() {
            break news;
        }
        writeln!(speaker.get_ref(), "{line}").unwrap();
        assert_eq!(read_line(&mut listener).trim_end(), format!("{speaks}: {line}"));
        lines += 1;
        assert!(lines < 4096, "the deaf one is still there");
    };
    assert_eq!(news, format!("{is_deaf} is too slow"));
    assert_eq!(chat.lines.recv().unwrap(), format!("{is_deaf} leaves"));
    assert!(chat.peak_memory() < 64 * 1024);
    writeln!(speaker.get_ref(), "bye").unwrap();
    assert_eq!(read_line(&mut listener), format!("{speaks}: bye\n"));
    drop(deaf);
    assert_eq!(chat.stop(), Vec::<String>::new());
}

#[test]
fn the_line_client_prints_the_answers_and_what_keeps_it_from_getting_any() {
    let echo = Server::start("echo_server");
    let mut command = example("line_client");
    command.arg(echo.address.to_string());
    let client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut client = client.unwrap();
    client.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let Output { status, stdout, .. } = client.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    let expected = format!("connected to {}\none\ntwo\n", echo.address);
    assert_eq!(String::from_utf8(stdout).unwrap(), expected);
    let address = echo.address.to_string();
    echo.stop();
    let message = complaint(example("line_client").arg(&address));
    assert!(message.contains("Connection refused"), "{message}");
    // One that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = example("line_client");
    command.arg(silent.local_addr().unwrap().to_string());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = command.spawn().unwrap();
    client.stdin.as_mut().unwrap().write_all(b"anybody?\n").unwrap();
    let (_connection, _) = silent.accept().unwrap();
    let Output { status, stderr, .. } = client.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&stderr);
    assert_eq!((status.code(), &*message), (Some(1), "timed out\n"));
}

fn run(name: &str) -> String {
    let Output { status, stdout, stderr } = example(name).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{status}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

#[test]
fn the_timers_example_does_in_order_and_in_time_what_it_says() {
    let text = run("timers");
    let lines = text.lines().map(|line| line.trim().split_once(" ms  ").unwrap());
    let (times, what): (Vec<u64>, Vec<_>) =
        lines.map(|(time, what)| (time.parse::<u64>().unwrap(), what)).unzip();
    let expected = [
        (0, "starts"),
        (300, "once, 300 ms after the start"),
        (300, "at the same time, and second"),
        (500, "tick"),
        (600, "cancels the timeout of one second"),
        (1000, "tick"),
        (1500, "tick"),
        (2000, "tick"),
        (2100, "stops"),
    ];
    assert_eq!(what, expected.map(|(_, what)| what));
    for (time, (earliest, what)) in times.into_iter().zip(expected) {
        assert!(time >= earliest, "{what} at {time} ms");
    }
}

#[test]
fn the_cross_thread_example_adds_up_the_work_of_all_threads() {
    let text = run("cross_thread");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    // The primes below 200,000.
    assert!(lines[3].ends_with("; 17984 so far"), "{text}");
    assert!(lines[4].starts_with("4 results took "), "{text}");
}
