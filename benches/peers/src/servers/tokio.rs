//! tokio, on one thread.

use crate::harness::{Contestant, Workload};
use crate::service::{Manner, Service};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

pub(crate) struct Tokio;

impl Contestant for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn about(&self) -> &'static str {
        "tokio 1.54, current_thread"
    }

    fn serve(&self, workload: &Workload, listener: std::net::TcpListener) -> io::Result<()> {
        let service = Service::of(workload)?;
        Builder::new_current_thread().enable_io().build()?.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                match service.manner {
                    Manner::Close => service.closed(),
                    _ => drop(tokio::spawn(converse(stream, service))),
                }
            }
        })
    }
}

async fn converse(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let (mut buffer, mut meter) = (vec![0; service.buffer()], service.meter());
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
        meter.answered(length);
        if !service.goes_on() {
            return Ok(());
        }
    }
}
