//! tokio-uring, whose ring is watched by tokio's epoll.

use crate::harness::{Contestant, Workload};
use crate::service::{Manner, Service};
use std::io;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

pub(crate) struct TokioUring;

impl Contestant for TokioUring {
    fn name(&self) -> &'static str {
        "tokio-uring"
    }

    fn about(&self) -> &'static str {
        "tokio-uring 0.5"
    }

    fn serve(&self, workload: &Workload, listener: std::net::TcpListener) -> io::Result<()> {
        let service = Service::of(workload)?;
        // A non-blocking socket would be refused what it has to wait for.
        listener.set_nonblocking(false)?;
        tokio_uring::start(async {
            let listener = TcpListener::from_std(listener);
            loop {
                let (stream, _) = listener.accept().await?;
                match service.manner {
                    Manner::Close => service.closed(),
                    _ => drop(tokio_uring::spawn(converse(stream, service))),
                }
            }
        })
    }
}

async fn converse(stream: TcpStream, service: Service) -> io::Result<()> {
    let (mut buffer, mut meter) = (vec![0; service.buffer()], service.meter());
    loop {
        let (result, read) = stream.read(buffer).await;
        let length = result?;
        if length == 0 {
            return Ok(());
        }
        let (result, written) = stream.write_all(read.slice(..length)).await;
        result?;
        buffer = written.into_inner();
        meter.answered(length);
        if !service.goes_on() {
            return Ok(());
        }
    }
}
