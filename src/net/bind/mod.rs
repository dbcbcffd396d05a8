//! Sockets that listen, as servers want them.

mod tcp;
mod unix;

pub(super) use tcp::bind_first;
pub use tcp::{BindOptions, bind_sockets};
pub use unix::{BindUnixOptions, bind_unix_socket};

use super::context::context;
use std::fmt;
use std::io;

/// Connections that the kernel keeps until they are accepted, unless said otherwise.
const BACKLOG: u32 = 1024;

/// A backlog as the kernel takes it; it has a limit of its own (`net.core.somaxconn`).
fn clamp(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// An error with the place it is about.
fn at(place: impl fmt::Display, error: io::Error) -> io::Error {
    context(format_args!("cannot listen at {place}"), error)
}
