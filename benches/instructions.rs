//! User-space instructions per operation, counted by callgrind: the same on every machine and in
//! every run, whatever else goes on.
//!
//!     cargo bench --bench instructions
//!
//! Each scenario runs twice under `valgrind --tool=callgrind`, with different numbers of
//! operations; the difference is what one operation takes, everything included: the system call
//! wrappers, and what the handlers do themselves (one `read(2)`, or nothing).

use ringloop::{Events, IoLoop, IoStream, Trigger};
use std::cell::RefCell;
use std::fs::File;
use std::future::{Future, poll_fn, ready};
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Descriptors that are ready in one turn.
const BATCH: usize = 64;
const ROUNDS: [usize; 2] = [200, 400];

type Scenario = fn(&IoLoop, usize) -> io::Result<()>;

const SCENARIOS: [(&str, Scenario, Option<u64>); 13] = [
    ("event, level-triggered", level, Some(150)),
    ("the same with a read and a write", level_with_io, None),
    ("event, edge-triggered, with a write", edge, None),
    ("a write alone", writes, None),
    ("turn with one event", turns, None),
    ("add_callback and its call", callbacks, None),
    ("call_later and remove_timeout", timeouts, None),
    ("add_handler and remove_handler", registrations, None),
    ("spawn and join a trivial task", spawns, None),
    ("wake and poll a task", wakes, None),
    ("turn with one task that yields", yields, None),
    ("echo of 64 bytes on a stream", echoes, None),
    ("two turns with one of them", echo_alone, None),
];

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [] => report(),
        [scenario, rounds] => {
            let index: usize = scenario.parse().map_err(io::Error::other)?;
            let rounds = rounds.parse().map_err(io::Error::other)?;
            SCENARIOS[index].1(&IoLoop::new()?, rounds)
        }
        _ => Err(io::Error::other("usage: cargo bench --bench instructions")),
    }
}

fn report() -> io::Result<()> {
    println!("{:>34}  instructions  bound", "one");
    for (index, (name, _, bound)) in SCENARIOS.iter().enumerate() {
        let [few, many] = ROUNDS;
        let difference = count(index, many)? - count(index, few)?;
        let each = difference as f64 / ((many - few) * BATCH) as f64;
        let bound = bound.map_or_else(|| "-".to_owned(), |bound| bound.to_string());
        println!("{name:>34}  {each:>12.1}  {bound:>5}");
    }
    Ok(())
}

/// Instructions of a whole run, by callgrind's summary on standard error.
fn count(scenario: usize, rounds: usize) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([scenario.to_string(), rounds.to_string()])
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("valgrind: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| io::Error::other(format!("valgrind counted nothing:\n{text}")))
}

fn eventfd() -> io::Result<File> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Every descriptor is ready in every turn, because nothing is ever read: the loop and nothing else.
fn level(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let files = register(io_loop, Trigger::Level, |_| {})?;
    write_all(&files)?;
    for _ in 0..rounds {
        io_loop.turn(Some(Duration::ZERO))?;
    }
    check(io_loop, rounds)
}

fn level_with_io(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let files = register(io_loop, Trigger::Level, |mut file| {
        assert_eq!(file.read(&mut [0; 8]).expect("it is ready"), 8);
    })?;
    written_anew(io_loop, &files, rounds)
}

fn edge(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let files = register(io_loop, Trigger::Edge, |_| {})?;
    written_anew(io_loop, &files, rounds)
}

fn writes(_: &IoLoop, rounds: usize) -> io::Result<()> {
    let files = eventfds(BATCH)?;
    (0..rounds).try_for_each(|_| write_all(&files))
}

/// One descriptor is ready in every turn.
fn turns(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let file = eventfd()?;
    (&file).write_all(&1u64.to_ne_bytes())?;
    let mut left = rounds * BATCH;
    io_loop.add_handler(file, Events::READ, move |_, _| {
        left -= 1;
        if left == 0 {
            IoLoop::current().stop();
        }
    })?;
    io_loop.start()
}

fn eventfds(number: usize) -> io::Result<Vec<Rc<File>>> {
    (0..number).map(|_| eventfd().map(Rc::new)).collect()
}

fn register(
    io_loop: &IoLoop,
    trigger: Trigger,
    handler: impl Fn(&File) + Copy + 'static,
) -> io::Result<Vec<Rc<File>>> {
    let files = eventfds(BATCH)?;
    for file in &files {
        let call = move |file: &mut Rc<File>, _| handler(file);
        io_loop.add_handler_with(file.clone(), Events::READ, trigger, call)?;
    }
    Ok(files)
}

/// Every descriptor is written to once per turn.
fn written_anew(io_loop: &IoLoop, files: &[Rc<File>], rounds: usize) -> io::Result<()> {
    for _ in 0..rounds {
        write_all(files)?;
        io_loop.turn(Some(Duration::ZERO))?;
    }
    check(io_loop, rounds)
}

fn write_all(files: &[Rc<File>]) -> io::Result<()> {
    files.iter().try_for_each(|file| (&**file).write_all(&1u64.to_ne_bytes()))
}

fn check(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let calls = io_loop.metrics().handler_calls;
    match calls >= ((rounds - 1) * BATCH) as u64 {
        true => Ok(()),
        false => Err(io::Error::other(format!("only {calls} calls"))),
    }
}

fn callbacks(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    for _ in 0..rounds {
        for number in 0..BATCH {
            io_loop.add_callback(move || assert!(number < BATCH));
        }
        io_loop.turn(Some(Duration::ZERO))?;
    }
    Ok(())
}

fn timeouts(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    for _ in 0..rounds {
        for number in 0..BATCH {
            let timeout =
                io_loop.call_later(Duration::from_secs(60), move || assert!(number < BATCH));
            io_loop.remove_timeout(timeout);
        }
    }
    Ok(())
}

fn registrations(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let file = Rc::new(eventfd()?);
    for _ in 0..rounds {
        for _ in 0..BATCH {
            io_loop.add_handler(file.clone(), Events::READ, |_, _| {})?;
            io_loop.remove_handler(&*file);
        }
    }
    Ok(())
}

fn spawns(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..rounds {
        tasks.extend((0..BATCH).map(|number| io_loop.spawn(ready(number))));
        io_loop.turn(Some(Duration::ZERO))?;
        for (number, mut task) in tasks.drain(..).enumerate() {
            let joined = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(joined, Poll::Ready(Ok(output)) if output == number));
        }
    }
    Ok(())
}

fn yields(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let mut left = rounds * BATCH;
    let task = poll_fn(move |context| match left {
        0 => Poll::Ready(()),
        _ => {
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    io_loop.run_sync(|| task, None).map_err(io::Error::other)
}

/// Wakes by value, as channels and locks do. The tasks pass their waker on in each poll.
fn wakes(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    for _ in 0..BATCH {
        let wakers = wakers.clone();
        drop(io_loop.spawn(poll_fn(move |context| -> Poll<()> {
            wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })));
    }
    for _ in 0..rounds {
        io_loop.turn(Some(Duration::ZERO))?;
        wakers.take().into_iter().for_each(Waker::wake);
    }
    let polls = io_loop.metrics().task_polls;
    assert_eq!(polls, (rounds * BATCH) as u64);
    Ok(())
}

/// Each stream is sent 64 bytes in every turn, and sends them back: with the write and the read at
/// the other end, which are one system call each.
fn echoes(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    echo_on(BATCH, io_loop, rounds)
}

fn echo_alone(io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    echo_on(1, io_loop, rounds * BATCH)
}

fn echo_on(streams: usize, io_loop: &IoLoop, rounds: usize) -> io::Result<()> {
    let mut peers = Vec::with_capacity(streams);
    for _ in 0..streams {
        let (stream, peer) = UnixStream::pair()?;
        peer.set_nonblocking(true)?;
        peers.push(peer);
        let stream = IoStream::new(stream)?;
        drop(io_loop.spawn(async move {
            while let Ok(Some(piece)) = stream.chunk().await {
                if stream.write(piece).buffered().await.is_err() {
                    return;
                }
            }
        }));
    }
    io_loop.turn(Some(Duration::ZERO))?;
    let mut echoed = 0;
    for _ in 0..rounds {
        for mut peer in &peers {
            peer.write_all(&[1; 64])?;
        }
        // Received; then read, written and sent.
        for _ in 0..2 {
            io_loop.turn(Some(Duration::ZERO))?;
        }
        for mut peer in &peers {
            echoed += peer.read(&mut [0; 64])?;
        }
    }
    assert_eq!(echoed, rounds * streams * 64);
    Ok(())
}
