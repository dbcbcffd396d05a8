//! What servers print.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line. That nobody reads it any more is no reason to stop serving, or to end badly.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
