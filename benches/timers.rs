//! Timer queues compared: what the loop uses, and what it could use instead.
//!
//!     cargo bench --bench timers [-- --quick]
//!
//! All candidates go through the same workloads in turns, round by round; a ratio is between two
//! times of one round. The table shows medians and, in brackets, quartiles. What the benchmark
//! takes itself, mostly for picking a random timeout out of many, is a candidate, too. Then comes
//! how long one call takes at the longest, for a loop that is held up by it. The last lines are the
//! loop's own methods, with their closures and the clock. All is written as JSON to `timers.json` in
//! the target directory.

#![allow(unreachable_pub)]

#[path = "timers/api.rs"]
mod api;
#[path = "timers/candidates.rs"]
mod candidates;
#[path = "timers/check.rs"]
mod check;
#[path = "timers/field.rs"]
mod field;
#[path = "timers/pauses.rs"]
mod pauses;
#[path = "harness/progress.rs"]
mod progress;
#[path = "timers/table.rs"]
mod table;

use candidates::Queue;
use candidates::btree::Tree;
use candidates::indexed::IndexedHeap;
use candidates::lazy::LazyHeap;
use candidates::none::Nothing;
use candidates::product::Product;
use candidates::std_heap::StdHeap;
use candidates::wheel::Wheel;
use field::{Contestant, Field, Workload};
use std::io;
use table::Table;

/// Nanoseconds that an add and a cancel of the loop's own queue may take, with the most pending.
const BOUND: f64 = 100.0;
const MOST: usize = 1_000_000;

/// What the others are compared with comes first.
fn contestants(pending: usize) -> Vec<Box<dyn Contestant>> {
    vec![
        Field::<StdHeap>::boxed(pending),
        Field::<LazyHeap<4>>::boxed(pending),
        Field::<LazyHeap<8>>::boxed(pending),
        Field::<IndexedHeap<4>>::boxed(pending),
        Field::<Wheel>::boxed(pending),
        Field::<Tree>::boxed(pending),
        Field::<Product>::boxed(pending),
        Field::<Nothing>::boxed(pending),
    ]
}

fn check_all() {
    check::alike::<Tree>(1);
    check::alike::<LazyHeap<4>>(1);
    check::alike::<LazyHeap<8>>(1);
    check::alike::<IndexedHeap<2>>(1);
    check::alike::<IndexedHeap<4>>(1);
    check::alike::<Product>(1);
    check::alike::<Wheel>(candidates::wheel::TICK);
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let quick = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--quick"] => true,
        _ => return Err(io::Error::other("usage: cargo bench --bench timers [-- --quick]")),
    };
    check_all();
    let mut table = Table::default();
    for pending in [1_000, 100_000, MOST] {
        compare(pending, quick, &mut table);
    }
    measure_pauses(quick, &mut table);
    api::measure(quick, &mut table)?;
    judge(&table);
    println!("written to {}", table.save()?.display());
    Ok(())
}

fn measure_pauses(quick: bool, table: &mut Table) {
    progress::show("looking for the longest calls");
    if !quick {
        pauses::measure::<StdHeap>(MOST, 3, table);
        pauses::measure::<Wheel>(MOST, 3, table);
    }
    pauses::measure::<Product>(MOST, if quick { 1 } else { 5 }, table);
    progress::clear();
}

fn compare(pending: usize, quick: bool, table: &mut Table) {
    progress::show(format_args!("filling queues with {pending} timeouts"));
    let mut contestants = contestants(pending);
    for workload in Workload::ALL {
        let rounds = match quick {
            true => workload.rounds_when_quick(pending),
            false => workload.rounds(),
        };
        if rounds > 0 {
            let times = race(&mut contestants, workload, rounds, pending);
            table.add(workload.name(), pending, &times);
        }
    }
}

/// Nanoseconds per operation, by contestant and round.
fn race(
    contestants: &mut [Box<dyn Contestant>],
    workload: Workload,
    rounds: usize,
    pending: usize,
) -> Vec<(&'static str, Vec<f64>)> {
    let mut times: Vec<_> = contestants.iter().map(|one| (one.name(), Vec::new())).collect();
    for round in 0..rounds {
        for index in 0..contestants.len() {
            let one = (index + round) % contestants.len();
            let (name, times) = &mut times[one];
            let round = round + 1;
            let what = workload.name();
            progress::show(format_args!(
                "{pending} pending, {what}, round {round} of {rounds}: {name}"
            ));
            times.push(contestants[one].run(workload));
        }
    }
    progress::clear();
    times
}

fn judge(table: &Table) {
    let of = |name| table.median(Workload::Idle.name(), MOST, name);
    let (Some(took), Some(itself)) = (of(Product::NAME), of(Nothing::NAME)) else {
        return;
    };
    let verdict = if took - itself <= BOUND { "kept" } else { "MISSED" };
    println!(
        "add and cancel with {MOST} pending: {took:.0} ns, of which the benchmark {itself:.0}; \
         bound {BOUND:.0}: {verdict}"
    );
}
