//! The servers. They share the application in `app`, and differ in how they learn what is ready.

#![allow(dead_code, reason = "each benchmark program uses its part")]

mod app;
mod epoll;
mod mio;
pub(crate) mod ring;
mod ringloop;
mod table;

use crate::harness::Contestant;

/// Readiness loops, the baseline first.
pub(crate) const READINESS: &[&dyn Contestant] =
    &[&epoll::Epoll, &ring::OneShot, &ringloop::LEVEL, &ringloop::EDGE, &mio::Mio];

/// Ways to be level-triggered, on the ring and with epoll; and edge-triggered, for comparison.
pub(crate) const TRIGGERS: &[&dyn Contestant] = &[
    &epoll::Epoll,
    &ring::OneShot,
    &ring::Multishot {
        name: "recheck",
        about: "level: multishot polls, and one poll(2) for all that were served",
        again: ring::Again::Recheck,
    },
    &ring::Multishot {
        name: "update",
        about: "level: multishot polls, updated in place once served",
        again: ring::Again::Update,
    },
    &ring::EpollWait,
    &ring::Multishot {
        name: "edge",
        about: "edge: multishot polls, and nothing else",
        again: ring::Again::Never,
    },
];
