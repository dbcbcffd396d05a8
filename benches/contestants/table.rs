//! Sources by descriptor number, for loops that keep no table of their own.

use super::app::{READ, Source};
use std::os::fd::{AsRawFd, RawFd};

pub(crate) struct Entry {
    pub(crate) source: Source,
    /// What it waits for.
    pub(crate) interest: u32,
}

#[derive(Default)]
pub(crate) struct Table {
    entries: Vec<Option<Entry>>,
}

impl Table {
    pub(crate) fn insert(&mut self, source: Source) {
        let index = source.as_raw_fd() as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(Entry { source, interest: READ });
    }

    #[inline]
    pub(crate) fn get(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(fd as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> Option<Entry> {
        self.entries.get_mut(fd as usize)?.take()
    }
}
