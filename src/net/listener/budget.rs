//! A limit that several listeners share.

/// How many connections there may be.
pub(crate) trait Budget {
    /// There may be no more.
    fn is_spent(&self) -> bool;

    /// There is one more, which whoever gets it answers for.
    fn take(&self);
}
