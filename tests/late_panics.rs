//! Panics of tasks that come out only as the loop closes, or later, because a handle kept them.

mod support;

use ringloop::{IoLoop, JoinHandle, Panics};
use std::cell::RefCell;
use std::future::pending;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use support::{in_child, turn};

type Reports = Rc<RefCell<Vec<String>>>;

/// A loop, and the panics that its hook was told of.
fn reporting_loop(is_current: bool, panics: Panics) -> (IoLoop, Reports) {
    support::watchdog();
    let reports = Reports::default();
    let told = reports.clone();
    let hook = move |report: &ringloop::PanicReport<'_>| {
        assert_eq!(report.origin.site.unwrap().file(), file!());
        told.borrow_mut().push(report.message().to_owned());
    };
    let builder = IoLoop::builder().make_current(is_current).panics(panics).panic_hook(hook);
    (builder.build().unwrap(), reports)
}

/// A task that has panicked, which only its handle knows.
fn panicked(io_loop: &IoLoop) -> JoinHandle<()> {
    let task = io_loop.spawn(async { panic!("unheard") });
    turn(io_loop);
    assert!(task.is_finished());
    task
}

#[test]
fn the_panic_of_a_task_whose_handle_is_dropped_with_another_task_at_close_is_reported() {
    for is_current in [true, false] {
        for panics in [Panics::Catch, Panics::Propagate] {
            let (io_loop, reports) = reporting_loop(is_current, panics);
            let child = panicked(&io_loop);
            io_loop.spawn(async move {
                pending::<()>().await;
                let _ = child.await;
            });
            turn(&io_loop);
            io_loop.close(false).unwrap();
            assert_eq!(reports.take(), ["unheard"]);
            assert_eq!(io_loop.metrics().panics, 1);
        }
    }
}

#[test]
fn the_panic_of_a_task_whose_handle_is_dropped_with_another_task_of_a_dropped_loop_is_reported() {
    let (io_loop, reports) = reporting_loop(true, Panics::Catch);
    let child = panicked(&io_loop);
    io_loop.spawn(async move {
        pending::<()>().await;
        let _ = child.await;
    });
    drop(io_loop);
    assert_eq!(reports.take(), ["unheard"]);
}

#[test]
fn the_panic_of_a_task_whose_handle_is_dropped_with_a_callback_at_close_is_reported() {
    for panics in [Panics::Catch, Panics::Propagate] {
        let (io_loop, reports) = reporting_loop(true, panics);
        let task = panicked(&io_loop);
        io_loop.add_callback(move || drop(task));
        io_loop.close(false).unwrap();
        assert_eq!(reports.take(), ["unheard"]);
        assert_eq!(io_loop.metrics().panics, 1);
    }
}

#[test]
fn the_panic_of_a_task_whose_handle_is_dropped_before_a_close_is_reported() {
    let (io_loop, reports) = reporting_loop(true, Panics::Catch);
    let (here, there) = (panicked(&io_loop), panicked(&io_loop));
    thread::spawn(move || drop(there)).join().unwrap();
    drop(here);
    io_loop.close(false).unwrap();
    assert_eq!(reports.take(), ["unheard"; 2]);
    assert_eq!(io_loop.metrics().panics, 2);
}

#[test]
fn the_panic_of_a_task_whose_handle_is_dropped_after_a_close_is_reported() {
    for panics in [Panics::Catch, Panics::Propagate] {
        let (io_loop, reports) = reporting_loop(true, panics);
        let task = panicked(&io_loop);
        io_loop.close(false).unwrap();
        drop(task);
        assert_eq!(reports.take(), ["unheard"]);
        assert_eq!(io_loop.metrics().panics, 1);
    }
}

#[test]
fn the_panic_of_a_task_whose_handle_outlives_the_loop_is_written_to_standard_error() {
    const INSIDE: &str = "RINGLOOP_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let (io_loop, reports) = reporting_loop(true, Panics::Catch);
        let task = panicked(&io_loop);
        drop(io_loop);
        drop(task);
        return assert!(reports.take().is_empty());
    }
    let name = "the_panic_of_a_task_whose_handle_outlives_the_loop_is_written_to_standard_error";
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, "1")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(inside.stderr).unwrap();
    assert!(inside.status.success(), "{text}");
    let told = text.lines().find(|line| line.starts_with("ringloop: task")).expect(&text);
    assert!(told.contains("late_panics.rs") && told.ends_with("panicked: unheard"), "{told}");
}

#[test]
fn the_panic_of_a_task_is_not_reported_by_a_child_that_drops_its_copy_of_the_handle() {
    for is_closed in [false, true] {
        let (io_loop, reports) = reporting_loop(true, Panics::Catch);
        let task = panicked(&io_loop);
        if is_closed {
            io_loop.close(false).unwrap();
        }
        let told = reports.clone();
        let drop_it = move || {
            drop(task);
            let told = told.take();
            if told.is_empty() { Ok(()) } else { Err(format!("{told:?}")) }
        };
        // Here, the closure is dropped uncalled.
        in_child(drop_it).unwrap();
        if !is_closed {
            turn(&io_loop);
        }
        assert_eq!(reports.take(), ["unheard"]);
    }
}
