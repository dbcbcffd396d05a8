use std::rc::Rc;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// All that is due at `now`, in as many turns as it takes.
fn drain<T>(timeouts: &mut Timeouts<T>, now: u64) -> Vec<T> {
    let mut drained = Vec::new();
    loop {
        timeouts.collect_due(now);
        drained.extend(std::iter::from_fn(|| timeouts.take_due()));
        if timeouts.next_deadline().is_none_or(|next| next > now) {
            return drained;
        }
    }
}

/// Collects what is due at `now`, and says how many that makes.
fn collect<T>(timeouts: &mut Timeouts<T>, now: u64) -> usize {
    timeouts.collect_due(now);
    collected(timeouts).count()
}

/// The numbers of those collected.
fn collected<T>(timeouts: &Timeouts<T>) -> impl Iterator<Item = u64> {
    timeouts.chains.iter(DUE).map(|(_, timeout)| timeout.seq)
}

/// Room for timeouts.
fn capacity<T>(timeouts: &Timeouts<T>) -> usize {
    timeouts.chains.slots.capacity()
}

#[test]
fn a_new_queue_is_empty() {
    let mut timeouts = Timeouts::<()>::new();
    assert!(timeouts.is_empty());
    assert_eq!(timeouts.next_deadline(), None);
    assert_eq!(collect(&mut timeouts, u64::MAX), 0);
    assert_eq!(timeouts.take_due(), None);
}

#[test]
fn the_earlier_deadline_fires_first() {
    let mut timeouts = Timeouts::new();
    // One nanosecond apart, and on either side of the boundaries of all levels.
    let mut deadlines: Vec<u64> = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut deadlines);
    for &deadline in &deadlines {
        timeouts.insert(deadline, deadline);
    }
    deadlines.sort_unstable();
    assert_eq!(drain(&mut timeouts, u64::MAX), deadlines);
}

#[test]
fn equal_deadlines_fire_in_insertion_order() {
    let mut timeouts = Timeouts::new();
    let mut keys: Vec<_> = (0..1000).map(|i| timeouts.insert(SECOND, i)).collect();
    // Slots are used again, in another order than they are numbered.
    fastrand::Rng::with_seed(2).shuffle(&mut keys);
    for key in keys.drain(..500) {
        timeouts.cancel(key);
    }
    for i in 1000..1500 {
        timeouts.insert(SECOND, i);
        timeouts.collect_due(i % 10 * SECOND / 10);
    }
    let fired = drain(&mut timeouts, SECOND);
    assert_eq!(fired.len(), 1000);
    assert!(fired.is_sorted());
}

#[test]
fn a_timeout_is_due_at_its_deadline_and_not_a_nanosecond_before() {
    for deadline in [1, SECOND, 60 * SECOND, (1 << 36) - 1, 1 << 36, u64::MAX] {
        let mut timeouts = Timeouts::new();
        timeouts.insert(deadline, ());
        assert_eq!(collect(&mut timeouts, deadline - 1), 0);
        assert_eq!(timeouts.next_deadline(), Some(deadline));
        assert_eq!(collect(&mut timeouts, deadline), 1);
    }
}

#[test]
fn a_past_deadline_is_due_in_the_next_turn() {
    let mut timeouts = Timeouts::new();
    timeouts.collect_due(5 * SECOND);
    timeouts.insert(5 * SECOND, "present");
    timeouts.insert(0, "past");
    assert_eq!(timeouts.next_deadline(), Some(0));
    assert_eq!(drain(&mut timeouts, 5 * SECOND), ["past", "present"]);
}

#[test]
fn a_clock_that_goes_back_fires_nothing_early() {
    let mut timeouts = Timeouts::new();
    timeouts.collect_due(5 * SECOND);
    timeouts.insert(2 * SECOND, 2);
    timeouts.insert(6 * SECOND, 6);
    timeouts.insert(3 * SECOND, 3);
    assert_eq!(collect(&mut timeouts, SECOND), 0);
    timeouts.insert(4 * SECOND, 4);
    for second in [2, 3, 4] {
        assert_eq!(drain(&mut timeouts, second * SECOND), [second]);
    }
    timeouts.insert(5 * SECOND + SECOND / 2, 5);
    assert_eq!(timeouts.next_deadline(), Some(5 * SECOND + SECOND / 2));
    assert_eq!(drain(&mut timeouts, 6 * SECOND), [5, 6]);
}

#[test]
fn a_clock_that_goes_back_leaves_the_wheel_where_it_is() {
    let mut timeouts = Timeouts::new();
    timeouts.collect_due(5 * SECOND);
    for i in 0..100 {
        timeouts.insert(5 * SECOND + 100_000 + i, ());
    }
    let next = timeouts.next_deadline();
    assert!(next > Some(5 * SECOND));
    assert_eq!(collect(&mut timeouts, SECOND), 0);
    assert_eq!(timeouts.next_deadline(), next);
}

#[test]
fn an_empty_queue_keeps_up_with_the_clock() {
    let mut timeouts = Timeouts::new();
    for now in [1, 1_000_000 * SECOND, 1_100_000 * SECOND] {
        timeouts.collect_due(now);
        let keys: Vec<_> = (0..100).map(|i| timeouts.insert(now + SECOND + i, ())).collect();
        // In a bucket that is ahead, and not in one that began long ago.
        assert!(timeouts.next_deadline() > Some(now));
        keys.into_iter().for_each(|key| assert!(timeouts.cancel(key).is_some()));
    }
}

#[test]
fn what_is_added_in_a_turn_is_not_part_of_it() {
    let mut timeouts = Timeouts::new();
    timeouts.insert(1, "first");
    timeouts.insert(9, "second");
    timeouts.collect_due(10);
    assert_eq!(timeouts.take_due(), Some("first"));
    timeouts.insert(0, "added");
    assert_eq!(timeouts.take_due(), Some("second"));
    assert_eq!(timeouts.take_due(), None);
    assert_eq!(timeouts.len(), 1);
    assert_eq!(drain(&mut timeouts, 10), ["added"]);
}

#[test]
fn a_collected_timeout_can_be_cancelled() {
    let mut timeouts = Timeouts::new();
    let keys = ["a", "b", "c"].map(|name| timeouts.insert(1, name));
    assert_eq!(collect(&mut timeouts, 1), 3);
    assert_eq!(timeouts.cancel(keys[1]), Some("b"));
    assert_eq!(timeouts.take_due(), Some("a"));
    assert_eq!(timeouts.cancel(keys[2]), Some("c"));
    assert_eq!(timeouts.take_due(), None);
    assert!(timeouts.is_empty());
}

#[test]
fn collected_timeouts_count_for_the_next_deadline_until_they_are_gone() {
    let mut timeouts = Timeouts::new();
    let key = timeouts.insert(7, ());
    timeouts.insert(8, ());
    timeouts.insert(SECOND, ());
    timeouts.collect_due(10);
    assert_eq!(timeouts.next_deadline(), Some(7));
    timeouts.cancel(key);
    assert_eq!(timeouts.next_deadline(), Some(8));
    timeouts.take_due();
    assert_eq!(timeouts.next_deadline(), Some(SECOND));
}

#[test]
fn what_an_interrupted_turn_left_comes_first() {
    let mut timeouts = Timeouts::new();
    timeouts.insert(2, "left");
    timeouts.collect_due(2);
    timeouts.insert(1, "new");
    assert_eq!(collect(&mut timeouts, 2), 2);
    assert_eq!(drain(&mut timeouts, 2), ["left", "new"]);
}

#[test]
fn the_next_deadline_is_exact_for_few_timeouts() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut timeouts = Timeouts::new();
    for _ in 0..1000 {
        let mut deadlines = [0; LOOKED_AT];
        deadlines.fill_with(|| rng.u64(..) >> rng.u32(..64));
        let mut added = deadlines.map(|deadline| (deadline, timeouts.insert(deadline, ())));
        added.sort_unstable_by_key(|&(deadline, _)| deadline);
        for (deadline, key) in added {
            assert_eq!(timeouts.next_deadline(), Some(deadline));
            timeouts.cancel(key);
        }
        assert_eq!(timeouts.next_deadline(), None);
    }
}

#[test]
fn a_loop_that_sleeps_until_the_next_deadline_takes_few_turns_and_fires_in_time() {
    for (count, turns) in [(1, 1), (LOOKED_AT, LOOKED_AT), (100, 150), (10_000, 15_000)] {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut timeouts = Timeouts::new();
        timeouts.collect_due(1000 * SECOND);
        for _ in 0..count {
            let deadline = 1000 * SECOND + rng.u64(1..60 * SECOND);
            timeouts.insert(deadline, deadline);
        }
        let mut taken = 0;
        while let Some(next) = timeouts.next_deadline() {
            timeouts.collect_due(next);
            while let Some(deadline) = timeouts.take_due() {
                assert_eq!(deadline, next);
            }
            taken += 1;
        }
        assert!(taken <= turns, "{taken} turns for {count} timeouts");
    }
}

#[test]
fn a_key_names_only_its_own_timeout() {
    let mut timeouts = Timeouts::new();
    let fired = timeouts.insert(1, "fired");
    assert_eq!(drain(&mut timeouts, 1), ["fired"]);
    let cancelled = timeouts.insert(1, "cancelled");
    assert_eq!(timeouts.cancel(cancelled), Some("cancelled"));
    let taken = timeouts.insert(1, "taken");
    assert_eq!(timeouts.take(), ["taken"]);
    let pending = timeouts.insert(1, "pending");
    assert_eq!([fired, cancelled, taken].map(|key| key.slot), [pending.slot; 3]);
    for key in [fired, cancelled, taken] {
        assert_eq!(timeouts.cancel(key), None);
    }
    assert_eq!(timeouts.cancel(pending), Some("pending"));
    assert_eq!(timeouts.cancel(pending), None);
}

#[test]
fn numbers_that_share_their_low_half_are_not_mixed_up() {
    let mut timeouts = Timeouts::new();
    let early = timeouts.insert(SECOND, "early");
    timeouts.cancel(early);
    timeouts.next_seq = early.seq + (1 << 32);
    let late = timeouts.insert(SECOND, "late");
    assert_eq!((late.slot, late.seq as u32), (early.slot, early.seq as u32));
    assert_eq!(timeouts.cancel(early), None);
    assert_eq!(drain(&mut timeouts, SECOND), ["late"]);
}

#[test]
fn cancel_gives_the_value_back_at_once() {
    let mut timeouts = Timeouts::new();
    let value = Rc::new(());
    let keys: Vec<_> = (0..100).map(|i| timeouts.insert(i, Rc::clone(&value))).collect();
    for key in keys {
        timeouts.cancel(key);
    }
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn take_empties_the_queue() {
    let mut timeouts = Timeouts::new();
    for i in 0..100 {
        timeouts.insert(i * SECOND, i);
    }
    timeouts.collect_due(50 * SECOND);
    assert_eq!(timeouts.take_due(), Some(0));
    let mut values = timeouts.take();
    values.sort_unstable();
    assert!(values.into_iter().eq(1..100));
    assert!(timeouts.is_empty());
    assert_eq!(timeouts.next_deadline(), None);
    assert_eq!(timeouts.take_due(), None);
}

#[test]
fn add_and_cancel_leave_no_memory_behind() {
    for spread in [1, SECOND, 3600 * SECOND, u64::MAX] {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut timeouts = Timeouts::new();
        let mut pending: Vec<_> = (0..10).map(|_| timeouts.insert(rng.u64(..spread), ())).collect();
        for _ in 0..100_000 {
            let added = timeouts.insert(rng.u64(..spread), ());
            let victim = std::mem::replace(&mut pending[rng.usize(..10)], added);
            assert_eq!(timeouts.cancel(victim), Some(()));
        }
        assert_eq!(timeouts.len(), 10);
        assert!(capacity(&timeouts) <= 16);
        assert!(timeouts.late.len() <= 10);
    }
}

/// Many timeouts, of which half have equal deadlines.
fn many(count: u64) -> (Timeouts<u64>, Vec<TimeoutKey>) {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut timeouts = Timeouts::new();
    timeouts.collect_due(SECOND);
    let mut deadline = |id| 60 * SECOND + if id % 2 == 0 { rng.u64(1..SECOND) } else { 0 };
    let mut keys: Vec<_> = (0..count).map(|id| timeouts.insert(deadline(id), id)).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut keys);
    (timeouts, keys)
}

#[test]
fn many_timeouts_give_their_slots_back_when_they_are_cancelled() {
    let (mut timeouts, mut keys) = many(100_000);
    assert!(capacity(&timeouts) >= 100_000);
    let left = keys.split_off(keys.len() - 3);
    for key in keys {
        timeouts.cancel(key);
    }
    // A segment each at most, and one for the next.
    assert!(capacity(&timeouts) <= 4 * 1024, "{}", capacity(&timeouts));
    for key in left {
        timeouts.cancel(key);
    }
    assert!(capacity(&timeouts) <= 1024, "{}", capacity(&timeouts));
}

#[test]
fn timeouts_that_are_left_over_come_together_when_they_are_put_off() {
    let (mut timeouts, mut keys) = many(100_000);
    let left = keys.split_off(keys.len() - 100);
    for key in keys {
        timeouts.cancel(key);
    }
    for key in left {
        let id = timeouts.cancel(key).unwrap();
        timeouts.insert(90 * SECOND, id);
    }
    assert_eq!(timeouts.len(), 100);
    assert!(capacity(&timeouts) <= 2 * 1024, "{}", capacity(&timeouts));
}

#[test]
fn many_timeouts_give_their_slots_back_when_they_fire() {
    let (mut timeouts, _) = many(100_000);
    assert_eq!(drain(&mut timeouts, 61 * SECOND).len(), 100_000);
    assert!(capacity(&timeouts) <= 1024, "{}", capacity(&timeouts));
    assert!(timeouts.sorted.capacity() <= KEPT);
}

#[test]
fn slots_come_and_go_many_times_without_a_trace() {
    let mut timeouts = Timeouts::new();
    for _ in 0..100 {
        let keys: Vec<_> = (0..3000).map(|i| timeouts.insert(i, ())).collect();
        assert!(capacity(&timeouts) <= 3 * 1024, "{}", capacity(&timeouts));
        keys.into_iter().for_each(|key| assert!(timeouts.cancel(key).is_some()));
        assert!(capacity(&timeouts) <= 1024, "{}", capacity(&timeouts));
        assert!(timeouts.chains.slots.segments() <= 3);
    }
}

#[test]
fn slots_that_a_crowd_gave_up_are_used_again_by_a_smaller_or_larger_one() {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut timeouts = Timeouts::new();
    for _ in 0..40 {
        let count = rng.u64(1..8000);
        let mut added: Vec<_> = (0..count).map(|id| (timeouts.insert(id, id), id)).collect();
        rng.shuffle(&mut added);
        for (key, id) in added {
            assert_eq!(timeouts.cancel(key), Some(id));
        }
        assert!(capacity(&timeouts) <= 1024, "{}", capacity(&timeouts));
    }
    assert!(timeouts.chains.slots.segments() <= 8);
}

/// What `call` uses of slots.
#[cfg(debug_assertions)]
fn uses<T, R>(timeouts: &mut Timeouts<T>, call: impl FnOnce(&mut Timeouts<T>) -> R) -> (usize, R) {
    timeouts.chains.slots.uses.set(0);
    let result = call(timeouts);
    (timeouts.chains.slots.uses.get(), result)
}

/// The bounds do not depend on the number of timeouts. Clocks would be no witnesses.
#[cfg(debug_assertions)]
#[test]
fn no_call_uses_many_slots_however_many_timeouts_there_are() {
    let (mut timeouts, mut keys) = many(100_000);
    let mut rng = fastrand::Rng::with_seed(8);
    let (mut now, mut fired, mut collects) = (2 * SECOND, 0, 0);
    while !timeouts.is_empty() {
        // Before and while the buckets with all of them are reached and spread.
        for _ in 0..10 {
            let key = keys.swap_remove(rng.usize(..keys.len()));
            let (used, cancelled) = uses(&mut timeouts, |timeouts| timeouts.cancel(key));
            assert!(used <= 3, "{used} to cancel");
            if let Some(id) = cancelled {
                let deadline = 60 * SECOND + rng.u64(..SECOND);
                let (used, key) = uses(&mut timeouts, |timeouts| timeouts.insert(deadline, id));
                assert!(used <= 2 + 2 * 6, "{used} to insert");
                keys.push(key);
            }
        }
        let (used, next) = uses(&mut timeouts, |timeouts| timeouts.next_deadline());
        assert!(used <= LOOKED_AT + 2, "{used} for the next deadline");
        now = now.max(next.unwrap());
        let (used, _) = uses(&mut timeouts, |timeouts| timeouts.collect_due(now));
        assert!(used <= 2 * FEW * 6, "{used} to collect");
        collects += 1;
        while timeouts.take_due().is_some() {
            fired += 1;
        }
    }
    assert_eq!(fired, 100_000);
    assert!(collects > 100_000 / (2 * FEW));
}

#[test]
fn a_bucket_with_many_fires_in_order_whatever_is_added_as_it_is_spread() {
    let (mut timeouts, keys) = many(5000);
    let mut expected: Vec<_> = (0..5000).collect();
    for key in &keys[..1000] {
        let id = timeouts.cancel(*key).unwrap();
        expected.retain(|&expected| expected != id);
    }
    timeouts.collect(60 * SECOND, 10);
    assert!(timeouts.spreading.is_some());
    assert_eq!(timeouts.next_deadline(), Some(timeouts.time));
    let mut fired = Vec::new();
    // Added one by one between the steps, with the same deadline as half of them.
    for id in 5000..6000 {
        timeouts.insert(60 * SECOND, id);
        expected.push(id);
        timeouts.collect(60 * SECOND, 10);
        fired.extend(std::iter::from_fn(|| timeouts.take_due()));
    }
    fired.extend(drain(&mut timeouts, 60 * SECOND));
    assert!(fired.is_sorted());
    expected.retain(|&id| id % 2 == 1 || id >= 5000);
    assert_eq!(fired, expected);
}

#[test]
fn timeouts_added_as_fast_as_a_bucket_is_spread_do_not_hold_it_up() {
    let (mut timeouts, _) = many(5000);
    let mut turns = 0;
    while collect_some(&mut timeouts, 60 * SECOND, 100) == 0 {
        for _ in 0..100 {
            timeouts.insert(60 * SECOND + SECOND / 2, 0);
        }
        turns += 1;
        assert!(turns < 100);
    }
}

/// Collects with a limit, and says how many that makes.
fn collect_some<T>(timeouts: &mut Timeouts<T>, now: u64, few: usize) -> usize {
    timeouts.collect(now, few);
    collected(timeouts).count()
}

/// The queue, and what it should be: a vector in insertion order.
struct Model {
    timeouts: Timeouts<u64>,
    pending: Vec<(u64, u64, TimeoutKey)>,
    due: Vec<u64>,
    gone: Vec<TimeoutKey>,
    added: u64,
    now: u64,
    /// Collections that left a bucket half spread.
    partial: usize,
    rng: fastrand::Rng,
}

impl Model {
    fn new(seed: u64) -> Model {
        let (pending, due, gone) = (Vec::new(), Vec::new(), Vec::new());
        let (timeouts, rng) = (Timeouts::new(), fastrand::Rng::with_seed(seed));
        Model { timeouts, pending, due, gone, added: 0, now: 0, partial: 0, rng }
    }

    fn step(&mut self) {
        match self.rng.u32(..1000) {
            0..5 if self.pending.len() < 200 => (0..300).for_each(|_| self.add()),
            ..350 => self.add(),
            350..700 => self.cancel(),
            700..850 => self.collect(),
            850..998 => self.take_due(),
            998 => self.take(),
            _ => assert!(self.gone.drain(..).all(|key| self.timeouts.cancel(key).is_none())),
        }
        if self.rng.bool() {
            self.check_next_deadline();
        }
        assert_eq!(self.timeouts.len(), self.pending.len());
    }

    fn check_next_deadline(&self) {
        let (next, first) = (self.timeouts.next_deadline(), self.first());
        if self.pending.len() <= LOOKED_AT && self.timeouts.spreading.is_none() {
            assert_eq!(next, first);
        } else {
            // `None` is less than all.
            assert!(next.is_some() == first.is_some() && next <= first);
        }
    }

    fn first(&self) -> Option<u64> {
        match self.due.first() {
            Some(&due) => self.pending.iter().find(|timeout| timeout.1 == due),
            None => self.pending.iter().min_by_key(|timeout| timeout.0),
        }
        .map(|timeout| timeout.0)
    }

    fn add(&mut self) {
        let far = 1 << self.rng.u32(..64);
        let deadline = match self.rng.u32(..12) {
            0 => u64::MAX,
            10..12 => self.timeouts.time + self.rng.u64(..3),
            1 => self.rng.u64(..=self.now),
            2..5 => self.now + 1000 * self.rng.u64(..5),
            _ => self.now.saturating_add(self.rng.u64(..far)),
        };
        let key = self.timeouts.insert(deadline, self.added);
        self.pending.push((deadline, self.added, key));
        self.added += 1;
    }

    fn cancel(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let (_, id, key) = self.pending.remove(self.rng.usize(..self.pending.len()));
        self.due.retain(|&due| due != id);
        assert_eq!(self.timeouts.cancel(key), Some(id));
        self.gone.push(key);
    }

    fn collect(&mut self) {
        let far = 1 << self.rng.u32(..36);
        self.now += self.rng.u64(..far);
        let mut due: Vec<_> = self
            .pending
            .iter()
            .filter(|timeout| timeout.0 <= self.now && !self.due.contains(&timeout.1))
            .map(|timeout| (timeout.0, timeout.1))
            .collect();
        due.sort_unstable();
        let before = self.due.len();
        self.due.extend(due.into_iter().map(|timeout| timeout.1));
        let few = [2, 5, 50][self.rng.usize(..3)];
        self.timeouts.collect(self.now, few);
        // Perhaps not all of them, but those that come first.
        let collected: Vec<_> = collected(&self.timeouts).collect();
        assert!(self.due.starts_with(&collected) && collected.len() >= before);
        assert!(collected.len() <= before + 2 * few);
        self.partial += usize::from(self.timeouts.spreading.is_some());
        if collected.len() < self.due.len() {
            assert!(self.timeouts.next_deadline() <= Some(self.now));
        }
        self.due = collected;
    }

    fn take_due(&mut self) {
        let expected = (!self.due.is_empty()).then(|| self.due.remove(0));
        assert_eq!(self.timeouts.take_due(), expected);
        if let Some(at) = self.pending.iter().position(|timeout| Some(timeout.1) == expected) {
            self.gone.push(self.pending.remove(at).2);
        }
    }

    fn take(&mut self) {
        let mut taken = self.timeouts.take();
        taken.sort_unstable();
        assert!(self.pending.iter().map(|timeout| timeout.1).eq(taken));
        self.gone.extend(self.pending.drain(..).map(|timeout| timeout.2));
        self.due.clear();
    }
}

#[test]
fn it_does_as_the_model_does() {
    for seed in 0..4 {
        let mut model = Model::new(seed);
        for _ in 0..10_000 {
            model.step();
        }
        assert!(model.now > 60 * SECOND && model.partial > 20, "{}", model.partial);
    }
}
