//! Streams, servers and clients, on operations that complete.

mod stream;

pub use stream::{IoStream, StreamError};
