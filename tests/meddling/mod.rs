//! Wakers that do what no waker should.

use std::rc::Rc;
use std::task::{RawWaker, RawWakerVTable, Waker};

struct Meddler(Rc<dyn Fn()>);

/// A waker that calls `meddle` whenever it is cloned, dropped or woken.
pub(crate) fn meddling_waker(meddle: impl Fn() + 'static) -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, release);
    fn clone(data: *const ()) -> RawWaker {
        // SAFETY: `data` is a boxed meddler; the test keeps to one thread.
        let meddler = unsafe { &*data.cast::<Meddler>() };
        (meddler.0)();
        RawWaker::new(Box::into_raw(Box::new(Meddler(meddler.0.clone()))).cast(), &TABLE)
    }
    fn wake(data: *const ()) {
        release(data);
    }
    fn wake_by_ref(data: *const ()) {
        // SAFETY: as above.
        (unsafe { &*data.cast::<Meddler>() }.0)();
    }
    fn release(data: *const ()) {
        // SAFETY: as above, and this is the waker's end.
        let meddler = unsafe { Box::from_raw(data.cast::<Meddler>().cast_mut()) };
        (meddler.0)();
    }
    let data = Box::into_raw(Box::new(Meddler(Rc::new(meddle)))).cast_const().cast();
    // SAFETY: the table's functions fit the data, and the waker stays on this thread.
    unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }
}
