//! Loops on the bare ring, by hand. What they share is the ring itself, in `raw`.

mod buffers;
mod completion;
mod epoll_wait;
mod multishot;
mod one_shot;
mod outgoing;
pub(crate) mod raw;

pub(crate) use completion::{COMPLETION, Completion, Style};
pub(crate) use epoll_wait::EpollWait;
pub(crate) use multishot::{Again, Multishot};
pub(crate) use one_shot::OneShot;
