//! The servers. They share the application in `app`, and differ in how they learn what is ready.

#![allow(dead_code, reason = "each benchmark program uses its part")]

mod app;
mod epoll;
mod mio;
pub(crate) mod ring;
mod ringloop;
mod streams;
mod table;

use crate::harness::Contestant;

/// Readiness loops, the baseline first.
pub(crate) const READINESS: &[&dyn Contestant] =
    &[&epoll::Epoll, &ring::OneShot, &ringloop::LEVEL, &ringloop::EDGE, &mio::Mio];

/// Servers of all kinds: readiness loops, and those on completions.
pub(crate) const SERVERS: &[&dyn Contestant] = &[
    &epoll::Epoll,
    &ring::OneShot,
    &ringloop::LEVEL,
    &ringloop::EDGE,
    &mio::Mio,
    &streams::Streams,
    &ring::COMPLETION,
];

/// Variants of the completion server, to show what each of its parts is worth.
pub(crate) const COMPLETIONS: &[&dyn Contestant] = &[
    &epoll::Epoll,
    &ring::COMPLETION,
    &ring::Completion {
        name: "descriptors",
        about: "the same, with ordinary file descriptors",
        style: ring::Style { direct: false, ..ring::COMPLETION.style },
    },
    &ring::Completion {
        name: "told",
        about: "the same, but every send completes",
        style: ring::Style { silent: false, ..ring::COMPLETION.style },
    },
    &ring::Completion {
        name: "corked",
        about: "the same, but a connection's last bytes and its end are one segment",
        style: ring::Style { corked: true, ..ring::COMPLETION.style },
    },
];

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
