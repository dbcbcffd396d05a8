//! The ratios as a picture: one bar per contestant, with its quartiles.

use super::schedule::{Outcome, Row};
use super::statistics::Spread;
use super::target::result_file;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 16.0;
const LINE: f64 = 24.0;
const TITLE: f64 = 34.0;

pub(super) fn write(name: &str, outcomes: &[Outcome]) -> io::Result<PathBuf> {
    let path = result_file(name, "svg")?;
    std::fs::write(&path, draw(outcomes).map_err(io::Error::other)?)?;
    Ok(path)
}

fn draw(outcomes: &[Outcome]) -> Result<String, std::fmt::Error> {
    let heights = outcomes.iter().map(|outcome| TITLE + LINE * outcome.rows.len() as f64);
    let height = heights.sum::<f64>() + TITLE;
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    )?;
    let mut top = 0.0;
    for outcome in outcomes {
        top = section(&mut svg, outcome, top + TITLE)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// Returns where the next section may begin.
fn section(svg: &mut String, outcome: &Outcome, mut top: f64) -> Result<f64, std::fmt::Error> {
    let widest = outcome.rows.iter().map(|row| spread(row).upper).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / widest;
    let (title, baseline) = (outcome.workload.title(), outcome.baseline);
    writeln!(
        svg,
        "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{title}: CPU time by {baseline}'s</text>",
        top - 8.0
    )?;
    let bottom = top + LINE * outcome.rows.len() as f64;
    for row in &outcome.rows {
        bar(svg, row, top, scale)?;
        top += LINE;
    }
    let x = LEFT + scale;
    writeln!(
        svg,
        "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"#444\" stroke-dasharray=\"3 3\"/>",
        bottom - LINE * outcome.rows.len() as f64
    )?;
    Ok(bottom)
}

fn bar(svg: &mut String, row: &Row, top: f64, scale: f64) -> std::fmt::Result {
    let Spread { lower, median, upper } = spread(row);
    let colour = if row.name.starts_with("ringloop") { "#d9622b" } else { "#8fa3b5" };
    let (base, middle) = (top + 0.8 * BAR, top + BAR / 2.0);
    let (from, to) = (LEFT + lower * scale, LEFT + upper * scale);
    writeln!(svg, "<text x=\"10\" y=\"{base:.1}\">{}</text>", row.name)?;
    writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
        median * scale
    )?;
    writeln!(
        svg,
        "<path d=\"M{from:.1} {middle:.1}H{to:.1}\" stroke=\"#222\" stroke-width=\"2\"/>"
    )?;
    writeln!(svg, "<text x=\"{:.1}\" y=\"{base:.1}\">{median:.2}</text>", to.max(from) + 8.0)
}

fn spread(row: &Row) -> Spread {
    row.to_baseline.unwrap_or(Spread { lower: 1.0, median: 1.0, upper: 1.0 })
}
