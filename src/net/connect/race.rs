//! Happy eyeballs (RFC 8305), in Tornado's simpler form: the addresses of both families, in a race.
//!
//! The addresses of the family that comes first are tried one after the other. Those of the other
//! family are tried likewise, beside them, from the first failure on, or when the head start is
//! over. The first connection wins; all others are given up.

use crate::net::Family;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Begins connections.
pub(super) trait Dialer {
    type Connection;
    type Attempt: Future<Output = io::Result<Self::Connection>> + Unpin;

    fn dial(&self, address: SocketAddr) -> Self::Attempt;
}

/// A race that is on. `H` is ready when the head start is over.
pub(super) struct Race<D: Dialer, H> {
    dialer: D,
    lanes: [Lane<D::Attempt>; 2],
    /// `None` once the second lane is free to go.
    head_start: Option<H>,
    last_error: Option<io::Error>,
}

/// Addresses of a family, one attempt at a time.
struct Lane<A> {
    waiting: VecDeque<SocketAddr>,
    attempt: Option<A>,
}

impl<A> Lane<A> {
    fn new(addresses: impl Iterator<Item = SocketAddr>) -> Lane<A> {
        Lane { waiting: addresses.collect(), attempt: None }
    }

    /// Goes on with the next address, if there is one.
    fn advance(&mut self, dialer: &impl Dialer<Attempt = A>) {
        self.attempt = self.waiting.pop_front().map(|address| dialer.dial(address));
    }
}

impl<D, H> Race<D, H>
where
    D: Dialer,
    H: Future<Output = ()> + Unpin,
{
    /// Begins with the first address.
    pub(super) fn new(addresses: &[SocketAddr], dialer: D, head_start: H) -> Race<D, H> {
        let first = addresses.first().map(Family::of);
        let is_first = |address: &&SocketAddr| Some(Family::of(address)) == first;
        let (primary, secondary): (Vec<_>, Vec<_>) = addresses.iter().partition(is_first);
        let mut lanes = [Lane::new(primary.into_iter()), Lane::new(secondary.into_iter())];
        lanes[0].advance(&dialer);
        Race { dialer, lanes, head_start: Some(head_start), last_error: None }
    }

    /// Polls what is there, once. Ready if that won.
    fn poll_lanes(&mut self, context: &mut Context<'_>) -> Poll<D::Connection> {
        for lane in 0..self.lanes.len() {
            while let Some(attempt) = &mut self.lanes[lane].attempt
                && let Poll::Ready(result) = Pin::new(attempt).poll(context)
            {
                match result {
                    Ok(connection) => return Poll::Ready(connection),
                    Err(error) => self.last_error = Some(error),
                }
                self.lanes[lane].advance(&self.dialer);
                self.end_head_start();
            }
        }
        Poll::Pending
    }

    fn end_head_start(&mut self) {
        if self.head_start.take().is_some() {
            self.lanes[1].advance(&self.dialer);
        }
    }

    fn is_lost(&self) -> bool {
        self.lanes.iter().all(|lane| lane.attempt.is_none())
    }
}

/// None of its fields has to stay where it is.
impl<D: Dialer, H> Unpin for Race<D, H> {}

impl<D, H> Future for Race<D, H>
where
    D: Dialer,
    H: Future<Output = ()> + Unpin,
{
    type Output = io::Result<D::Connection>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let race = &mut *self;
        if let Poll::Ready(connection) = race.poll_lanes(context) {
            return Poll::Ready(Ok(connection));
        }
        if let Some(head_start) = &mut race.head_start
            && Pin::new(head_start).poll(context).is_ready()
        {
            race.end_head_start();
            if let Poll::Ready(connection) = race.poll_lanes(context) {
                return Poll::Ready(Ok(connection));
            }
        }
        if race.is_lost() {
            let error = race.last_error.take();
            return Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into())));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
