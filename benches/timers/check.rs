//! Whether the candidates do the same, before anybody asks how fast.

use crate::candidates::std_heap::StdHeap;
use crate::candidates::{Queue, value};

const STEPS: usize = 20_000;
const SECOND: u64 = 1_000_000_000;

/// Runs `Q` and the standard library's heap side by side. Deadlines are multiples of `tick`, the
/// finest that `Q` can tell apart.
pub fn alike<Q: Queue>(tick: u64) {
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut one, mut other) = (Q::new(), StdHeap::new());
    let mut keys = Vec::new();
    let (mut now, mut fired_at_all) = (0, 0);
    for id in 0..STEPS {
        let far = 1 << rng.u32(..44);
        // A few that are equal, and many that are far apart.
        let deadline = (now + rng.u64(..far).max(tick)) / tick * tick;
        keys.push((one.add(deadline, value(id)), other.add(deadline, value(id))));
        if rng.bool() {
            let (key, other_key) = keys[rng.usize(..keys.len())];
            assert_eq!(one.cancel(key), other.cancel(other_key), "{}: cancel", Q::NAME);
        }
        if rng.u32(..8) == 0 {
            now += rng.u64(..SECOND) / tick * tick;
            fired_at_all += fire_both(&mut one, &mut other, now);
        }
        if tick == 1 {
            // A time before it costs the loop a turn, and may not have come yet.
            let (next, expected) = (one.next_deadline(), other.next_deadline());
            let right = next == expected || Some(now) < next && next < expected;
            assert!(right, "{}: {next:?} instead of {expected:?}", Q::NAME);
        }
    }
    fired_at_all += fire_both(&mut one, &mut other, now + (1 << 45));
    assert!(fired_at_all > STEPS / 4);
}

fn fire_both(one: &mut impl Queue, other: &mut StdHeap, now: u64) -> usize {
    let (mut fired, mut expected) = (Vec::new(), Vec::new());
    one.fire(now, &mut fired);
    other.fire(now, &mut expected);
    let numbers = |fired: &[&[()]]| fired.iter().map(|value| value.len()).collect::<Vec<_>>();
    assert_eq!(numbers(&fired), numbers(&expected), "{}: fire", name_of(one));
    fired.len()
}

fn name_of<Q: Queue>(_: &Q) -> &'static str {
    Q::NAME
}
