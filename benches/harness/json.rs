//! The results for programs.

use super::schedule::{Outcome, Row};
use super::statistics::Spread;
use super::target::result_file;
use std::io;
use std::path::PathBuf;

pub(super) fn write(name: &str, outcomes: &[Outcome]) -> io::Result<PathBuf> {
    let path = result_file(name, "json")?;
    let workloads: Vec<String> = outcomes.iter().map(workload).collect();
    let text = format!("{{\"bench\":\"{name}\",\"workloads\":[\n{}\n]}}\n", workloads.join(",\n"));
    std::fs::write(&path, text)?;
    Ok(path)
}

fn workload(outcome: &Outcome) -> String {
    let Outcome { workload, baseline, floor, rounds, rows } = outcome;
    let rows: Vec<String> = rows.iter().map(row).collect();
    format!(
        " {{\"workload\":\"{workload}\",\"rounds\":{rounds},\"baseline\":\"{baseline}\",\
         \"floor\":\"{floor}\",\"contestants\":[\n{}\n ]}}",
        rows.join(",\n")
    )
}

fn row(row: &Row) -> String {
    format!(
        "  {{\"name\":\"{}\",\"rate\":{},\"cpu_us\":{},\"syscalls\":{},\"to_baseline\":{},\
         \"to_floor\":{}}}",
        row.name,
        spread(Some(row.rate)),
        spread(Some(row.cost)),
        row.syscalls.map_or("null".to_owned(), |syscalls| format!("{syscalls:.4}")),
        spread(row.to_baseline),
        spread(row.to_floor),
    )
}

fn spread(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { lower, median, upper }) => {
            format!("{{\"lower\":{lower:.4},\"median\":{median:.4},\"upper\":{upper:.4}}}")
        }
        None => "null".to_owned(),
    }
}
