//! What a completion carries back: kind, generation and slot in 64 bits.
//!
//! ```text
//! 63    60 59                          32 31                           0
//! ┌───────┬──────────────────────────────┬──────────────────────────────┐
//! │ kind  │ generation                   │ slot                         │
//! └───────┴──────────────────────────────┴──────────────────────────────┘
//! ```
//!
//! The generation is new for every arming, so a completion of an earlier arming of the same slot,
//! or of an earlier user of the same fd number, is recognised and dropped. 28 bits come round after
//! 268 million armings of one slot; a completion is never that late, because the kernel posts the
//! last one of a cancelled request within the same enter.

/// Generations count modulo this.
const GENERATIONS: u32 = 1 << 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A request nobody waits for: a cancellation.
    Ignored = 0,
    /// A poll on behalf of a handler; the slot is the fd number.
    Poll = 1,
    /// The poll on the loop's own eventfd.
    Wake = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    pub(super) const IGNORED: Token = Token::new(Kind::Ignored, 0, 0);

    pub(super) const fn new(kind: Kind, generation: u32, slot: u32) -> Token {
        Token((kind as u64) << 60 | (generation as u64) << 32 | slot as u64)
    }

    pub(super) const fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// `None` for a kind that was never handed out.
    #[inline]
    pub(super) const fn kind(self) -> Option<Kind> {
        match self.0 >> 60 {
            0 => Some(Kind::Ignored),
            1 => Some(Kind::Poll),
            2 => Some(Kind::Wake),
            _ => None,
        }
    }

    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & (GENERATIONS - 1)
    }

    #[inline]
    pub(super) const fn slot(self) -> u32 {
        self.0 as u32
    }
}

/// The generation after `generation`.
#[inline]
pub(super) const fn next_generation(generation: u32) -> u32 {
    (generation + 1) & (GENERATIONS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_back_as_they_went_in() {
        for kind in [Kind::Ignored, Kind::Poll, Kind::Wake] {
            for generation in [0, 1, GENERATIONS - 1] {
                for slot in [0, 7, u32::MAX] {
                    let token = Token::from_bits(Token::new(kind, generation, slot).bits());
                    assert_eq!(token.kind(), Some(kind));
                    assert_eq!((token.generation(), token.slot()), (generation, slot));
                }
            }
        }
    }

    #[test]
    fn a_kind_never_handed_out_is_no_kind() {
        assert_eq!(Token::from_bits(u64::MAX).kind(), None);
    }

    #[test]
    fn generations_come_round() {
        assert_eq!(next_generation(0), 1);
        assert_eq!(next_generation(GENERATIONS - 1), 0);
    }
}
