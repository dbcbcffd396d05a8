//! What the servers are asked to do.

use std::fmt;
use std::str::FromStr;

/// Bytes of a request, and of its response.
pub(crate) const MESSAGE: usize = 64;
/// Bytes of the longest message there is.
pub(crate) const LONGEST: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Connections that the server closes as soon as it has accepted them.
    AcceptClose,
    /// Connections with one request, one response, and closed by the server then.
    AcceptReplyClose,
    /// Connections that each keep `depth` messages of `size` bytes under way: whenever one has come
    /// back, they send another.
    Echo { connections: usize, size: usize, depth: usize },
    /// Socket pairs in a circle, through which `active` bytes are handed on for ever.
    Chain { pairs: usize, active: usize },
}

impl Workload {
    pub(crate) const fn echo(connections: usize, size: usize, depth: usize) -> Workload {
        Workload::Echo { connections, size, depth }
    }

    pub(crate) fn title(&self) -> String {
        match *self {
            Workload::AcceptClose => "connect, accept, close".to_owned(),
            Workload::AcceptReplyClose => "connect, request, response, close".to_owned(),
            Workload::Echo { connections, size, depth } => {
                let under_way =
                    if depth > 1 { format!(", {depth} at a time") } else { String::new() };
                format!("echo of {size} bytes{under_way}, {connections} connections")
            }
            Workload::Chain { pairs, active } => {
                format!("chain of {pairs} socket pairs, {active} active")
            }
        }
    }

    /// What an operation is.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Workload::AcceptClose | Workload::AcceptReplyClose => "connection",
            Workload::Echo { .. } => "round trip",
            Workload::Chain { .. } => "event",
        }
    }

    /// Bytes of a message.
    pub(crate) fn message(&self) -> usize {
        match *self {
            Workload::Echo { size, .. } => size,
            _ => MESSAGE,
        }
    }
}

/// How the workload is named on the command line.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Workload::AcceptClose => f.write_str("accept-close"),
            Workload::AcceptReplyClose => f.write_str("accept-reply-close"),
            Workload::Echo { connections, size, depth } => {
                write!(f, "echo-{connections}-{size}-{depth}")
            }
            Workload::Chain { pairs, active } => write!(f, "chain-{pairs}-{active}"),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Workload, String> {
        let unknown = || format!("no workload is named {name:?}");
        let mut parts = name.split('-');
        let kind = parts.next();
        let numbers: Vec<usize> = parts.filter_map(|part| part.parse().ok()).collect();
        match (name, kind, numbers.as_slice()) {
            ("accept-close", ..) => Ok(Workload::AcceptClose),
            ("accept-reply-close", ..) => Ok(Workload::AcceptReplyClose),
            (_, Some("echo"), &[connections, size, depth]) if size <= LONGEST => {
                Ok(Workload::Echo { connections, size, depth })
            }
            (_, Some("chain"), &[pairs, active]) => Ok(Workload::Chain { pairs, active }),
            _ => Err(unknown()),
        }
    }
}
