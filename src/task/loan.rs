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
    // Here, and not by the way out, where the compiler leaks the result if the destructor panics.
    future.set(None);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;

    fn poll(loan: &mut Loan) -> Poll<()> {
        Pin::new(loan).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Counts its drops.
    struct Guard<'a>(&'a Cell<usize>);

    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    /// Adds its steps to `steps`, across which it borrows from itself and from the caller.
    async fn count_to_three(steps: &RefCell<Vec<usize>>, _guard: Guard<'_>) {
        let numbers = [1, 2, 3];
        for number in &numbers {
            steps.borrow_mut().push(*number);
            let mut pending = true;
            poll_fn(|_| if std::mem::take(&mut pending) { Poll::Pending } else { Poll::Ready(()) })
                .await;
        }
    }

    #[test]
    fn a_future_on_the_stack_is_polled_to_its_end_and_dropped_with_its_loan() {
        let (steps, drops) = (RefCell::default(), Cell::new(0));
        lend(count_to_three(&steps, Guard(&drops)), |mut loan| {
            for count in 1..=3 {
                assert!(poll(&mut loan).is_pending());
                assert_eq!(steps.borrow().len(), count);
            }
            assert!(poll(&mut loan).is_ready());
            drop(loan);
            assert_eq!(drops.get(), 1);
        });
        assert_eq!((steps.take(), drops.get()), (vec![1, 2, 3], 1));
    }

    #[test]
    fn a_loan_that_is_dropped_first_drops_the_future_before_its_time() {
        for polls in 0..3 {
            let (steps, drops) = (RefCell::default(), Cell::new(0));
            lend(count_to_three(&steps, Guard(&drops)), |mut loan| {
                (0..polls).for_each(|_| assert!(poll(&mut loan).is_pending()));
                drop(loan);
                assert_eq!(drops.get(), 1);
            });
            assert_eq!((steps.take().len(), drops.get()), (polls, 1));
        }
    }

    #[test]
    fn a_loan_that_is_kept_for_longer_finds_nothing() {
        for polls in 0..3 {
            let (steps, drops) = (RefCell::default(), Cell::new(0));
            let mut kept = lend(count_to_three(&steps, Guard(&drops)), |mut loan| {
                (0..polls).for_each(|_| assert!(poll(&mut loan).is_pending()));
                loan
            });
            assert_eq!(drops.get(), 1);
            assert!(poll(&mut kept).is_ready());
            drop(kept);
            assert_eq!((steps.take().len(), drops.get()), (polls, 1));
        }
    }

    #[test]
    fn a_loan_finds_nothing_while_the_future_is_being_dropped() {
        struct PollsLoan<'a>(&'a RefCell<Option<Loan>>);

        impl Drop for PollsLoan<'_> {
            fn drop(&mut self) {
                if let Some(loan) = &mut *self.0.borrow_mut() {
                    let _ = poll(loan);
                }
            }
        }

        let (kept, polls) = (RefCell::default(), Cell::new(0));
        let (at_end, count) = (PollsLoan(&kept), &polls);
        let future = poll_fn(move |_| {
            let _ = &at_end;
            count.set(count.get() + 1);
            Poll::Pending
        });
        lend(future, |mut loan| {
            assert!(poll(&mut loan).is_pending());
            kept.replace(Some(loan));
        });
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn a_future_that_panics_is_not_polled_again_and_dropped_in_the_end() {
        let (polls, drops) = (Cell::new(0), Cell::new(0));
        let guard = Guard(&drops);
        let panicking = poll_fn(|_| {
            let _ = &guard;
            polls.set(polls.get() + 1);
            panic!("on purpose")
        });
        let mut kept = lend(panicking, |mut loan| {
            assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut loan))).is_err());
            assert!(poll(&mut loan).is_ready());
            loan
        });
        assert!(poll(&mut kept).is_ready());
        drop(kept);
        drop(guard);
        assert_eq!((polls.get(), drops.get()), (1, 1));
    }

    #[test]
    fn a_borrower_that_panics_leaves_a_loan_of_nothing_behind() {
        let (steps, drops) = (RefCell::default(), Cell::new(0));
        let kept = RefCell::new(None);
        let borrow = || {
            lend(count_to_three(&steps, Guard(&drops)), |mut loan| {
                assert!(poll(&mut loan).is_pending());
                kept.replace(Some(loan));
                panic!("on purpose")
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(borrow)).is_err());
        assert_eq!(drops.get(), 1);
        let mut kept = kept.take().unwrap();
        assert!(poll(&mut kept).is_ready());
        drop(kept);
        assert_eq!((steps.take().len(), drops.get()), (1, 1));
    }

    #[test]
    fn a_destructor_that_panics_runs_once_whoever_drops_the_future() {
        struct Explosive<'a>(#[expect(dead_code, reason = "it counts")] Guard<'a>);

        impl Drop for Explosive<'_> {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }

        for keep in [false, true] {
            let drops = Cell::new(0);
            let explosive = Explosive(Guard(&drops));
            let future = async move {
                let _explosive = explosive;
                std::future::pending().await
            };
            let borrow = || {
                lend(future, |mut loan| {
                    assert!(poll(&mut loan).is_pending());
                    keep.then_some(loan)
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(borrow)).is_err());
            assert_eq!(drops.get(), 1);
        }
    }
}
