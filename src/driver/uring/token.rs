//! What a completion carries back: which slot it is for, and which user of it.
//!
//! ```text
//! 63                          36 35   32 31                           0
//! ┌─────────────────────────────┬───────┬──────────────────────────────┐
//! │ generation                  │ kind  │ slot                         │
//! └─────────────────────────────┴───────┴──────────────────────────────┘
//!  └───────────── stamp ───────────────┘
//! ```
//!
//! A poll gets a new generation at every arming, and an operation one when it is submitted, which
//! all its requests carry; quick sends and files share one until they are over. So a completion
//! of something earlier in the same slot is recognised by one comparison of stamps, and dropped. 28
//! bits come round after 268 million generations; a completion is never that late: the kernel posts
//! the last one of a cancelled request within the next enters.

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A request nobody waits for.
    Ignored = 0,
    /// A poll on behalf of a handler; the slot is the fd number.
    Poll = 1,
    /// The poll on the loop's own eventfd.
    Wake = 2,
    /// A completion operation; the slot is its own.
    Operation = 3,
    /// A send that does not wait; the slot is its place among those of the same enter.
    QuickSend = 4,
    /// A socket for the table of files; the slot is its place among those of the same enter.
    File = 5,
    /// The cancellation of an operation; the slot and the generation are that one's.
    Cancel = 6,
}

const KIND_BITS: u32 = 4;

/// A generation, and the kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u32);

impl Stamp {
    pub(super) const fn first(kind: Kind) -> Stamp {
        Stamp(kind as u32)
    }

    /// As a number.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    /// The next generation, of the same kind. It wraps.
    pub(super) const fn next(self) -> Stamp {
        Stamp(self.0.wrapping_add(1 << KIND_BITS))
    }

    /// The same generation of another kind.
    pub(super) const fn with(self, kind: Kind) -> Stamp {
        Stamp(self.0 >> KIND_BITS << KIND_BITS | kind as u32)
    }

    /// `None` for a kind that was never handed out.
    pub(super) const fn kind(self) -> Option<Kind> {
        match self.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Kind::Ignored),
            1 => Some(Kind::Poll),
            2 => Some(Kind::Wake),
            3 => Some(Kind::Operation),
            4 => Some(Kind::QuickSend),
            5 => Some(Kind::File),
            6 => Some(Kind::Cancel),
            _ => None,
        }
    }
}

/// A submission's `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    pub(super) const IGNORED: Token = Token::new(Stamp::first(Kind::Ignored), 0);
    /// There is one such poll at a time, and its last completion says that it is the last.
    pub(super) const WAKE: Token = Token::new(Stamp::first(Kind::Wake), 0);

    #[inline]
    pub(super) const fn new(stamp: Stamp, slot: u32) -> Token {
        Token((stamp.0 as u64) << 32 | slot as u64)
    }

    #[inline]
    pub(super) const fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) const fn stamp(self) -> Stamp {
        Stamp((self.0 >> 32) as u32)
    }

    #[inline]
    pub(super) const fn slot(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_back_as_they_went_in() {
        let rare = [Kind::Ignored, Kind::Wake, Kind::File, Kind::Cancel];
        for kind in rare.into_iter().chain([Kind::Poll, Kind::Operation, Kind::QuickSend]) {
            let stamp = Stamp::first(kind).next();
            for slot in [0, 7, u32::MAX] {
                let token = Token::from_bits(Token::new(stamp, slot).bits());
                assert_eq!(token.stamp().kind(), Some(kind));
                assert_eq!((token.stamp(), token.slot()), (stamp, slot));
                assert_eq!(stamp.with(Kind::Cancel).with(kind), stamp);
            }
        }
    }

    #[test]
    fn a_kind_never_handed_out_is_no_kind() {
        assert_eq!(Token::from_bits(u64::MAX).stamp().kind(), None);
    }

    #[test]
    fn generations_come_round_and_leave_the_kind_alone() {
        let first = Stamp::first(Kind::Wake);
        assert_ne!(first.next(), first);
        let last = Stamp(u32::MAX << KIND_BITS | Kind::Wake as u32);
        assert_eq!(last.next(), first);
    }
}
