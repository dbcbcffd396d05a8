//! A future on somebody's stack, polled by a task.
//!
//! Tasks have to be `'static`, and what `run_sync` is given need not be. So it keeps its future, and
//! the task has a pointer to it that is taken back before the future goes.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A future that can be dropped before its time.
trait Lendable {
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()>;
    fn end(self: Pin<&mut Self>);
}

impl<F: Future<Output = ()>> Lendable for Option<F> {
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Ready(()),
        }
    }

    fn end(mut self: Pin<&mut Self>) {
        self.set(None);
    }
}

/// Where the future is, unless it is taken back, in use, or over.
type Slot = Cell<Option<NonNull<dyn Lendable>>>;

/// The future, as the task has it. Dropping it drops the future, if it is not taken back.
pub(crate) struct Loan(Rc<Slot>);

/// Calls `borrower` with a loan of `future`, which is dropped when this returns, or before.
pub(crate) fn lend<F, R>(future: F, borrower: impl FnOnce(Loan) -> R) -> R
where
    F: Future<Output = ()>,
{
    struct TakeBack<'a>(&'a Slot);

    impl Drop for TakeBack<'_> {
        fn drop(&mut self) {
            self.0.set(None);
        }
    }

    let mut future = pin!(Some(future));
    // SAFETY: the pointer is used as a pinned one only.
    let pointer: NonNull<dyn Lendable + '_> =
        NonNull::from(unsafe { future.as_mut().get_unchecked_mut() });
    // SAFETY: this changes nothing but the lifetime of the trait object. The pointer is used by
    // loans only, and they find none once `take_back` is dropped, which is before `future` is.
    let pointer: NonNull<dyn Lendable> = unsafe { std::mem::transmute(pointer) };
    let slot = Rc::new(Cell::new(Some(pointer)));
    let take_back = TakeBack(&slot);
    let result = borrower(Loan(slot.clone()));
    drop(take_back);
    result
}

impl Future for Loan {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Out of the slot while it is in use. If it panics, it stays out.
        let Some(mut pointer) = self.0.take() else { return Poll::Ready(()) };
        // SAFETY: the future is alive, and stays where it is, until `lend` has emptied the slot.
        // That is on this thread, as slots do not leave it, and not while we are in here, as `lend`
        // is not left while something that it called is running. Nobody else has the pointer.
        let polled = unsafe { Pin::new_unchecked(pointer.as_mut()) }.poll(context);
        self.0.set(Some(pointer));
        polled
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(mut pointer) = self.0.take() {
            // SAFETY: as above.
            unsafe { Pin::new_unchecked(pointer.as_mut()) }.end();
        }
    }
}
