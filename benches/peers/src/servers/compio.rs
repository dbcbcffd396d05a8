//! compio, with one-shot operations and with multishot ones.

use crate::harness::{Contestant, Workload};
use crate::service::{Manner, Service};
use compio::BufResult;
use compio::buf::IoBuf;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncReadMulti, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use futures_util::StreamExt;
use std::io;
use std::num::NonZero;
use std::pin::pin;

pub(crate) struct Compio {
    name: &'static str,
    about: &'static str,
    defer: bool,
    multishot: bool,
}

pub(crate) const DEFAULT: Compio =
    Compio { name: "compio", about: "compio 0.19, as it comes", defer: false, multishot: false };

pub(crate) const DEFER: Compio = Compio {
    name: "compio-defer",
    about: "compio 0.19, on a ring with SINGLE_ISSUER and DEFER_TASKRUN",
    defer: true,
    multishot: false,
};

pub(crate) const MULTISHOT: Compio = Compio {
    name: "compio-multi",
    about: "compio 0.19, as compio-defer, with multishot accepts and receives",
    defer: true,
    multishot: true,
};

/// Bytes of all buffers that multishot receives share: enough for every connection, twice.
const POOL: usize = 16 << 20;

impl Contestant for Compio {
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
        let mut ring = ProactorBuilder::new();
        let buffers = u16::try_from(POOL / service.buffer()).map_err(io::Error::other)?;
        ring.buffer_pool_size(NonZero::new(buffers).ok_or(io::ErrorKind::InvalidInput)?);
        ring.buffer_pool_buffer_len(service.buffer());
        if self.defer {
            ring.single_issuer(true).defer_taskrun(true);
        }
        let runtime = Runtime::builder().with_proactor(ring).build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            match self.multishot {
                false => serve(&listener, service).await,
                true => serve_multishot(&listener, service).await,
            }
        })
    }
}

async fn serve(listener: &TcpListener, service: Service) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        match service.manner {
            Manner::Close => service.closed(),
            _ => compio::runtime::spawn(converse(stream, service)).detach(),
        }
    }
}

async fn converse(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let (mut buffer, mut meter) = (Vec::with_capacity(service.buffer()), service.meter());
    loop {
        let BufResult(result, read) = stream.read(buffer).await;
        let length = result?;
        if length == 0 {
            return Ok(());
        }
        let BufResult(result, written) = stream.write_all(read).await;
        result?;
        buffer = written;
        buffer.clear();
        meter.answered(length);
        if !service.goes_on() {
            return Ok(());
        }
    }
}

async fn serve_multishot(listener: &TcpListener, service: Service) -> io::Result<()> {
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        match service.manner {
            Manner::Close => stream.map(|_| service.closed())?,
            // One message is not worth a stream of them.
            Manner::Answer => compio::runtime::spawn(converse(stream?, service)).detach(),
            Manner::Echo => compio::runtime::spawn(converse_multishot(stream?, service)).detach(),
        }
    }
    Ok(())
}

async fn converse_multishot(stream: TcpStream, service: Service) -> io::Result<()> {
    let (mut reader, mut writer, mut meter) = (&stream, &stream, service.meter());
    let mut received = pin!(reader.read_multi(0));
    while let Some(buffer) = received.next().await {
        let buffer = match buffer {
            // The pool is empty, and what is received is still to be read: the next poll tries again.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => continue,
            buffer => buffer?,
        };
        let length = buffer.buf_len();
        writer.write_all(buffer).await.0?;
        meter.answered(length);
    }
    Ok(())
}
