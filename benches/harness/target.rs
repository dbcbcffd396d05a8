//! Cargo's target directory, where results go.

use std::io;
use std::path::{Path, PathBuf};

pub(super) fn directory() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // The program is <target>/<profile>/deps/<name>.
    let target = program.ancestors().nth(3);
    target.map(Path::to_owned).ok_or_else(|| io::Error::other("no target directory"))
}

/// A file for results.
pub(super) fn result_file(name: &str, extension: &str) -> io::Result<PathBuf> {
    let directory = directory()?.join("ringloop-bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory.join(name).with_extension(extension))
}
