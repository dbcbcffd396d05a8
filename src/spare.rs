//! Room that bursts have taken up, and that is given back when it has not been needed for a while.

use slab::Slab;
use std::collections::VecDeque;

/// After so many turns, what was not needed in them is given back.
pub(crate) const TURNS: u64 = 1024;
/// Entries for which there may always be room.
const KEPT: usize = 1024;

/// Whether there is far too much room.
fn is_wasted(capacity: usize, needed: usize) -> bool {
    capacity / 4 > needed.max(KEPT)
}

/// Entries stay where they are, so there is room up to the last one.
pub(crate) fn trim_slab<T>(slab: &mut Slab<T>) {
    if is_wasted(slab.capacity(), slab.len()) {
        slab.shrink_to_fit();
    }
}

/// `most` is how many there have been of late.
pub(crate) fn trim_queue<T>(queue: &mut VecDeque<T>, most: usize) {
    if is_wasted(queue.capacity(), most) {
        queue.shrink_to(most.max(KEPT));
    }
}
