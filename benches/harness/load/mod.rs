//! What loads the servers: plain blocking and epoll code, the same for all of them.

mod echo;
mod storm;

use super::{Workload, sys};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A load, ready to go.
pub(super) trait Load {
    /// Loads the server for some time. May be called again.
    fn run(&mut self, time: Duration) -> io::Result<()>;
}

pub(super) fn prepare(workload: &Workload, server: SocketAddr) -> io::Result<Box<dyn Load>> {
    Ok(match *workload {
        Workload::AcceptClose => Box::new(storm::Storm::new(server, false)?),
        Workload::AcceptReplyClose => Box::new(storm::Storm::new(server, true)?),
        Workload::Echo { connections: 1, size, depth: 1 } => {
            Box::new(echo::Single::new(server, size)?)
        }
        Workload::Echo { connections, size, depth } => {
            Box::new(echo::Many::new(server, connections, size, depth)?)
        }
        Workload::Chain { .. } => Box::new(Idle),
    })
}

/// For servers that keep themselves busy.
struct Idle;

impl Load for Idle {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        std::thread::sleep(time);
        Ok(())
    }
}
