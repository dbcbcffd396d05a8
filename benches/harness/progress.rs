//! One line on how far a benchmark has come: for people, so only on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Replaces the line.
pub(crate) fn show(message: impl Display) {
    write(format_args!("\r\x1b[K{message}"));
}

/// Leaves nothing of it.
pub(crate) fn clear() {
    write("\r\x1b[K");
}

fn write(message: impl Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "{message}");
        let _ = stderr.flush();
    }
}
