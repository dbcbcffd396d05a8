//! Random schedules of tasks against a model: what is polled in which order, what is dropped when,
//! and what comes out of each handle. Time is virtual, so the model knows that, too.
//!
//! A task carries a script out, one step after the other. The model carries the same scripts out
//! by the rules, which are few: a wake-up queues a task unless it is queued, a turn runs what was
//! queued when it began, then what is due, and time passes when there is nothing to run.

mod support;

use futures::FutureExt;
use ringloop::{IoLoop, JoinError, JoinHandle, PanicReport, time};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;
use support::Count;

const TASKS: usize = 24;
const MOVES: usize = 150;

/// A task, by the order in which they were spawned.
type Id = usize;

/// Where a wake-up, or an abort, comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    Here,
    AnotherThread,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Returns `Pending`, and waits for a wake-up.
    Park,
    /// The same, after it has woken itself.
    Yield,
    Wake(Id, From),
    Abort(Id, From),
    DropHandle(Id),
    Spawn,
    /// Takes the handle and waits for what it gives.
    Join(Id),
    /// Nanoseconds.
    Sleep(u64),
    Panic,
}

/// Ends with the task's own number, unless there is a panic.
type Script = Rc<[Step]>;

/// What a handle gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Value(Id),
    Panicked(Id),
    Aborted,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Polled(Id),
    Dropped(Id),
    Joined(Id, Outcome),
}

fn outcome(result: Result<Id, JoinError>) -> Outcome {
    match result {
        Ok(id) => Outcome::Value(id),
        Err(error) if error.is_aborted() => Outcome::Aborted,
        Err(error) if error.is_closed() => Outcome::Closed,
        Err(error) => Outcome::Panicked(*error.into_panic().downcast().unwrap()),
    }
}

/// The loop under test, and what its tasks share.
struct World {
    io_loop: IoLoop,
    thread: ThreadId,
    scripts: Vec<Script>,
    spawned: Cell<usize>,
    /// Those that no task has taken.
    handles: RefCell<BTreeMap<Id, JoinHandle<Id>>>,
    /// Of the tasks that have been polled.
    wakers: RefCell<BTreeMap<Id, Waker>>,
    log: RefCell<Vec<Event>>,
}

impl World {
    fn spawn(self: &Rc<Self>) {
        let id = self.spawned.get();
        let Some(script) = self.scripts.get(id) else { return };
        self.spawned.set(id + 1);
        let (world, script) = (self.clone(), script.clone());
        let future = Scripted { id, world, script, next: 0, waits_for: WaitsFor::Nothing };
        let handle = self.io_loop.spawn(future);
        self.handles.borrow_mut().insert(id, handle);
    }

    fn wake(&self, id: Id, from: From) {
        let Some(waker) = self.wakers.borrow().get(&id).cloned() else { return };
        match from {
            From::Here => waker.wake(),
            From::AnotherThread => thread::spawn(move || waker.wake()).join().unwrap(),
        }
    }

    fn abort(&self, id: Id, from: From) {
        let handles = self.handles.borrow();
        let Some(handle) = handles.get(&id) else { return };
        match from {
            From::Here => handle.abort(),
            From::AnotherThread => thread::scope(|scope| {
                scope.spawn(|| handle.abort());
            }),
        }
    }

    fn drop_handle(&self, id: Id) {
        let handle = self.handles.borrow_mut().remove(&id);
        drop(handle);
    }

    fn log(&self, event: Event) {
        assert_eq!(thread::current().id(), self.thread);
        self.log.borrow_mut().push(event);
    }
}

enum WaitsFor {
    Nothing,
    WakeUp,
    Join(Id, JoinHandle<Id>),
    Sleep(Pin<Box<time::Sleep>>),
    /// It must not be polled again.
    Over,
}

struct Scripted {
    id: Id,
    world: Rc<World>,
    script: Script,
    next: usize,
    waits_for: WaitsFor,
}

impl Future for Scripted {
    type Output = Id;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Id> {
        let this = self.get_mut();
        let world = this.world.clone();
        world.log(Event::Polled(this.id));
        world.wakers.borrow_mut().entry(this.id).or_insert_with(|| context.waker().clone());
        loop {
            match &mut this.waits_for {
                WaitsFor::Nothing | WaitsFor::WakeUp => {}
                WaitsFor::Join(id, handle) => match handle.poll_unpin(context) {
                    Poll::Ready(result) => world.log(Event::Joined(*id, outcome(result))),
                    Poll::Pending => return Poll::Pending,
                },
                WaitsFor::Sleep(sleep) => std::task::ready!(sleep.as_mut().poll(context)),
                WaitsFor::Over => panic!("{} was polled after it was over", this.id),
            }
            this.waits_for = WaitsFor::Nothing;
            let Some(&step) = this.script.get(this.next) else {
                this.waits_for = WaitsFor::Over;
                return Poll::Ready(this.id);
            };
            this.next += 1;
            match step {
                Step::Park | Step::Yield => {
                    if matches!(step, Step::Yield) {
                        context.waker().wake_by_ref();
                    }
                    this.waits_for = WaitsFor::WakeUp;
                    return Poll::Pending;
                }
                Step::Wake(id, from) => world.wake(id, from),
                Step::Abort(id, from) => world.abort(id, from),
                Step::DropHandle(id) => world.drop_handle(id),
                Step::Spawn => world.spawn(),
                Step::Join(id) => {
                    let handle = world.handles.borrow_mut().remove(&id);
                    if let Some(handle) = handle {
                        this.waits_for = WaitsFor::Join(id, handle);
                    }
                }
                Step::Sleep(nanos) => {
                    let sleep = time::sleep(Duration::from_nanos(nanos));
                    this.waits_for = WaitsFor::Sleep(Box::pin(sleep));
                }
                Step::Panic => {
                    this.waits_for = WaitsFor::Over;
                    // Without the hook that prints it.
                    resume_unwind(Box::new(this.id));
                }
            }
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.world.log(Event::Dropped(self.id));
    }
}

/// What waits for its turn in the model.
#[derive(Clone, Copy, Debug)]
enum Queued {
    Task(Id),
    /// An abort from another thread: wakes whoever has this key.
    Abort(usize),
    Stop,
    /// Tells of a panic that nobody took.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    WakeUp,
    Join(Id),
    /// Until the timeout with this key is gone.
    Time((u64, u64)),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandleAt {
    /// With the test's other handles.
    Hand,
    Task,
    Gone,
}

struct Modelled {
    next: usize,
    waits_for: Waiting,
    /// Its place in the registry.
    key: usize,
    scheduled: bool,
    running: bool,
    aborted: bool,
    has_waker: bool,
    outcome: Option<Outcome>,
    handle: HandleAt,
    /// Who is woken when it is over.
    awaiter: Option<Id>,
}

struct Model {
    scripts: Vec<Script>,
    tasks: Vec<Modelled>,
    keys: Slab<Id>,
    queue: VecDeque<Queued>,
    posted: VecDeque<Queued>,
    /// Something was posted, or a stop asked for, since the turn began.
    notified: bool,
    stop: bool,
    now: u64,
    timeouts: BTreeMap<(u64, u64), Option<Id>>,
    timeouts_added: u64,
    log: Vec<Event>,
    polls: u64,
    panics: u64,
    reports: usize,
}

impl Model {
    fn new(scripts: Vec<Script>) -> Model {
        Model {
            scripts,
            tasks: Vec::new(),
            keys: Slab::new(),
            queue: VecDeque::new(),
            posted: VecDeque::new(),
            notified: false,
            stop: false,
            now: 0,
            timeouts: BTreeMap::new(),
            timeouts_added: 0,
            log: Vec::new(),
            polls: 0,
            panics: 0,
            reports: 0,
        }
    }

    fn is_over(&self, id: Id) -> bool {
        self.tasks[id].outcome.is_some()
    }

    fn spawn(&mut self) {
        let id = self.tasks.len();
        if id == self.scripts.len() {
            return;
        }
        let key = self.keys.insert(id);
        self.tasks.push(Modelled {
            next: 0,
            waits_for: Waiting::Nothing,
            key,
            scheduled: true,
            running: false,
            aborted: false,
            has_waker: false,
            outcome: None,
            handle: HandleAt::Hand,
            awaiter: None,
        });
        self.queue.push_back(Queued::Task(id));
    }

    fn schedule(&mut self, id: Id, from: From) {
        let over = self.is_over(id);
        let task = &mut self.tasks[id];
        if over || std::mem::replace(&mut task.scheduled, true) || task.running {
            return;
        }
        match from {
            From::Here => self.queue.push_back(Queued::Task(id)),
            From::AnotherThread => self.post(Queued::Task(id)),
        }
    }

    fn post(&mut self, posted: Queued) {
        self.posted.push_back(posted);
        self.notified = true;
    }

    fn wake(&mut self, id: Id, from: From) {
        if self.tasks.get(id).is_some_and(|task| task.has_waker) {
            self.schedule(id, from);
        }
    }

    fn has_handle(&self, id: Id) -> bool {
        self.tasks.get(id).is_some_and(|task| task.handle == HandleAt::Hand)
    }

    fn abort(&mut self, id: Id, from: From) {
        if !self.has_handle(id) || self.is_over(id) {
            return;
        }
        self.tasks[id].aborted = true;
        match from {
            From::Here => self.schedule(id, From::Here),
            From::AnotherThread => self.post(Queued::Abort(self.tasks[id].key)),
        }
    }

    fn drop_handle(&mut self, id: Id) {
        self.tasks[id].handle = HandleAt::Gone;
        if matches!(self.tasks[id].outcome, Some(Outcome::Panicked(_))) {
            self.queue.push_back(Queued::Report);
        }
    }

    fn timeout(&mut self, after: u64, task: Option<Id>) -> (u64, u64) {
        self.timeouts_added += 1;
        let key = (self.now + after, self.timeouts_added);
        self.timeouts.insert(key, task);
        key
    }

    /// True if a poll goes on; false if the task still waits.
    fn is_ready(&mut self, id: Id) -> bool {
        match self.tasks[id].waits_for {
            Waiting::Nothing | Waiting::WakeUp => true,
            Waiting::Time(key) => !self.timeouts.contains_key(&key),
            Waiting::Join(other) => match self.tasks[other].outcome {
                Some(outcome) => {
                    self.log.push(Event::Joined(other, outcome));
                    self.tasks[other].handle = HandleAt::Gone;
                    true
                }
                None => {
                    self.tasks[other].awaiter = Some(id);
                    false
                }
            },
        }
    }

    fn poll(&mut self, id: Id) {
        self.log.push(Event::Polled(id));
        let task = &mut self.tasks[id];
        (task.scheduled, task.running, task.has_waker) = (false, true, true);
        let outcome = self.run_script(id);
        match outcome {
            Some(outcome) => self.end(id, outcome),
            None => {
                let task = &mut self.tasks[id];
                task.running = false;
                if task.scheduled {
                    self.queue.push_back(Queued::Task(id));
                }
            }
        }
    }

    fn run_script(&mut self, id: Id) -> Option<Outcome> {
        while self.is_ready(id) {
            let script = self.scripts[id].clone();
            let task = &mut self.tasks[id];
            task.waits_for = Waiting::Nothing;
            task.next += 1;
            match script.get(task.next - 1) {
                None => return Some(Outcome::Value(id)),
                Some(Step::Panic) => {
                    self.panics += 1;
                    return Some(Outcome::Panicked(id));
                }
                Some(step @ (Step::Park | Step::Yield)) => {
                    task.waits_for = Waiting::WakeUp;
                    task.scheduled |= matches!(step, Step::Yield);
                    return None;
                }
                Some(&Step::Wake(other, from)) => self.wake(other, from),
                Some(&Step::Abort(other, from)) => self.abort(other, from),
                Some(&Step::DropHandle(other)) if self.has_handle(other) => self.drop_handle(other),
                Some(&Step::Join(other)) if self.has_handle(other) => {
                    self.tasks[id].waits_for = Waiting::Join(other);
                    self.tasks[other].handle = HandleAt::Task;
                }
                Some(Step::DropHandle(_) | Step::Join(_)) => {}
                Some(Step::Spawn) => self.spawn(),
                Some(&Step::Sleep(nanos)) => {
                    let key = self.timeout(nanos, Some(id));
                    self.tasks[id].waits_for = Waiting::Time(key);
                }
            }
        }
        None
    }

    fn end(&mut self, id: Id, outcome: Outcome) {
        self.log.push(Event::Dropped(id));
        match self.tasks[id].waits_for {
            Waiting::Nothing | Waiting::WakeUp => {}
            Waiting::Time(key) => drop(self.timeouts.remove(&key)),
            Waiting::Join(other) => self.drop_handle(other),
        }
        self.keys.remove(self.tasks[id].key);
        self.tasks[id].outcome = Some(outcome);
        if matches!(outcome, Outcome::Panicked(_)) && self.tasks[id].handle == HandleAt::Gone {
            self.reports += 1;
        }
        if let Some(awaiter) = self.tasks[id].awaiter {
            self.schedule(awaiter, From::Here);
        }
    }

    /// True if it ends with a stop.
    fn run_queued(&mut self) -> bool {
        let due: Vec<_> =
            self.timeouts.range(..=(self.now, u64::MAX)).map(|(&key, _)| key).collect();
        self.notified = false;
        self.queue.append(&mut self.posted);
        for _ in 0..self.queue.len() {
            match self.queue.pop_front().unwrap() {
                Queued::Task(id) => {
                    self.polls += 1;
                    if self.tasks[id].aborted {
                        self.end(id, Outcome::Aborted);
                    } else {
                        self.poll(id);
                    }
                }
                Queued::Abort(key) => {
                    if let Some(&id) = self.keys.get(key) {
                        self.schedule(id, From::Here);
                    }
                }
                Queued::Stop => self.request_stop(),
                Queued::Report => self.reports += 1,
            }
        }
        for key in due {
            match self.timeouts.remove(&key) {
                Some(Some(id)) => self.schedule(id, From::Here),
                Some(None) => self.request_stop(),
                None => {}
            }
        }
        self.stop
    }

    fn request_stop(&mut self) {
        (self.stop, self.notified) = (true, true);
    }

    fn wait(&mut self, limit: Option<u64>) {
        let next = self.timeouts.keys().next().map(|&(deadline, _)| deadline);
        let until = limit.into_iter().chain(next).min().unwrap();
        if self.queue.is_empty() && !self.notified {
            self.now = self.now.max(until);
        }
    }

    fn turn(&mut self, limit: u64) {
        let limit = self.now + limit;
        self.run_queued();
        self.wait(Some(limit));
    }

    fn start(&mut self) {
        while !std::mem::take(&mut self.stop) && !self.run_queued() {
            self.wait(None);
        }
        self.stop = false;
    }

    fn close(&mut self) {
        let woken: Vec<Id> = self.keys.iter().map(|(_, &id)| id).collect();
        woken.into_iter().for_each(|id| self.schedule(id, From::Here));
        self.queue.append(&mut self.posted);
        while let Some(next) = self.queue.pop_front() {
            if let Queued::Task(id) = next {
                self.polls += 1;
                self.end(id, Outcome::Closed);
            }
        }
        self.timeouts.clear();
    }
}

fn random_step(random: &mut fastrand::Rng) -> Step {
    let id = random.usize(..TASKS);
    let from = if random.u8(..4) == 0 { From::AnotherThread } else { From::Here };
    match random.u8(..20) {
        0..2 => Step::Park,
        2..4 => Step::Yield,
        4..8 => Step::Wake(id, from),
        8..10 => Step::Abort(id, from),
        10 => Step::DropHandle(id),
        11..13 => Step::Spawn,
        13..16 => Step::Join(id),
        16..19 => Step::Sleep(random.choice([0, 1, 1000, 1_000_000, 3_600_000_000_000]).unwrap()),
        _ => Step::Panic,
    }
}

fn random_script(random: &mut fastrand::Rng) -> Script {
    (0..random.usize(..8)).map(|_| random_step(random)).collect()
}

/// A run of the loop, and of its model.
struct Run {
    world: Rc<World>,
    model: Model,
    began: std::time::Instant,
    /// Panics that nobody took.
    reports: Count,
    seed: u64,
}

impl Run {
    fn new(seed: u64, random: &mut fastrand::Rng) -> Run {
        support::watchdog();
        let scripts: Vec<Script> = (0..TASKS).map(|_| random_script(random)).collect();
        let reports = Count::new();
        let told = reports.clone();
        let hook = move |_: &PanicReport<'_>| told.hit();
        let io_loop = IoLoop::builder().entries(8).virtual_time().panic_hook(hook).build().unwrap();
        let began = io_loop.time();
        let world = World {
            io_loop,
            thread: thread::current().id(),
            scripts: scripts.clone(),
            spawned: Cell::new(0),
            handles: RefCell::default(),
            wakers: RefCell::default(),
            log: RefCell::default(),
        };
        Run { world: Rc::new(world), model: Model::new(scripts), began, reports, seed }
    }

    /// Does something from outside of the loop, or runs it.
    fn make_a_move(&mut self, random: &mut fastrand::Rng) {
        let Run { world, model, .. } = self;
        let io_loop = &world.io_loop;
        let id = random.usize(..TASKS);
        let from = if random.bool() { From::AnotherThread } else { From::Here };
        match random.u8(..24) {
            0..4 => {
                world.spawn();
                model.spawn();
            }
            4..7 => {
                world.wake(id, from);
                model.wake(id, from);
            }
            7..9 => {
                world.abort(id, from);
                model.abort(id, from);
            }
            9 => {
                world.drop_handle(id);
                if model.has_handle(id) {
                    model.drop_handle(id);
                }
            }
            10..12 => self.take_result(id),
            12 => {
                io_loop.stop();
                model.request_stop();
                io_loop.start().unwrap();
                model.start();
            }
            13 => {
                io_loop.add_callback(|| IoLoop::current().stop());
                model.queue.push_back(Queued::Stop);
                io_loop.start().unwrap();
                model.start();
            }
            14 => {
                let nanos = random.u64(..10_000_000);
                io_loop.call_later(Duration::from_nanos(nanos), || IoLoop::current().stop());
                model.timeout(nanos, None);
                io_loop.start().unwrap();
                model.start();
            }
            _ => {
                let nanos = random.choice([0, 0, 1, 500, 2_000_000]).unwrap();
                io_loop.turn(Some(Duration::from_nanos(nanos))).unwrap();
                model.turn(nanos);
            }
        }
        self.compare();
    }

    fn take_result(&mut self, id: Id) {
        if !self.model.has_handle(id) {
            return;
        }
        let mut handle = self.world.handles.borrow_mut().remove(&id).unwrap();
        assert_eq!(handle.is_finished(), self.model.is_over(id));
        if !handle.is_finished() {
            self.world.handles.borrow_mut().insert(id, handle);
            return;
        }
        let given = (&mut handle).now_or_never().map(outcome).unwrap();
        self.world.log(Event::Joined(id, given));
        self.model.log.push(Event::Joined(id, self.model.tasks[id].outcome.unwrap()));
        self.model.tasks[id].handle = HandleAt::Gone;
    }

    fn compare(&self) {
        let Run { world, model, began, reports, seed } = self;
        assert_eq!(*world.log.borrow(), model.log, "seed {seed}");
        let metrics = world.io_loop.metrics();
        assert_eq!((world.io_loop.time() - *began).as_nanos(), model.now.into(), "seed {seed}");
        assert_eq!(metrics.task_polls, model.polls, "seed {seed}");
        assert_eq!(metrics.tasks, model.keys.len(), "seed {seed}");
        assert_eq!(metrics.timeouts_pending, model.timeouts.len(), "seed {seed}");
        assert_eq!(metrics.panics, model.panics, "seed {seed}");
        assert_eq!(reports.get(), model.reports, "seed {seed}");
        assert_eq!(world.handles.borrow().len(), self.handles_at_hand(), "seed {seed}");
    }

    fn handles_at_hand(&self) -> usize {
        self.model.tasks.iter().filter(|task| task.handle == HandleAt::Hand).count()
    }

    /// Closes the loop: nothing is left, and nothing that comes later has any effect. Returns what
    /// has happened.
    fn finish(mut self) -> Vec<Event> {
        self.world.io_loop.close(false).unwrap();
        self.model.close();
        self.compare();
        assert_eq!((self.world.io_loop.metrics().tasks, self.model.keys.len()), (0, 0));
        for id in 0..self.model.tasks.len() {
            self.world.wake(id, From::Here);
            self.world.wake(id, From::AnotherThread);
            self.world.abort(id, From::AnotherThread);
            self.take_result(id);
        }
        self.compare();
        for id in 0..self.world.spawned.get() {
            let drops = self.model.log.iter().filter(|event| **event == Event::Dropped(id)).count();
            assert_eq!(drops, 1, "task {id}, seed {}", self.seed);
        }
        assert!(self.world.handles.borrow().is_empty());
        self.world.wakers.take();
        assert_eq!(Rc::strong_count(&self.world), 1, "seed {}", self.seed);
        self.model.log
    }
}

fn run(seed: u64) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut run = Run::new(seed, &mut random);
    for _ in 0..random.usize(1..MOVES) {
        run.make_a_move(&mut random);
    }
    run.finish()
}

#[test]
fn every_schedule_of_tasks_goes_as_the_model_says() {
    let logs: Vec<Event> = (0..100).flat_map(run).collect();
    // And they are schedules in which things happen.
    let joined = |wanted: fn(Outcome) -> bool| {
        logs.iter().filter(|event| matches!(event, Event::Joined(_, how) if wanted(*how))).count()
    };
    assert!(joined(|how| matches!(how, Outcome::Value(_))) > 100);
    assert!(joined(|how| matches!(how, Outcome::Panicked(_))) > 20);
    assert!(joined(|how| how == Outcome::Aborted) > 20);
    assert!(joined(|how| how == Outcome::Closed) > 20);
}
