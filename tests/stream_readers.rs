//! What a stream does with the wakers of its reads: when it clones them, how long it keeps them.

mod meddling;
mod stream_support;
mod support;

#[cfg(feature = "futures-io")]
use futures::AsyncRead;
use meddling::meddling_waker;
use ringloop::{IoLoop, IoStream, KernelFeatures, Panics};
use std::cell::RefCell;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use stream_support::{poll_and_drop, poll_once, send, settle, stream};
use support::{Count, new_loop};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_with<F: Future + ?Sized>(waker: &Waker, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[test]
fn one_who_reads_again_and_again_leaves_a_waker_but_once() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    static CLONES: AtomicUsize = AtomicUsize::new(0);
    let waker = waker_that_counts_clones(&CLONES);
    for _ in 0..3 {
        let mut read = pin!(stream.chunk());
        assert!(poll_with(&waker, read.as_mut()).is_pending());
        send(&peer, "x");
        settle(&io_loop);
        assert!(poll_with(&waker, read.as_mut()).is_ready());
    }
    assert_eq!(CLONES.load(Ordering::Relaxed), 1);
}

/// Wakes nobody.
fn waker_that_counts_clones(clones: &'static AtomicUsize) -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, |_| {});
    fn clone(clones: *const ()) -> RawWaker {
        // SAFETY: it is a counter that lives for ever.
        unsafe { &*clones.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
        RawWaker::new(clones, &TABLE)
    }
    // SAFETY: the table's functions fit the data, and may be called on any thread.
    unsafe { Waker::new(ptr::from_ref(clones).cast(), &TABLE) }
}

#[test]
fn each_read_wakes_whoever_has_polled_it_last_and_nobody_else() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let tasks: [Arc<Wakes>; 3] = Default::default();
    let wakers = tasks.each_ref().map(|task| Waker::from(task.clone()));
    let expect = |counts: [usize; 3]| {
        assert_eq!(tasks.each_ref().map(|task| task.count()), counts);
    };
    let mut read = Box::pin(stream.read_bytes(2));
    assert!(poll_with(&wakers[0], read.as_mut()).is_pending());
    send(&peer, "a");
    settle(&io_loop);
    expect([1, 0, 0]);
    assert!(poll_with(&wakers[1], read.as_mut()).is_pending());
    send(&peer, "b");
    settle(&io_loop);
    expect([1, 1, 0]);
    assert!(poll_with(&wakers[2], read.as_mut()).is_ready());
    drop(read);
    // Nobody reads: the waker that is kept is not to be woken, also if there is news of something
    // else, of too much data.
    stream.set_max_buffer_size(1);
    send(&peer, "c");
    settle(&io_loop);
    expect([1, 1, 0]);
    assert!(poll_with(&wakers[2], pin!(stream.chunk())).is_ready());
    let mut read = Box::pin(stream.chunk());
    assert!(poll_with(&wakers[2], read.as_mut()).is_pending());
    drop(peer);
    settle(&io_loop);
    expect([1, 1, 1]);
}

#[test]
fn a_waker_that_is_kept_goes_with_a_read_that_is_given_up_or_with_the_stream() {
    let io_loop = new_loop();
    for close in [false, true] {
        let (stream, peer) = stream();
        let task = Arc::new(Wakes::default());
        let waker = Waker::from(task.clone());
        let unkept = Arc::strong_count(&task);
        let mut read = Box::pin(stream.read_bytes(2));
        assert!(poll_with(&waker, read.as_mut()).is_pending());
        send(&peer, "a");
        settle(&io_loop);
        assert_eq!(Arc::strong_count(&task), unkept + 1);
        drop(read);
        assert_eq!(Arc::strong_count(&task), unkept, "given up");
        let mut read = Box::pin(stream.read_bytes(2));
        assert!(poll_with(&waker, read.as_mut()).is_pending());
        send(&peer, "b");
        settle(&io_loop);
        assert!(poll_with(&waker, read.as_mut()).is_ready());
        drop(read);
        assert_eq!(Arc::strong_count(&task), unkept + 1, "kept for the next read");
        if close {
            stream.close();
        } else {
            // Then it is there until all is sent.
            stream.write(vec![0; 8 << 20]).queued().unwrap();
        }
        drop(stream);
        assert_eq!(Arc::strong_count(&task), unkept);
    }
}

/// Drops what is in a place whenever it is cloned, woken or dropped, and keeps its task.
fn waker_that_drops<T: 'static>(place: &Rc<RefCell<Option<T>>>, task: &Arc<()>) -> Waker {
    let (place, task) = (place.clone(), task.clone());
    meddling_waker(move || {
        let _ = &task;
        let dropped = place.take();
        drop(dropped);
    })
}

#[cfg(feature = "futures-io")]
#[test]
fn a_waker_that_drops_its_stream_is_not_kept_for_what_is_still_sent() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    let kept: Rc<RefCell<Option<IoStream>>> = Rc::default();
    let task = Arc::new(());
    let waker = waker_that_drops(&kept, &task);
    let context = &mut Context::from_waker(&waker);
    assert!(Pin::new(&mut stream).poll_read(context, &mut [0]).is_pending());
    stream.write(vec![0; 8 << 20]).queued().unwrap();
    *kept.borrow_mut() = Some(stream);
    send(&peer, "x");
    settle(&io_loop);
    assert!(kept.borrow().is_none(), "it was woken");
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn data_that_comes_while_a_waker_is_cloned_is_told() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    assert!(poll_and_drop(stream.chunk()).is_pending());
    settle(&io_loop);
    let (turning, touched) = (io_loop.clone(), Count::new());
    let (touches, peer) = (touched.clone(), RefCell::new(Some(peer)));
    let waker = meddling_waker(move || {
        touches.hit();
        if let Some(peer) = peer.take() {
            send(&peer, "x");
            settle(&turning);
        }
    });
    let mut read = pin!(stream.chunk());
    assert!(poll_with(&waker, read.as_mut()).is_pending());
    assert_eq!(touched.get(), 2, "it was cloned, and woken");
    let Poll::Ready(read) = poll_once(read) else { panic!("there is something to read") };
    assert_eq!(&*read.unwrap().unwrap(), b"x");
}

#[cfg(feature = "futures-io")]
#[test]
fn a_poll_that_a_waker_has_ended_with_a_panic_keeps_nobody_from_reading() {
    let io_loop = new_loop();
    let (mut stream, peer) = stream();
    let touched = RefCell::new(false);
    let waker = meddling_waker(move || assert!(touched.replace(true), "at first"));
    let mut target = [0; 8];
    let poll = AssertUnwindSafe(|| {
        Pin::new(&mut stream).poll_read(&mut Context::from_waker(&waker), &mut target)
    });
    assert!(catch_unwind(poll).is_err());
    assert!(poll_and_drop(stream.chunk()).is_pending());
    send(&peer, "x");
    settle(&io_loop);
    let Poll::Ready(read) = poll_and_drop(stream.chunk()) else { panic!("nothing came") };
    assert_eq!(&*read.unwrap().unwrap(), b"x");
}

type Reading = Pin<Box<dyn Future<Output = ()>>>;

#[test]
fn a_waker_that_gives_its_read_up_is_not_kept_for_the_next() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let stream = Rc::new(stream);
    let reads: Rc<RefCell<Option<Reading>>> = Rc::default();
    let task = Arc::new(());
    let waker = waker_that_drops(&reads, &task);
    let source = stream.clone();
    let mut read = Box::pin(async move { drop(source.chunk().await) });
    assert!(poll_with(&waker, read.as_mut()).is_pending());
    *reads.borrow_mut() = Some(read);
    drop(reads);
    send(&peer, "x");
    settle(&io_loop);
    assert_eq!(Rc::strong_count(&stream), 1, "it was woken");
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn too_much_data_stops_a_stream_also_if_its_reader_panics_when_it_is_woken() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    stream.set_max_buffer_size(1);
    let waker = Waker::from(Arc::new(Panicking));
    let mut read = pin!(stream.read_bytes(2));
    assert!(poll_with(&waker, read.as_mut()).is_pending());
    send(&peer, "ab");
    catch_unwind(AssertUnwindSafe(|| settle(&io_loop))).unwrap_err();
    settle(&io_loop);
    send(&peer, "c");
    settle(&io_loop);
    assert_eq!(unreceived(&stream), 1);
    assert!(poll_once(read).is_ready());
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("deliberate");
    }
}

/// Bytes that are still the kernel's.
fn unreceived(stream: &IoStream) -> i32 {
    let mut bytes = 0;
    // SAFETY: the request writes one number, and there is room for it.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(result, 0);
    bytes
}

/// Where the loop polls and receives by hand, it may find that another was faster.
#[test]
fn streams_that_share_a_socket_go_on_when_the_other_one_has_received() {
    for without in [KernelFeatures::empty(), KernelFeatures::BUFFER_RING] {
        support::watchdog();
        let io_loop = IoLoop::builder().panics(Panics::Propagate).without(without).build().unwrap();
        let (socket, peer) = UnixStream::pair().unwrap();
        let streams = [socket.try_clone().unwrap(), socket].map(|end| IoStream::new(end).unwrap());
        let mut reads = streams.each_ref().map(|stream| Box::pin(stream.chunk()));
        for read in &mut reads {
            assert!(poll_once(read.as_mut()).is_pending());
        }
        settle(&io_loop);
        send(&peer, "x");
        settle(&io_loop);
        let polls = reads.each_mut().map(|read| poll_once(read.as_mut()));
        let received = polls.into_iter().filter(|poll| match poll {
            Poll::Ready(piece) => piece.as_ref().unwrap().is_some(),
            Poll::Pending => false,
        });
        assert_eq!(received.count(), 1);
    }
}
