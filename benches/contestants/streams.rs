//! The library's streams, used as its documentation says: a task for each connection.

use crate::harness::shared::Counter;
use crate::harness::{Contestant, Workload};
use ringloop::net::TcpListener;
use ringloop::{IoLoop, IoStream, Panics};
use std::io;

pub(crate) struct Streams;

impl Contestant for Streams {
    fn name(&self) -> &'static str {
        "ringloop-streams"
    }

    fn about(&self) -> &'static str {
        "this library, a stream and a task for each connection"
    }

    fn serve(&self, workload: &Workload, listener: std::net::TcpListener) -> io::Result<()> {
        let io_loop = IoLoop::builder().panics(Panics::Propagate).build()?;
        let workload = *workload;
        io_loop.run_sync(|| accept(workload, listener), None).map_err(io::Error::other)?
    }
}

async fn accept(workload: Workload, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let stream = listener.accept().await?;
        match workload {
            Workload::AcceptClose => Counter::of_this_server().add(1),
            _ => drop(IoLoop::current().spawn(converse(workload, stream))),
        }
    }
}

async fn converse(workload: Workload, stream: IoStream) -> io::Result<()> {
    let (counter, message, mut bytes) = (Counter::of_this_server(), workload.message(), 0);
    while let Some(piece) = stream.chunk().await? {
        bytes += piece.len();
        stream.write(piece).buffered().await?;
        counter.add((bytes / message) as u64);
        bytes %= message;
        if workload == Workload::AcceptReplyClose {
            break;
        }
    }
    Ok(())
}
