//! Contestants of another program: those in `benches/peers`, which is built when they are asked for.

use super::{Contestant, Workload, target};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MANIFEST: &str = "benches/peers/Cargo.toml";

/// What one of those programs can be.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) program: PathBuf,
}

/// In such a program: tells what it can be, one a line.
pub(crate) fn list(peers: impl Iterator<Item = (&'static str, &'static str)>) -> io::Result<()> {
    peers.for_each(|(name, about)| println!("{name} {about}"));
    Ok(())
}

/// Builds one of the programs, and asks what it can be.
pub(crate) fn build(program: &str) -> io::Result<Vec<Peer>> {
    let target = target::directory()?.join("peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--bin", program, "--features", program])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST))
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if !built.success() {
        return Err(io::Error::other("benches/peers cannot be built"));
    }
    ask(&target.join("release").join(program))
}

fn ask(program: &Path) -> io::Result<Vec<Peer>> {
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{} cannot be run", program.display())));
    }
    let text = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    // The names live as long as those of all other contestants: for ever.
    let lines = text.leak().lines();
    Ok(lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, about)| Peer { name, about, program: program.to_owned() })
        .collect())
}

/// All runtimes that can serve.
pub(super) fn servers() -> io::Result<Vec<&'static dyn Contestant>> {
    let peers = build("servers")?.into_iter();
    Ok(peers.map(|peer| &*Box::leak(Box::new(peer)) as &dyn Contestant).collect())
}

impl Contestant for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn serve(&self, _: &Workload, _: TcpListener) -> io::Result<()> {
        Err(io::Error::other("a peer serves in its own program"))
    }

    fn program(&self) -> io::Result<PathBuf> {
        Ok(self.program.clone())
    }
}
