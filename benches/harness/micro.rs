//! Things small enough to be timed in this process: each in turn, many times over.

use super::progress;
use super::statistics::Spread;
use super::target::result_file;
use std::io;

/// One thing to measure.
pub(crate) struct Probe<'a> {
    pub(crate) name: &'static str,
    /// What it must not exceed.
    pub(crate) bound: Option<f64>,
    /// Measures it once, in the unit of the table.
    pub(crate) run: Box<dyn FnMut() -> io::Result<f64> + 'a>,
}

/// What has been measured, the rounds in order.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) bound: Option<f64>,
    pub(crate) values: Vec<f64>,
}

/// The usual number of rounds, or one for a rough answer.
pub(crate) fn rounds() -> usize {
    if is_quick() { 6 } else { 30 }
}

/// The command line says `--quick`.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// After so many rounds, each of `count` has come right after each other equally often.
pub(crate) fn balanced(count: usize) -> usize {
    if count.is_multiple_of(2) { count } else { 2 * count }
}

/// [`measure_in`] the usual number of rounds.
pub(crate) fn measure(probes: Vec<Probe<'_>>) -> io::Result<Vec<Series>> {
    measure_in(rounds(), probes)
}

/// Measures everything once a round, so that all see the same drift, and right after everything
/// else as often as after any other: what runs first leaves its traces. One round goes before, to
/// warm up.
pub(crate) fn measure_in(rounds: usize, probes: Vec<Probe<'_>>) -> io::Result<Vec<Series>> {
    let (mut series, mut runs) = (Vec::new(), Vec::new());
    for Probe { name, bound, run } in probes {
        series.push(Series { name, bound, values: Vec::new() });
        runs.push(run);
    }
    for index in order(runs.len(), 0) {
        runs[index]()?;
    }
    for round in 0..rounds {
        progress::show(format_args!("round {round} of {rounds}"));
        for index in order(runs.len(), round) {
            series[index].values.push(runs[index]()?);
        }
    }
    progress::clear();
    Ok(series)
}

/// Adds what was measured later, of the same things.
pub(crate) fn append(all: &mut Vec<Series>, more: Vec<Series>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.iter_mut().zip(more).for_each(|(series, more)| series.values.extend(more.values));
    }
}

/// Who comes when: the rows of a Latin square in which everybody has every neighbour on its left
/// once, or, with an odd count, of two squares, where it is twice.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let (square, row) = (round / count, round % count);
    (0..count).map(move |place| {
        let place = if square.is_multiple_of(2) { place } else { count - 1 - place };
        // 0, 1, n - 1, 2, n - 2, ...
        let step = if place % 2 == 1 { place.div_ceil(2) } else { count - place / 2 };
        (row + step) % count
    })
}

/// Prints the medians in `unit`, with quartiles, and how they compare with the first, round by round,
/// with the limits within which the medians of all rounds there could be are 19 times out of 20.
pub(crate) fn report(title: &str, unit: &str, series: &[Series]) {
    println!("{title}");
    println!("{:<44} {:>26} {:>9} {:>18}", "", unit, "bound", "by the first");
    for Series { name, bound, values } in series {
        let bound = bound.map_or(String::new(), |bound| format!("{bound}"));
        let ratios = values.iter().zip(&series[0].values).map(|(value, first)| value / first);
        let ratio = match Spread::of_median(ratios) {
            Some(Spread { lower, median, upper }) if lower < upper => {
                format!("{median:.2} ({lower:.2}-{upper:.2})")
            }
            Some(Spread { median, .. }) => format!("{median:.2}"),
            None => String::new(),
        };
        println!("{name:<44} {:>26} {bound:>9} {ratio:>18}", text(values));
    }
    println!();
}

fn text(values: &[f64]) -> String {
    match Spread::of(values.iter().copied()) {
        Some(Spread { lower, median, upper }) => format!("{median:.1} ({lower:.1}-{upper:.1})"),
        None => "-".to_owned(),
    }
}

/// Writes everything that was measured for programs.
pub(crate) fn write(bench: &str, series: &[Series]) -> io::Result<()> {
    let path = result_file(bench, "json")?;
    let rows = series.iter().filter_map(|Series { name, values, .. }| {
        let Spread { lower, median, upper } = Spread::of(values.iter().copied())?;
        Some(format!(
            " {{\"name\":\"{name}\",\"lower\":{lower:.4},\"median\":{median:.4},\"upper\":{upper:.4}}}"
        ))
    });
    let rows: Vec<String> = rows.collect();
    std::fs::write(
        &path,
        format!("{{\"bench\":\"{bench}\",\"probes\":[\n{}\n]}}\n", rows.join(",\n")),
    )?;
    println!("{}", path.display());
    Ok(())
}
