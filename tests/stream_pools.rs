//! Pools of buffers: who keeps one, and what happens when there is none.

mod stream_support;
mod support;

use ringloop::{Chunk, IoLoop, IoStream, KernelFeatures, Panics, Payload, Piece};
use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use stream_support::{noise, poll_and_drop, poll_once, read_all, run, send, settle, stream};
use support::{turn, turn_until, watchdog};

fn loop_with(count: u16, size: usize) -> IoLoop {
    watchdog();
    IoLoop::builder().panics(Panics::Propagate).buffers(count, size).build().unwrap()
}

/// Receives one piece, and keeps its buffer, of which it takes up four bytes.
async fn lent(stream: &IoStream, peer: &UnixStream, text: &str) -> ringloop::Piece {
    let chunk = stream.chunk();
    send(peer, text);
    let piece = chunk.await.unwrap().unwrap();
    assert!(piece.is_lent());
    assert_eq!(&*piece, text.as_bytes());
    piece
}

#[test]
fn a_hundred_streams_share_two_buffers_and_all_make_progress() {
    const STREAMS: usize = 100;
    const LENGTH: usize = 20_000;
    let io_loop = loop_with(2, 1024);
    let sent = Rc::new(noise(LENGTH, 12));
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let (stream, peer) = stream();
        send(&peer, &*sent);
        drop(peer);
        let sent = sent.clone();
        tasks.push(io_loop.spawn(async move {
            assert!(stream.read_until_close(LENGTH).await.unwrap() == *sent);
        }));
    }
    run(&io_loop, async || {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let metrics = io_loop.metrics();
    let pieces = STREAMS * LENGTH.div_ceil(1024);
    assert!(metrics.buffers_exhausted > 0);
    // Two pieces a turn; what is beyond that is the arming and parking of those who wait.
    assert!((metrics.turns as usize) < 2 * pieces, "{} turns for {pieces} pieces", metrics.turns);
}

#[test]
fn streams_that_wait_for_a_buffer_do_not_keep_the_loop_awake() {
    let io_loop = loop_with(2, 4);
    let (holder, peer) = stream();
    let held = run(&io_loop, async || {
        let first = lent(&holder, &peer, "held").await;
        let second = lent(&holder, &peer, "kept").await;
        [first, second]
    });
    let waiting: Vec<_> = (0..10).map(|_| stream()).collect();
    for (stream, peer) in &waiting {
        send(peer, "data");
        assert!(poll_and_drop(stream.chunk()).is_pending());
    }
    settle(&io_loop);
    let before = io_loop.metrics();
    assert!(before.buffers_exhausted >= 10);
    io_loop.turn(Some(std::time::Duration::from_millis(50))).unwrap();
    let after = io_loop.metrics();
    assert!(after.enters - before.enters < 5, "{before:?} {after:?}");
    // A buffer that comes back wakes them, and then serves all of them.
    drop(held);
    run(&io_loop, async || {
        for (stream, _) in &waiting {
            assert_eq!(stream.read_bytes(4).await.unwrap(), b"data");
        }
    });
}

#[test]
fn idle_streams_in_front_of_others_do_not_keep_the_buffer_from_them() {
    let io_loop = loop_with(1, 4);
    let (holder, peer) = stream();
    let idle: Vec<_> = (0..5).map(|_| stream()).collect();
    let (waiting, other) = stream();
    run(&io_loop, async || {
        let held = lent(&holder, &peer, "held").await;
        for (stream, _silent) in &idle {
            assert!(poll_and_drop(stream.chunk()).is_pending());
        }
        assert!(poll_and_drop(waiting.chunk()).is_pending());
        send(&other, "data");
        ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
        drop(held);
        assert_eq!(waiting.read_bytes(4).await.unwrap(), b"data");
    });
}

#[test]
fn a_buffer_that_comes_back_on_another_thread_wakes_a_sleeping_loop() {
    let io_loop = loop_with(1, 4);
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let held = lent(&stream, &peer, "held").await;
        send(&peer, "next");
        let sleeper = support::thread_id();
        let thread = std::thread::spawn(move || {
            support::wait_until_asleep(sleeper);
            drop(held);
        });
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"next");
        thread.join().unwrap();
    });
}

#[test]
fn what_nobody_reads_leaves_the_buffers_to_others() {
    for count in [1, 2, 4] {
        let io_loop = loop_with(count, 1024);
        let hoarders: Vec<_> = (0..20).map(|_| stream()).collect();
        for (hoarder, peer) in &hoarders {
            send(peer, [1; 5000]);
            // Told to receive, and not read from.
            hoarder.set_close_callback(|_| {});
            assert!(poll_and_drop(hoarder.chunk()).is_pending());
        }
        settle(&io_loop);
        let (stream, peer) = stream();
        let sent = noise(100_000, 13);
        let copy = sent.clone();
        let writer = std::thread::spawn(move || send(&peer, copy));
        run(&io_loop, async || {
            assert!(stream.read_bytes(sent.len()).await.unwrap() == sent);
        });
        writer.join().unwrap();
    }
}

#[test]
fn long_pieces_are_read_from_where_they_came_in_while_buffers_are_plenty() {
    let io_loop = loop_with(8, 8192);
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    for part in 1..=3 {
        send(&peer, [part; 4096]);
        settle(&io_loop);
    }
    for part in 1..=3 {
        let Poll::Ready(piece) = poll_and_drop(stream.chunk()) else { panic!("it has come") };
        let piece = piece.unwrap().unwrap();
        assert!(piece.is_lent() && *piece == [part; 4096], "{part}");
    }
}

#[test]
fn reads_that_nobody_polls_leave_the_buffers_to_others() {
    leave_the_buffers_to_others(|_hoarder| {});
}

#[test]
fn streams_that_have_stopped_leave_the_buffers_to_others() {
    leave_the_buffers_to_others(|hoarder| hoarder.set_max_buffer_size(1));
}

/// Reads that are woken and not polled, of streams that are prepared.
fn leave_the_buffers_to_others(prepare: impl Fn(&IoStream)) {
    for count in [1, 2, 4] {
        let io_loop = loop_with(count, 4096);
        let hoarders: Vec<_> = (0..20).map(|_| stream()).collect();
        let mut reads: Vec<_> =
            hoarders.iter().map(|(hoarder, _)| Box::pin(hoarder.chunk())).collect();
        for (read, (hoarder, peer)) in reads.iter_mut().zip(&hoarders) {
            prepare(hoarder);
            assert!(poll_once(read.as_mut()).is_pending());
            send(peer, [1; 4096]);
        }
        settle(&io_loop);
        let (stream, peer) = stream();
        send(&peer, [2; 100]);
        run(&io_loop, async || {
            assert_eq!(stream.read_bytes(100).await.unwrap(), [2; 100]);
        });
        for read in &mut reads {
            let Poll::Ready(piece) = poll_once(read.as_mut()) else { panic!("it has come") };
            assert_eq!(*piece.unwrap().unwrap(), [1; 4096]);
        }
    }
}

#[test]
fn a_stream_that_has_ended_leaves_the_buffers_to_others() {
    let io_loop = loop_with(1, 4096);
    let (request, client) = stream();
    let (other, peer) = stream();
    send(&client, [1; 100]);
    drop(client);
    run(&io_loop, async || {
        assert_eq!(request.read_bytes(10).await.unwrap(), [1; 10]);
        // The rest of the buffer, if it is shared, and then all of it.
        send(&peer, [2; 2 * 4096]);
        assert_eq!(other.read_bytes(2 * 4096).await.unwrap(), [2; 2 * 4096]);
        assert_eq!(request.read_until_close(100).await.unwrap(), [1; 90]);
    });
}

#[cfg(feature = "futures-io")]
#[test]
fn what_is_put_back_to_a_stream_that_has_ended_leaves_its_buffer_to_others() {
    use futures::io::AsyncBufReadExt;

    let io_loop = loop_with(1, 4096);
    let (mut request, client) = stream();
    let (other, peer) = stream();
    send(&client, [1; 100]);
    drop(client);
    send(&peer, [2; 2 * 4096]);
    run(&io_loop, async || {
        assert_eq!(request.fill_buf().await.unwrap(), [1; 100]);
        let mut read = pin!(other.read_bytes(2 * 4096));
        assert!(poll_once(read.as_mut()).is_pending());
        // The buffer is shown, which nobody can change: the other one waits for it.
        ringloop::time::sleep(Duration::from_millis(1)).await;
        assert!(poll_once(read.as_mut()).is_pending());
        assert_eq!(request.read_bytes(10).await.unwrap(), [1; 10]);
        assert_eq!(read.await.unwrap(), [2; 2 * 4096]);
        assert_eq!(request.read_bytes(90).await.unwrap(), [1; 90]);
    });
}

/// A read that keeps the only buffer and is not polled, and a stream that waits for it.
fn hoarded(io_loop: &IoLoop) -> (IoStream, UnixStream, impl Sized) {
    let (hoarder, hoarded) = stream();
    let mut read = Box::pin(async move { hoarder.chunk().await });
    assert!(poll_once(read.as_mut()).is_pending());
    send(&hoarded, [1; 4096]);
    turn(io_loop);
    let (stream, peer) = stream();
    send(&peer, [2; 100]);
    (stream, peer, (read, hoarded))
}

#[test]
fn reads_that_nobody_polls_leave_the_buffers_to_others_on_a_loop_that_never_sleeps() {
    const TURNS: usize = 100;
    let io_loop = loop_with(1, 4096);
    let (stream, _peer, _hoard) = hoarded(&io_loop);
    let task = io_loop.spawn(async move { stream.read_bytes(100).await });
    for _ in 0..TURNS {
        turn(&io_loop);
    }
    assert!(task.is_finished());
}

#[test]
fn a_loop_that_never_sleeps_asks_for_buffers_as_often_as_others_want_them() {
    const TURNS: usize = 100;
    let io_loop = loop_with(1, 4096);
    let (holder, holders_peer) = stream();
    let held = run(&io_loop, async || lent(&holder, &holders_peer, "held").await);
    // Takes up the rest of the buffer, if it is shared, and waits for the next in vain.
    let (given_up, peer) = stream();
    send(&peer, [3; 4096]);
    let mut read = Box::pin(given_up.read_bytes(4096));
    assert!(poll_once(read.as_mut()).is_pending());
    (0..TURNS).for_each(|_| turn(&io_loop));
    drop(read);
    drop((given_up, held));
    turn(&io_loop);
    let (stream, _peer, _hoard) = hoarded(&io_loop);
    let task = io_loop.spawn(async move { stream.read_bytes(100).await });
    (0..TURNS).for_each(|_| turn(&io_loop));
    assert!(task.is_finished());
}

/// It does not know what is kept in vain before it has waited for some turns.
#[test]
fn reads_that_nobody_polls_leave_the_buffers_to_others_long_before_a_timeout() {
    let io_loop = loop_with(1, 4096);
    let (stream, _peer, _hoard) = hoarded(&io_loop);
    let _timeout = io_loop.call_later(Duration::from_secs(3600), || {});
    run(&io_loop, async || assert_eq!(stream.read_bytes(100).await.unwrap(), [2; 100]));
}

#[test]
fn reads_that_nobody_polls_leave_the_buffers_to_others_on_a_loop_with_callbacks_to_run() {
    const TURNS: usize = 100;
    let io_loop = loop_with(1, 4096);
    let (stream, _peer, _hoard) = hoarded(&io_loop);
    let task = io_loop.spawn(async move { stream.read_bytes(100).await });
    run(&io_loop, async || {
        for _ in 0..TURNS {
            let mut yielded = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        assert!(task.is_finished());
    });
}

#[test]
fn virtual_time_does_not_pass_while_reads_that_nobody_polls_keep_the_buffers() {
    watchdog();
    let io_loop = IoLoop::builder().virtual_time().panics(Panics::Propagate).buffers(1, 4096);
    let io_loop = io_loop.build().unwrap();
    let (stream, _peer, _hoard) = hoarded(&io_loop);
    let task = io_loop.spawn(async move { stream.read_bytes(100).await });
    run(&io_loop, async || {
        ringloop::time::sleep(Duration::from_secs(60)).await;
        assert!(task.is_finished());
    });
}

#[test]
fn a_stream_that_has_stopped_copies_nothing_that_nobody_else_needs() {
    let io_loop = loop_with(8, 4096);
    let (stream, peer) = stream();
    stream.set_max_buffer_size(8192);
    assert!(poll_and_drop(stream.chunk()).is_pending());
    send(&peer, [1; 8192]);
    settle(&io_loop);
    for _ in 0..2 {
        let Poll::Ready(piece) = poll_and_drop(stream.chunk()) else { panic!("it has come") };
        let piece = piece.unwrap().unwrap();
        assert!(piece.is_lent() && *piece == [1; 4096]);
    }
}

#[test]
fn a_hot_stream_that_nobody_reads_does_not_keep_others_from_theirs() {
    let io_loop = loop_with(4, 4096);
    let (hot, flood) = stream();
    flood.set_nonblocking(true).unwrap();
    hot.set_close_callback(|_| {});
    let pump = {
        let flood = flood.try_clone().unwrap();
        move || while std::io::Write::write(&mut &flood, &[0; 65536]).is_ok() {}
    };
    pump();
    let pairs: Vec<_> = (0..20).map(|_| stream()).collect();
    run(&io_loop, async || {
        for round in 0..50u8 {
            pump();
            for (stream, peer) in &pairs {
                send(peer, [round; 100]);
                assert_eq!(stream.read_bytes(100).await.unwrap(), [round; 100]);
            }
        }
    });
}

#[test]
fn a_stream_receives_into_the_pool_it_is_given() {
    let io_loop = loop_with(2, 1024);
    let large = io_loop.add_buffers(2, 100_000).unwrap();
    let (stream, peer) = stream();
    stream.set_buffers(large).unwrap();
    send(&peer, [7; 50_000]);
    run(&io_loop, async || {
        let piece = stream.chunk().await.unwrap().unwrap();
        assert_eq!(piece.len(), 50_000);
    });
}

#[test]
fn a_stream_changes_its_pool_while_it_receives() {
    let io_loop = loop_with(2, 1000);
    let large = io_loop.add_buffers(2, 100_000).unwrap();
    let (stream, peer) = stream();
    run(&io_loop, async || {
        drop(lent(&stream, &peer, "small").await);
        stream.set_buffers(large).unwrap();
        ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
        let chunk = stream.chunk();
        send(&peer, [7; 50_000]);
        assert_eq!(chunk.await.unwrap().unwrap().len(), 50_000);
    });
}

#[test]
fn short_pieces_share_a_buffer_which_comes_back_with_the_last_of_them() {
    let io_loop = loop_with(1, 16);
    let shares = io_loop.metrics().features.contains(KernelFeatures::INCREMENTAL);
    let pieces = if shares { 4 } else { 1 };
    let (stream, peer) = stream();
    run(&io_loop, async || {
        let mut held = Vec::new();
        for text in ["one.", "two.", "tre.", "for."].iter().take(pieces) {
            held.push(lent(&stream, &peer, text).await);
        }
        send(&peer, "next");
        let mut next = pin!(stream.chunk());
        for piece in held {
            assert!(poll_once(next.as_mut()).is_pending());
            ringloop::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(piece.len(), 4);
        }
        assert_eq!(&*next.await.unwrap().unwrap(), b"next");
    });
    assert!(io_loop.metrics().buffers_exhausted > 0);
}

#[test]
fn streams_that_wait_for_a_buffer_are_served_in_order_also_if_they_find_none_again() {
    const STREAMS: usize = 20;
    let io_loop = loop_with(1, 4096);
    let (small, peer) = stream();
    for _ in 0..100 {
        // After that, there seems to be room for many in one buffer.
        send(&peer, [1; 4]);
        run(&io_loop, async || assert_eq!(small.read_bytes(4).await.unwrap(), [1; 4]));
    }
    let served = Rc::new(RefCell::new(Vec::new()));
    let mut peers = Vec::new();
    for number in 0..STREAMS {
        let (stream, peer) = stream();
        let served = served.clone();
        io_loop.spawn(async move {
            assert!(stream.chunk().await.unwrap().is_some());
            served.borrow_mut().push(number);
        });
        peers.push(peer);
    }
    settle(&io_loop);
    peers.iter().for_each(|peer| send(peer, [2; 4096]));
    turn_until(&io_loop, || served.borrow().len() == STREAMS);
    assert_eq!(*served.borrow(), (0..STREAMS).collect::<Vec<_>>());
}

/// They stop after each piece, and begin anew before the loop looks who waits.
#[test]
fn streams_that_begin_anew_do_not_go_before_one_that_waits_again_and_again() {
    const PIECES: usize = 100;
    let features = [KernelFeatures::MULTISHOT_RECV, KernelFeatures::BUFFER_RING];
    for without in features.into_iter().chain([KernelFeatures::empty()]) {
        watchdog();
        let builder = IoLoop::builder().panics(Panics::Propagate).without(without);
        let io_loop = builder.buffers(1, 4).build().unwrap();
        let served = support::Count::new();
        let mut peers = Vec::new();
        for _ in 0..2 {
            let (stream, peer) = stream();
            send(&peer, [1; 4 * PIECES]);
            peers.push(peer);
            stream.set_max_buffer_size(4);
            let served = served.clone();
            drop(io_loop.spawn(async move {
                for _ in 0..PIECES {
                    stream.read_bytes(4).await.unwrap();
                    served.hit();
                }
            }));
        }
        (0..2).for_each(|_| turn(&io_loop));
        let (waiting, peer) = stream();
        send(&peer, "wait");
        let read = io_loop.spawn(async move { waiting.read_bytes(4).await.unwrap() });
        turn_until(&io_loop, || read.is_finished());
        assert!(served.get() < PIECES, "{} pieces, {without:?}", served.get());
    }
}

#[test]
fn a_stream_that_waits_for_a_buffer_is_closed_when_it_is_dropped() {
    for inside in [false, true] {
        let io_loop = loop_with(1, 4);
        let (holder, holders_peer) = stream();
        let _held = run(&io_loop, async || lent(&holder, &holders_peer, "held").await);
        let (waiting, mut peer) = stream();
        send(&peer, "data");
        assert!(poll_and_drop(waiting.chunk()).is_pending());
        settle(&io_loop);
        assert!(io_loop.metrics().buffers_exhausted > 0);
        match inside {
            false => drop(waiting),
            true => run(&io_loop, async || drop(waiting)),
        }
        // Without another turn.
        peer.set_nonblocking(true).unwrap();
        let end = peer.read(&mut [0; 1]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{inside}: {end:?}");
    }
}

#[test]
fn what_is_written_to_a_peer_that_does_not_receive_leaves_its_buffer_to_those_who_wait_for_long() {
    for vectored in [false, true] {
        let io_loop = loop_with(1, 4);
        let (holder, holders_peer) = stream();
        let held = run(&io_loop, async || lent(&holder, &holders_peer, "held").await);
        let (blocked, _peer) = stream();
        blocked.write(vec![0; 4 << 20]).queued().unwrap();
        let (waiting, peer) = stream();
        send(&peer, "data");
        let read = io_loop.spawn(async move { waiting.chunk().await.unwrap().is_some() });
        // Nobody is asked for buffers any more after that.
        (0..50).for_each(|_| turn(&io_loop));
        assert!(!read.is_finished());
        match vectored {
            false => blocked.write(held).queued().unwrap(),
            true => blocked.write_vectored([held]).queued().unwrap(),
        }
        turn_until(&io_loop, || read.is_finished());
    }
}

#[test]
fn what_was_written_while_buffers_were_plenty_leaves_its_buffer_to_others_when_they_are_not() {
    const COUNT: u16 = 8;
    let io_loop = loop_with(COUNT, 4);
    let (blocked, _blocked_peer) = stream();
    blocked.write(vec![0; 4 << 20]).queued().unwrap();
    settle(&io_loop);
    let (holder, peer) = stream();
    let _held = run(&io_loop, async || {
        let piece = lent(&holder, &peer, "sent").await;
        blocked.write(piece).queued().unwrap();
        let mut held = Vec::new();
        for _ in 1..COUNT {
            held.push(lent(&holder, &peer, "held").await);
        }
        held
    });
    let (waiting, peer) = stream();
    send(&peer, "data");
    let read = io_loop.spawn(async move { waiting.chunk().await.unwrap().is_some() });
    turn_until(&io_loop, || read.is_finished());
}

#[test]
fn what_is_written_to_a_peer_of_another_loop_leaves_its_buffer_to_its_own() {
    type Write = fn(&IoStream, Piece);
    let ways: [Write; 5] = [
        |blocked, piece| blocked.write(piece).queued().unwrap(),
        |blocked, piece| {
            blocked.write_vectored([vec![0; 1000].into(), Payload::from(piece)]).queued().unwrap();
        },
        |blocked, piece| {
            blocked.write(vec![0; 4 << 20]).queued().unwrap();
            blocked.write(piece).queued().unwrap();
        },
        |blocked, piece| {
            blocked.write(vec![0; 4 << 20]).queued().unwrap();
            settle(&IoLoop::current());
            blocked.write(piece).queued().unwrap();
        },
        |blocked, piece| {
            blocked.write(vec![0; 4 << 20]).queued().unwrap();
            settle(&IoLoop::current());
            blocked.write_vectored([piece]).queued().unwrap();
        },
    ];
    for write in ways {
        let io_loop = loop_with(1, 4);
        let (stream, peer) = stream();
        let piece = run(&io_loop, async || lent(&stream, &peer, "full").await);
        let other = IoLoop::new().unwrap();
        let (blocked, _peer) = stream_support::stream();
        while socket2::SockRef::from(&blocked).send(&[0; 4096]).is_ok() {}
        write(&blocked, piece);
        settle(&other);
        send(&peer, "more");
        run(&io_loop, async || assert_eq!(stream.read_bytes(4).await.unwrap(), b"more"));
    }
}

#[test]
fn what_another_loop_has_sent_leaves_its_buffer_to_its_own_though_that_loop_sleeps() {
    let io_loop = loop_with(1, 4);
    let (stream, peer) = stream();
    let (pieces, received) = async_channel::unbounded::<Piece>();
    let other = std::thread::spawn(move || {
        let other = IoLoop::new().unwrap();
        let (out, peer) = stream_support::stream();
        run(&other, async || {
            while let Ok(piece) = received.recv().await {
                out.write(piece).queued().unwrap();
            }
        });
        drop(out);
        settle(&other);
        read_all(&peer)
    });
    for text in ["one ", "two "] {
        let piece = run(&io_loop, async || lent(&stream, &peer, text).await);
        pieces.send_blocking(piece).unwrap();
    }
    drop(pieces);
    assert_eq!(other.join().unwrap(), b"one two ");
}

#[cfg(feature = "futures-io")]
#[test]
fn what_is_put_back_leaves_its_buffer_to_those_who_wait_for_long() {
    use futures::io::AsyncBufReadExt;

    let io_loop = loop_with(1, 4);
    let (mut shown, showns_peer) = stream();
    send(&showns_peer, "data");
    run(&io_loop, async || assert_eq!(shown.fill_buf().await.unwrap(), b"data"));
    let (waiting, peer) = stream();
    send(&peer, "next");
    let read = io_loop.spawn(async move { waiting.chunk().await.unwrap().is_some() });
    (0..50).for_each(|_| turn(&io_loop));
    assert!(!read.is_finished());
    // What it was shown is put back, and some of it stays there.
    let Poll::Ready(bytes) = poll_and_drop(shown.read_bytes(1)) else { panic!("it has come") };
    assert_eq!(bytes.unwrap(), b"d");
    turn_until(&io_loop, || read.is_finished());
}

#[cfg(feature = "futures-io")]
#[test]
fn what_follows_a_line_that_was_read_keeps_no_buffer_from_others() {
    use futures::io::AsyncBufReadExt;

    let io_loop = loop_with(4, 4096);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let (mut stream, peer) = stream();
        send(&peer, "slow\n".repeat(1000));
        let reading = io_loop.spawn(async move {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            std::future::pending::<()>().await;
        });
        settle(&io_loop);
        waiting.push((reading, peer));
    }
    let (mut stream, peer) = stream();
    send(&peer, "fast\n");
    let read = io_loop.spawn(async move {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line
    });
    turn_until(&io_loop, || read.is_finished());
    assert_eq!(run(&io_loop, async || read.await.unwrap()), "fast\n");
}

#[test]
fn a_stream_that_has_too_much_when_its_pool_is_changed_goes_on_when_that_is_read() {
    // It becomes too much meanwhile: because the mark is lowered, or because data comes, as it does
    // where the kernel does not wait for an enter.
    for (mark, meanwhile) in [(4, ""), (12, "ijklmnop")] {
        let io_loop = loop_with(2, 1000);
        let other = io_loop.add_buffers(2, 1000).unwrap();
        let (stream, peer) = stream();
        let mut closed = pin!(stream.closed());
        assert!(poll_once(closed.as_mut()).is_pending());
        send(&peer, "abcdefgh");
        settle(&io_loop);
        stream.set_buffers(other).unwrap();
        stream.set_max_buffer_size(mark);
        send(&peer, meanwhile);
        settle(&io_loop);
        let length = 8 + meanwhile.len();
        run(&io_loop, async || {
            assert_eq!(stream.read_bytes(length).await.unwrap().len(), length);
        });
        drop(peer);
        settle(&io_loop);
        assert!(stream.is_closed());
        run(&io_loop, async || closed.await.unwrap());
    }
}

#[test]
fn an_empty_pool_concerns_its_own_streams_alone() {
    let io_loop = loop_with(1, 4);
    let other = io_loop.add_buffers(1, 4).unwrap();
    let (poor, peer) = stream();
    let (rich, other_peer) = stream();
    rich.set_buffers(other).unwrap();
    run(&io_loop, async || {
        let held = lent(&poor, &peer, "held").await;
        send(&peer, "wait");
        assert!(poll_and_drop(poor.chunk()).is_pending());
        for _ in 0..10 {
            drop(lent(&rich, &other_peer, "flow").await);
        }
        drop(held);
        assert_eq!(poor.read_bytes(4).await.unwrap(), b"wait");
    });
}

#[test]
fn the_write_end_of_a_pipe_waits_for_no_buffer() {
    for without in [KernelFeatures::empty(), KernelFeatures::BUFFER_RING] {
        watchdog();
        let builder = IoLoop::builder().panics(Panics::Propagate).without(without);
        let io_loop = builder.buffers(1, 4).build().unwrap();
        let (holder, peer) = stream();
        let _held = run(&io_loop, async || lent(&holder, &peer, "held").await);
        let (reader, writer) = std::io::pipe().unwrap();
        let pipe = IoStream::new(writer).unwrap();
        let mut closed = pin!(pipe.closed());
        assert!(poll_once(closed.as_mut()).is_pending());
        settle(&io_loop);
        drop(reader);
        settle(&io_loop);
        assert!(pipe.is_closed());
    }
}

#[test]
fn a_pool_of_another_loop_is_refused() {
    let first = loop_with(1, 1024);
    let pool = first.add_buffers(1, 1024).unwrap();
    let _second = loop_with(1, 1024);
    let (stream, _peer) = stream();
    let error = stream.set_buffers(pool).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn chunks_can_be_dropped_on_any_thread_and_after_everything_else() {
    let io_loop = loop_with(4, 1024);
    let (stream, peer) = stream();
    let (first, second) = run(&io_loop, async || {
        (lent(&stream, &peer, "one").await, lent(&stream, &peer, "two").await)
    });
    std::thread::spawn(move || assert_eq!(&*first, b"one")).join().unwrap();
    drop(stream);
    drop(io_loop);
    std::thread::spawn(move || assert_eq!(&*second, b"two")).join().unwrap();
}

#[test]
fn a_chunk_that_is_written_gives_its_buffer_back_when_it_is_sent() {
    let io_loop = loop_with(1, 4);
    let (stream, peer) = stream();
    run(&io_loop, async || {
        for _ in 0..10 {
            let piece = lent(&stream, &peer, "echo").await;
            stream.write(Payload::from(piece)).await.unwrap();
        }
    });
    drop(stream);
    turn(&io_loop);
    assert_eq!(stream_support::read_all(&peer).len(), 40);
}

#[test]
fn chunks_may_be_sent_and_shared() {
    fn check<T: Send + Sync>() {}
    check::<Chunk>();
    check::<Payload>();
    check::<ringloop::Piece>();
}

#[test]
fn closing_streams_that_wait_for_a_buffer_is_no_harm() {
    let io_loop = loop_with(1, 4);
    let (holder, peer) = stream();
    let held = run(&io_loop, async || lent(&holder, &peer, "held").await);
    let (waiting, other) = stream();
    send(&other, "data");
    assert!(poll_and_drop(waiting.chunk()).is_pending());
    settle(&io_loop);
    drop(waiting);
    settle(&io_loop);
    let (waiting, other) = stream();
    send(&other, "data");
    assert!(poll_and_drop(waiting.chunk()).is_pending());
    settle(&io_loop);
    io_loop.close(false).unwrap();
    drop(held);
}

#[test]
fn a_loop_that_is_short_of_buffers_does_not_wake_itself() {
    let io_loop = loop_with(2, 64);
    let mut peers = Vec::new();
    for _ in 0..32 {
        let (stream, peer) = stream();
        peers.push(peer);
        drop(io_loop.spawn(async move {
            while let Some(piece) = stream.chunk().await.unwrap() {
                stream.write(piece).buffered().await.unwrap();
            }
        }));
    }
    settle(&io_loop);
    let before = io_loop.metrics();
    for round in 0..10 {
        peers.iter().for_each(|peer| send(peer, [round; 64]));
        // The last of its buffers comes back when an echo is sent.
        for mut peer in &peers {
            peer.set_nonblocking(true).unwrap();
            let mut echo = [0; 64];
            while peer.read(&mut echo).is_err() {
                io_loop.turn(Some(Duration::from_millis(1))).unwrap();
            }
            assert_eq!(echo, [round; 64]);
        }
    }
    let after = io_loop.metrics();
    assert!(after.buffers_exhausted > before.buffers_exhausted);
    assert_eq!(after.wakeups, before.wakeups);
}

#[test]
fn peers_that_do_not_receive_leave_the_buffers_to_others() {
    for count in [2, 4, 8] {
        let io_loop = loop_with(count, 4096);
        let mut clients = Vec::new();
        for round in 0..20 {
            let (echo, client) = stream();
            client.set_nonblocking(true).unwrap();
            // Some wait until what they write is sent, and some do not.
            io_loop.spawn_callback(async move || {
                while let Some(piece) = echo.chunk().await? {
                    let write = echo.write(piece);
                    if round % 2 == 0 {
                        write.await?;
                    }
                }
                std::io::Result::Ok(())
            });
            clients.push(client);
        }
        for _ in 0..200 {
            for client in &clients {
                while std::io::Write::write(&mut &*client, &[0; 4096]).is_ok() {}
            }
            turn(&io_loop);
        }
        let (other, peer) = stream();
        send(&peer, [2; 100]);
        run(&io_loop, async || {
            assert_eq!(other.read_bytes(100).await.unwrap(), [2; 100]);
        });
    }
}
