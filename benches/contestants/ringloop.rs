//! The library itself, used as its documentation says.

use super::app::{App, Next, READ, Reading, Source};
use crate::harness::{Contestant, Workload};
use ringloop::{Events, IoLoop, Panics, Trigger};
use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct Ringloop {
    name: &'static str,
    about: &'static str,
    trigger: Trigger,
    reading: Reading,
}

pub(crate) const LEVEL: Ringloop = Ringloop {
    name: "ringloop",
    about: "this library, level-triggered handlers",
    trigger: Trigger::Level,
    reading: Reading::Once,
};

pub(crate) const EDGE: Ringloop = Ringloop {
    name: "ringloop-edge",
    about: "this library, edge-triggered handlers that read until refused",
    trigger: Trigger::Edge,
    reading: Reading::UntilRefused,
};

impl Contestant for Ringloop {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, self.reading)?;
        let (app, born, trigger) = (RefCell::new(app), RefCell::default(), self.trigger);
        let io_loop = IoLoop::builder().panics(Panics::Propagate).build()?;
        let server = Rc::new(Server { app, born, trigger });
        for source in sources {
            register(&io_loop, &server, source)?;
        }
        io_loop.start()
    }
}

struct Server {
    app: RefCell<App>,
    born: RefCell<Vec<Source>>,
    trigger: Trigger,
}

fn register(io_loop: &IoLoop, server: &Rc<Server>, source: Source) -> io::Result<()> {
    let (server, trigger) = (server.clone(), server.trigger);
    match source {
        Source::Listener(listener) => {
            io_loop.add_handler_with(listener, Events::READ, trigger, move |it, _| {
                server.accept(it)
            })?;
        }
        Source::Connection(stream, mut unsent) => {
            let mut interest = READ;
            io_loop.add_handler_with(stream, Events::READ, trigger, move |stream, events| {
                let next = server.app.borrow_mut().converse(stream, &mut unsent, events.bits());
                proceed(stream, &mut interest, next);
            })?;
        }
        Source::Link(reader, next) => {
            io_loop.add_handler_with(reader, Events::READ, trigger, move |reader, _| {
                let next = server.app.borrow_mut().hand_on(reader, next);
                proceed(reader, &mut { READ }, next.expect("the chain goes on"));
            })?;
        }
    }
    Ok(())
}

fn proceed(source: &impl AsRawFd, interest: &mut u32, next: Next) {
    match next {
        Next::Wait(wanted) if wanted == *interest => {}
        Next::Wait(wanted) => {
            *interest = wanted;
            let events = Events::from_bits_truncate(wanted);
            IoLoop::current().update_handler(source, events).expect("it is registered");
        }
        Next::Close => {
            IoLoop::current().remove_handler(source);
        }
    }
}

impl Server {
    fn accept(self: &Rc<Self>, listener: &TcpListener) {
        let mut born = self.born.take();
        self.app.borrow_mut().accept(listener, &mut born).expect("it can accept");
        if !born.is_empty() {
            let io_loop = IoLoop::current();
            for source in born.drain(..) {
                register(&io_loop, self, source).expect("it can be watched");
            }
        }
        self.born.replace(born);
    }
}
