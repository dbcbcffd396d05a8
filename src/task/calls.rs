//! Futures that begin or end in a call.

use super::body::drop_future;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// Calls a closure with what a future returns, in a task. By then the future is dropped, and what
    /// it held is free.
    pub(crate) struct Map<F, C> {
        // `None` once it is done.
        #[pin]
        future: Option<F>,
        callback: Option<C>,
    }
}

impl<F, C> Map<F, C> {
    pub(crate) fn new(future: F, callback: C) -> Map<F, C> {
        Map { future: Some(future), callback: Some(callback) }
    }
}

impl<F, C, T> Future for Map<F, C>
where
    F: Future,
    C: FnOnce(F::Output) -> T,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut this = self.project();
        let future = this.future.as_mut().as_pin_mut().expect(POLLED_AGAIN);
        let output = ready!(future.poll(context));
        drop_future(this.future);
        let callback = this.callback.take().expect(POLLED_AGAIN);
        Poll::Ready(callback(output))
    }
}

pin_project! {
    /// Calls a closure, and is the future that it returns. An `async` block that awaits it would drop
    /// it before it has passed the output on, and lose that if the destructor panics.
    pub(crate) struct Call<F, Fut> {
        f: Option<F>,
        #[pin]
        future: Option<Fut>,
    }
}

impl<F: FnOnce() -> Fut, Fut> Call<F, Fut> {
    pub(crate) fn new(f: F) -> Call<F, Fut> {
        Call { f: Some(f), future: None }
    }
}

impl<F: FnOnce() -> Fut, Fut: Future> Future for Call<F, Fut> {
    type Output = Fut::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fut::Output> {
        let mut this = self.project();
        if let Some(f) = this.f.take() {
            this.future.set(Some(f()));
        }
        this.future.as_pin_mut().expect(POLLED_AGAIN).poll(context)
    }
}

const POLLED_AGAIN: &str = "polled after it was ready";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::unreported::Mark;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;

    struct OnDrop<F: Fn()>(F);

    impl<F: Fn()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    /// Pending once, and then ready; `on_drop` is called when it is dropped.
    fn twice(on_drop: impl Fn()) -> impl Future<Output = i32> {
        let (mut polled, guard) = (false, OnDrop(on_drop));
        poll_fn(move |_| {
            let _guard = &guard;
            if std::mem::replace(&mut polled, true) { Poll::Ready(5) } else { Poll::Pending }
        })
    }

    #[test]
    fn a_future_is_dropped_before_the_closure_has_its_output() {
        let dropped = Cell::new(false);
        let mut map = pin!(Map::new(twice(|| dropped.set(true)), |output| (output, dropped.get())));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(map.as_mut().poll(&mut context), Poll::Pending);
        assert!(!dropped.get());
        assert_eq!(map.poll(&mut context), Poll::Ready((5, true)));
    }

    #[test]
    fn a_call_is_the_future_that_its_closure_returns_and_keeps_it() {
        let (called, dropped) = (Cell::new(0), Cell::new(false));
        let call = || {
            called.set(called.get() + 1);
            twice(|| dropped.set(true))
        };
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut call = pin!(Call::new(call));
            assert_eq!(called.get(), 0);
            assert_eq!(call.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(call.as_mut().poll(&mut context), Poll::Ready(5));
            assert_eq!((called.get(), dropped.get()), (1, false));
        }
        assert!(dropped.get());
    }

    #[test]
    fn a_destructor_that_panics_does_not_cost_the_closure_its_call() {
        let mark = Mark::now();
        let mut map = pin!(Map::new(twice(|| panic!("on purpose")), |output| output));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(map.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(map.poll(&mut context), Poll::Ready(5));
        assert_eq!(mark.take_unreported().len(), 1);
    }
}
