//! glommio.

use crate::harness::{Contestant, Workload};
use crate::service::{Manner, Service};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};

pub(crate) struct Glommio;

impl Contestant for Glommio {
    fn name(&self) -> &'static str {
        "glommio"
    }

    fn about(&self) -> &'static str {
        "glommio 0.9"
    }

    fn serve(&self, workload: &Workload, listener: std::net::TcpListener) -> io::Result<()> {
        let service = Service::of(workload)?;
        // A non-blocking socket would be refused what it has to wait for.
        listener.set_nonblocking(false)?;
        // Its thread is on the server's core already.
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
        executor?.run(async {
            // SAFETY: the descriptor is a listener's, which gives it away.
            let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
            loop {
                let stream = listener.accept().await?;
                match service.manner {
                    Manner::Close => service.closed(),
                    _ => drop(glommio::spawn_local(converse(stream, service)).detach()),
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
