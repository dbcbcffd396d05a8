//! The library itself, used as its documentation says.

use super::app::{App, Next, READ, Reading, Source};
use crate::harness::{Contestant, Workload};
use ringloop::{Events, IoLoop, Panics};
use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

pub struct Ringloop;

impl Contestant for Ringloop {
    fn name(&self) -> &'static str {
        "ringloop"
    }

    fn about(&self) -> &'static str {
        "this library, level-triggered handlers"
    }

    fn serve(&self, workload: &Workload, listener: TcpListener) -> io::Result<()> {
        let (app, sources) = App::new(workload, listener, Reading::Once)?;
        let io_loop = IoLoop::builder().panics(Panics::Propagate).build()?;
        let server = Rc::new(Server { app: RefCell::new(app), born: RefCell::new(Vec::new()) });
        for source in sources {
            register(&io_loop, &server, source)?;
        }
        io_loop.start()
    }
}

struct Server {
    app: RefCell<App>,
    born: RefCell<Vec<Source>>,
}

fn register(io_loop: &IoLoop, server: &Rc<Server>, source: Source) -> io::Result<()> {
    let server = server.clone();
    let mut interest = READ;
    io_loop.add_handler(source, Events::READ, move |source, events| {
        let mut born = server.born.take();
        let next = server.app.borrow_mut().ready(source, events.bits(), &mut born);
        match next.expect("the server goes on") {
            Next::Wait(wanted) if wanted == interest => {}
            Next::Wait(wanted) => {
                interest = wanted;
                let events = Events::from_bits_truncate(wanted);
                IoLoop::current().update_handler(source, events).expect("it is registered");
            }
            Next::Close => {
                IoLoop::current().remove_handler(source);
            }
        }
        if !born.is_empty() {
            let io_loop = IoLoop::current();
            for source in born.drain(..) {
                register(&io_loop, &server, source).expect("it can be watched");
            }
        }
        server.born.replace(born);
    })?;
    Ok(())
}
