//! The table on the terminal.

use super::Contestant;
use super::schedule::{Outcome, Row};
use super::statistics::Spread;

pub(super) fn print(outcome: &Outcome) {
    println!("{} ({} rounds)", outcome.workload.title(), outcome.rounds);
    println!(
        "{:<16} {:>10} {:>9} {:>9}   {:<20} {:<20}",
        "",
        format!("{}s/s", outcome.workload.operation()).replace(' ', "-"),
        "CPU µs",
        "syscalls",
        format!("CPU by {}'s", outcome.baseline),
        format!("CPU by {}'s", outcome.floor),
    );
    outcome.rows.iter().for_each(|row| println!("{}", line(row).trim_end()));
    println!();
}

fn line(row: &Row) -> String {
    format!(
        "{:<16} {:>10.0} {:>9.3} {:>9}   {:<20} {:<20}",
        row.name,
        row.rate.median,
        row.cost.median,
        row.syscalls.map_or("-".to_owned(), |syscalls| format!("{syscalls:.3}")),
        ratio(row.to_baseline),
        ratio(row.to_floor),
    )
}

fn ratio(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { lower, median, upper }) => {
            format!("{median:.3} ({lower:.3}-{upper:.3})")
        }
        None => "-".to_owned(),
    }
}

pub(super) fn print_legend(contestants: &[&dyn Contestant]) {
    for contestant in contestants {
        println!("{:<16} {}", contestant.name(), contestant.about());
    }
    println!(
        "\nCPU and system calls are the server's, per operation. Ratios are medians of the ratios of\n\
         neighbouring measurements, with their quartiles; below 1 is cheaper."
    );
}
