//! Functions that run on other threads: `run_in_executor`, `ThreadPool`, `Executor`.

mod support;

use futures::FutureExt;
use futures::future::join_all;
use ringloop::{CallbackKind, Executor, IoLoop, Job, ThreadPool};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use support::{OnDrop, in_child, in_own_process, new_loop, turn, turn_until};

const LONG: Duration = Duration::from_secs(3600);

/// Counts on all threads.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn hit(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn on_drop(&self) -> OnDrop<impl FnMut() + Send + use<>> {
        let count = self.clone();
        OnDrop(move || count.hit())
    }

    fn wait_for(&self, number: usize) {
        while self.get() < number {
            thread::yield_now();
        }
    }
}

/// Counts the end of the thread that this is called on.
fn count_end_of_thread(count: &Count) {
    struct End(Count);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.hit();
        }
    }
    thread_local! {
        static END: RefCell<Option<End>> = const { RefCell::new(None) };
    }
    END.with_borrow_mut(|end| {
        end.get_or_insert_with(|| End(count.clone()));
    });
}

/// An executor that uses a pool that the test can look at.
fn share(pool: &Arc<ThreadPool>) -> impl Executor + use<> {
    let pool = pool.clone();
    move |job: Job| pool.execute(job)
}

/// An executor that keeps its jobs, and the jobs.
fn held_jobs() -> (Rc<RefCell<Vec<Job>>>, impl Executor) {
    let held: Rc<RefCell<Vec<Job>>> = Rc::default();
    let hold = held.clone();
    (held, move |job: Job| hold.borrow_mut().push(job))
}

#[test]
fn a_function_runs_on_another_thread_and_its_value_comes_back() {
    let io_loop = new_loop();
    let task = io_loop.run_in_executor(|| thread::current().id());
    let other = io_loop.run_sync(|| task, None).unwrap().unwrap();
    assert_ne!(other, thread::current().id());
}

#[test]
fn the_loop_runs_on_meanwhile() {
    let io_loop = new_loop();
    let (sender, receiver) = mpsc::channel();
    let task = io_loop.run_in_executor(move || receiver.recv().unwrap());
    io_loop.add_callback(move || sender.send(5).unwrap());
    assert_eq!(io_loop.run_sync(|| task, None).unwrap().unwrap(), 5);
}

#[test]
fn a_panic_in_the_function_is_the_error_of_the_handle() {
    let io_loop = new_loop();
    let task = io_loop.run_in_executor(|| -> i32 { panic!("on purpose") });
    let error = io_loop.run_sync(|| task, None).unwrap().unwrap_err();
    assert!(error.is_panic());
    assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(io_loop.metrics().panics, 1);
    let next = io_loop.run_in_executor(|| 1);
    assert_eq!(io_loop.run_sync(|| next, None).unwrap().unwrap(), 1);
}

#[test]
fn a_panic_that_nobody_waits_for_is_reported() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        let origin = report.origin;
        told.borrow_mut().push((
            origin.kind,
            origin.site.unwrap().line(),
            report.message().to_owned(),
        ));
    };
    let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
    drop(io_loop.run_in_executor(|| -> i32 { panic!("on purpose") }));
    let line = line!() - 1;
    turn_until(&io_loop, || !reports.borrow().is_empty());
    assert_eq!(reports.take(), [(CallbackKind::Task, line, "on purpose".to_owned())]);
    assert_eq!(io_loop.metrics().panics, 1);
}

#[test]
fn the_pool_grows_as_needed_up_to_its_limit_and_no_further() {
    let io_loop = new_loop();
    let pool = Arc::new(ThreadPool::with_idle_limit(3, LONG));
    io_loop.set_default_executor(share(&pool));
    assert_eq!(pool.threads(), 0);
    // Three at a time can meet here, and have to.
    let meeting = Arc::new(Barrier::new(3));
    let (active, most) = (Count::default(), Count::default());
    let tasks = (0..9).map(|_| {
        let (meeting, active, most) = (meeting.clone(), active.clone(), most.clone());
        io_loop.run_in_executor(move || {
            let now = active.0.fetch_add(1, Ordering::SeqCst) + 1;
            most.0.fetch_max(now, Ordering::SeqCst);
            meeting.wait();
            active.0.fetch_sub(1, Ordering::SeqCst);
            thread::current().id()
        })
    });
    let tasks: Vec<_> = tasks.collect();
    assert_eq!(pool.threads(), 3);
    let threads = io_loop.run_sync(|| join_all(tasks), None).unwrap();
    let threads: HashSet<_> = threads.into_iter().map(Result::unwrap).collect();
    assert_eq!((threads.len(), pool.threads(), most.get()), (3, 3, 3));
}

#[test]
fn an_idle_thread_is_used_before_another_is_started() {
    let io_loop = new_loop();
    let pool = Arc::new(ThreadPool::with_idle_limit(8, LONG));
    io_loop.set_default_executor(share(&pool));
    for _ in 0..20 {
        let task = io_loop.run_in_executor(|| ());
        io_loop.run_sync(|| task, None).unwrap().unwrap();
        while pool.idle_threads() == 0 {
            thread::yield_now();
        }
    }
    assert_eq!((pool.threads(), pool.idle_threads()), (1, 1));
}

#[test]
fn threads_end_when_they_have_been_idle_for_long_enough() {
    let io_loop = new_loop();
    let pool = Arc::new(ThreadPool::with_idle_limit(4, Duration::from_millis(1)));
    io_loop.set_default_executor(share(&pool));
    for _ in 0..3 {
        let ended = Count::default();
        let meeting = Arc::new(Barrier::new(4));
        let tasks = (0..4).map(|_| {
            let (ended, meeting) = (ended.clone(), meeting.clone());
            io_loop.run_in_executor(move || {
                count_end_of_thread(&ended);
                meeting.wait();
            })
        });
        let tasks: Vec<_> = tasks.collect();
        io_loop.run_sync(|| join_all(tasks), None).unwrap();
        ended.wait_for(4);
        assert_eq!(pool.threads(), 0);
    }
}

/// Leaves no room for the stack of another thread.
fn refuse_threads() {
    let memory = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = memory.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: passes no memory.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let limit =
        libc::rlimit { rlim_cur: pages * page_size + (1 << 20), rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid to read from.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    assert!(thread::Builder::new().spawn(|| ()).is_err());
}

#[test]
fn a_function_that_no_thread_can_be_started_for_waits_for_another_or_is_dropped() {
    let name = "a_function_that_no_thread_can_be_started_for_waits_for_another_or_is_dropped";
    in_own_process(name, || {
        let io_loop = new_loop();
        // For as long as it lives, nobody gets the stack of its thread.
        let pool = Arc::new(ThreadPool::new(8));
        io_loop.set_default_executor(share(&pool));
        let (begin, begun) = mpsc::channel();
        let (finish, to_finish) = mpsc::channel::<()>();
        let busy = io_loop.run_in_executor(move || {
            begin.send(()).unwrap();
            let _ = to_finish.recv();
        });
        begun.recv().unwrap();
        refuse_threads();
        let in_line = io_loop.run_in_executor(|| 1);
        turn(&io_loop);
        assert!(!in_line.is_finished());
        drop(finish);
        io_loop.run_sync(|| busy, None).unwrap().unwrap();
        assert_eq!(io_loop.run_sync(|| in_line, None).unwrap().unwrap(), 1);
        io_loop.set_default_executor(ThreadPool::new(8));
        let dropped = io_loop.run_in_executor(|| 1);
        let error = io_loop.run_sync(|| dropped, None).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the executor dropped the function without running it");
    });
}

#[test]
fn a_pool_ends_with_the_loop() {
    let io_loop = new_loop();
    io_loop.set_default_executor(ThreadPool::with_idle_limit(2, LONG));
    let ended = Count::default();
    let meeting = Arc::new(Barrier::new(2));
    let tasks = [(); 2].map(|()| {
        let (ended, meeting) = (ended.clone(), meeting.clone());
        io_loop.run_in_executor(move || {
            count_end_of_thread(&ended);
            meeting.wait();
        })
    });
    io_loop.run_sync(|| join_all(tasks), None).unwrap();
    assert_eq!(ended.get(), 0);
    drop(io_loop);
    ended.wait_for(2);
}

#[test]
fn closing_the_loop_drops_functions_that_have_not_begun_and_waits_for_none_that_has() {
    let io_loop = new_loop();
    io_loop.set_default_executor(ThreadPool::new(1));
    let (begun, release) = (Count::default(), Arc::new(Barrier::new(2)));
    let (begin, wait) = (begun.clone(), release.clone());
    let value_dropped = Count::default();
    let value = value_dropped.on_drop();
    let running = io_loop.run_in_executor(move || {
        begin.hit();
        wait.wait();
        value
    });
    let (ran, dropped) = (Count::default(), Count::default());
    let (hit, on_drop) = (ran.clone(), dropped.on_drop());
    let waiting = io_loop.run_in_executor(move || {
        let _on_drop = on_drop;
        hit.hit();
    });
    begun.wait_for(1);
    io_loop.close(false).unwrap();
    assert_eq!((ran.get(), dropped.get(), value_dropped.get()), (0, 1, 0));
    assert!(running.now_or_never().unwrap().map(drop).unwrap_err().is_closed());
    assert!(waiting.now_or_never().unwrap().unwrap_err().is_closed());
    release.wait();
    value_dropped.wait_for(1);
}

#[test]
fn an_aborted_function_that_has_not_begun_never_runs() {
    let io_loop = new_loop();
    let (held, hold) = held_jobs();
    io_loop.set_default_executor(hold);
    let dropped = Count::default();
    let on_drop = dropped.on_drop();
    let task = io_loop.run_in_executor(move || {
        let _on_drop = on_drop;
        unreachable!()
    });
    turn(&io_loop);
    task.abort();
    turn(&io_loop);
    assert!(task.now_or_never().unwrap().unwrap_err().is_aborted());
    let job = held.take().pop().unwrap();
    job();
    assert_eq!(dropped.get(), 1);
}

#[test]
fn an_abort_is_effective_before_the_loops_next_turn() {
    let io_loop = new_loop();
    let (held, hold) = held_jobs();
    io_loop.set_default_executor(hold);
    let ran = Count::default();
    let from = |abort: fn(ringloop::JoinHandle<()>)| {
        let hit = ran.clone();
        let task = io_loop.run_in_executor(move || hit.hit());
        abort(task);
        held.take().pop().unwrap()();
    };
    from(|task| task.abort());
    from(|task| thread::spawn(move || task.abort()).join().unwrap());
    assert_eq!(ran.get(), 0);
    from(drop);
    assert_eq!(ran.get(), 1);
}

#[test]
fn a_function_that_is_not_wanted_any_more_is_dropped_by_the_loop_and_not_by_a_thread() {
    let io_loop = new_loop();
    let (held, hold) = held_jobs();
    io_loop.set_default_executor(hold);
    let dropped = Count::default();
    let on_drop = dropped.on_drop();
    let task = io_loop.run_in_executor(move || drop(on_drop));
    task.abort();
    assert_eq!(dropped.get(), 0);
    turn(&io_loop);
    assert_eq!((dropped.get(), held.borrow().len()), (1, 1));
    let on_drop = dropped.on_drop();
    drop(io_loop.run_in_executor(move || drop(on_drop)));
    io_loop.close(false).unwrap();
    assert_eq!((dropped.get(), held.borrow().len()), (2, 2));
}

#[test]
fn a_panic_in_the_destructor_of_a_function_that_never_ran_is_reported() {
    support::watchdog();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let end_one = |end: fn(&IoLoop, ringloop::JoinHandle<()>)| {
        let told = reports.clone();
        let hook = move |report: &ringloop::PanicReport<'_>| {
            told.borrow_mut().push((report.origin.kind, report.message().to_owned()));
        };
        let io_loop = IoLoop::builder().panic_hook(hook).build().unwrap();
        io_loop.set_default_executor(ThreadPool::new(1));
        let (begun, release) = (Count::default(), Arc::new(Barrier::new(2)));
        let (begin, wait) = (begun.clone(), release.clone());
        let _running = io_loop.run_in_executor(move || {
            begin.hit();
            wait.wait();
        });
        begun.wait_for(1);
        let explosive = OnDrop(|| panic!("in a destructor"));
        let waiting = io_loop.run_in_executor(move || drop(explosive));
        end(&io_loop, waiting);
        assert_eq!(io_loop.metrics().panics, 1);
        release.wait();
    };
    end_one(|io_loop, _waiting| io_loop.close(false).unwrap());
    end_one(|io_loop, waiting| {
        waiting.abort();
        turn(io_loop);
    });
    end_one(|io_loop, waiting| {
        // The pool is dropped, and with it what is in line.
        io_loop.set_default_executor(drop::<Job>);
        let error = io_loop.run_sync(|| waiting, None).unwrap().unwrap_err();
        assert!(error.is_closed());
    });
    let report = (CallbackKind::Task, "in a destructor".to_owned());
    assert_eq!(reports.take(), [report.clone(), report.clone(), report]);
}

#[test]
fn an_executor_that_drops_the_function_is_told_of_in_the_error() {
    let io_loop = new_loop();
    io_loop.set_default_executor(|job: Job| drop(job));
    let task = io_loop.run_in_executor(|| 1);
    let error = io_loop.run_sync(|| task, None).unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.to_string(), "the executor dropped the function without running it");
}

#[test]
fn on_a_closed_loop_the_function_is_dropped() {
    let io_loop = new_loop();
    io_loop.close(false).unwrap();
    let dropped = Count::default();
    let on_drop = dropped.on_drop();
    let task = io_loop.run_in_executor(move || drop(on_drop));
    assert!(task.now_or_never().unwrap().unwrap_err().is_closed());
    assert_eq!(dropped.get(), 1);
}

#[test]
fn an_executor_is_dropped_when_it_is_replaced_and_with_the_loop() {
    let io_loop = new_loop();
    let dropped = Rc::new(Cell::new(0));
    let executor = || {
        let dropped = dropped.clone();
        let on_drop = OnDrop(move || dropped.set(dropped.get() + 1));
        move |job: Job| {
            let _ = &on_drop;
            job();
        }
    };
    io_loop.set_default_executor(executor());
    io_loop.set_default_executor(executor());
    assert_eq!(dropped.get(), 1);
    io_loop.close(false).unwrap();
    assert_eq!(dropped.get(), 2);
    io_loop.set_default_executor(executor());
    assert_eq!(dropped.get(), 3);
}

#[test]
fn a_pool_may_be_shared_by_loops() {
    support::watchdog();
    let pool = Arc::new(ThreadPool::new(2));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let io_loop = new_loop();
                io_loop.set_default_executor(share(&pool));
                let tasks: Vec<_> =
                    (0..50).map(|number| io_loop.run_in_executor(move || number)).collect();
                let sum = io_loop.run_sync(|| join_all(tasks), None).unwrap();
                sum.into_iter().map(Result::unwrap).sum::<i32>()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 1225);
    }
    assert!(pool.threads() <= 2);
}

#[test]
fn a_job_that_panics_costs_the_pool_no_thread() {
    support::watchdog();
    let pool = ThreadPool::with_idle_limit(1, LONG);
    let results = Arc::new(Mutex::new(Vec::new()));
    for number in 0..4 {
        let results = results.clone();
        pool.execute(Box::new(move || {
            results.lock().unwrap().push((number, thread::current().id()));
            assert!(number % 2 == 0, "on purpose");
        }));
    }
    let (sender, receiver) = mpsc::channel();
    pool.execute(Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
    let results: Vec<_> = std::mem::take(&mut results.lock().unwrap_or_else(|e| e.into_inner()));
    assert_eq!(results.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(results.iter().all(|(_, thread)| *thread == results[0].1));
    assert_eq!(pool.threads(), 1);
}

/// A pool whose only thread is busy until something is sent, and the count of its end.
fn busy_pool() -> (ThreadPool, mpsc::Sender<()>, Count) {
    let pool = ThreadPool::with_idle_limit(1, LONG);
    let (finish, to_finish) = mpsc::channel();
    let (begun, ended) = (Count::default(), Count::default());
    let (begin, end) = (begun.clone(), ended.clone());
    pool.execute(Box::new(move || {
        count_end_of_thread(&end);
        begin.hit();
        let _ = to_finish.recv();
    }));
    begun.wait_for(1);
    (pool, finish, ended)
}

#[test]
fn a_job_in_line_that_panics_as_it_is_dropped_ends_no_more_than_itself() {
    support::watchdog();
    let (pool, _finish, _) = busy_pool();
    let (explosive, dropped) = (OnDrop(|| panic!("on purpose")), Count::default());
    let on_drop = dropped.on_drop();
    pool.execute(Box::new(move || drop(explosive)));
    pool.execute(Box::new(move || drop(on_drop)));
    drop(pool);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn a_job_in_line_may_wait_for_the_pools_thread_as_it_is_dropped() {
    support::watchdog();
    let (pool, finish, ended) = busy_pool();
    let waiting = OnDrop(move || {
        finish.send(()).unwrap();
        ended.wait_for(1);
    });
    pool.execute(Box::new(move || drop(waiting)));
    drop(pool);
}

#[test]
fn a_pool_without_threads_is_refused() {
    support::watchdog();
    let payload = std::panic::catch_unwind(|| ThreadPool::new(0)).unwrap_err();
    let message = payload.downcast_ref::<&str>().unwrap();
    assert!(message.contains("needs a thread"), "{message}");
}

#[test]
fn a_child_has_a_pool_of_its_own_and_leaves_the_parents_alone() {
    let io_loop = new_loop();
    let task = io_loop.run_in_executor(|| ());
    io_loop.run_sync(|| task, None).unwrap().unwrap();
    let result = in_child(|| {
        let refused = io_loop.run_in_executor(|| ());
        if !refused.now_or_never().unwrap().unwrap_err().is_closed() {
            return Err("a function for the parent's pool".to_owned());
        }
        let own = IoLoop::new().unwrap();
        let task = own.run_in_executor(|| 5);
        if own.run_sync(|| task, None).unwrap().unwrap() != 5 {
            return Err("no value".to_owned());
        }
        drop(io_loop);
        drop(own);
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_child_that_uses_the_parents_pool_is_told_that_it_cannot() {
    support::watchdog();
    let pool = ThreadPool::with_idle_limit(1, LONG);
    pool.execute(Box::new(|| ()));
    while pool.idle_threads() == 0 {
        thread::yield_now();
    }
    let result = in_child(|| {
        let dropped = Count::default();
        let on_drop = dropped.on_drop();
        pool.execute(Box::new(move || drop(on_drop)));
        let threads = (pool.threads(), pool.idle_threads());
        drop(pool);
        match (dropped.get(), threads) {
            (1, (0, 0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_child_does_not_drop_the_parents_executor() {
    let io_loop = new_loop();
    let dropped = Count::default();
    let on_drop = dropped.on_drop();
    io_loop.set_default_executor(move |job: Job| {
        let _ = &on_drop;
        job();
    });
    let result = in_child(|| {
        drop(io_loop);
        if dropped.get() == 0 { Ok(()) } else { Err("it was dropped".to_owned()) }
    });
    assert_eq!(result, Ok(()));
}
