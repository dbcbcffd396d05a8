//! Streams, servers and clients, on operations that complete.

mod stream;

pub use stream::{Closed, IoStream, ReadHalf, StreamError, Write, WriteHalf};
