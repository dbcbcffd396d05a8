//! monoio.

use crate::harness::{Contestant, Workload};
use crate::service::{Manner, Service};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use std::io;

pub(crate) struct Monoio {
    name: &'static str,
    about: &'static str,
    defer: bool,
}

pub(crate) const DEFAULT: Monoio =
    Monoio { name: "monoio", about: "monoio 0.2.4, as it comes", defer: false };

pub(crate) const DEFER: Monoio = Monoio {
    name: "monoio-defer",
    about: "monoio 0.2.4, on a ring with SINGLE_ISSUER and DEFER_TASKRUN",
    defer: true,
};

impl Contestant for Monoio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn serve(&self, workload: &Workload, listener: std::net::TcpListener) -> io::Result<()> {
        let service = Service::of(workload)?;
        // A non-blocking socket would be refused what it has to wait for.
        listener.set_nonblocking(false)?;
        let mut ring = io_uring::IoUring::builder();
        if self.defer {
            ring.setup_single_issuer().setup_defer_taskrun();
        }
        let runtime = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring);
        runtime.build()?.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                match service.manner {
                    Manner::Close => service.closed(),
                    _ => drop(monoio::spawn(converse(stream, service))),
                }
            }
        })
    }
}

async fn converse(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let (mut buffer, mut meter) = (Vec::with_capacity(service.buffer()), service.meter());
    loop {
        let (result, read) = stream.read(buffer).await;
        let length = result?;
        if length == 0 {
            return Ok(());
        }
        let (result, written) = stream.write_all(read).await;
        result?;
        buffer = written;
        buffer.clear();
        meter.answered(length);
        if !service.goes_on() {
            return Ok(());
        }
    }
}
