use std::rc::Rc;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn drain<T>(timeouts: &mut Timeouts<T>, now: u64) -> Vec<T> {
    timeouts.collect_due(now);
    std::iter::from_fn(|| timeouts.take_due()).collect()
}

/// Room for entries in all buckets together.
fn capacity<T>(timeouts: &Timeouts<T>) -> usize {
    timeouts.buckets.iter().map(Bucket::capacity).sum()
}

#[test]
fn a_new_queue_is_empty() {
    let mut timeouts = Timeouts::<()>::new();
    assert!(timeouts.is_empty());
    assert_eq!(timeouts.next_deadline(), None);
    assert_eq!(timeouts.collect_due(u64::MAX), 0);
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
    for deadline in [1, SECOND, 60 * SECOND, (1 << TICK_BITS) - 1, 1 << TICK_BITS, u64::MAX] {
        let mut timeouts = Timeouts::new();
        timeouts.insert(deadline, ());
        assert_eq!(timeouts.collect_due(deadline - 1), 0);
        assert_eq!(timeouts.next_deadline(), Some(deadline));
        assert_eq!(timeouts.collect_due(deadline), 1);
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
    timeouts.insert(2 * SECOND, ());
    assert_eq!(timeouts.collect_due(SECOND), 0);
    assert_eq!(timeouts.collect_due(2 * SECOND), 1);
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
    assert_eq!(timeouts.collect_due(1), 3);
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
    assert_eq!(timeouts.collect_due(2), 2);
    assert_eq!(drain(&mut timeouts, 2), ["left", "new"]);
}

#[test]
fn the_next_deadline_is_exact_after_cancels() {
    let mut timeouts = Timeouts::new();
    // The earliest is cancelled each time, among many in one bucket and some in others.
    let keys: Vec<_> = (0..5000).map(|i| timeouts.insert(SECOND + i * 1_000_000, i)).collect();
    for (i, key) in (0..).zip(keys) {
        assert_eq!(timeouts.next_deadline(), Some(SECOND + i * 1_000_000));
        assert_eq!(timeouts.cancel(key), Some(i));
    }
    assert_eq!(timeouts.next_deadline(), None);
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
fn a_tombstone_does_not_name_another_timeout() {
    let mut timeouts = Timeouts::new();
    let early = timeouts.insert(SECOND, "early");
    timeouts.insert(SECOND, "other");
    timeouts.cancel(early);
    // 2^32 timeouts later, in the same slot: an entry has only half of the number.
    timeouts.next_seq = early.seq + (1 << 32);
    let late = timeouts.insert(2 * SECOND, "late");
    assert_eq!((late.slot, late.seq as u32), (early.slot, early.seq as u32));
    assert_eq!(timeouts.cancel(early), None);
    assert_eq!(drain(&mut timeouts, SECOND), ["other"]);
    assert_eq!(drain(&mut timeouts, 2 * SECOND), ["late"]);
}

#[test]
fn a_timeout_and_a_tombstone_that_are_alike_fire_once() {
    let mut timeouts = Timeouts::new();
    let first = timeouts.insert(SECOND, "first");
    timeouts.insert(SECOND, "between");
    timeouts.cancel(first);
    timeouts.next_seq = first.seq + (1 << 32);
    timeouts.insert(SECOND, "second");
    assert_eq!(drain(&mut timeouts, SECOND), ["between", "second"]);
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
        assert!(timeouts.slots.capacity() < 100);
        assert!(capacity(&timeouts) < 128 * 128, "{}", capacity(&timeouts));
    }
}

#[test]
fn buckets_give_the_room_of_a_burst_back() {
    let mut timeouts = Timeouts::new();
    let keys: Vec<_> = (0..100_000).map(|i| timeouts.insert(SECOND + i, ())).collect();
    assert!(capacity(&timeouts) >= 100_000);
    for key in keys {
        timeouts.cancel(key);
    }
    assert!(capacity(&timeouts) < 1000, "{}", capacity(&timeouts));
    for i in 0..100_000 {
        timeouts.insert(2 * SECOND + i, ());
    }
    assert_eq!(drain(&mut timeouts, 3 * SECOND).len(), 100_000);
    assert!(capacity(&timeouts) < 1000, "{}", capacity(&timeouts));
}

/// The queue, and what it should be: a vector in insertion order.
struct Model {
    timeouts: Timeouts<u64>,
    pending: Vec<(u64, u64, TimeoutKey)>,
    due: Vec<u64>,
    gone: Vec<TimeoutKey>,
    added: u64,
    now: u64,
    rng: fastrand::Rng,
}

impl Model {
    fn new(seed: u64) -> Model {
        let (pending, due, gone) = (Vec::new(), Vec::new(), Vec::new());
        let (timeouts, rng) = (Timeouts::new(), fastrand::Rng::with_seed(seed));
        Model { timeouts, pending, due, gone, added: 0, now: 0, rng }
    }

    fn step(&mut self) {
        match self.rng.u32(..1000) {
            0..400 => self.add(),
            400..700 => self.cancel(),
            700..800 => self.collect(),
            800..998 => self.take_due(),
            998 => self.take(),
            _ => assert!(self.gone.drain(..).all(|key| self.timeouts.cancel(key).is_none())),
        }
        if self.rng.bool() {
            assert_eq!(self.timeouts.next_deadline(), self.first());
        }
        assert_eq!(self.timeouts.len(), self.pending.len());
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
        let deadline = match self.rng.u32(..10) {
            0 => u64::MAX,
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
        self.due.extend(due.into_iter().map(|timeout| timeout.1));
        self.timeouts.collect_due(self.now);
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
    for seed in 0..5 {
        let mut model = Model::new(seed);
        for _ in 0..20_000 {
            model.step();
        }
        assert!(model.now > 60 * SECOND);
    }
}
