//! Two tasks that wake each other.

use super::{Runtime, check, cpu_time};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Default)]
struct Game {
    turns: Cell<usize>,
    /// One of each. They stay the same, as tasks stay where they are.
    wakers: [RefCell<Option<Waker>>; 2],
}

pub(crate) async fn measure<R: Runtime>(turns: usize) -> io::Result<u64> {
    let game = Rc::new(Game::default());
    let begin = cpu_time()?;
    let (one, other) =
        (R::spawn(play(game.clone(), 0, turns)), R::spawn(play(game.clone(), 1, turns)));
    let taken = (one.await, other.await);
    let time = cpu_time()? - begin;
    check(taken == (turns.div_ceil(2), turns / 2), "the tasks did not take turns")?;
    Ok(time)
}

/// How many turns this one has taken, when all are taken.
async fn play(game: Rc<Game>, number: usize, turns: usize) -> usize {
    let mut taken = 0;
    poll_fn(|context| {
        game.wakers[number].borrow_mut().get_or_insert_with(|| context.waker().clone());
        let turn = game.turns.get();
        if turn < turns && turn % 2 == number {
            taken += 1;
            game.turns.set(turn + 1);
            // Who has not come yet will see whose turn it is.
            if let Some(other) = &*game.wakers[1 - number].borrow() {
                other.wake_by_ref();
            }
        }
        if game.turns.get() == turns { Poll::Ready(taken) } else { Poll::Pending }
    })
    .await
}
