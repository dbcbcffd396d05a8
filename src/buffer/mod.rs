//! Data on its way: buffers that are received into, and what is sent.
//!
//! `memory` holds the buffers of a pool and takes them back, `returns` says which came back, `chunk` is
//! what users see of one, `piece` may be a copy of one. `pool` knows which are free, and provides
//! those to the kernel where it has buffer rings (`ring`). `payload` is what users write, `gather`
//! what one request sends of it.

mod chunk;
mod gather;
mod memory;
mod payload;
mod piece;
mod pool;
mod returns;
mod ring;

pub use chunk::Chunk;
pub(crate) use gather::{Gather, Rest};
use memory::Memory;
pub use payload::Payload;
pub use piece::Piece;
pub(crate) use pool::{Pool, PoolKind, PoolSize};
pub(crate) use ring::BufferRing;
