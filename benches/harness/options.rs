//! The command line.

use super::{Bench, Contestant, Workload, peers};
use std::io;
use std::time::Duration;

const USAGE: &str = "\
options, after `cargo bench --bench NAME --`:
  --quick            fewer and shorter slots: a rough answer in seconds
  --rounds N         measurements of every contestant (default 15)
  --seconds S        length of a measurement (default 0.1 to 0.3)
  --only A,B         these contestants, with the baseline and the floor
  --peers            async runtimes, too: builds benches/peers first, which takes minutes once
  --workload W       workloads whose name contains W, of all there are
  --all              all workloads there are, not the usual ones
  --one-core         server and load share a core and take turns, so that all servers find the
                     same number of events at a time, and only what they do with them differs
  --no-syscalls      do not count system calls";

pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) slot: Duration,
    pub(super) warm_up: Duration,
    pub(super) count_syscalls: bool,
    pub(super) one_core: bool,
    peers: bool,
    only: Option<Vec<String>>,
    workload: Option<String>,
    all: bool,
}

impl Options {
    pub(super) fn from_args(bench: &Bench) -> io::Result<Options> {
        Options::parse(bench, std::env::args().skip(1)).map_err(|message| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{message}\n{USAGE}"))
        })
    }

    fn parse(bench: &Bench, mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 15,
            slot: Duration::from_millis(bench.slot),
            warm_up: Duration::from_millis(30),
            count_syscalls: true,
            one_core: false,
            peers: false,
            only: None,
            workload: None,
            all: false,
        };
        while let Some(argument) = args.next() {
            let mut value = || args.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                // Added by cargo.
                "--bench" => {}
                "--quick" => options.hurry(),
                "--rounds" => options.rounds = number(&value()?)?,
                "--seconds" => options.slot = Duration::from_secs_f64(number(&value()?)?),
                "--only" => options.only = Some(value()?.split(',').map(str::to_owned).collect()),
                "--workload" => options.workload = Some(value()?),
                "--all" => options.all = true,
                "--one-core" => options.one_core = true,
                "--peers" => options.peers = true,
                "--no-syscalls" => options.count_syscalls = false,
                "--help" | "-h" => return Err("help".to_owned()),
                other => return Err(format!("unknown option {other}")),
            }
        }
        Ok(options)
    }

    fn hurry(&mut self) {
        self.rounds = 3;
        self.slot = Duration::from_millis(30);
        self.warm_up = Duration::from_millis(10);
    }

    /// Tells results of different kinds apart.
    pub(super) fn suffix(&self) -> String {
        let (one_core, peers) = (self.one_core, self.peers);
        [(one_core, "-one-core"), (peers, "-peers")]
            .iter()
            .filter_map(|&(chosen, suffix)| chosen.then_some(suffix))
            .collect()
    }

    pub(super) fn workloads(&self, bench: &Bench) -> Vec<&'static Workload> {
        let more = if self.all || self.workload.is_some() { bench.more } else { &[] };
        let named = |workload: &&Workload| {
            self.workload.as_ref().is_none_or(|part| workload.to_string().contains(part))
        };
        bench.workloads.iter().chain(more).filter(named).collect()
    }

    pub(super) fn choose(&self, bench: &Bench) -> io::Result<Vec<&'static dyn Contestant>> {
        let wanted = |name: &str| {
            name == bench.baseline
                || name == bench.floor
                || self.only.as_ref().is_none_or(|only| only.iter().any(|other| other == name))
        };
        let peers = match (self.peers, bench.peers) {
            (false, _) => Vec::new(),
            (true, true) => peers::servers()?,
            (true, false) => return Err(io::Error::other("the peers do not serve this")),
        };
        let everybody = bench.contestants.iter().copied().chain(peers);
        Ok(everybody.filter(|contestant| wanted(contestant.name())).collect())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}
