//! [`Gather`], payloads that are sent by one request.

use super::Payload;
use crate::handle::Shared;

/// What one request sends: most often one payload. What the kernel reads stays where it is when
/// this is moved.
pub(crate) enum Gather {
    One(Payload),
    Many(Box<Many>),
}

/// Payloads, and the description of them that the kernel reads.
pub(crate) struct Many {
    payloads: Vec<Payload>,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What is left to be sent.
pub(crate) enum Rest<'a> {
    Slice(&'a [u8]),
    Message(&'a libc::msghdr),
}

impl Gather {
    pub(crate) fn many(payloads: Vec<Payload>) -> Gather {
        // SAFETY: zero is a value of each of its fields, and means nothing to send to nobody.
        let header = unsafe { std::mem::zeroed() };
        Gather::Many(Box::new(Many { payloads, slices: Vec::new(), header }))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Gather::One(payload) => payload.len(),
            Gather::Many(many) => many.payloads.iter().map(|payload| payload.len()).sum(),
        }
    }

    /// Gives the pool's buffers back, by copying the bytes out of them. Not while the kernel may
    /// read them.
    pub(crate) fn give_back(&mut self) {
        match self {
            Gather::One(payload) => payload.give_back(),
            Gather::Many(many) => many.payloads.iter_mut().for_each(Payload::give_back),
        }
    }

    /// Whether it keeps buffers of other loops' than this.
    #[inline]
    pub(crate) fn is_foreign(&self, own: &Shared) -> bool {
        match self {
            Gather::One(payload) => payload.is_foreign(own),
            Gather::Many(many) => many.payloads.iter().any(|payload| payload.is_foreign(own)),
        }
    }

    /// Copies what is in buffers of other loops' than this.
    pub(crate) fn give_back_foreign(&mut self, own: &Shared) {
        match self {
            Gather::One(payload) => payload.give_back_foreign(own),
            Gather::Many(many) => {
                many.payloads.iter_mut().for_each(|one| one.give_back_foreign(own))
            }
        }
    }

    /// Describes what is left after the first `sent` bytes.
    #[inline(always)]
    pub(crate) fn rest(&mut self, sent: usize) -> Rest<'_> {
        match self {
            Gather::One(payload) => Rest::Slice(&payload[sent..]),
            Gather::Many(many) => Rest::Message(many.describe(sent)),
        }
    }
}

impl Default for Gather {
    fn default() -> Gather {
        Gather::One(Payload::default())
    }
}

impl Many {
    fn describe(&mut self, mut sent: usize) -> &libc::msghdr {
        let Many { payloads, slices, header } = self;
        slices.clear();
        for payload in payloads {
            let skipped = sent.min(payload.len());
            sent -= skipped;
            let rest = &payload[skipped..];
            if !rest.is_empty() {
                // It is only read through.
                let base = rest.as_ptr().cast_mut().cast();
                slices.push(libc::iovec { iov_base: base, iov_len: rest.len() });
            }
        }
        header.msg_iov = slices.as_mut_ptr();
        header.msg_iovlen = slices.len();
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn collect(rest: Rest<'_>) -> Vec<u8> {
        match rest {
            Rest::Slice(bytes) => bytes.to_vec(),
            Rest::Message(header) => {
                let slices = ptr::slice_from_raw_parts(header.msg_iov, header.msg_iovlen);
                // SAFETY: `describe` has just filled them in, and they refer to payloads that the
                // caller holds.
                unsafe { &*slices }
                    .iter()
                    .flat_map(|slice| {
                        // SAFETY: as above.
                        unsafe {
                            std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), slice.iov_len)
                        }
                    })
                    .copied()
                    .collect()
            }
        }
    }

    #[test]
    fn what_is_left_is_described_from_every_byte_on() {
        let bytes = b"one, two, three";
        let pieces = || [&bytes[..4], &bytes[4..5], &bytes[5..]].map(Payload::from);
        for sent in 0..bytes.len() {
            let mut many = Gather::many(pieces().into());
            assert_eq!(many.len(), bytes.len());
            // A request may be made more than once.
            many.rest(0);
            assert_eq!(collect(many.rest(sent)), bytes[sent..]);
            let mut one = Gather::One(Payload::from(bytes));
            assert_eq!(collect(one.rest(sent)), bytes[sent..]);
        }
    }
}
