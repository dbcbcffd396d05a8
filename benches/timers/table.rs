//! The figures: printed as they come, kept for the file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_unstable_by(f64::total_cmp);
        let at = |quarters: usize| {
            let place = (values.len() - 1) * quarters;
            let (below, above) = (values[place / 4], values[place.div_ceil(4)]);
            below + (above - below) * (place % 4) as f64 / 4.0
        };
        Spread { low: at(1), median: at(2), high: at(3) }
    }

    fn json(self) -> String {
        let Spread { low, median, high } = self;
        format!(r#"{{"low": {low:.3}, "median": {median:.3}, "high": {high:.3}}}"#)
    }
}

struct Row {
    workload: &'static str,
    pending: usize,
    name: &'static str,
    nanoseconds: Spread,
    ratio: Option<Spread>,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds nanoseconds per operation by round. Ratios are to the first.
    pub fn add(
        &mut self,
        workload: &'static str,
        pending: usize,
        times: &[(&'static str, Vec<f64>)],
    ) {
        println!("\n{:52} {:>8} {:>25}", heading(workload, pending), "ns", "ratio");
        for (index, (name, own)) in times.iter().enumerate() {
            let pairs = own.iter().zip(&times[0].1);
            let ratio = (times.len() > 1 && index > 0)
                .then(|| Spread::of(pairs.map(|(own, first)| own / first).collect()));
            let nanoseconds = Spread::of(own.clone());
            let row = Row { workload, pending, name, nanoseconds, ratio };
            println!("{}", line(&row));
            self.rows.push(row);
        }
    }

    pub fn median(&self, workload: &str, pending: usize, name: &str) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| (row.workload, row.pending, row.name) == (workload, pending, name))?;
        Some(row.nanoseconds.median)
    }

    pub fn save(&self) -> io::Result<PathBuf> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("timers.json");
        let rows: Vec<String> = self.rows.iter().map(json).collect();
        fs::write(&path, format!("[\n  {}\n]\n", rows.join(",\n  ")))?;
        Ok(path)
    }
}

fn heading(workload: &str, pending: usize) -> String {
    format!("{workload}, {pending} pending")
}

fn line(row: &Row) -> String {
    let Spread { low, median, high } = row.nanoseconds;
    let mut line = format!("  {:50} {median:8.1} [{low:6.1} {high:6.1}]", row.name);
    if let Some(Spread { low, median, high }) = row.ratio {
        write!(line, "   {median:6.2} [{low:5.2} {high:5.2}]").expect("a string takes it");
    }
    line
}

fn json(row: &Row) -> String {
    let ratio = row.ratio.map_or_else(|| "null".to_owned(), Spread::json);
    format!(
        r#"{{"workload": "{}", "pending": {}, "candidate": "{}", "ns": {}, "ratio": {ratio}}}"#,
        row.workload,
        row.pending,
        row.name,
        row.nanoseconds.json(),
    )
}
