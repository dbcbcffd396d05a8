//! Many tasks that wait for the same thing, again and again.

use super::{Runtime, check, cpu_time};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub(crate) const TASKS: usize = 10_000;

#[derive(Default)]
struct Bell {
    /// How often it was rung.
    rings: Cell<usize>,
    /// How often the tasks listen.
    last: usize,
    /// Tasks that have not come, or heard it, yet.
    missing: Cell<usize>,
    /// One of each task. They stay the same, as tasks stay where they are.
    wakers: RefCell<Vec<Waker>>,
    /// Of the task that rings.
    ringer: RefCell<Option<Waker>>,
}

pub(crate) async fn measure<R: Runtime>(operations: usize) -> io::Result<u64> {
    let rounds = operations / TASKS;
    check(rounds * TASKS == operations, "this takes a multiple of 10,000 operations")?;
    // In one more round the tasks end, which is not measured.
    let bell = Rc::new(Bell { last: rounds + 1, missing: Cell::new(TASKS), ..Bell::default() });
    let tasks: Vec<_> = (0..TASKS).map(|_| R::spawn(listen(bell.clone()))).collect();
    bell.all().await;
    let begin = cpu_time()?;
    for _ in 0..rounds {
        bell.ring();
        bell.all().await;
    }
    let time = cpu_time()? - begin;
    bell.ring();
    let mut heard = 0;
    for task in tasks {
        heard += task.await;
    }
    check(heard == bell.last * TASKS, "a task has missed a wake-up")?;
    Ok(time)
}

impl Bell {
    fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
        self.missing.set(TASKS);
        self.wakers.borrow().iter().for_each(Waker::wake_by_ref);
    }

    /// Waits until all tasks have come, or heard it.
    async fn all(&self) {
        poll_fn(|context| match self.missing.get() {
            0 => Poll::Ready(()),
            _ => {
                self.ringer.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    fn came(&self) {
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0
            && let Some(ringer) = self.ringer.take()
        {
            ringer.wake();
        }
    }
}

/// How many rings a task has woken up for.
async fn listen(bell: Rc<Bell>) -> usize {
    let (mut known, mut heard) = (false, 0);
    poll_fn(|context| {
        if !known {
            known = true;
            bell.wakers.borrow_mut().push(context.waker().clone());
            bell.came();
        } else if heard < bell.rings.get() {
            heard += 1;
            bell.came();
        }
        if heard == bell.last { Poll::Ready(heard) } else { Poll::Pending }
    })
    .await
}
