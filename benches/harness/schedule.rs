//! Who is measured when, and what is divided by what.
//!
//! A round is `B x y B z w`, the next one `B y x B w z`, where B is the baseline: everybody is
//! measured right beside it, before it as often as after it.

use super::options::Options;
use super::progress;
use super::slot::{Sample, Track};
use super::statistics::Spread;
use super::{Bench, Contestant, Workload};
use std::io;

/// What a workload has shown.
pub(super) struct Outcome {
    pub(super) workload: Workload,
    pub(super) baseline: &'static str,
    pub(super) floor: &'static str,
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) name: &'static str,
    /// Operations per second.
    pub(super) rate: Spread,
    /// Microseconds of CPU time per operation.
    pub(super) cost: Spread,
    pub(super) syscalls: Option<f64>,
    /// Cost by the cost of its neighbours.
    pub(super) to_baseline: Option<Spread>,
    /// Cost by the floor's cost in the same round.
    pub(super) to_floor: Option<Spread>,
}

pub(super) fn measure(
    bench: &Bench,
    track: &Track,
    contestants: &[&'static dyn Contestant],
    workload: &Workload,
    options: &Options,
) -> io::Result<Outcome> {
    let find = |name| contestants.iter().position(|contestant| contestant.name() == name);
    let baseline = find(bench.baseline).ok_or_else(|| io::Error::other("no baseline"))?;
    let floor = find(bench.floor).ok_or_else(|| io::Error::other("no floor"))?;
    let order = order(contestants.len(), baseline, floor, options.rounds);
    let mut samples = Vec::with_capacity(order.len());
    for (number, slot) in order.iter().enumerate() {
        show_progress(workload, number * 100 / order.len(), contestants[slot.contestant]);
        samples.push(track.sample(contestants[slot.contestant], workload, options)?);
    }
    let mut rows = Vec::new();
    for (index, contestant) in contestants.iter().enumerate() {
        show_progress(workload, 100, *contestant);
        let syscalls = match options.count_syscalls {
            true => track.syscalls(*contestant, workload, options)?,
            false => None,
        };
        rows.push(row(contestant.name(), syscalls, index, &order, &samples, (baseline, floor)));
    }
    progress::clear();
    let (baseline, floor) = (bench.baseline, bench.floor);
    Ok(Outcome { workload: *workload, baseline, floor, rounds: options.rounds, rows })
}

fn show_progress(workload: &Workload, percent: usize, contestant: &dyn Contestant) {
    progress::show(format_args!("{workload}: {percent} %, {}", contestant.name()));
}

#[derive(Clone, Copy)]
struct Slot {
    contestant: usize,
    round: usize,
}

fn order(contestants: usize, baseline: usize, floor: usize, rounds: usize) -> Vec<Slot> {
    // The floor comes first, so that its neighbour is the next in the list.
    let rest = (0..contestants).filter(|&index| index != baseline && index != floor);
    let others: Vec<usize> =
        Some(floor).filter(|_| floor != baseline).into_iter().chain(rest).collect();
    let mut order = Vec::new();
    for round in 0..rounds {
        for pair in others.chunks(2) {
            order.push(baseline);
            match round % 2 {
                0 => order.extend(pair),
                _ => order.extend(pair.iter().rev()),
            }
        }
    }
    order.push(baseline);
    let per_round = (order.len() - 1) / rounds.max(1);
    let slots = order.into_iter().enumerate();
    slots.map(|(place, contestant)| Slot { contestant, round: place / per_round.max(1) }).collect()
}

fn row(
    name: &'static str,
    syscalls: Option<f64>,
    index: usize,
    order: &[Slot],
    samples: &[Sample],
    (baseline, floor): (usize, usize),
) -> Row {
    let own = || (0..order.len()).filter(|&place| order[place].contestant == index);
    let spread = |numbers: Vec<f64>| Spread::of(numbers).expect("everybody is measured");
    let to_baseline = |place: usize| {
        let costs: Vec<f64> = neighbours(place, order.len())
            .filter(|&place| order[place].contestant == baseline)
            .map(|place| samples[place].cost())
            .collect();
        Some(samples[place].cost() * costs.len() as f64 / costs.iter().sum::<f64>())
    };
    let to_floor = |place: usize| {
        let beside = (0..order.len()).find(|&other| {
            order[other].contestant == floor && order[other].round == order[place].round
        })?;
        Some(samples[place].cost() / samples[beside].cost())
    };
    Row {
        name,
        rate: spread(own().map(|place| samples[place].rate()).collect()),
        cost: spread(own().map(|place| samples[place].cost()).collect()),
        syscalls,
        to_baseline: Spread::of(own().filter_map(to_baseline)).filter(|_| index != baseline),
        to_floor: Spread::of(own().filter_map(to_floor)).filter(|_| index != floor),
    }
}

fn neighbours(place: usize, length: usize) -> impl Iterator<Item = usize> {
    [place.checked_sub(1), Some(place + 1)]
        .into_iter()
        .flatten()
        .filter(move |&other| other < length)
}
